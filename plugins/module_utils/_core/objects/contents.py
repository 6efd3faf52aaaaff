# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A map's contents as bytes: read, planned, written.

    actual = read(fd, info)                      [(key, value), …]
    edit = plan(info, actual, wanted)            pure; empty when all is as wanted
    carry_out(fd, info, edit)

A per-CPU map has one value for each possible CPU: one behind the other, each padded to 8 (the kernel's ABI). Arrays
have all their indexes from the start: nothing is added, and an entry that is deleted becomes zero. What the bytes mean
is the business of entries.py; here no BTF is needed, because the way back has none.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterable
from typing import Callable, NamedTuple

from ..errors import BadRequest, Failure, NoMemory
from ..kernel import bpf

# enum bpf_map_type: by number, because libbpf before 1.0 has no names for them
HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, LRU_PERCPU_HASH, LPM_TRIE = 1, 2, 5, 6, 9, 10, 11
FIXED = {ARRAY, PERCPU_ARRAY}
LRU = {LRU_HASH, LRU_PERCPU_HASH}
PER_CPU = {PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH}
WITH_ENTRIES = {HASH, PERCPU_HASH, LPM_TRIE} | FIXED | LRU
WITHOUT_ENTRIES = {
    3: ("prog_array", "holds programs, which only a dispatcher writes"),
    4: ("perf_event_array", "is a stream of events"),
    12: ("array_of_maps", "holds other maps"),
    13: ("hash_of_maps", "holds other maps"),
    22: ("queue", "gives each element once, so reading would change it"),
    23: ("stack", "gives each element once, so reading would change it"),
    27: ("ringbuf", "is a stream of events"),
    31: ("user_ringbuf", "is a stream of events"),
}
UNKNOWN = "is of a kind whose entries cannot be read and written here"


class Edit(NamedTuple):
    """What makes the contents as wanted."""

    puts: tuple  # (key, value), new or changed
    deletes: tuple  # keys; in an array, the ones to be zeroed
    unchanged: int  # of the wanted entries, those that are so already
    deletes_first: bool  # the map has no room for new entries before old ones are gone

    @property
    def is_empty(self) -> bool:
        return not self.puts and not self.deletes


def refuse_without_entries(info: bpf.Map) -> None:
    """The map has entries that can be read and written one by one; BadRequest names it and its kind otherwise."""
    if info.type_number in WITH_ENTRIES:
        return
    name, why = WITHOUT_ENTRIES.get(info.type_number, (info.type, UNKNOWN))
    raise BadRequest(
        f"Map {info.name} ({name}) {why}",
        "Entries are for hash, array, lpm_trie, and the lru and percpu kinds of hash and array",
        map=info.name,
        type=name,
    )


def split(data: bytes, bytes_value: int) -> list:
    """The values in a per-CPU entry's bytes, without their padding."""
    step = bpf.padded(bytes_value)
    return [data[at : at + bytes_value] for at in range(0, len(data), step)]


def join(parts: Iterable) -> bytes:
    """The bytes of a per-CPU entry with these values."""
    return b"".join(part.ljust(bpf.padded(len(part)), b"\0") for part in parts)


# ---- the plan ------------------------------------------------------------------------------------


def plan(info: bpf.Map, actual: Iterable, wanted: Iterable, state: str = "present", purge: bool = False) -> Edit:
    """What makes `actual` as wanted: these entries present (with `purge`, no others), or their keys absent.

    Refused before anything is written: an index that an array does not have, more entries than the map can hold, a
    present entry without a value, a key that is given twice with different values.
    """
    refuse_without_entries(info)
    same = identity(info)
    there = {same(key): (key, value) for key, value in actual}
    named = _by_key(wanted if state == "present" else [(key, b"") for key, dummy in wanted], same)
    if info.type_number in FIXED:
        _refuse_unknown_index(info, there, named)
    if state == "absent":
        if purge:
            raise BadRequest("purge goes with state present: it removes what is not named", "Leave one of them out")
        return _removal(info, there, named)
    puts = [put for key, put in named.items() if key not in there or there[key][1] != put[1]]
    others = {key: held for key, held in there.items() if key not in named}
    deletes = _removable(info, others) if purge else []
    fresh = sum(1 for key in named if key not in there)
    _refuse_overflow(info, len(named), fresh + len(there) - len(deletes))
    crowded = len(there) + fresh > info.max_entries
    return Edit(tuple(puts), tuple(deletes), len(named) - len(puts), bool(deletes) and crowded)


def _removal(info, there, named):
    held = {key: there[key] for key in named if key in there}
    deletes = _removable(info, held)
    return Edit((), tuple(deletes), len(named) - len(deletes), False)


def _removable(info, held):
    """The keys to delete; in an array those that are zero already count as deleted."""
    return [key for key, value in held.values() if info.type_number not in FIXED or any(value)]


def identity(info: bpf.Map) -> Callable:
    """What two keys of this map have alike when they are the same key to it: a function of the key."""
    return _prefix if info.type_number == LPM_TRIE else bytes


def _by_key(wanted, same):
    named = {}
    for key, value in wanted:
        if value is None:
            raise BadRequest(f"Key {key.hex()} has no value", "Give its value, or state absent", key=key.hex())
        before = named.setdefault(same(key), (key, value))
        if before[1] != value:
            raise BadRequest(f"Key {key.hex()} is given twice, with different values", "Give it once", key=key.hex())
    return named


def _prefix(key):
    """What an LPM trie takes for the same key: the bits beyond the prefix are stored, and not compared."""
    bits = int.from_bytes(key[:4], sys.byteorder)
    return key[:4] + bpf.masked(key[4:], bits)


def _refuse_unknown_index(info, there, named):
    for key in named:
        if key not in there:
            raise BadRequest(
                f"Map {info.name} has no index {int.from_bytes(key, sys.byteorder)}",
                f"Its indexes are 0 to {info.max_entries - 1}",
                map=info.name,
            )


def _refuse_overflow(info, wanted, after):
    # an LRU map makes room by itself, but not for more than it can hold
    number = wanted if info.type_number in LRU else after
    if number > info.max_entries:
        raise BadRequest(
            f"Map {info.name} holds {info.max_entries} entries, and there would be {number}",
            "Raise max_entries in the program, or name fewer entries",
            map=info.name,
            max_entries=info.max_entries,
        )


# ---- the kernel ----------------------------------------------------------------------------------


def read(fd: int, info: bpf.Map) -> list:
    """[(key, value), …] of the map, each key once. What changes meanwhile is seen before or after its change."""
    refuse_without_entries(info)
    try:
        # a walk begins anew where its last key was deleted under it, so keys may come twice
        found = dict(bpf.map_items(fd, info))
    except OSError as error:
        raise explained(error, info, 0) from error
    return [(key, _unpadded(info, value)) for key, value in found.items()]


def _unpadded(info, value):
    """The value with zeros for padding: what the kernel has there is nobody's."""
    return join(split(value, info.bytes_value)) if info.type_number in PER_CPU else value


def held(fd: int, info: bpf.Map, keys: Iterable) -> dict:
    """{identity: value} of those keys that the map has.

    A trie is read whole, because a look-up there also finds shorter prefixes.
    """
    if info.type_number == LPM_TRIE:
        return {_prefix(key): value for key, value in read(fd, info)}
    found = {}
    try:
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                found[key] = _unpadded(info, bpf.map_lookup(fd, info, key))
    except OSError as error:
        raise explained(error, info, 0) from error
    return found


def carry_out(fd: int, info: bpf.Map, edit: Edit) -> int:
    """The map is as the edit says; returns how many entries were written or deleted.

    Each entry changes at once, the edit as a whole does not. New entries come before old ones go, where there is room.
    After a failure the next plan is what remains; `done` in its detail says how far this one came.
    """
    done = 0
    try:
        for change in _changes(fd, info, edit):
            change()
            done += 1
    except OSError as error:
        raise explained(error, info, done) from error
    return done


def _changes(fd, info, edit):
    def put(key, value):
        return lambda: bpf.map_update(fd, key, value)

    def delete(key):
        if info.type_number in FIXED:
            return lambda: bpf.map_update(fd, key, bytes(bpf.value_room(info)))
        return lambda: _delete(fd, key)

    puts = [put(*entry) for entry in edit.puts]
    deletes = [delete(key) for key in edit.deletes]
    return deletes + puts if edit.deletes_first else puts + deletes


def _delete(fd, key):
    try:
        bpf.map_delete(fd, key)
    except FileNotFoundError:
        return  # somebody was faster


def explained(error: OSError, info: bpf.Map, done: int) -> Failure:
    """What an errno means on a map: E2BIG, and ENOSPC of a trie, is a full one, EPERM a frozen or one-way one."""
    detail = {"map": info.name, "errno": error.errno, "done": done}
    if error.errno in (errno.E2BIG, errno.ENOSPC):
        return BadRequest(f"Map {info.name} is full at {info.max_entries} entries", "Raise max_entries", **detail)
    if error.errno == errno.ENOMEM:
        return NoMemory(f"The kernel has no memory for more entries of map {info.name}", "Name fewer entries", **detail)
    if error.errno == errno.EPERM:
        return BadRequest(
            f"Map {info.name} does not let itself be changed or read from user space",
            "It is frozen, or was made with BPF_F_RDONLY or BPF_F_WRONLY; or this process lacks root",
            **detail,
        )
    return Failure(f"The kernel refused an entry of map {info.name}: {error.strerror}", "", **detail)
