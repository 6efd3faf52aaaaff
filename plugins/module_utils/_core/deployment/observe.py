# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What store, bpffs, kernel and network say of one deployment, side by side. Reads only, and never believes a file
over the kernel."""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple, Optional

from ..errors import Busy, Failure, NotFound, Unprivileged
from ..hooks import catalogue
from ..kernel import bpf, files, namespaces
from ..objects import owners
from . import store

READS = 20  # of a deployment that other runs change meanwhile


class Load(NamedTuple):
    """The pins of one load: {program: id}, {map: id}."""

    programs: dict
    maps: dict


class Facts(NamedTuple):
    """All that a plan is made from. `links`, `places`, `holders` and `modes` go by attachment id.

    A place is a Failure where there is none; places, holders and modes are seen for one generation only (see `hooks`).
    """

    name: str
    boot_id: str = ""
    staged: Optional[store.Staged] = None
    trial: Optional[store.Generation] = None
    confirmed: Optional[store.Generation] = None
    deadline: Optional[store.Deadline] = None
    ended: Optional[store.Ended] = None  # how the trial ended, where the way back from it is not finished
    generations: dict = {}
    releases: dict = {}  # None for one that a killed run had begun to remove
    loads: dict = {}
    debris: tuple = ()  # half-made loads: names in loads/
    links: dict = {}
    unsettled: frozenset = frozenset()  # ids whose new link is pinned at ID-next, not yet renamed over ID
    next_number: int = 1
    places: dict = {}
    holders: dict = {}
    modes: dict = {}

    @property
    def trial_is_live(self):
        """Whether a guard still waits for the trial's confirmation."""
        guarded = self.trial and self.trial.guarded and not self.ended and self.deadline
        return bool(guarded and self.deadline.is_live(self.trial, self.boot_id))

    @property
    def exists(self):
        return any((self.staged, self.trial, self.confirmed, self.loads, self.links))


def facts(place):
    """The Facts of the deployment at `place` (store.Home), hooks left out.

    Without the lock another run may take away what was just listed: then all is read again.
    """
    for dummy in range(READS):
        with contextlib.suppress(FileNotFoundError):
            return _facts(place)
    raise Busy(f"Deployment {place.name} changes faster than it can be read", "Run again when other runs have ended")


def _facts(place):
    try:
        links, unsettled = _links(place)
        loads, debris = _loads(place)
        trial = store.pointed(place, "trial")
        return Facts(
            name=place.name,
            boot_id=namespaces.boot_id(),
            staged=_staged(place, loads),
            trial=trial,
            confirmed=store.pointed(place, "confirmed"),
            deadline=store.deadline(place),
            ended=store.ended(place, trial.number) if trial else None,
            generations={each.number: each for each in _generations(place)},
            releases={number: store.release(place, number) for number in store.releases(place)},
            loads=loads,
            debris=debris,
            links=links,
            unsettled=unsettled,
            next_number=store.next_number(place),
        )
    except PermissionError as error:
        raise Unprivileged("This needs root on the host", "Add become: true", errno=error.errno) from error


def _generations(place):
    found = [store.generation(place, number) for number in store.generation_numbers(place)]
    return [each for each in found if each is not None]


def hooks(seen, generation):
    """The same Facts with what is true at the places of the generation's attachments."""
    places, holders, modes = {}, {}, {}
    release = seen.releases.get(generation.release)
    types = release.program_types if release else {}
    for key, attachment in generation.attachments.items():
        hook = catalogue.hook_of(attachment)
        program_type = types.get(attachment.program)
        try:
            if program_type:
                hook.accepts(attachment, program_type)
            places[key] = hook.place(attachment, program_type or (0, 0))
            sitting = hook.holders(places[key])
        except Failure as failure:
            places[key], sitting = failure, ()
        except OSError as error:  # EINVAL: this kernel has no such hook
            places[key], sitting = hook.refusal(attachment, places.get(key), error), ()
        ours = seen.links[key].prog_id if key in seen.links else None
        modes[key] = next((holder.mode for holder in sitting if holder.prog_id == ours), "")
        foreign = [holder for holder in sitting if holder.prog_id != ours] if hook.is_exclusive else ()
        holders[key] = tuple(owners.describe(holder.prog_id, holder.link_id, holder.mode) for holder in foreign)
    return seen._replace(places=places, holders=holders, modes=modes)


def _staged(place, loads):
    """staged.json counts only with its pins: a reboot takes them."""
    staged = store.staged(place)
    return staged if staged and staged.load in loads else None


def _loads(place):
    whole, half = {}, []
    for name in files.names_in(place.loads):
        if name.endswith("-tmp"):
            half.append(name)
        else:
            folder = os.path.join(place.loads, name)
            whole[name] = Load(
                _ids(os.path.join(folder, "progs"), bpf.prog_info), _ids(os.path.join(folder, "maps"), bpf.map_info)
            )
    return whole, tuple(name for name in half if not _maker_lives(name))


def _maker_lives(name):
    """R-PID-tmp belongs to a process that is still loading."""
    return os.path.exists("/proc/" + name.split("-")[-2])


def _ids(folder, info):
    found = {}
    for name in files.names_in(folder):
        with bpf.get_pinned(os.path.join(folder, name)) as fd:
            found[name] = info(fd).id
    return found


def _links(place):
    """({id: bpf.Link}, ids that are not settled): where ID-next is pinned, that one is the newer truth."""
    found, unsettled = {}, set()
    for name in files.names_in(place.links):
        with bpf.get_pinned(os.path.join(place.links, name)) as fd:
            link = bpf.link_info(fd)
        if name.endswith("-next"):
            unsettled.add(name[: -len("-next")])
            found[name[: -len("-next")]] = link  # names are sorted: it comes after ID
        else:
            found[name] = link
    return found, frozenset(unsettled)


def map_path(place, seen, name):
    """Where the deployment's map is pinned: the confirmed load's, where that is not there the staged one's."""
    for each in (seen.confirmed, seen.staged):
        load = seen.loads.get(each.load) if each else None
        if load and name in load.maps:
            return os.path.join(place.loads, each.load, "maps", name)
    known = sorted({name for load in seen.loads.values() for name in load.maps})
    raise NotFound(
        f"Deployment {place.name} has no map {name} on this host",
        namespaces.did_you_mean(name, known) if known else "Run bpf_program first",
        maps=known,
    )
