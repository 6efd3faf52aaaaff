# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A map's entries as a user asks for them, and with a deployment's map what is declared of them: both, or neither.

No hook moves here. The disk is written before the map: a run killed between them is finished by the same run again, and
by a boot, too.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Optional

from ..errors import BadRequest, Damaged, NotFound
from ..kernel import bpf, values
from ..objects import contents, entries, maps
from . import declared, lock, observe, records, store, trial, ways


class Asked(NamedTuple):
    """What a user asks of a map's entries; `entries` None: to read them. persist None: as the kind of map has it."""

    entries: Optional[list] = None
    state: str = "present"
    purge: bool = False
    persist: Optional[bool] = None


class Result(NamedTuple):
    """A map before and after, or as it would be; what was and is declared of it, where it is a deployment's."""

    info: bpf.Map
    form: entries.Form
    before: list
    after: list  # in check mode as before
    edit: contents.Edit
    was_declared: Optional[records.Declared] = None
    declared: Optional[records.Declared] = None
    left_out: tuple = ()  # what was declared and has no place in this map, in words
    secrets: frozenset = frozenset()  # variables of this section whose values the user gave as secret

    @property
    def changed(self) -> bool:
        return not self.edit.is_empty or self.was_declared != self.declared


def pinned(path: str, asked: Asked, check_mode: bool = False) -> Result:
    """The Result for a map that whoever pinned at `path`."""
    if asked.persist:
        raise BadRequest(
            "persist goes with name and map: a map by its path belongs to no deployment", "Leave persist out"
        )
    with _opened(path) as fd:
        result = _planned(fd, asked)[0]
        result = result._replace(secrets=_secrets(*_ours(path), result.form))
        if result.edit.is_empty or check_mode:
            return result
        contents.carry_out(fd, result.info, result.edit)
        return result._replace(after=contents.read(fd, result.info))


def deployed(name: str, map_name: str, asked: Asked, check_mode: bool = False) -> Result:
    """The Result for the deployment's map with this name."""
    place = store.home(name)
    if check_mode or asked.entries is None:
        return _deployed(place, map_name, asked)
    observe.map_path(
        place, observe.expect_known(observe.facts(place)), map_name
    )  # refused before the lock's file is made
    with lock.locked(name) as home:
        return _deployed(home, map_name, asked)  # another run may have moved on to another load


def _deployed(place, map_name, asked):
    seen = observe.facts(place)
    with _opened(observe.map_path(place, seen, map_name)) as fd:
        result, wanted = _planned(fd, asked)
        release = seen.releases.get(records.release_of(observe.map_load(seen, map_name)))
        result = result._replace(secrets=_secrets(release, map_name, result.form))
        if wanted is None:
            held = store.declared(place, map_name)
            return result._replace(was_declared=held, declared=held)
        result = _with_declared(place, seen, map_name, asked, wanted, result)
        load = observe.map_load(seen, map_name)
        steps = ways.declare(load, map_name, result.edit, result.was_declared, result.declared)
        if not steps or not place.is_locked:
            return result
        trial.carry_out(place, steps, "entries")
        return result._replace(after=contents.read(fd, result.info))


def _ours(path):
    """(the Release whose load has pinned the map there, the map's name); no Release where it is not ours."""
    parts = os.path.relpath(os.path.realpath(path), records.PINS).split(os.sep)
    if len(parts) != 5 or (parts[1], parts[3]) != ("loads", "maps") or not records.NAME.fullmatch(parts[0]):
        return None, ""
    return store.release(store.home(parts[0]), records.release_of(parts[2])), parts[4]


def _secrets(release, map_name, form):
    """The variables of a section that were given as secret; none of a map that is no section."""
    is_section = form.holds_globals or (map_name in maps.INTERNAL and not form.value_type)
    given = (release.globals or {}) if release and is_section else {}
    return frozenset(name for name, value in given.items() if value == values.SECRET)


def _planned(fd, asked):
    """(Result, wanted): what makes the map as asked; wanted is None where it is only read."""
    info = bpf.map_info(fd)
    form, before = entries.of(info), contents.read(fd, info)
    result = Result(info, form, before, before, contents.Edit((), (), 0, False))
    if asked.entries is None:
        return result, None
    wanted = entries.pack(form, asked.entries, before)
    if asked.state == "present" and any(value is None for dummy, value in wanted):
        raise BadRequest("An entry has a key and no value", "Add value: to each entry, or set state: absent")
    return result._replace(edit=contents.plan(info, before, wanted, asked.state, asked.purge)), wanted


def _with_declared(place, seen, map_name, asked, wanted, result):
    """The Result with what will be declared."""
    before, load = _declared_before(place, map_name, asked.purge), observe.map_load(seen, map_name)
    after, left_out = declared.edited(
        before,
        declared.shape_of(seen.releases.get(records.release_of(load)), map_name, result.info),
        result.info,
        wanted,
        absent=asked.state == "absent",
        purge=asked.purge,
        persist=_is_to_persist(asked, result),
        elsewhere=len({each.maps[map_name] for each in seen.loads.values() if map_name in each.maps}) > 1,
    )
    return result._replace(was_declared=before, declared=after, left_out=left_out)


def _is_to_persist(asked, result):
    """As the user says, else as the kind of map has it.

    Entries of a hash, an array and a trie are configuration. Those of per-CPU and LRU maps are what programs count and
    remember, and so are the variables of a section.
    """
    if asked.persist and result.form.holds_globals:
        raise BadRequest(
            "Variables cannot be declared: they lie beside those that the program counts in",
            "Leave persist out, and set them in the source",
        )
    if asked.persist is not None:
        return asked.persist
    kinds = (contents.HASH, contents.ARRAY, contents.LPM_TRIE)
    return result.info.type_number in kinds and not result.form.holds_globals


def _declared_before(place, map_name, purge):
    """What is declared of the map. With purge a file that cannot be read counts as empty, and is written anew."""
    try:
        return store.declared(place, map_name)
    except Damaged:
        if not purge:
            raise
        return records.Declared({})


def _opened(path):
    """An Fd of the map pinned there."""
    try:
        fd = bpf.get_pinned(path)
    except OSError as error:
        raise NotFound(
            f"No map is pinned at {path}: {error.strerror}", "See bpftool -f map show for what is", path=path
        ) from error
    kind = bpf.kind(fd.number)
    if kind != "map":
        fd.close()
        raise BadRequest(f"What is pinned at {path} is a {kind}, not a map", "Give a map's path", path=path)
    return fd
