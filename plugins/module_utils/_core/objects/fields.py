# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A key or a value out of one layout into another: by the fields' names, at the offsets that manifests have for both.

Layouts are the plain data that btf.layout makes; neither BTF nor an object is needed here, because the way back has
none. Pure. What each value loses is told of it alone. Whole maps of counts are the business of carry.py.
"""

from __future__ import annotations

import sys

NUMBERS = {"int", "enum", "bool", "char"}


def carried(data, old, new, old_size, new_size):
    """(bytes, names of what has no place): `data`, which lies as `old` says, as `new` wants it.

    The bytes are None where the rest would be wrong without what has no place: a number beyond the new type, or a kind
    that became another. A field that the new layout does not have is left out, and named unless it was zero.
    """
    if old == new and old_size == new_size:
        return data, ()
    if old is None or new is None:
        return None, ("its bytes",)
    room, lost = bytearray(new_size), []
    is_whole = _carry(data, old, room, new, "", lost)
    return bytes(room) if is_whole else None, tuple(lost)


def size_of(layout):
    """Bytes of a value that has this layout."""
    return layout["count"] * size_of(layout["of"]) if layout["kind"] == "array" else layout["size"]


def _carry(data, old, room, new, path, lost):
    """Whether `room` holds all of `data` that its layout has a name for; what it has not is added to `lost`."""
    if old == new:
        room[:] = data
        return True
    if old["kind"] == new["kind"] == "struct":
        return _carry_fields(data, old, room, new, path, lost)
    if old["kind"] == new["kind"] == "array":
        return _carry_elements(data, old, room, new, path, lost)
    if old["kind"] in NUMBERS and new["kind"] in NUMBERS and _carry_number(data, old, room, new):
        return True
    lost.append(path or "its bytes")
    return False


def _carry_fields(data, old, room, new, path, lost):
    places = {field["name"]: field for field in new["fields"]}
    is_whole = True
    for field in old["fields"]:
        name = f"{path}.{field['name']}" if path else field["name"]
        part, there = _part(data, field), places.get(field["name"])
        if there is None:
            lost += [name] if any(part) else []
        elif "bits" in field or "bits" in there:  # a bitfield's number stands in no bytes of its own
            lost.append(name)
            is_whole = False
        else:
            inside = bytearray(size_of(there["type"]))
            is_whole = _carry(part, field["type"], inside, there["type"], name, lost) and is_whole
            room[there["at"] : there["at"] + len(inside)] = inside
    return is_whole


def _carry_elements(data, old, room, new, path, lost):
    before, after = size_of(old["of"]), size_of(new["of"])
    if any(data[new["count"] * before :]):
        lost.append(path or "its last elements")
        return False
    is_whole = True
    for number in range(min(old["count"], new["count"])):
        inside = bytearray(after)
        part = data[number * before : (number + 1) * before]
        is_whole = _carry(part, old["of"], inside, new["of"], f"{path}[{number}]", lost) and is_whole
        room[number * after : (number + 1) * after] = inside
    return is_whole


def _carry_number(data, old, room, new):
    """An enum's sign is not in its layout: it is read and written as the other side's."""
    signs = [side["signed"] for side in (old, new) if "signed" in side] or [False]
    number = int.from_bytes(data, old.get("order", sys.byteorder), signed=signs[0])
    try:
        room[:] = number.to_bytes(new["size"], new.get("order", sys.byteorder), signed=signs[-1])
    except OverflowError:
        return False
    return new["kind"] != "bool" or number in (0, 1)


def _part(data, field):
    end = field["at"] + (size_of(field["type"]) if "bits" not in field else (field["bit"] + field["bits"] + 7) // 8)
    return data[field["at"] : end]
