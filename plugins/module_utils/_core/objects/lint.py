# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Lost updates, read out of the bytecode: a value that other CPUs share is loaded, changed and stored back.

`(*value)++` on a shared map lost 12.8 % of its counts on two CPUs. How such stores are found is the business of
stores.py; here is said what is wrong with them, at which line, what to write instead, and what the user accepts.

Not seen: a store that only depends on what was loaded (`if (x > *max) *max = x`), and two CPUs that both find no entry
and both create it. Seen though harmless: a key that one task alone touches, hence `accepted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from ..errors import BadObject, LostUpdates, Unsupported
from . import child

LOST_UPDATE, LOST_UPDATE_BY_HELPER, NOT_JUDGED = "lost_update", "lost_update_by_helper", "not_judged"

HASH, ARRAY, LRU_HASH = 1, 2, 9  # enum bpf_map_type
PER_CPU_FORM = {
    HASH: "BPF_MAP_TYPE_PERCPU_HASH",
    ARRAY: "BPF_MAP_TYPE_PERCPU_ARRAY",
    LRU_HASH: "BPF_MAP_TYPE_LRU_PERCPU_HASH",
}

SYNC = {how: f"__sync_fetch_and_{how}" for how in ("add", "or", "and", "xor")}


class Finding(NamedTuple):
    """One place where updates can be lost. `map` is data or bss for a global, which `variable` names."""

    program: str
    map: str
    variable: str
    code: str
    what: str
    do: str
    source: Optional[dict]  # file, line, text
    instruction: int


def findings(data: bytes, name: str, programs: Sequence) -> list:
    """Records of Finding for an object's programs (by name), in order; nothing is loaded.

    A child process reads the bytes. What cannot be judged is a finding that says so.
    """
    try:
        return child.answer_of(lambda: [each._asdict() for each in _findings(data, name, programs)], "open")
    except BadObject as failure:
        return not_judged(programs, failure.what)


def not_judged(programs: Sequence, why: str) -> list:
    """A record for each program (by name) that says why nothing is known of it."""
    return [each._asdict() for each in _not_judged(programs, f"could not be judged: {why}")]


def judge(found: Sequence, mode: str, accepts: Sequence) -> list:
    """The findings as records with `accepted`: the reason of the first entry that names them, or None.

    An entry is {map, program, reason}, where what is not given matches all. LostUpdates with mode "fail" where one is
    not accepted.
    """
    judged = [{**record, "accepted": _reason(record, accepts)} for record in found]
    open_ones = [record for record in judged if record["accepted"] is None]
    if mode == "fail" and open_ones:
        more = f"; {len(open_ones) - 1} more" if len(open_ones) > 1 else ""
        raise LostUpdates(f"{sentence(open_ones[0])}{more}", open_ones[0]["do"], findings=open_ones)
    return judged


def sentence(record: dict) -> str:
    """What one finding says, with its place."""
    source = record["source"]
    place = f"{source['file']}:{source['line']} ({source['text']})" if source else record["program"]
    return f"{place}: {record['what']}"


def unused(found: Sequence, accepts: Sequence) -> list:
    """The entries of `accepts` that name no finding."""
    return [entry for entry in accepts if not any(_matches(entry, record) for record in found)]


def _reason(record, accepts):
    return next((entry["reason"] for entry in accepts if _matches(entry, record)), None)


def _matches(entry, record):
    is_map = entry.get("map") in (None, record["map"], record["variable"])
    return is_map and entry.get("program") in (None, record["program"])


# ---- one program ---------------------------------------------------------------------------------


def _findings(data, name, programs):
    from . import bytecode, elf  # this is done once for each release

    try:
        image = bytecode.Image(data)
        types = {shape.name: shape for shape in elf.shapes(data, name)}
        functions = [function for function in image.functions() if function.name in programs]
        return [each for function in functions for each in _of_program(image, types, function)]
    except (ValueError, OSError, Unsupported) as error:
        return _not_judged(programs, f"could not be judged: {error}")


def _not_judged(programs, text):
    do = "Read it for lost updates yourself"
    return [Finding(name, "", "", NOT_JUDGED, f"Program {name} {text}", do, None, 0) for name in programs]


def _of_program(image, types, function):
    from . import stores

    try:
        hits = stores.lost(image, types, function)
    except stores.TooMuch:
        text = f"is too large to be judged: {stores.STEPS} instructions were followed without an end"
        return _not_judged([function.name], text)
    lines = {}
    for hit in sorted(hits):
        made = _finding(image, types, function.name, hit)
        place = (made.map, made.variable, tuple((made.source or {"at": hit.instruction}).values()))
        lines.setdefault(place, made)
    return list(lines.values())


def _finding(image, types, program, hit):
    line = image.line(hit.section, hit.instruction)
    thing = f"global {hit.variable}" if hit.variable else f"a value of map {hit.map}"
    if not hit.by_helper:
        what = f"{thing} is read, changed and stored back, so that one of two CPUs' updates is lost"
    else:
        what = f"a copy of {thing} is changed and written over it, so that one of two CPUs' updates is lost"
    source = {"file": line.file, "line": line.line, "text": line.text} if line else None
    do = _instead(types, hit)
    code = LOST_UPDATE_BY_HELPER if hit.by_helper else LOST_UPDATE
    return Finding(program, hit.map, hit.variable, code, _capital(what), do, source, hit.instruction)


def _instead(types, hit):
    """The form to write instead: the atomic that does the same, else a lock; and the map that needs neither."""
    atomic, shape = SYNC.get(hit.how), types.get(hit.map)
    if atomic is None:
        where = "a map's value, and the variable beside it" if hit.variable else "the value"
        way = f"Hold a bpf_spin_lock from the load to the store; it lies in {where}"
    elif hit.size < 4:
        way = f"Make the field a __u32 or __u64 and use {atomic}(&field, n): smaller ones have no atomics"
    elif hit.by_helper:
        way = f"Use {atomic}(pointer, n) on what bpf_map_lookup_elem gave, without an update afterwards"
    else:
        way = f"Write {atomic}({'&' + hit.variable if hit.variable else 'pointer'}, n)"
    if atomic and hit.how != "add":
        way += " (needs cflags: [-mcpu=v3])"
    if hit.variable:
        way += ", or count in a BPF_MAP_TYPE_PERCPU_ARRAY"
    elif shape and shape.type in PER_CPU_FORM:
        way += f", or make the map a {PER_CPU_FORM[shape.type]}"
    return way


def _capital(text):
    return text[0].upper() + text[1:]
