# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What store, bpffs, kernel and network say of one deployment, side by side. Reads only, and never believes a file
over the kernel."""

from __future__ import annotations

import contextlib
import os
from typing import Optional

from ..errors import Busy, Damaged, Failure, NotFound, TooNew, Unprivileged
from ..hooks import catalogue
from ..hooks.contract import ProgramType, Seat
from ..kernel import bpf, files, namespaces
from ..objects import owners
from . import declared, records, store, strikes, units
from .facts import Facts, Load, Scene, Unnamed

RINGS = {"ringbuf", "perf_event_array"}  # whose entries are lost where nobody reads them
READS = 20  # of a deployment that other runs change meanwhile


def facts(place: records.Home) -> Facts:
    """The Facts of the deployment at `place` (records.Home), hooks left out.

    Without the lock another run may take away what was just listed: then all is read again.
    """
    if not store.has_own_pins():
        place = place._replace(pins=os.path.join(place.folder, "no pins"))  # which is a name of nothing
    for dummy in range(READS):
        with contextlib.suppress(FileNotFoundError), files.disk_told():
            return _facts(place)
    raise Busy(f"Deployment {place.name} changes faster than it can be read", "Run again when other runs have ended")


def checked(place: records.Home, seen: Facts, number: str) -> Facts:
    """The same Facts, the files of this release looked at, too, if it is on the disk."""
    found = seen.releases.get(number)
    path = store.spoiled(place, found) if found else ""
    return seen._replace(spoiled={**seen.spoiled, number: path}) if path else seen


def attachment_rows(seen: Facts, generation: Optional[records.Generation]) -> list:
    """The generation's attachments as plain data, with the link and the program that the kernel has there now."""
    rows = []
    for key, attachment in generation.attachments.items() if generation else ():
        link = seen.links.get(key)
        shown = {}
        if link:
            told = {} if link.is_severed else catalogue.hook_of(attachment).told(attachment, link)
            shown = {"link_id": link.id, "prog_id": link.prog_id, "severed": link.is_severed, **told}
        rows.append({"id": key, **attachment.as_options(), "where": catalogue.words(attachment), **shown})
    return rows


def unread_rings(seen: Facts, generation: Optional[records.Generation]) -> list:
    """Names of the generation's ring and perf buffers that no other process holds open now."""
    load = seen.loads.get(generation.load) if generation and generation.attachments else None
    release = seen.releases.get(generation.release) if load else None
    rings = [each["name"] for each in release.maps if each["type_name"] in RINGS] if release else []
    read = owners.open_maps() if rings else ()
    return [name for name in rings if load.maps.get(name) not in (*read, None)]


def sound_facts(place: records.Home) -> Facts:
    """The Facts of the deployment, as `facts`; what expect_sound raises."""
    return expect_sound(facts(place))


def expect_sound(seen: Facts) -> Facts:
    """The Facts; Damaged where a file of ours cannot be read, TooNew as `expect_known`, and what store.expect_private
    raises.

    A lost trial is taken back, file and all, by whoever locks the deployment next.
    """
    store.expect_private()
    expect_known(seen)
    if seen.damage and not seen.trial_is_lost:
        raise damaged(seen)
    return seen


def expect_known(seen: Facts) -> Facts:
    """The Facts; TooNew where a record is of a higher format than ours. Way back, guard and boot do not ask."""
    if seen.newer:
        raise seen.newer[0]
    return seen


def damaged(seen: Facts) -> Damaged:
    """What a user hears of files that cannot be read."""
    return Damaged(
        f"{seen.damage[0]} of deployment {seen.name} cannot be read",
        f"bpf_release name={seen.name} state=confirmed takes what its hooks run now for confirmed; "
        "state=absent removes it",
        damage=list(seen.damage),
    )


def _facts(place):
    try:
        links, unsettled = _links(place)
        loads, debris = _loads(place)
        damage, newer, formats = [], [], [0]

        def read(what, *arguments):
            """What the store's `what` gives, None where the file is damaged, or nothing can be made of a newer one."""
            try:
                found = what(place, *arguments)
            except Damaged as error:
                damage.append(error.detail["path"])
                return None
            except TooNew as error:
                newer.append(error)
                return None
            formats.append(getattr(found, "format", 0))
            return found

        deadline = read(store.deadline)
        numbers = [store.pointed_number(place, "trial"), _unpointed(place, deadline)]
        number = max((each for each in numbers if each is not None), default=None)
        trial = read(store.generation, number) if number is not None else None
        unread = len(damage) + len(newer)
        confirmed = read(store.pointed, "confirmed")
        if number is not None and trial is None and len(damage) + len(newer) == unread:
            trial = records.LostTrial.of(number)
        staged = read(store.staged)
        generations = [read(store.generation, number) for number in store.generation_numbers(place)]
        seen = Facts(
            name=place.name,
            boot_id=namespaces.boot_id(),
            staged=staged if staged and staged.load in loads else None,  # a reboot takes its pins
            trial=trial,
            confirmed=confirmed,
            deadline=deadline,
            ended=read(store.ended, trial.number) if trial else None,
            generations={each.number: each for each in generations if each},
            releases={number: read(store.release, number) for number in store.releases(place)},
            loads=loads,
            debris=debris,
            links=links,
            unsettled=unsettled,
            keep=(read(store.keep) or records.Keep(records.KEEP)).keep,
            next_number=read(store.next_number) or 1 + max([0, *store.generation_numbers(place)]),
            carries={
                load: os.path.isdir(os.path.join(place.carry, load, "merged")) for load in files.names_in(place.carry)
            },
            units=units.found(place.name) if units.are_read() else None,
        )
        seen = _checked(place, seen)
        newer = store.newer(place) if newer or max(formats) > records.FORMAT else ()
        proven = strikes.newest_proven(strikes.reckoned(place, confirmed, seen.boot_id), seen.generations)
        return seen._replace(
            damage=tuple(sorted(set(damage))),
            newer=tuple(newer),
            unnamed=_unnamed(seen, bool(damage or newer)),
            proven=proven.number if proven else None,
        )
    except PermissionError as error:
        raise Unprivileged("This needs root on the host", "Add become: true", errno=error.errno) from error


def _unpointed(place, deadline):
    """The number of the trial that the deadline names, whose pointer was lost: it neither ended nor was confirmed. So
    it is where `trial` names an older one than `confirmed`, which no change of ours leaves: each has the other's."""
    if deadline is None or deadline.boot_id != namespaces.boot_id():
        return None
    number, confirmed = deadline.generation, store.pointed_number(place, "confirmed") or 0
    is_swapped = 0 < (store.pointed_number(place, "trial") or 0) < confirmed == number
    if (number <= confirmed and not is_swapped) or number not in store.generation_numbers(place):
        return None
    try:
        ended = store.ended(place, number)
        return None if ended and ended.back else number
    except (Damaged, TooNew):
        return number


def _checked(place, seen):
    """With the files of the releases looked at that a run or a boot may have to load: of others none is read."""
    previous = seen.generations.get(seen.confirmed.previous) if seen.confirmed else None
    for number in {each.release for each in (seen.staged, seen.trial, seen.confirmed, previous) if each} - {""}:
        if seen.releases.get(number) is None:
            seen = seen._replace(spoiled={**seen.spoiled, number: store.release_path(place, number, "manifest.json")})
        seen = checked(place, seen, number)
    return seen


def _unnamed(seen, is_damaged):
    """{id: Unnamed} of the links that no generation names."""
    named = {key for each in seen.generations.values() for key in each.attachments}
    if seen.confirmed is None and (is_damaged or seen.trial is None):
        named = set()
    ours = {seen.links[key].id for key in named if key in seen.links} - {0}  # a second pin of one is no other link
    found = {key: link for key, link in seen.links.items() if key not in named and link.id not in ours}
    return {key: _recognised(seen, key, link) for key, link in found.items()}


def _recognised(seen, key, link):
    for name, load in seen.loads.items():
        for program, number in load.programs.items():
            if number == link.prog_id:
                return Unnamed(catalogue.recognised(key, link, program), name)
    return Unnamed(None, "")


def scene(seen: Facts, generation: records.Generation) -> Scene:
    """The Scene of the generation: what is true at the places of its attachments now."""
    places, seats, holders, sitting_there = {}, {}, {}, {}
    release = seen.releases.get(generation.release)
    types = release.program_types if release else {}
    ours = frozenset(number for load in seen.loads.values() for number in load.programs.values())
    for key, attachment in generation.attachments.items():
        hook, kept = catalogue.hook_of(attachment), seen.links.get(key)
        if kept is not None:
            seats[key] = _seat_without_place(hook, attachment, kept)
        program_type = types.get(attachment.program)
        try:
            if program_type:
                hook.accepts(attachment, program_type)
            by_name = program_type or _type_by_link(kept)
            places[key] = seen.known.get(key) or hook.place(attachment, by_name)
            sitting = hook.holders(places[key])
            if kept is not None:
                seats[key] = hook.seat(places[key], kept, ours)
        except Failure as failure:
            places[key], sitting = failure, ()
        except OSError as error:  # EINVAL: this kernel has no such hook
            places[key], sitting = hook.refusal(attachment, places.get(key), error), ()
        sitting_there[key] = tuple(holder.prog_id for holder in sitting)
        if hook.is_exclusive:
            runs = seats[key].runs if key in seats else ()
            foreign = [_described(holder) for holder in sitting if holder.prog_id not in runs]
        else:
            foreign = _twins(seen, generation, key, sitting)
        holders[key] = tuple(foreign)
    return Scene(seen, generation, places, seats, holders, sitting_there, _fillings(seen, generation))


def _seat_without_place(hook, attachment, kept):
    """What is told by the pins alone."""
    is_gone = hook.runs_nowhere(attachment, kept)
    return Seat(frozenset() if is_gone else kept.prog_ids, is_here=False, is_gone=is_gone)


def _described(holder):
    return owners.describe(holder.prog_id, holder.link_id, holder.mode)


def _twins(seen, generation, key, sitting):
    """Who of those that sit at a place, with others, sits there by a link of ours whose pin was moved away: with a
    second one every packet would be handled twice. That is one whose pin lies among those of a load, or one that runs
    the very program that is to be attached. A way back asks nobody."""
    load = seen.loads.get(generation.load)
    number = load.programs.get(generation.attachments[key].program) if load else None
    if key in seen.links or seen.trial or number is None or not sitting:
        return []
    misplaced = {link for each in seen.loads.values() for link in each.links}
    if any(holder.link_id in misplaced for holder in sitting):
        return [_described(holder) for holder in sitting if holder.link_id in misplaced]
    # One of ours under another id is no twin where a generation names it: this one takes its place.
    known = {link.prog_id for name, link in seen.links.items() if name not in seen.unnamed}
    try:
        ours, there = bpf.program(number), [(holder, bpf.program(holder.prog_id)) for holder in sitting]
    except OSError:  # one went meanwhile
        return []
    alike = [holder for holder, each in there if (each.name, each.tag) == (ours.name, ours.tag)]
    described = [_described(holder) for holder in alike if holder.prog_id not in known]
    return [row for row in described if _was_ours(seen, key, row)]


def _was_ours(seen, key, row):
    """Whether a pin of what owners.describe tells is below ours, or has the name that we give it, and is no other
    deployment's: those have one of that name, too. Pins alone, without any state on the disk, are no deployment."""
    pinned, own = row.get("pinned", ()), store.home(seen.name).pins + "/"
    if any(path.startswith(own) for path in pinned):
        return True
    homes = [store.home(name) for name in store.deployments() if name != seen.name]
    others = tuple(home.pins + "/" for home in homes if os.path.isdir(home.folder))
    return any(os.path.basename(path) == key and not path.startswith(others) for path in pinned)


def _fillings(seen, generation):
    """What the generation's maps lack of what is declared; those that a hook runs with are as bpf_map left them."""
    load, place, found, declared_of = seen.loads.get(generation.load), store.home(seen.name), {}, ()
    with contextlib.suppress(OSError):  # a disk that gives errors keeps no hook from going back
        declared_of = store.declared_maps(place)
    for name in declared_of if load and generation.attachments else ():
        if name in load.maps and not _holds_declared(seen, load, name):
            found[name] = filling(place, seen, generation.load, name)
    return found


def _holds_declared(seen, load, name):
    """Whether the map is the one that bpf_map fills now, and a hook has it already: it was filled before that."""
    meant = map_load(seen, name)
    return meant is not None and seen.loads[meant].maps[name] == load.maps[name] and seen.runs(meant)


def filling(place: records.Home, seen: Facts, load: str, name: str) -> declared.Filling:
    """What the load's map lacks of what is declared of it (declared.Filling).

    A file or a map that cannot be read is part of the answer: it must not keep hooks from going back.
    """
    path, release = os.path.join(place.loads, load, "maps", name), seen.releases.get(records.release_of(load))
    try:
        what = store.declared(place, name)
        with bpf.get_pinned(path) as fd:
            return declared.filling(fd, name, what, release) if what else declared.NOTHING
    except FileNotFoundError:  # unpinned meanwhile
        return declared.NOTHING
    except Failure as failure:
        return declared.unreadable(failure)


def _type_by_link(link):
    """What a lost manifest would say, as far as the link knows it."""
    return ProgramType(0, link.attach_type or 0 if link else 0)


def _loads(place):
    whole, half = {}, []
    for name in files.names_in(place.loads):
        if name.endswith("-tmp"):
            half.append(name)
        else:
            whole[name] = load(place, name)
    return whole, tuple(name for name in half if not _maker_lives(name))


def load(place: records.Home, name: str) -> Load:
    """The Load of this name as its pins say it now, empty where none are."""
    folder = os.path.join(place.loads, name)
    programs, no_programs = _ids(os.path.join(folder, "progs"), "prog", bpf.prog_info)
    maps, no_maps = _ids(os.path.join(folder, "maps"), "map", bpf.map_info)
    return Load(programs, maps, (*no_programs, *no_maps))


def _maker_lives(name):
    """R-PID-tmp belongs to a process that is still loading."""
    return os.path.exists("/proc/" + name.split("-")[-2])


def _ids(folder, kind, info):
    """({name: id} of the pins of this kind, ids of links that are pinned there)."""
    found, links = {}, []
    for name, its_kind, fd in _pins_in(folder):
        if its_kind == kind:
            found[name] = info(fd).id
        elif its_kind == "link":
            links.append(bpf.link_info(fd).id)
    return found, links


def _pins_in(folder):
    """(name, kind, Fd) of each pin there, open until the next. A folder or a symlink that somebody put in the place of
    one is none: the kernel would refuse to open it; nor is what lies where a symlink leads, in the place of their
    folder. The kind is asked first: an id would be misread."""
    leads_away = os.path.islink(folder) or os.path.islink(os.path.dirname(folder))
    for name in () if leads_away else files.names_in(folder):
        path = os.path.join(folder, name)
        if files.is_plain(path):
            with bpf.get_pinned(path) as fd:
                yield name, bpf.kind(fd), fd


def _links(place):
    """({id: bpf.Link}, names of pins that are not settled): where ID-next is pinned, that one is the newer truth.

    A program that is pinned there, since its hook has no links, is told as bpf.kept does.
    """
    pins, unsettled = {}, set()
    for name, kind, fd in _pins_in(place.links):
        if kind not in ("link", "prog"):
            continue
        if name.endswith("-next"):
            name = name[: -len("-next")]
            unsettled.add(name)
        pins[name] = bpf.kept(fd)  # names are sorted: ID-next comes after ID
    return of_parts(pins), frozenset(unsettled)


def of_parts(pins: dict) -> dict:
    """{id: bpf.Link} of {name of a pin: bpf.Link}; of an attachment with several, the others with the first."""
    found = {}
    for name, link in sorted(pins.items()):
        key, dummy, part = name.partition("+")
        first, link = found.get(key), link._replace(part=part)
        found[key] = first._replace(others=(*first.others, link)) if first else link
    return found


def map_load(seen: Facts, name: str) -> Optional[str]:
    """The load whose map of this name is meant, None where no load has one.

    The trial's once a hook runs it, else the confirmed one's, where that has none the staged one's.
    """
    trial = seen.trial if seen.trial and not seen.ended else None
    if trial and not seen.runs(trial.load):
        trial = None
    candidates = (each.load for each in (trial, seen.confirmed, seen.staged) if each)
    return next((load for load in candidates if load in seen.loads and name in seen.loads[load].maps), None)


def map_path(place: records.Home, seen: Facts, name: str) -> str:
    """Where the map that `map_load` means is pinned."""
    load = map_load(seen, name)
    if load is None:
        known = sorted({name for load in seen.loads.values() for name in load.maps})
        raise NotFound(
            f"Deployment {place.name} has no map {name} on this host",
            namespaces.did_you_mean(name, known) if known else "Run bpf_program first",
            maps=known,
        )
    return os.path.join(place.loads, load, "maps", name)
