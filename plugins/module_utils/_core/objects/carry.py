# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The contents of a map carried into another one of a different shape.

    rows = moves(old, new, "merge", {"last": "max"})   from the two shapes; pure, plain data
    copy(old_fd, new_fd, rows)                         the new map holds what the old one does, and nothing else
    with merger(old_fd, new_fd, rows) as program:      a small program for the kernel, never attached
        merge(old_fd, new_fd, program, rows)           each count is moved: taken from the old one, added to the new one

`copy` is for configuration, while nobody writes either map. `merge` is for counters, while programs count in the new
map: what user space read and wrote back would lose what was counted in between, atomic adds in the kernel do not. A
merge may be repeated, and turned round (`reversed_moves`), because what was moved is no longer in the old map.

When either is due is the plan's business.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import NamedTuple, Optional

from ..errors import MapChanged, Unsupported
from ..kernel import bpf, files
from . import contents
from .fields import Pair, pairs, size_of

POLICIES = ("refuse", "copy", "merge", "fresh")  # what on_change may say
WORDS = ("sum", "max", "keep", "drop")
COUNTED = ("sum", "max")  # merged by the kernel after the switch; the rest is copied before it
TRIES = 4  # of a compare-and-exchange against programs that write the same field


class Report(NamedTuple):
    """Entries of the old map, entries of the new one afterwards, how many of the old ones were copied or moved, and how
    many still hold counts that could not be."""

    before: int
    after: int
    carried: int
    left: int = 0


# ---- which bytes go where ------------------------------------------------------------------------


def moves(old, new, on_change: str, fields: Optional[dict] = None) -> list:
    """Rows [from, its size, to, its size, how] that carry a value of shape `old` (maps.Shape) into one of shape `new`.

    `how` is bytes, uint, int (copied), sum or max (merged). `fields` is {field: word}, a nested one by its path
    `outer.inner`, a value without fields by `value`. MapChanged names what would be lost or needs a word.
    """
    if on_change == "fresh":
        return []
    _refuse_unlike(old, new, on_change)
    if None in (old.value_layout, new.value_layout):
        raise _refused(
            new.name, "it has no BTF, which tells its fields apart", "Compile with -g, or use on_change: fresh"
        )
    judge = _Judge(new.name, on_change == "merge", dict(fields or {}))
    rows = judge.rows(old.value_layout, new.value_layout)
    if set(judge.words) - judge.used:
        unknown = ", ".join(sorted(set(judge.words) - judge.used))
        raise _refused(new.name, f"its values had no field {unknown}", "Correct fields")
    return rows


def policy(old, new, on_change: str, fields: Optional[dict] = None) -> dict:
    """What a generation remembers of it: {on_change, copied, counted}, the rows of `moves` by when they are due."""
    rows = moves(old, new, on_change, fields)
    return {
        "on_change": on_change,
        "copied": [row for row in rows if row[4] not in COUNTED],
        "counted": [row for row in rows if row[4] in COUNTED],
    }


def reversed_moves(rows: list) -> list:
    """The rows of the way back: what is merged, the other way round. What was copied is not copied back."""
    return [[to, to_size, source, size, how] for source, size, to, to_size, how in rows if how in COUNTED]


def _refuse_unlike(old, new, on_change):
    for shape in (old, new):
        if shape.type not in contents.WITH_ENTRIES:
            raise _refused(new.name, f"{shape.type_name} has no entries to carry", "Use on_change: fresh")
    if (old.key_size, old.key_layout) != (new.key_size, new.key_layout):
        raise _refused(new.name, "its keys changed", "Use on_change: fresh")
    if new.type in contents.FIXED and new.max_entries < old.max_entries:
        raise _refused(new.name, f"it has {new.max_entries} entries, and had {old.max_entries}", "Use on_change: fresh")
    if on_change == "copy" and (old.type in contents.PER_CPU) != (new.type in contents.PER_CPU):
        raise _refused(new.name, "one of both maps is per CPU, the other is not", "Use on_change: merge for counters")


def _refused(name, why, do):
    return MapChanged(f"Map {name} cannot be carried over: {why}", do, map=name)


class _Judge:
    """The verdict on each pair of fields, from their types and words. `used` are the words that were met."""

    def __init__(self, name, is_merge, words):
        self.name, self.is_merge, self.words, self.used = name, is_merge, words, set()

    def rows(self, old: dict, new: dict) -> list:
        found = (self.row(pair, self.word(pair.path)) for pair in pairs(old, new, self.is_one))
        return [row for row in found if row]

    def is_one(self, path: str, old: dict, new: dict) -> bool:
        """Whether a word is for the whole of both, or they are copied and alike."""
        word = self.word(path)
        return word in ("drop", *COUNTED) or (old == new and (word == "keep" or not self.is_merge))

    def word(self, path: str) -> Optional[str]:
        known = path or "value"
        if known in self.words:
            self.used.add(known)
        return self.words.get(known)

    def row(self, pair: Pair, word: Optional[str]) -> Optional[list]:
        if word == "drop":
            return None
        if pair.why:
            do = f"Give it up, if that is meant: fields: {{{pair.path or 'value'}: drop}}"
            raise self.refused(pair.path, pair.why, do)
        if word in COUNTED:
            return self.counted(pair, word)
        return self.merged(pair) if word is None and self.is_merge else self.copied(pair)

    def merged(self, pair: Pair) -> list:
        if all(layout["kind"] == "int" and not layout["signed"] for layout in (pair.old, pair.new)):
            return self.counted(pair, "sum")
        do = f"Say what to do with it: fields: {{{pair.path or 'value'}: …}}"
        raise self.refused(pair.path, "is no unsigned integer", do)

    def copied(self, pair: Pair) -> list:
        old, new = pair.old, pair.new
        if old == new:
            return [pair.at, size_of(old), pair.to, size_of(old), "bytes"]
        if old["kind"] == new["kind"] == "int" and old["size"] <= new["size"] and not {"order"} & {*old, *new}:
            return [pair.at, old["size"], pair.to, new["size"], "int" if old["signed"] else "uint"]
        raise self.refused(pair.path, "has another type that its values may not fit", "Set fields: drop for it")

    def counted(self, pair: Pair, word: str) -> list:
        path, old, new = pair.path, pair.old, pair.new
        for kind, place in ((old, pair.at), (new, pair.to)):
            if kind["kind"] != "int" or kind["size"] not in (4, 8) or place % kind["size"] or "order" in kind:
                raise self.refused(path, "is no aligned integer of 4 or 8 bytes", "The kernel adds to no other at once")
        if new["size"] < old["size"]:
            raise self.refused(path, "became smaller", "Keep its size, or set fields: drop for it")
        if word != "sum" and (old["signed"] or new["signed"]):
            raise self.refused(path, "is signed", "max is for unsigned integers")
        return [pair.at, old["size"], pair.to, new["size"], word]

    def refused(self, path: str, why: str, do: str) -> MapChanged:
        return _refused(self.name, f"its field {path or 'value'} {why}", do)


# ---- copy ----------------------------------------------------------------------------------------


def copy(old_fd: int, new_fd: int, rows: list) -> Report:
    """The new map holds an entry for each of the old one's, converted, and no other. The Report.

    BadRequest where the old one holds more than the new one can.
    """
    old, new = bpf.map_info(old_fd), bpf.map_info(new_fd)
    entries = contents.read(old_fd, old)
    wanted = [(key, _converted(value, old, new, rows)) for key, value in entries]
    actual = contents.read(new_fd, new)
    contents.carry_out(new_fd, new, contents.plan(new, actual, wanted, purge=True))
    return Report(len(entries), len(wanted), len(wanted))


def empty(fd: int) -> None:
    """The map holds nothing: no entries, or in an array zeros alone."""
    info = bpf.map_info(fd)
    actual = contents.read(fd, info)
    contents.carry_out(fd, info, contents.plan(info, actual, [], purge=True))


def _converted(value, old, new, rows):
    """A value of the old map as one of the new; of per-CPU maps each CPU's."""
    if new.type_number not in contents.PER_CPU:
        return _one_converted(value, new.bytes_value, rows)
    parts = contents.split(value, old.bytes_value) if old.type_number in contents.PER_CPU else []
    parts = parts or [bytes(old.bytes_value)] * bpf.possible_cpus()
    return contents.join([_one_converted(part, new.bytes_value, rows) for part in parts])


def _one_converted(value, size, rows):
    made = bytearray(size)
    for at, width, to, new_width, how in rows:
        if how == "bytes":
            made[to : to + new_width] = value[at : at + width]
        elif how in ("uint", "int"):
            number = int.from_bytes(value[at : at + width], sys.byteorder, signed=how == "int")
            made[to : to + new_width] = number.to_bytes(new_width, sys.byteorder, signed=how == "int")
    return bytes(made)


# ---- merge ---------------------------------------------------------------------------------------


def merger(old_fd: int, new_fd: int, rows: list) -> bpf.Fd:
    """An Fd of a program that moves the counts of one entry, whose key it is given as a packet.

    It may be pinned: it holds both maps. Unsupported where the new values hold a lock, which it could not take.
    """
    old, new = bpf.map_info(old_fd), bpf.map_info(new_fd)
    if bpf.map_has_lock(new_fd, new):
        raise Unsupported(
            f"Map {new.name} counts under a bpf_spin_lock, which a merge cannot take",
            "Use on_change: fresh, or count with atomic adds or per CPU",
            map=new.name,
        )
    counted = [row for row in rows if row[4] in COUNTED]
    return bpf.prog_load(bpf.PROG_XDP, "ebpf_merge", _program(old_fd, new_fd, old.bytes_key, counted))


def merge(old_fd: int, new_fd: int, program: int, rows: list, *, must_fit: bool = True) -> Report:
    """Each entry's counts of the old map are added to the new one's and gone from the old one. The Report.

    All runs of programs that still saw the old map have ended before (files.membarrier). Each CPU moves its own counts
    of a per-CPU map; those of one that is offline, or barred to this process, are `left`. So are, unless must_fit,
    entries that the new map has no room for; those with counts take what room there is first.
    """
    files.membarrier()
    old, new = bpf.map_info(old_fd), bpf.map_info(new_fd)
    entries = contents.read(old_fd, old)
    counting = [(key, value) for key, value in entries if old.type_number not in contents.FIXED or any(value)]
    if not must_fit:
        counting.sort(key=lambda entry: not _counts(entry[1], old, rows, COUNTED))
    without_room = _add_missing(new_fd, old, new, counting, rows, must_fit)
    moving = [key for key, dummy in counting if key not in without_room]
    _run(program, moving, old.type_number in contents.PER_CPU)
    after = contents.read(old_fd, old)
    left = sum(1 for key, value in after if _counts(value, old, rows, COUNTED if key in without_room else ("sum",)))
    return Report(len(entries), len(contents.read(new_fd, new)), len(moving), left)


def _add_missing(new_fd, old, new, entries, rows, must_fit):
    """Every key is in the new map: an entry that it did not have begins with what is kept, and counts of zero.

    The keys that found no room there.
    """
    without_room = set()
    for key, value in entries if new.type_number not in contents.FIXED else ():
        try:
            bpf.map_update(new_fd, key, _converted(value, old, new, rows), bpf.NOEXIST)
        except FileExistsError:
            continue
        except OSError as error:
            if must_fit:
                raise contents.explained(error, new, 0) from error
            without_room.add(key)
    return without_room


def _run(program, keys, is_per_cpu):
    """The program has moved each key's counts: once, or once on each CPU that lets us."""
    allowed = os.sched_getaffinity(0)
    try:
        for number in range(bpf.possible_cpus()) if is_per_cpu else [None]:
            try:
                if number is not None:
                    os.sched_setaffinity(0, {number})
            except OSError:  # EINVAL: offline, or not in this process's cpuset
                continue
            for key in keys:
                bpf.prog_test_run(program, key)
    finally:
        os.sched_setaffinity(0, allowed)


def _counts(value, old, rows, words):
    """Whether something of what the words count is in an old value."""
    parts = contents.split(value, old.bytes_value) if old.type_number in contents.PER_CPU else [value]
    return any(any(part[at : at + size]) for part in parts for at, size, *dummy, how in rows if how in words)


# ---- the merge's program: instructions as the kernel takes them ----------------------------------

R0, R1, R2, R6, R7, R8, R9, FP = 0, 1, 2, 6, 7, 8, 9, 10
LOAD, STORE_BYTE = {1: 0x71, 4: 0x61, 8: 0x79}, 0x73  # BPF_LDX | BPF_MEM by size, BPF_STX | BPF_MEM | BPF_B
ATOMIC = {4: 0xC3, 8: 0xDB}  # BPF_STX | BPF_ATOMIC by size: immediate 0 adds
COMPARE_EXCHANGE = 0xF1  # R0 is what is expected, and what was there (5.12)
MOVE, MOVE_NUMBER, ADD_NUMBER, NEGATE = 0xBF, 0xB7, 0x07, 0x87
LOAD_MAP, PSEUDO_MAP_FD = 0x18, 1
CALL, EXIT, LOOKUP = 0x85, 0x95, 1  # bpf_map_lookup_elem
JUMP_IF_ZERO, JUMP_IF_EQUAL, JUMP_IF_MORE, JUMP_IF_NOT_MORE = 0x15, 0x1D, 0x2D, 0xBD


class _Code:
    """Instructions, and the jumps that wait for their label."""

    def __init__(self):
        self.rows, self.waiting = [], {}

    def add(self, code: int, to: int = 0, source: int = 0, at: int = 0, number: int = 0) -> None:
        self.rows.append([code, to, source, at, number])

    def jump(self, code: int, to: int, source: int, label: str) -> None:
        self.waiting.setdefault(label, []).append(len(self.rows))
        self.add(code, to, source)

    def label(self, name: str) -> None:
        for where in self.waiting.pop(name, ()):
            self.rows[where][3] = len(self.rows) - where - 1

    def as_bytes(self) -> bytes:
        """struct bpf_insn each: both registers share a byte, whose halves lie as the machine's bits do."""
        little = sys.byteorder == "little"
        return b"".join(
            struct.pack("=BBhi", code, to | source << 4 if little else to << 4 | source, at, number)
            for code, to, source, at, number in self.rows
        )


def _program(old_fd, new_fd, key_size, rows):
    code, key_at = _Code(), -((key_size + 7) // 8 * 8)
    code.add(LOAD[4], R6, R1, 0)  # xdp_md.data
    code.add(LOAD[4], R7, R1, 4)  # xdp_md.data_end
    code.add(MOVE, R2, R6)
    code.add(ADD_NUMBER, R2, number=key_size)
    code.jump(JUMP_IF_MORE, R2, R7, "out")
    for number in range(key_size):
        code.add(LOAD[1], R1, R6, number)
        code.add(STORE_BYTE, FP, R1, key_at + number)
    for map_fd, found in ((old_fd, R8), (new_fd, R9)):
        code.add(LOAD_MAP, R1, PSEUDO_MAP_FD, number=map_fd)
        code.add(0)
        code.add(MOVE, R2, FP)
        code.add(ADD_NUMBER, R2, number=key_at)
        code.add(CALL, number=LOOKUP)
        code.jump(JUMP_IF_ZERO, R0, 0, "out")
        code.add(MOVE, found, R0)
    for row in rows:
        (_sum if row[4] == "sum" else _max)(code, *row[:4])
    code.label("out")
    code.add(MOVE_NUMBER, R0, number=1)
    code.add(EXIT)
    return code.as_bytes()


def _sum(code, at, size, to, new_size):
    code.add(LOAD[size], R1, R8, at)
    code.add(MOVE, R2, R1)
    code.add(NEGATE, R2)
    code.add(ATOMIC[size], R8, R2, at)
    code.add(ATOMIC[new_size], R9, R1, to)


def _max(code, at, size, to, new_size):
    code.add(LOAD[size], R1, R8, at)
    code.add(LOAD[new_size], R0, R9, to)
    for dummy in range(TRIES):
        code.jump(JUMP_IF_NOT_MORE, R1, R0, "settled")
        code.add(MOVE, R2, R0)
        code.add(ATOMIC[new_size], R9, R1, to, COMPARE_EXCHANGE)
        code.jump(JUMP_IF_EQUAL, R0, R2, "settled")
    code.label("settled")
