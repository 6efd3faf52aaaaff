# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared after bpf_map's work, what a map lacks of it, and that the disk gives back what was written."""

from __future__ import annotations

import sys

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import declared, records, store
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Damaged, TooNew
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import contents

U8, U16 = ({"kind": "int", "size": size, "signed": False} for size in (1, 2))
A, B, C = (b"a", b"1"), (b"b", b"2"), (b"c", b"3")
A2 = (b"a", b"9")


def shape(key=U8, value=U8):
    """A map's record in the manifest, as far as it counts here."""
    return {
        "name": "m",
        "key_size": key["size"],
        "value_size": value["size"],
        "key_layout": key,
        "value_layout": value,
    }


def info(number=contents.HASH, max_entries=8):
    return bpf.Map(1, "", "m", 0, 1, 1, max_entries, 0, 0, 0, number)


def of(*entries, gone=()):
    return records.Declared(shape(), 0, entries, gone)


# ---- what is declared ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "wanted", "how", "after"),
    [
        (None, [A, B], {}, of(A, B)),
        (None, [], {}, None),
        (of(A), [A2, C], {}, of(A2, C)),
        (of(A, B), [C], {"purge": True}, of(C)),
        (of(A, B), [], {"purge": True}, None),
        (of(A, B), [(b"a", b"")], {"absent": True}, of(B)),
        (of(A, B), [C], {"absent": True}, of(A, B)),
        (of(A, B), [A, C], {"persist": False}, of(B)),
        (of(A), [(b"a", b"")], {"absent": True, "persist": False}, None),
        (of(A, B), [(b"a", b"")], {"absent": True, "elsewhere": True}, of(B, gone=(b"a",))),
        (of(A, B), [C], {"purge": True, "elsewhere": True}, of(C, gone=(b"a", b"b"))),
        (of(A), [A], {"persist": False, "elsewhere": True}, None),
        (of(B, gone=(b"a",)), [C], {"elsewhere": True}, of(B, C, gone=(b"a",))),
        (of(B, gone=(b"a",)), [A], {"elsewhere": True}, of(B, A)),
        (of(B, gone=(b"a",)), [B], {}, of(B)),
    ],
)
def test_edited(before, wanted, how, after):
    assert declared.edited(before, shape(), info(), wanted, **how) == (after, ())


@pytest.mark.parametrize("wanted", [[A, B], [B, A], [A]])
def test_edited_is_the_same_object_where_nothing_changes(wanted):
    before = of(A, B)
    assert declared.edited(before, shape(), info(), wanted)[0] is before


def test_edited_keys_of_a_trie_are_the_same_up_to_their_prefix():
    loose, tidy = ((8).to_bytes(4, sys.byteorder) + bytes([10, 0, 0, last]) for last in (5, 0))
    before = records.Declared(shape(), 0, ((loose, b"1"),))
    after, dummy = declared.edited(before, shape(), info(contents.LPM_TRIE), [(tidy, b"2")])
    assert after.entries == ((tidy, b"2"),)


def test_edited_brings_what_was_declared_into_the_map_s_layout_and_says_what_has_no_place():
    wide = records.Declared(shape(value=U16), 0, ((b"a", number(1)), (b"b", number(300))))
    after, left_out = declared.edited(wide, shape(), info(), [C])
    assert after == of((b"a", b"\1"), C)
    assert left_out == ("1 entries: value its bytes has no place there",)


def number(value):
    return value.to_bytes(2, sys.byteorder)


def test_edited_is_not_written_anew_for_another_layout_alone():
    wide = records.Declared(shape(value=U16), 0, ((b"a", number(1)),))
    assert declared.edited(wide, shape(), info(), [(b"a", b"\1")])[0] is wide


# ---- what a map lacks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "gone", "there", "puts", "deletes", "missing"),
    [
        ([A, B], (), {}, (A, B), (), 2),
        ([A, B], (), {b"a": b"1"}, (B,), (), 1),
        ([A2, B], (), {b"a": b"1"}, (A2, B), (), 1),
        ([A], (), {b"a": b"1", b"c": b"3"}, (), (), 0),
        ([A], (b"b", b"c"), {b"a": b"1", b"c": b"3"}, (), (b"c",), 0),
    ],
)
def test_filling(wanted, gone, there, puts, deletes, missing):
    found = declared._planned(info(), wanted, gone, there, ())
    assert (found.edit.puts, found.edit.deletes, found.missing, found.left_out) == (puts, deletes, missing, ())


def test_filling_leaves_out_what_there_is_no_room_for():
    found = declared._planned(info(max_entries=2), [A2, B, C], (), {b"a": b"1"}, ())
    assert found.edit.puts == (A2, B)
    assert found.left_out == ("1 entries: the map has room for 2",)


def test_filling_leaves_out_an_index_that_the_array_does_not_have():
    found = declared._planned(info(contents.ARRAY, 1), [A, B], (b"c",), {b"a": b"0"}, ())
    assert (found.edit.puts, found.left_out) == ((A,), ("1 entries: the map has room for 1",))


def test_filling_zeroes_an_index_that_is_declared_no_longer_once():
    assert declared._planned(info(contents.ARRAY), [], (b"a",), {b"a": b"1"}, ()).edit.deletes == (b"a",)
    assert declared._planned(info(contents.ARRAY), [], (b"a",), {b"a": b"\0"}, ()).is_empty


@pytest.mark.parametrize(
    ("parts", "cpus", "found"),
    [([b"1", b"1"], 3, [b"1"] * 3), ([b"1", b"2"], 2, [b"1", b"2"]), ([b"1", b"2"], 3, None), ([b"1", b"1"], 0, b"1")],
)
def test_values_for_each_cpu_go_to_a_host_with_more_where_they_are_all_alike(parts, cpus, found):
    held = records.Declared(shape(), len(parts), ((b"a", contents.join(parts)),))
    entries, dummy, left_out = declared._as(held, shape(), cpus)
    if found is None:
        assert (entries, left_out) == ((), ("1 entries: a value for each of 2 CPUs has no place there",))
    else:
        assert entries == ((b"a", contents.join(found) if cpus else found),)


# ---- on the disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    return records.Home("d", str(tmp_path / "d"), str(tmp_path / "pins"), is_locked=True)


@pytest.mark.parametrize(
    "what", [of(A, B), of(gone=(b"a",)), of(A, gone=(b"b", b"c")), records.Declared(shape(), 2, ((b"a", bytes(16)),))]
)
def test_disk_gives_back_what_was_written(home, what):
    store.write_declared(home, "m", what)
    assert (store.declared(home, "m"), store.declared_maps(home)) == (what, ["m"])


@pytest.mark.parametrize("nothing", [None, of()])
def test_disk_has_no_file_where_nothing_is_declared(home, nothing, tmp_path):
    store.write_declared(home, "m", of(A))
    store.write_declared(home, "m", nothing)
    assert (store.declared(home, "m"), store.declared_maps(home)) == (None, [])
    assert list((tmp_path / "d").iterdir()) == []


def test_declared_is_for_root_alone(home, tmp_path):
    store.write_declared(home, "m", of(A))
    assert (tmp_path / "d/entries/m").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("spoilt", [lambda data: data[:-1], lambda data: data[:-1] + b"x", lambda data: b"[]", bytes])
def test_disk_tells_what_it_cannot_read(home, tmp_path, spoilt):
    store.write_declared(home, "m", of(A))
    path = tmp_path / "d/entries/m"
    path.write_bytes(spoilt(path.read_bytes()) if spoilt is not bytes else b"")
    with pytest.raises(Damaged) as caught:
        store.declared(home, "m")
    assert caught.value.detail["path"] == str(path)


def test_disk_of_a_later_version_is_left_alone(home, tmp_path):
    store.write_declared(home, "m", of(A))
    path = tmp_path / "d/entries/m"
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 3'))
    with pytest.raises(TooNew):
        store.declared(home, "m")
