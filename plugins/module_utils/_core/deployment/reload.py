# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A release loaded again from its files on the disk: after a reboot, or where its pins were lost.

Neither compiler nor network is needed: the object on the disk holds the final bytes. BCC's dialect alone is compiled
again, since it has no object.
"""

from __future__ import annotations

import os

from ..errors import Failure
from ..kernel import files, values
from ..objects import elf, maps
from . import observe, plan, records, store
from .facts import Facts


def load_way_back(home: records.Home, seen: Facts) -> Facts:
    """What a trial that is over goes back to is in the kernel, where it can be. The Facts since."""
    if seen.trial is None or seen.trial_is_live or seen.trial_is_lost:
        return seen
    before = plan.fallback(seen)
    if before.number == seen.trial.number or plan.is_runnable(seen, before):
        return seen
    try:
        load_again(home, seen, before)
    except Failure as failure:
        store.journal(home, "way_back_not_loaded", why=str(failure))
    return observe.facts(home)


def load_again(home: records.Home, seen: Facts, generation: records.Generation) -> None:
    """The generation's load is pinned under its own name; nothing to do where it is. One that lost a program it needs
    is left as half-made."""
    is_there = generation.load in seen.loads
    if is_there and plan.is_runnable(seen, generation):
        return
    release = seen.releases.get(generation.release)
    if release is None:
        path = store.release_path(home, generation.release, "manifest.json")
        raise store.lost_release(generation.release, path)
    aside = os.path.join(home.loads, f"{release.id}-{os.getpid()}-tmp")
    store.make_pins_folder(home.loads)
    try:
        _load(home, release, _shared(home, seen, generation), aside)
        whole = os.path.join(home.loads, generation.load)
        if is_there:
            os.rename(whole, f"{whole}-{os.getpid()}-tmp")
        os.rename(aside, whole)
    except Failure:
        files.remove_tree(aside)
        raise
    except OSError as error:
        files.remove_tree(aside)
        raise files.disk_failure(error) from error


def _load(home, release, shared, pins):
    from ..objects import bcc, refusals, source  # few releases need them, and no run that loads nothing

    if release.dialect == "bcc":
        text = source.Source(release.source, store.release_file(home, release, release.file), (), release.cflags)
        bcc.load(text, release.program_types, shared, pins)
        return
    programs = [row[0] for row in release.programs]
    data = store.release_file(home, release, release.file)
    with refusals.hiding(values.SECRET in (release.globals or {}).values()):  # the journal keeps what is refused
        elf.load(data, home.name, programs, shared, pins, _tuning(home, release))


def _tuning(home, release):
    record = release.tuning or {}
    types = store.release_file(home, release, "btf") if "btf" in record else b""
    return elf.Tuning.from_record(record, types)


def _shared(home, seen, generation):
    """{map: pin} of what the release before has in common with the confirmed one, which is loaded first: the maps that
    both declare alike, but for those that a policy took over, or that belong to one load."""
    if seen.confirmed is None:
        return {}
    both = [seen.releases.get(each.release) for each in (seen.confirmed, generation)]
    if seen.confirmed.load not in seen.loads or None in both:
        return {}
    folder = os.path.join(home.loads, seen.confirmed.load, "maps")
    alike = [maps.from_record(each) for each in both[0].maps if each in both[1].maps]
    names = [each.name for each in alike if not maps.is_own(each) and each.name not in seen.confirmed.policies]
    there = seen.loads[seen.confirmed.load].maps
    return {name: os.path.join(folder, name) for name in names if name in there}
