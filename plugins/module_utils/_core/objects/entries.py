# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Wanted against actual contents of a map, and the way from one to the other.

    form = of(info)                              how this map's entries are written
    actual = read(fd, info)                      [(key, value), …] as bytes
    wanted = pack(form, entries, actual)         the same of [{"key": …, "value": …}, …]
    edit = plan(info, actual, wanted)            pure; empty when all is as wanted
    carry_out(fd, info, edit)

A per-CPU map has one value for each possible CPU. It is read as {"key": …, "values": [one for each]} and may be written
so too; a single "value" stands for all CPUs. In bytes these are one behind the other, each padded to 8 (the kernel's
ABI). Arrays have all their indexes from the start: nothing is added, and an entry that is deleted becomes zero. How one
value is written is the business of kernel/values.py; which map, and whose, that of the caller.
"""

from __future__ import annotations

import errno
import sys
from typing import Any, NamedTuple

from ..errors import BadRequest, Failure, NoMemory
from ..kernel import bpf, btf, values

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


class Form(NamedTuple):
    """How a map's entries are written. Type ids are 0 where the map was made without BTF."""

    btf: Any
    key_type: int
    value_type: int
    bytes_key: int
    bytes_value: int
    cpus: int  # 0: one value, whatever CPU

    @property
    def holds_globals(self):
        """Whether the value is a section of variables (.data, .bss): what is not named stays as it is."""
        return bool(self.value_type) and self.btf.type(self.value_type).kind == "datasec"


class Edit(NamedTuple):
    """What makes the contents as wanted."""

    puts: tuple  # (key, value), new or changed
    deletes: tuple  # keys; in an array, the ones to be zeroed
    unchanged: int  # of the wanted entries, those that are so already
    deletes_first: bool  # the map has no room for new entries before old ones are gone

    @property
    def is_empty(self):
        return not self.puts and not self.deletes


def of(info):
    """The form of a map that the kernel knows, its types included. BadRequest where the kind of map has no entries."""
    refuse_without_entries(info)
    types = btf.parse(bpf.btf_bytes(info.btf_id)) if info.btf_id else None
    cpus = bpf.possible_cpus() if info.type_number in PER_CPU else 0
    return Form(types, info.btf_key_type_id, info.btf_value_type_id, info.bytes_key, info.bytes_value, cpus)


def refuse_without_entries(info):
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


# ---- values --------------------------------------------------------------------------------------


def pack(form, entries, actual=(), secret=False):
    """[(key, value), …] in bytes of [{"key": …, "value": …}, …]; without "value" and "values" an entry's value is None.

    `actual` is looked into for globals only: those not named keep the value they have there.
    """
    before = dict(actual) if form.holds_globals else {}
    packed = []
    for place, entry in enumerate(entries):
        path = f"entries[{place}]"
        key = _pack_key(form, entry, path, secret)
        packed.append((key, _pack_value(form, entry, path, before.get(key), secret)))
    return packed


def unpack(form, items):
    """[{"key": …, "value": …}, …] of the bytes; {"key": …, "values": […]} where the map has a value for each CPU."""
    return [{"key": _unpacked(form, form.key_type, key), **_shown_value(form, value)} for key, value in items]


def split(data, bytes_value):
    """The values in a per-CPU entry's bytes, without their padding."""
    step = _padded(bytes_value)
    return [data[at : at + bytes_value] for at in range(0, len(data), step)]


def join(parts):
    """The bytes of a per-CPU entry with these values."""
    return b"".join(part.ljust(_padded(len(part)), b"\0") for part in parts)


def _padded(size):
    return (size + 7) // 8 * 8


def _pack_key(form, entry, path, secret):
    if not isinstance(entry, dict) or "key" not in entry or not entry.keys() <= {"key", "value", "values"}:
        raise BadRequest(f"{path} must have a key, and a value or values", path=path)
    path += ".key"
    return values.pack(form.btf, form.key_type, entry["key"], size=form.bytes_key, path=path, secret=secret)


def _pack_value(form, entry, path, before, secret):
    if "value" in entry and "values" in entry:
        raise BadRequest(f"{path} has both value and values", "Give one of them", path=path)
    if "values" in entry:
        return _pack_each(form, entry["values"], f"{path}.values", secret)
    if "value" not in entry:
        return None
    value, path = entry["value"], f"{path}.value"
    if form.cpus and isinstance(value, list) and not _is_list_itself(form):
        return _pack_each(form, value, path, secret)
    if before is not None and isinstance(value, dict):
        return values.replace(form.btf, form.value_type, before, value, path=path, secret=secret)
    packed = _pack_one(form, value, path, secret)
    return join([packed] * form.cpus) if form.cpus else packed


def _pack_each(form, given, path, secret):
    if not form.cpus:
        raise BadRequest(f"{path}: this map does not have a value for each CPU", 'Give a single "value"', path=path)
    if not isinstance(given, (list, tuple)) or len(given) != form.cpus:
        number = len(given) if isinstance(given, (list, tuple)) else "no"
        raise BadRequest(
            f"{path} has {number} values, and this host has {form.cpus} possible CPUs",
            'Give one for each, or a single "value" for all',
            path=path,
        )
    return join([_pack_one(form, value, f"{path}[{cpu}]", secret) for cpu, value in enumerate(given)])


def _pack_one(form, value, path, secret):
    return values.pack(form.btf, form.value_type, value, size=form.bytes_value, path=path, secret=secret)


def _is_list_itself(form):
    """Whether a list can be meant as a single value."""
    if not form.value_type:
        return form.bytes_value not in (1, 2, 4, 8)
    return form.btf.type(form.btf.resolve(form.value_type)).kind == "array"


def _unpacked(form, type_id, data):
    return values.unpack(form.btf, type_id, data)


def _shown_value(form, data):
    if not form.cpus:
        return {"value": _unpacked(form, form.value_type, data)}
    return {"values": [_unpacked(form, form.value_type, part) for part in split(data, form.bytes_value)]}


# ---- the plan ------------------------------------------------------------------------------------


def plan(info, actual, wanted, state="present", purge=False):
    """What makes `actual` as wanted: these entries present (with `purge`, no others), or their keys absent.

    Refused before anything is written: an index that an array does not have, more entries than the map can hold, a
    present entry without a value, a key that is given twice with different values.
    """
    refuse_without_entries(info)
    same = _prefix if info.type_number == LPM_TRIE else bytes
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
    return key[:4] + values.masked(key[4:], bits)


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


def read(fd, info):
    """[(key, value), …] of the map, each key once. What changes meanwhile is seen before or after its change."""
    refuse_without_entries(info)
    try:
        # a walk begins anew where its last key was deleted under it, so keys may come twice
        found = dict(bpf.map_items(fd, info))
    except OSError as error:
        raise _explained(error, info, 0) from error
    if info.type_number in PER_CPU:
        found = {key: join(split(value, info.bytes_value)) for key, value in found.items()}
    return list(found.items())


def carry_out(fd, info, edit):
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
        raise _explained(error, info, done) from error
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


def _explained(error, info, done):
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
