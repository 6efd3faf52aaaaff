# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry out of one layout into another, and what has no place there."""

from __future__ import annotations

import ctypes
import sys

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import fields

U8, U16, U32, U64 = ({"kind": "int", "size": size, "signed": False} for size in (1, 2, 4, 8))
S16 = {"kind": "int", "size": 2, "signed": True}
FOREIGN = {"kind": "int", "size": 4, "signed": False, "order": "big" if sys.byteorder == "little" else "little"}
ENUM, BOOL, CHAR = {"kind": "enum", "size": 4}, {"kind": "bool", "size": 1}, {"kind": "char", "size": 1}
FLOAT = {"kind": "float", "size": 4}


def array(count, of):
    return {"kind": "array", "count": count, "of": of}


def struct(*rows):
    """A struct of (name, at, type) with nothing behind its last field."""
    last = rows[-1]
    places = [{"name": name, "at": at, "type": kind} for name, at, kind in rows]
    return {"kind": "struct", "size": last[1] + fields.size_of(last[2]), "fields": places}


def bits(name, at, bit, number):
    return {"kind": "struct", "size": 4, "fields": [{"name": name, "at": at, "bit": bit, "bits": number, "type": U32}]}


def number(value, size):
    return value.to_bytes(size, sys.byteorder, signed=value < 0)


RULE = struct(("action", 0, U32), ("hits", 4, U32))
SWAPPED = struct(("hits", 0, U32), ("action", 4, U32))
ACTION = struct(("action", 0, U32))
NAMED = struct(("action", 0, U32), ("name", 4, array(4, CHAR)))


@pytest.mark.parametrize(
    ("data", "old", "new", "carried", "lost"),
    [
        (number(7, 4), U32, U32, number(7, 4), ()),
        (b"abcd", None, None, b"abcd", ()),
        (number(7, 4), U32, None, None, ("its bytes",)),
        (number(7, 4), U32, U64, number(7, 8), ()),
        (number(7, 8), U64, U16, number(7, 2), ()),
        (number(70000, 4), U32, U16, None, ("its bytes",)),
        (number(-1, 2), S16, U32, None, ("its bytes",)),
        (number(7, 4), U32, FOREIGN, number(7, 4)[::-1], ()),
        (number(2**32 - 1, 4), ENUM, U64, number(2**32 - 1, 8), ()),
        (number(-1, 2), S16, ENUM, number(-1, 4), ()),
        (number(1, 4), U32, BOOL, b"\1", ()),
        (number(2, 4), U32, BOOL, None, ("its bytes",)),
        (number(7, 4), U32, FLOAT, None, ("its bytes",)),
        (number(1, 4) + number(2, 4), RULE, SWAPPED, number(2, 4) + number(1, 4), ()),
        (number(1, 4) + number(2, 4), RULE, ACTION, number(1, 4), ("hits",)),
        (number(1, 4) + number(0, 4), RULE, ACTION, number(1, 4), ()),
        (number(1, 4), ACTION, RULE, number(1, 4) + number(0, 4), ()),
        (number(1, 4) + b"abc\0", NAMED, struct(("name", 0, array(3, CHAR))), b"abc", ("action",)),
        (number(1, 4) + b"abcd", NAMED, struct(("name", 0, array(3, CHAR))), None, ("action", "name")),
        (b"ab", array(2, CHAR), array(4, CHAR), b"ab\0\0", ()),
        (number(1, 2) + number(300, 2), array(2, U16), array(2, U8), None, ("[1]",)),
        (number(6, 4), bits("flag", 0, 1, 2), bits("flag", 0, 1, 2), number(6, 4), ()),
        (number(6, 4), bits("flag", 0, 1, 2), bits("flag", 0, 2, 2), None, ("flag",)),
    ],
)
def test_carried(data, old, new, carried, lost):
    sizes = [len(data) if layout is old else new_size(new) for layout in (old, new)]
    assert fields.carried(data, old, new, *sizes) == (carried, lost)


def new_size(layout):
    return fields.size_of(layout) if layout else 4


def test_carried_says_where_in_a_struct_within_a_struct():
    old, new = struct(("limit", 0, struct(("rate", 0, U32)))), struct(("limit", 0, struct(("rate", 0, U8))))
    assert fields.carried(number(256, 4), old, new, 4, 1) == (None, ("limit.rate",))


def test_carried_puts_a_field_where_the_compiler_has_it():
    class Old(ctypes.Structure):
        _fields_ = [("on", ctypes.c_uint8), ("rate", ctypes.c_uint64)]

    class New(ctypes.Structure):
        _fields_ = [("rate", ctypes.c_uint64), ("burst", ctypes.c_uint32), ("on", ctypes.c_uint8)]

    carried, lost = fields.carried(
        bytes(Old(1, 5)),
        struct(("on", Old.on.offset, U8), ("rate", Old.rate.offset, U64)),
        {**struct(("rate", New.rate.offset, U64), ("on", New.on.offset, U8)), "size": ctypes.sizeof(New)},
        ctypes.sizeof(Old),
        ctypes.sizeof(New),
    )
    found = New.from_buffer_copy(carried)
    assert (found.rate, found.burst, found.on, lost) == (5, 0, 1, ())
