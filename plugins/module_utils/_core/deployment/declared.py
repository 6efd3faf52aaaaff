# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Entries that were declared through bpf_map: they are the deployment's, and outlive the maps that hold them.

    after = edited(before, shape, info, wanted, …)      what is declared once bpf_map has done its work
    fill = filling(fd, name, declared, release)         what a map lacks of it, and what cannot be written there

A map that was made anew, or that an older release left, is filled before a hook runs a load with it. All in bytes, by
the layouts that manifests have: the way back and the boot do the same without BTF. Where it stands on the disk is
store.py's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Optional

from ..errors import Failure
from ..kernel import bpf
from ..objects import contents, fields
from .records import Declared


class Filling(NamedTuple):
    """What makes a map hold what is declared; `left_out` says in words what it cannot hold."""

    edit: contents.Edit
    left_out: tuple = ()
    is_unreadable: bool = False  # the file, or the map
    missing: int = 0  # of the entries to write, those whose key is not there at all

    @property
    def is_empty(self) -> bool:
        return self.edit.is_empty and not self.left_out


NOTHING = Filling(contents.Edit((), (), 0, False))


def unreadable(failure: Failure) -> Filling:
    """The Filling where the declared entries cannot be read: none of them fits anywhere."""
    return NOTHING._replace(left_out=(f"all declared entries: {failure.what}",), is_unreadable=True)


def shape_of(release, name: str, info: bpf.Map) -> dict:
    """The map's record in the release's manifest; what the kernel says, without layouts, where there is none."""
    found = next((record for record in (release.maps if release else ()) if record["name"] == name), None)
    bare = {"name": name, "type": info.type_number, "key_layout": None, "value_layout": None}
    return found or {**bare, "key_size": info.bytes_key, "value_size": info.bytes_value}


# ---- what is declared ----------------------------------------------------------------------------


def edited(
    before: Optional[Declared],
    shape: dict,
    info: bpf.Map,
    wanted: Iterable,
    *,
    absent: bool = False,
    purge: bool = False,
    persist: bool = True,
    elsewhere: bool = False,
) -> tuple:
    """(Declared or None, left_out): what is declared after these entries were made present, or absent.

    Entries that are named and not to persist are declared no longer. elsewhere: a map of another load has this name,
    and what is removed here must go there too, when the way leads back to it.
    """
    same = contents.identity(info)
    cpus = bpf.possible_cpus() if info.type_number in contents.PER_CPU else 0
    held, gone, left_out = _as(before, shape, cpus)
    stays = {} if purge else {same(key): (key, value) for key, value in held}
    named = {same(key): (key, value) for key, value in wanted}
    kept = {key: entry for key, entry in stays.items() if key not in named}
    if persist and not absent:
        kept = {**stays, **named}
    removed = {same(key): key for key in gone}
    removed.update(
        {same(key): key for key, dummy in held if same(key) not in kept and (absent or same(key) not in named)}
    )
    still = tuple(key for mark, key in removed.items() if elsewhere and mark not in kept)
    if before and not before.is_empty and not left_out and (dict(kept.values()), {*still}) == (dict(held), {*gone}):
        return before, ()
    after = Declared(shape, cpus, tuple(kept.values()), still)
    return None if after.is_empty else after, left_out


# ---- what a map lacks ----------------------------------------------------------------------------


def filling(fd: int, name: str, declared: Declared, release) -> Filling:
    """The Filling of the release's map with this name."""
    info = bpf.map_info(fd)
    if info.type_number not in contents.WITH_ENTRIES:
        return NOTHING._replace(left_out=(f"{len(declared.entries)} entries: the map is a {info.type} now",))
    cpus = bpf.possible_cpus() if info.type_number in contents.PER_CPU else 0
    wanted, gone, left_out = _as(declared, shape_of(release, name, info), cpus)
    there = contents.held(fd, info, [key for key, dummy in wanted] + list(gone))
    return _planned(info, wanted, gone, there, left_out)


def _planned(info, wanted, gone, there, left_out):
    same = contents.identity(info)
    changed = [entry for entry in wanted if there.get(same(entry[0]), entry[1]) != entry[1]]
    missing = [entry for entry in wanted if same(entry[0]) not in there]
    room = 0 if info.type_number in contents.FIXED else info.max_entries - len(wanted) + len(missing)
    if len(missing) > room:
        left_out += (f"{len(missing) - max(room, 0)} entries: the map has room for {info.max_entries}",)
        missing = missing[: max(room, 0)]
    deletes = [key for key in gone if _is_there(info, there.get(same(key)))]
    puts = (*changed, *missing)  # what is there already needs no room
    edit = contents.Edit(puts, tuple(deletes), len(wanted) - len(puts), True)
    return Filling(edit, tuple(left_out), missing=len(missing))


def _is_there(info, value):
    return value is not None and (info.type_number not in contents.FIXED or any(value))


# ---- from one layout to another ------------------------------------------------------------------


def _as(declared, shape, cpus):
    """(entries, gone, left_out) of what is declared, as a map of this shape and so many CPUs has them."""
    if declared is None or declared.is_empty:
        return (), (), ()
    if _lies_alike(declared, shape) and declared.cpus == cpus:
        return declared.entries, declared.gone, ()
    lost, entries = Counter(), []
    for key, value in declared.entries:
        new_key = _carried_key(key, declared, shape, lost)
        new_value = _carried_value(value, declared, shape, cpus, lost)
        if new_key is not None and new_value is not None:
            entries.append((new_key, new_value))
    gone = [_carried_key(key, declared, shape, Counter()) for key in declared.gone]
    left_out = [f"{number} entries: {what} has no place there" for what, number in sorted(lost.items())]
    return tuple(entries), tuple(key for key in gone if key is not None), tuple(left_out)


def _lies_alike(declared, shape):
    parts = ("key_size", "value_size", "key_layout", "value_layout")
    return all(declared.shape[part] == shape[part] for part in parts)


def _carried_key(key, declared, shape, lost):
    """None where anything of it has no place: less of a key is another key."""
    new, without = _part(key, "key", declared, shape)
    lost.update(f"key {name}" for name in without)
    return None if without else new


def _carried_value(value, declared, shape, cpus, lost):
    parts = contents.split(value, declared.shape["value_size"]) if declared.cpus else [value]
    if len(parts) != max(cpus, 1) and len(set(parts)) > 1:
        lost.update([f"a value for each of {len(parts)} CPUs"])
        return None
    parts = parts if len(parts) == max(cpus, 1) else parts[:1] * max(cpus, 1)
    turned = [_part(part, "value", declared, shape) for part in parts]
    lost.update({f"value {name}" for dummy, without in turned for name in without})
    new = [part for part, dummy in turned]
    if None in new:
        return None
    return contents.join(new) if cpus else new[0]


def _part(data, part, declared, shape):
    old, new = declared.shape, shape
    return fields.carried(data, old[f"{part}_layout"], new[f"{part}_layout"], old[f"{part}_size"], new[f"{part}_size"])
