# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A key or a value out of one layout into another: by the fields' names, at the offsets that manifests have for both.

    for pair in pairs(old, new, is_one):     the walk along both layouts, for whoever judges what it meets
    made, lost = carried(data, old, new, …)  the verdict on each value alone

Layouts are the plain data that btf.layout makes; neither BTF nor an object is needed here, because the way back has
none. Pure. The verdict on a whole map's values, from their types, is carry.py's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, Optional

NUMBERS = {"int", "enum", "bool", "char"}
GONE, FEWER, BITS = "is gone", "has fewer elements", "is a bitfield"  # why a part has no place of its own


class Pair(NamedTuple):
    """Two layouts for one verdict, and where they lie in the value; or `why` the old one has no place in the new."""

    path: str
    old: dict[str, Any]
    at: int
    new: dict[str, Any] | None
    to: int
    why: str = ""


def pairs(old: dict, new: dict, is_one: Callable, path: str = "", at: int = 0, to: int = 0) -> Iterator[Pair]:
    """A Pair for each part of the old value, in its order; structs or arrays with `is_one(path, old, new)` are one."""
    if old["kind"] != new["kind"] or old["kind"] not in ("struct", "array") or is_one(path, old, new):
        yield Pair(path, old, at, new, to)
    elif old["kind"] == "struct":
        yield from _by_field(old, new, is_one, path, at, to)
    else:
        yield from _by_element(old, new, is_one, path, at, to)


def carried(data: bytes, old: Optional[dict], new: Optional[dict], old_size: int, new_size: int) -> tuple:
    """(bytes, names of what has no place): `data`, which lies as `old` says, as `new` wants it.

    The bytes are None where the rest would be wrong without what has no place: a number beyond the new type, or a kind
    that became another. A field that the new layout does not have is left out, and named unless it was zero.
    """
    if old == new and old_size == new_size:
        return data, ()
    if old is None or new is None:
        return None, ("its bytes",)
    room, lost, is_whole = bytearray(new_size), [], True
    for pair in pairs(old, new, lambda path, before, after: before == after):
        made = _made(data[pair.at : pair.at + size_of(pair.old)], pair)
        if made is None:
            lost.append(pair.path or ("its last elements" if pair.why == FEWER else "its bytes"))
            is_whole = is_whole and pair.why == GONE
        else:
            room[pair.to : pair.to + len(made)] = made
    return bytes(room) if is_whole else None, tuple(lost)


def names(layout: dict) -> list:
    """The path of each field of a value, of those that hold others too; "value" is the value itself."""
    whole = []
    parts = [pair.path for pair in pairs(layout, layout, lambda path, *dummy: whole.append(path))]
    return [path or "value" for path in (*whole, *parts)]


def size_of(layout: dict) -> int:
    """Bytes of a value that has this layout."""
    return layout["count"] * size_of(layout["of"]) if layout["kind"] == "array" else layout["size"]


def _by_field(old, new, is_one, path, at, to):
    places = {field["name"]: field for field in new["fields"]}
    for field in old["fields"]:
        inner, there = f"{path}.{field['name']}" if path else field["name"], places.get(field["name"])
        if there is None:
            yield Pair(inner, _bytes_of(field), at + field["at"], None, 0, GONE)
        elif "bits" in field or "bits" in there:  # a bitfield's number stands in no bytes of its own
            yield Pair(inner, _bytes_of(field), at + field["at"], None, 0, BITS)
        else:
            yield from pairs(field["type"], there["type"], is_one, inner, at + field["at"], to + there["at"])


def _by_element(old, new, is_one, path, at, to):
    step, new_step, left = size_of(old["of"]), size_of(new["of"]), old["count"] - new["count"]
    if left > 0:
        yield Pair(path, {**old, "count": left}, at + new["count"] * step, None, 0, FEWER)
    for number in range(min(old["count"], new["count"])):
        yield from pairs(old["of"], new["of"], is_one, f"{path}[{number}]", at + number * step, to + number * new_step)


def _bytes_of(field):
    if "bits" not in field:
        return field["type"]
    return {"kind": "bits", "size": (field["bit"] + field["bits"] + 7) // 8}


def _made(data, pair):
    """The bytes for the pair's new place, none where it has none and holds nothing; None where they have no place."""
    if pair.why:
        return None if any(data) or pair.why == BITS else b""
    if pair.old == pair.new:
        return data
    return _number(data, pair.old, pair.new) if {pair.old["kind"], pair.new["kind"]} <= NUMBERS else None


def _number(data, old, new):
    """An enum's sign is not in its layout: it is read and written as the other side's."""
    signs = [side["signed"] for side in (old, new) if "signed" in side] or [False]
    number = int.from_bytes(data, old.get("order", sys.byteorder), signed=signs[0])
    if new["kind"] == "bool" and number not in (0, 1):
        return None
    try:
        return number.to_bytes(new["size"], new.get("order", sys.byteorder), signed=signs[-1])
    except OverflowError:
        return None
