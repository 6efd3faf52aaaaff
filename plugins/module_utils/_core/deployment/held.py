# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What the way back from a trial needs, held open as descriptors, so that it depends on no name, pin, mount or file.

For each attachment of the trial and of what it goes back to: its link, its program of either load, its network
namespace or cgroup, and its place by identity there. Beside them a record, in memory and in /run: both generations, and
all ids. Maps are reached by their ids, since a program holds its own.

    /run/ebpf_deploy/NAME.held    the record, for a guard that lost its descriptors: ids are enough while pins are there

Who keeps the descriptors when a guard dies is keeper.py's business.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from typing import Any, Callable, Optional

from ..errors import Damaged, Failure, NoWayBack
from ..hooks import catalogue
from ..hooks.contract import OVERLAP, Place
from ..kernel import bpf, files, namespaces
from . import hold, observe, plan, records, store
from .facts import Facts, Load

RECORD = "record"  # the name of the record among the descriptors


class Held:
    """Descriptors by name: `link.ID`, `prog.LOAD.NAME`, `place.ID`; and what was recorded when they were opened.

    `keep` and `forget` tell who keeps them over the guard's death, by name and descriptor. `is_brief`: they end with
    this run, which is no guard's: what it puts on must have its pin.
    """

    is_brief = False

    def __init__(self, trial, fallback, loads, places, fds=None, keep=None, forget=None):
        self.trial, self.fallback, self.loads, self.places = trial, fallback, loads, places
        self.fds = fds or {}
        self._tell = (keep or _nobody, forget or _nobody)

    # ---- what apply.py asks for ------------------------------------------------------------------

    def link(self, key: str, part: str = "") -> Optional[bpf.Fd]:
        """An Fd of what keeps the attachment (its link, or its program where the hook has none), None where none is
        held."""
        return self._again(f"link.{hold.name_of(key, part)}")

    def program(self, load: str, name: str) -> Optional[bpf.Fd]:
        """An Fd of the load's program, None where it is not held."""
        return self._again(f"prog.{load}.{name}")

    def map(self, load: str, name: str) -> Optional[bpf.Fd]:
        """An Fd of the load's map, None where it is not known."""
        number = self.loads[load].maps.get(name) if load in self.loads else None
        return _or_none(bpf.map_by_id, number) if number else None

    def took(self, key: str, link: int, part: str = "") -> None:
        """The attachment has this link from now on (a descriptor of the caller's)."""
        self.keep(f"link.{hold.name_of(key, part)}", os.dup(link))

    def dropped(self, key: str, part: str = "") -> None:
        """The attachment has no such link any more."""
        name = f"link.{hold.name_of(key, part)}"
        if name in self.fds:
            self._tell[1](name)
            os.close(self.fds.pop(name))

    def keep(self, name: str, fd: int) -> None:
        """`fd` is held from now on, by who keeps descriptors over a death, too."""
        if name in self.fds:
            self._tell[1](name)
            os.close(self.fds[name])
        self.fds[name] = fd
        self._tell[0](name, fd)

    def let_go(self, home: records.Home) -> None:
        """Somebody else takes the trial back now: links that end with their last reference are left to their pins."""
        named = {**self.fallback.attachments, **self.trial.attachments}
        for name in self._pins():
            key, dummy, part = name.partition("+")
            is_pinned = _pinned_id(os.path.join(home.links, name), "link", bpf.link_info)  # maybe the next one already
            if is_pinned and key in named and catalogue.hook_of(named[key]).how == OVERLAP:
                self.dropped(key, part)

    def close(self) -> None:
        for name in list(self.fds):
            self._tell[1](name)
            os.close(self.fds.pop(name))

    def _again(self, name):
        return bpf.Fd(os.dup(self.fds[name])) if name in self.fds else None

    def links(self) -> dict:
        """{attachment id: bpf.Link} of the links held."""
        return observe.of_parts(self._pins())

    def _pins(self):
        """{name of its pin: bpf.Link} of the links held."""
        names = [name[len("link.") :] for name in self.fds if name.startswith("link.")]
        return {name: bpf.kept(self.fds[f"link.{name}"]) for name in names}

    # ---- what is so ------------------------------------------------------------------------------

    def facts(self, home: records.Home) -> Facts:
        """observe.facts, and what the descriptors tell instead of what names tell: that cannot be lost."""
        try:
            seen = observe.facts(home)
        except (Failure, OSError):  # of a later format, or a file system that gives errors
            seen = Facts(home.name, boot_id=namespaces.boot_id())
        if seen.trial is not None and seen.trial.number > self.trial.number:
            return seen
        if seen.trial is None and self.is_over(home):
            return seen
        links, named = self._links_now(seen), {**self.trial.attachments, **self.fallback.attachments}
        is_lost, ours = isinstance(self.trial, records.LostTrial), {each.id for each in links.values()} - {0}
        is_wrong = seen.confirmed and seen.confirmed.number >= self.trial.number and not self.is_over(home)
        confirmed = None if is_wrong else seen.confirmed
        known = [each for each in (self.trial, self.fallback) if each.is_written]
        return seen._replace(
            trial=seen.trial if is_lost and seen.trial and seen.trial.number == self.trial.number else self.trial,
            ended=seen.ended or readable(store.ended, home, self.trial.number),
            confirmed=confirmed or (self.fallback if self.fallback.is_written else None),
            generations={**seen.generations, **{each.number: each for each in known}},
            loads={**seen.loads, **self.loads},
            links={**seen.links, **links},
            unnamed={
                key: each
                for key, each in seen.unnamed.items()
                if is_lost or (key not in named and seen.links[key].id not in ours)
            },
            known=self._places_now(),
        )

    def is_over(self, home: records.Home) -> bool:
        """Whether the disk says how the trial ended: taken back and seen so, confirmed, or followed by another change;
        or the deployment was removed, and no link of the trial runs."""
        number = self.trial.number
        ended = readable(store.ended, home, number)
        confirmed, trial = (store.pointed_number(home, each) or 0 for each in ("confirmed", "trial"))
        if (ended and ended.back) or trial > number:
            return True
        if 0 < trial < number:  # no change of ours leaves it so
            return False
        if confirmed == number or (confirmed > number and confirmed in store.generation_numbers(home)):
            return True
        if (readable(store.next_number, home) or 0) > number + 1:
            return True
        return not os.path.isdir(os.path.join(home.folder, "generations")) and not self._runs()

    def _runs(self):
        """Whether a link runs a program of the trial that does not run before it, too."""
        ids = set(self.loads[self.trial.load].programs.values()) if self.trial.load in self.loads else set()
        return any(not each.is_severed and not each.prog_ids.isdisjoint(ids) for each in self.links().values())

    def _links_now(self, seen):
        """Where a place was made anew, and a run put another link there, that one."""
        found = self.links()
        for key, link in list(found.items()):
            if link.is_severed and key in seen.links and not seen.links[key].is_severed:
                for each in (link, *link.others):
                    self.dropped(key, each.part)
                found[key] = seen.links[key]
        return found

    def _places_now(self):
        """{attachment id: Place} of those that are there still, entered by descriptor."""
        entered = {key: self._entered(key, place) for key, place in self.places.items()}
        named = {**self.fallback.attachments, **self.trial.attachments}
        return {key: each for key, each in entered.items() if catalogue.hook_of(named[key]).is_there(each)}

    def _entered(self, key, place):
        if f"place.{key}" not in self.fds:
            return place
        return place.reached_by(f"/proc/self/fd/{self.fds[f'place.{key}']}")

    def lacks(self, home: records.Home) -> list:
        """[(path, what makes it)] for each pin that is lost, or is another's, and each record and pointer that is lost.

        What is called for a pin gives an Fd; for a record, it writes it.
        """
        return [*self._pins_lost(home), *self._records_lost(home)]

    def _pins_lost(self, home):
        for name, link in self._pins().items():
            pinned, kind = os.path.join(home.links, name), "link" if link.id else "prog"
            if not link.is_severed and _pinned_id(pinned, kind, bpf.kept) != (link.id or link.prog_id):
                yield pinned, functools.partial(self.link, *name.split("+"))
        for load, pins in self.loads.items():
            for name, number in pins.programs.items():
                pinned = os.path.join(home.loads, load, "progs", name)
                if f"prog.{load}.{name}" in self.fds and _pinned_id(pinned, "prog", bpf.prog_info) != number:
                    yield pinned, functools.partial(self.program, load, name)
            for name, number in pins.maps.items():
                pinned = os.path.join(home.loads, load, "maps", name)
                if _pinned_id(pinned, "map", bpf.map_info) != number and _exists(bpf.map_by_id, number):
                    yield pinned, functools.partial(bpf.map_by_id, number)

    def _records_lost(self, home):
        for each in (self.trial, self.fallback):
            if each.is_written and _is_lost(home, each.number):
                path = os.path.join(home.folder, "generations", f"{each.number}.json")
                yield path, functools.partial(store.mend_generation, home, each)
        trial, confirmed = (store.pointed_number(home, each) for each in ("trial", "confirmed"))
        before = self.fallback.number
        if trial is None or trial < self.trial.number:
            yield self._pointer_mended(home, "trial", self.trial.number)
        is_wrong = confirmed is None or (confirmed >= self.trial.number and not self.is_over(home))
        if before and is_wrong:
            yield self._pointer_mended(home, "confirmed", before)

    def _pointer_mended(self, home, pointer, number):
        return os.path.join(home.folder, pointer), functools.partial(store.point, home, pointer, number)

    # ---- the record ------------------------------------------------------------------------------

    def write(self, home: records.Home) -> None:
        """The record is beside the descriptors and in /run, as far as that takes it."""
        record = {
            "format": records.LOWEST,
            "boot_id": namespaces.boot_id(),
            "trial": self.trial.as_record(),
            "fallback": self.fallback.as_record(),
            "loads": {load: each._asdict() for load, each in self.loads.items()},
            "places": {key: each.as_record() for key, each in self.places.items()},
            "links": {name: each.id for name, each in self._pins().items() if each.id},
            "kept_programs": {name: each.prog_id for name, each in self._pins().items() if not each.id},
        }
        with contextlib.suppress(OSError, Failure):
            files.write_json(record_path(home.name), records.sealed(record))
        if RECORD not in self.fds:
            self.keep(RECORD, os.memfd_create(RECORD, os.MFD_CLOEXEC))
        data = json.dumps(record).encode() + b"\n"
        os.pwrite(self.fds[RECORD], data, 0)
        os.ftruncate(self.fds[RECORD], len(data))


def take(home: records.Home, keep: Optional[Callable] = None, forget: Optional[Callable] = None) -> Optional[Held]:
    """Held of the trial that the disk names; None where there is none. NoWayBack where what it goes back to is not in
    the kernel."""
    seen = observe.facts(home)
    if seen.trial is None or not seen.trial.guarded:
        return None
    fallback = plan.fallback(seen)
    if not plan.is_runnable(seen, fallback) or fallback == seen.trial:
        raise no_way_back(home.name, fallback)
    loads = {each.load: seen.loads[each.load] for each in (seen.trial, fallback) if each.load in seen.loads}
    places = {}
    for generation in (seen.trial, fallback):
        found = observe.scene(seen, generation).places
        places.update({key: place for key, place in found.items() if not isinstance(place, Failure)})
    made = Held(seen.trial, fallback, loads, places, keep=keep, forget=forget)
    try:
        _open(made, home, seen)
    except OSError:
        made.close()
        raise
    made.write(home)
    return made


def _open(made, home, seen):
    wanted = {*made.trial.attachments, *made.fallback.attachments}
    for key, link in seen.links.items():
        for each in (link, *link.others) if key in wanted else ():
            name = hold.name_of(key, each.part)
            pinned = os.path.join(home.links, name)
            made.keep(f"link.{name}", _number(bpf.get_pinned(pinned + "-next" if name in seen.unsettled else pinned)))
    for load, pins in made.loads.items():
        for name, number in pins.programs.items():
            made.keep(f"prog.{load}.{name}", _number(bpf.prog_by_id(number)))
    for key, place in made.places.items():
        _open_place(made, key, place)


def _open_place(made, key, place):
    if place.anchor:
        made.keep(f"place.{key}", os.open(place.anchor, os.O_RDONLY | os.O_CLOEXEC))


def _number(fd):
    """The descriptor, which is the caller's to close from now on."""
    number, fd.number = fd.number, None
    return number


def resumed(
    home: records.Home, fds: dict, keep: Optional[Callable] = None, forget: Optional[Callable] = None
) -> Optional[Held]:
    """Held as an earlier life of the guard left it: by its descriptors {name: fd}, else by ids; None where neither
    says. Whoever kept the descriptors has them still."""
    record = _record_in(fds.get(RECORD))
    if record and record["boot_id"] == namespaces.boot_id():
        made = _from(record, keep, forget)
        made.fds = dict(fds)
        return made
    return by_ids(home, keep, forget)


def by_ids(home: records.Home, keep: Optional[Callable] = None, forget: Optional[Callable] = None) -> Optional[Held]:
    """Held by the ids in /run, as far as the kernel has them still; None where no record is there."""
    record = readable(files.read_json, record_path(home.name))
    if not record or not records.is_as_sealed(record) or record.get("boot_id") != namespaces.boot_id():
        return None
    if "fallback" not in record:  # the seal of another record of ours is as good: that of the deadline, say
        return None
    made = _from(record, keep, forget)
    for name, number in record["links"].items():
        _keep_if_there(made, f"link.{name}", bpf.link_by_id, number)
    for name, number in record.get("kept_programs", {}).items():
        _keep_if_there(made, f"link.{name}", bpf.prog_by_id, number)
    for load, pins in _loads_now(made, home):
        made.loads[load] = pins
        for name, number in pins.programs.items():
            _keep_if_there(made, f"prog.{load}.{name}", bpf.prog_by_id, number)
    for key, place in made.places.items():
        with contextlib.suppress(OSError):
            _open_place(made, key, place)
    return made


def _loads_now(made, home):
    """[(load, its ids)]: of one that lost a program, and was loaded again since, those that are pinned now."""
    found = []
    for load, pins in made.loads.items():
        if not all(_exists(bpf.prog_by_id, number) for number in pins.programs.values()):
            again = observe.load(home, load)
            pins = again if set(again.programs) >= set(pins.programs) else pins
        found.append((load, pins))
    return found


def unpinned(home: records.Home, number: int) -> list:
    """Paths of pins and records of the trial with this number that its guard knows, and that are lost."""
    what = by_ids(home)
    if what is None:
        return []
    try:
        return [path for path, dummy in what.lacks(home)] if what.trial.number == number else []
    finally:
        what.close()


def _keep_if_there(made, name, opened, number):
    fd = _or_none(opened, number)
    if fd is not None:
        made.keep(name, _number(fd))


def _from(record, keep, forget):
    trial, fallback = (records.Generation.from_record(record[each]) for each in ("trial", "fallback"))
    loads = {load: Load(**each) for load, each in record["loads"].items()}
    places = {key: Place.from_record(each) for key, each in record["places"].items()}
    return Held(trial, fallback, loads, places, keep=keep, forget=forget)


def _record_in(fd):
    """The record in the memory file, None where there is none or a death has torn it."""
    try:
        return json.loads(os.pread(fd, os.fstat(fd).st_size, 0).partition(b"\n")[0])
    except (OSError, ValueError, TypeError):
        return None


def record_path(name: str) -> str:
    """Where the record lies in /run."""
    return os.path.join(records.RUN, name + ".held")


def forget(name: str, number: int) -> None:
    """No record of the trial with this number lies in /run."""
    record = readable(files.read_json, record_path(name))
    if record and record.get("trial", {}).get("number") == number:
        files.remove(record_path(name))


def no_way_back(name: str, generation: records.Generation) -> NoWayBack:
    """What is heard before anything changes, where a guard could not take the change back."""
    return NoWayBack(
        f"The guard of {name} would have no way back: load {generation.load} of generation {generation.number} is not "
        "in the kernel, and cannot be loaded again",
        "Run bpf_release state=rolled_back release=… to a release that is on this host, or attach without "
        "confirm_within",
        load=generation.load,
        generation=generation.number,
    )


def _pinned_id(pinned, kind, info):
    """The id of what is pinned there, 0 where nothing of the kind is."""
    try:
        with bpf.get_pinned(pinned) as fd:
            if not files.is_plain(pinned) or bpf.kind(fd) != kind:
                return 0
            found = info(fd)
            return found.id or found.prog_id
    except (OSError, Failure):
        return 0


def _exists(opened, number):
    fd = _or_none(opened, number)
    if fd is not None:
        fd.close()
    return fd is not None


def _is_lost(home, number):
    """Whether the generation's record is gone or damaged: one of a later version is neither."""
    try:
        return store.generation(home, number) is None
    except Damaged:
        return True
    except Failure:
        return False


def _or_none(opened, number):
    try:
        return opened(number)
    except OSError:
        return None


def readable(what: Callable, *arguments: Any) -> Any:
    """What a reader of store.py gives, None where the file cannot be read."""
    try:
        return what(*arguments)
    except (Failure, OSError):
        return None


def _nobody(*dummy):
    pass
