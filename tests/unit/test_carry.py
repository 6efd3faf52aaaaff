# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bytes of an old value go where in a new one, and what is refused because it would be lost."""

from __future__ import annotations

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import MapChanged
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import carry, maps
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects.fields import size_of

U32 = {"kind": "int", "size": 4, "signed": False}
U64 = {"kind": "int", "size": 8, "signed": False}
S64 = {"kind": "int", "size": 8, "signed": True}
U16 = {"kind": "int", "size": 2, "signed": False}
BE16 = {"kind": "int", "size": 2, "signed": False, "order": "big"}
TEXT = {"kind": "array", "count": 16, "of": {"kind": "char", "size": 1}}
PAIR = {"kind": "array", "count": 2, "of": U32}
HASH, ARRAY, PERCPU_HASH, RINGBUF = (1, "hash"), (2, "array"), (5, "percpu_hash"), (27, "ringbuf")


def layout(**fields):
    """A struct's layout: its fields one behind the other, each aligned to its size."""
    rows, at = [], 0
    for name, kind in fields.items():
        size = size_of(kind)
        align = size if kind["kind"] != "array" else 1
        at = (at + align - 1) // align * align
        rows.append({"name": name, "at": at, "type": kind})
        at += size
    return {"kind": "struct", "size": at, "fields": rows}


def bits(first):
    return {"kind": "struct", "size": 4, "fields": [{"name": "flag", "at": 0, "bit": first, "bits": 2, "type": U32}]}


def shape(value, kind=HASH, entries=16, key=None):
    key = key or U32
    return maps.Shape("flows", *kind, key["size"], size_of(value), entries, 0, key, value)


def rows(old, new, on_change, **words):
    return carry.moves(shape(old), shape(new), on_change, words)


def test_copy_follows_each_field_to_its_new_place():
    old, new = layout(packets=U64, bytes=U64), layout(bytes=U64, packets=U64, last=U32)

    assert rows(old, new, "copy") == [[0, 8, 8, 8, "bytes"], [8, 8, 0, 8, "bytes"]]


def test_copy_widens_numbers():
    assert rows(layout(n=U32), layout(n=U64), "copy") == [[0, 4, 0, 8, "uint"]]


def test_copy_takes_what_did_not_change_as_one():
    inner = layout(a=U32, b=U32)

    assert rows(layout(x=inner), layout(x=inner, y=U32), "copy") == [[0, 8, 0, 8, "bytes"]]


def test_merge_sums_unsigned_integers_wherever_they_stand():
    old = layout(total=U64, by_port={"kind": "array", "count": 2, "of": layout(seen=U32)})
    new = layout(by_port={"kind": "array", "count": 3, "of": layout(seen=U64)}, total=U64)

    assert rows(old, new, "merge") == [[0, 8, 24, 8, "sum"], [8, 4, 0, 8, "sum"], [12, 4, 8, 8, "sum"]]


def test_merge_of_a_value_without_fields():
    assert rows(U64, U64, "merge") == [[0, 8, 0, 8, "sum"]]
    assert rows(U64, U64, "merge", value="max") == [[0, 8, 0, 8, "max"]]


def test_words_say_what_a_field_is():
    old = layout(packets=U64, last=U64, name=TEXT, gone=S64)
    new = layout(packets=U64, last=U64, name=TEXT)

    found = rows(old, new, "merge", last="max", name="keep", gone="drop")

    assert found == [[0, 8, 0, 8, "sum"], [8, 8, 8, 8, "max"], [16, 16, 16, 16, "bytes"]]


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [(layout(a=U64, b=PAIR), layout(a=U64, b={**PAIR, "count": 1}), "b"), (layout(a=U64, b=S64), layout(a=U64), "b")],
)
def test_what_is_given_up_is_left_where_it_is(old, new, field):
    assert rows(old, new, "copy", **{field: "drop"}) == [[0, 8, 0, 8, "bytes"]]


def test_a_bitfield_is_given_up_like_any_other():
    assert rows(bits(0), bits(2), "merge", flag="drop") == []


def test_way_back_is_what_was_merged_the_other_way_round():
    forward = [[0, 4, 24, 8, "sum"], [8, 8, 8, 8, "max"], [16, 16, 16, 16, "bytes"]]

    assert carry.reversed_moves(forward) == [[24, 8, 0, 4, "sum"], [8, 8, 8, 8, "max"]]


@pytest.mark.parametrize(
    ("old", "new", "on_change", "words", "why"),
    [
        (layout(a=U64, b=U64), layout(a=U64), "copy", {}, "its field b is gone"),
        (layout(a=U64), layout(a=U32), "copy", {}, "its field a has another type"),
        (layout(a=U64), layout(a=U32), "merge", {}, "its field a became smaller"),
        (layout(a=S64), layout(a=S64, b=U32), "merge", {}, "its field a is no unsigned integer"),
        (layout(a=TEXT), layout(a=TEXT, b=U32), "merge", {}, r"its field a\[0\] is no unsigned integer"),
        (layout(a=U16), layout(a=U16, b=U32), "merge", {}, "its field a is no aligned integer of 4 or 8 bytes"),
        (layout(a=PAIR), layout(a={**PAIR, "count": 1}), "merge", {}, "its field a has fewer elements"),
        (layout(a=PAIR, b=U32), layout(a={**PAIR, "count": 1}), "copy", {}, "its field a has fewer elements"),
        (bits(0), bits(2), "copy", {}, "its field flag is a bitfield"),
        (layout(a=BE16), layout(a=U16), "copy", {}, "its field a has another type"),
        (layout(a=S64), layout(a=S64), "merge", {"a": "max"}, "its field a is signed"),
        (layout(a=U64), layout(a=U64), "merge", {"b": "max"}, "its values had no field b"),
    ],
)
def test_what_would_be_lost_or_has_no_meaning_is_refused(old, new, on_change, words, why):
    with pytest.raises(MapChanged, match=f"Map flows cannot be carried over: {why}") as refusal:
        rows(old, new, on_change, **words)
    assert refusal.value.do


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (shape(U64), shape(U64, key=U64), "its keys changed"),
        (shape(U64, ARRAY, 16), shape(U64, ARRAY, 8), "it has 8 entries, and had 16"),
        (shape(U64, RINGBUF), shape(U64, RINGBUF, 32), "ringbuf has no entries to carry"),
        (shape(U64), shape(U64, PERCPU_HASH), "one of both maps is per CPU"),
        (shape(U64)._replace(value_layout=None), shape(U64), "it has no BTF"),
    ],
)
def test_maps_that_cannot_be_carried_are_refused(old, new, why):
    with pytest.raises(MapChanged, match=why):
        carry.moves(old, new, "copy")


def test_fresh_carries_nothing_and_needs_no_likeness():
    assert carry.moves(shape(U64), shape(U64, RINGBUF, key=U64), "fresh") == []
