# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wanted against actual contents: the plan by itself, then maps of the running kernel, with bpftool as the witness."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import contents, entries

NO_PREALLOC, RDONLY = 1, 8
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes maps")
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct limit { __u32 rate; char name[8]; __u8 on; };
struct prefix { __u32 prefixlen; __be32 address; };
#define MAP(n, t, k, v, max, more) \\
    struct { __uint(type, t); __type(key, k); __type(value, v); __uint(max_entries, max); more } n SEC(".maps")
MAP(ent_hash, BPF_MAP_TYPE_HASH, __u32, struct limit, 4, );
MAP(ent_lpm, BPF_MAP_TYPE_LPM_TRIE, struct prefix, __u64, 8, __uint(map_flags, BPF_F_NO_PREALLOC););
MAP(ent_pchash, BPF_MAP_TYPE_PERCPU_HASH, __u32, struct limit, 4, );
MAP(ent_pcarray, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u32, 3, );
MAP(ent_array, BPF_MAP_TYPE_ARRAY, __u32, __u64, 3, );
MAP(ent_lru, BPF_MAP_TYPE_LRU_HASH, __u32, __u32, 64, );
MAP(ent_lists, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u32[2], 1, );
int first = 1;
volatile long second = -2;
char third[8] = "three";
"""


# ---- the plan by itself ----------------------------------------------------------------------------------------------


def shape(number=contents.HASH, max_entries=8, name="m"):
    return bpf.Map(1, "", name, 0, 1, 1, max_entries, 0, 0, 0, number)


A, B, C = (b"a", b"1"), (b"b", b"2"), (b"c", b"3")
A2 = (b"a", b"9")


@pytest.mark.parametrize(
    ("actual", "wanted", "how", "puts", "deletes", "unchanged"),
    [
        ([], [], {}, (), (), 0),
        ([], [A, B], {}, (A, B), (), 0),
        ([A, B], [A, B], {}, (), (), 2),
        ([A, B], [A2], {}, (A2,), (), 0),
        ([A, B, C], [A], {}, (), (), 1),
        ([A, B, C], [A], {"purge": True}, (), (b"b", b"c"), 1),
        ([A, B], [], {"purge": True}, (), (b"a", b"b"), 0),
        ([A, B], [A2, C], {"purge": True}, (A2, C), (b"b",), 0),
        ([A, B], [A, A], {}, (), (), 1),
        ([A, B], [(b"a", None)], {"state": "absent"}, (), (b"a",), 0),
        ([A, B], [A2, A], {"state": "absent"}, (), (b"a",), 0),
        ([A, B], [C], {"state": "absent"}, (), (), 1),
    ],
)
def test_plan_says_what_to_put_and_delete(actual, wanted, how, puts, deletes, unchanged):
    edit = contents.plan(shape(), actual, wanted, **how)
    assert edit == contents.Edit(puts, deletes, unchanged, False)
    assert edit.is_empty == (not puts and not deletes)


@pytest.mark.parametrize(
    ("number", "actual", "wanted", "how", "said"),
    [
        (contents.HASH, [A], [A, A2], {}, "given twice"),
        (contents.HASH, [A], [(b"b", None)], {}, "has no value"),
        (contents.HASH, [A], [A], {"state": "absent", "purge": True}, "purge goes with state present"),
        (contents.HASH, [A, B], [C], {}, "holds 2 entries, and there would be 3"),
        (contents.LRU_HASH, [], [A, B, C], {}, "holds 2 entries, and there would be 3"),
        (contents.ARRAY, [(b"\0", b"1"), (b"\1", b"2")], [(b"\2", b"1")], {}, "no index 2"),
        (contents.ARRAY, [(b"\0", b"1"), (b"\1", b"2")], [(b"\2", None)], {"state": "absent"}, "indexes are 0 to 1"),
        (27, [], [], {}, r"m \(ringbuf\) is a stream"),
        (3, [], [], {}, "prog_array"),
        (4, [], [], {}, "perf_event_array"),
        (22, [], [], {}, "queue"),
        (23, [], [], {}, "stack"),
        (99, [], [], {}, "cannot be read and written here"),
    ],
)
def test_plan_refuses_before_anything_is_written(number, actual, wanted, how, said):
    with pytest.raises(BadRequest) as caught:
        contents.plan(shape(number, 2), actual, wanted, **how)
    assert caught.match(said)


def test_plan_deletes_first_only_where_there_is_no_room():
    assert contents.plan(shape(max_entries=2), [A, B], [A, C], purge=True).deletes_first
    assert not contents.plan(shape(max_entries=3), [A, B], [A, C], purge=True).deletes_first


def test_plan_lets_an_lru_map_make_room_itself():
    assert contents.plan(shape(contents.LRU_HASH, 2), [A, B], [C]).puts == (C,)


def test_plan_array_entries_are_zeroed_once():
    actual = [(b"\0", b"\0"), (b"\1", b"5"), (b"\2", b"6")]
    edit = contents.plan(shape(contents.ARRAY), actual, [(b"\2", b"6")], purge=True)
    assert edit == contents.Edit((), (b"\1",), 1, False)
    edit = contents.plan(shape(contents.ARRAY), actual, [(b"\0", None)], state="absent")
    assert edit == contents.Edit((), (), 1, False)


def test_plan_lpm_keys_are_the_same_up_to_their_prefix():
    held = ((8).to_bytes(4, sys.byteorder) + bytes([10, 0, 0, 5]), b"1")
    wanted = (held[0][:4] + bytes([10, 0, 0, 0]), b"1")
    assert contents.plan(shape(contents.LPM_TRIE), [held], [wanted], purge=True).is_empty


# ---- values for each CPU ---------------------------------------------------------------------------------------------


def form(bytes_value=4, cpus=2):
    return entries.Form(None, 0, 0, 4, bytes_value, cpus)


def test_pack_one_value_stands_for_all_cpus():
    assert entries.pack(form(), [{"key": 1, "value": 5}]) == entries.pack(form(), [{"key": 1, "values": [5, 5]}])
    packed = entries.pack(form(), [{"key": 1, "value": [5, 6]}])[0][1]
    assert len(packed) == 16 and contents.split(packed, 4) == [packed[0:4], packed[8:12]]
    assert entries.unpack(form(), [(bytes(4), packed)]) == [{"key": 0, "values": [5, 6]}]
    assert contents.join(contents.split(packed, 4)) == packed


def test_pack_a_list_may_be_one_value():
    assert entries.pack(form(3), [{"key": 1, "value": [1, 2, 3]}])[0][1] == (b"\1\2\3" + bytes(5)) * 2


@pytest.mark.parametrize(
    ("cpus", "entry", "said"),
    [
        (2, {"key": 1, "values": [5]}, r"entries\[0\].values has 1 values, and this host has 2 possible CPUs"),
        (2, {"key": 1, "values": 5}, "has no values"),
        (2, {"key": 1, "values": [5, -1]}, r"entries\[0\].values\[1\]: -1 does not fit"),
        (0, {"key": 1, "values": [5]}, "does not have a value for each CPU"),
        (0, {"key": 1, "value": 5, "values": [5]}, "both"),
        (0, {"key": 1, "val": 5}, "must have a key"),
        (0, {"value": 5}, "must have a key"),
        (0, "x", "must have a key"),
        (0, {"key": -1, "value": 5}, r"entries\[0\].key: -1 does not fit"),
        (0, {"key": 1, "value": "x"}, r"entries\[0\].value must be"),
    ],
)
def test_pack_refuses_and_names_the_entry(cpus, entry, said):
    with pytest.raises(BadRequest) as caught:
        entries.pack(form(cpus=cpus), [entry])
    assert caught.match(said)
    assert caught.value.detail["path"].startswith("entries[0]")


# ---- the kernel's own maps -------------------------------------------------------------------------------------------


@pytest.fixture(name="loaded", scope="module")
def fixture_loaded(tmp_path_factory):
    """{map's name: fd} of an object that libbpf loaded. Nothing is pinned: closing it is the end of its maps."""
    folder = tmp_path_factory.mktemp("entries")
    (folder / "ent.c").write_text(SOURCE)
    machine = os.uname().machine
    command = [
        "clang",
        "-target",
        "bpf",
        "-g",
        "-O2",
        f"-I/usr/include/{machine}-linux-gnu",
        "-c",
        "ent.c",
        "-o",
        "ent.o",
    ]
    subprocess.run(command, check=True, cwd=folder)
    library = ctypes.CDLL("libbpf.so.1")
    library.bpf_object__open_file.restype = library.bpf_object__find_map_by_name.restype = ctypes.c_void_p
    thing = ctypes.c_void_p(library.bpf_object__open_file(bytes(folder / "ent.o"), None))
    assert library.bpf_object__load(thing) == 0
    names = ["ent_hash", "ent_lpm", "ent_pchash", "ent_pcarray", "ent_array", "ent_lru", "ent_lists", ".data"]
    yield {name: library.bpf_object__find_map_fd_by_name(thing, name.encode()) for name in names}
    library.bpf_object__close(thing)


@pytest.fixture(name="on")
def fixture_on(loaded):
    """Carries out an edit of a map and returns (entries written or deleted, entries afterwards)."""

    def run(name, wanted, **how):
        fd = loaded[name]
        info = bpf.map_info(fd)
        written = entries.of(info)
        actual = contents.read(fd, info)
        edit = contents.plan(info, actual, entries.pack(written, wanted, actual), **how)
        number = contents.carry_out(fd, info, edit)
        after = contents.read(fd, info)
        assert contents.plan(info, after, entries.pack(written, wanted, after), **how).is_empty
        return number, sorted(entries.unpack(written, after), key=lambda entry: str(entry["key"]))

    return run


def bpftool_dump(fd):
    """What bpftool reads by BTF from the same map."""
    command = ["bpftool", "map", "dump", "id", str(bpf.map_info(fd).id), "-j"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


@needs_root
def test_hash_is_filled_changed_and_purged(on, loaded):
    one, two = {"rate": 5, "name": "eth0", "on": 1}, {"rate": 6, "name": "eth1", "on": 0}
    assert on("ent_hash", [{"key": 1, "value": one}, {"key": 2, "value": two}])[0] == 2
    seen = {row["formatted"]["key"]: row["formatted"]["value"] for row in bpftool_dump(loaded["ent_hash"])}
    assert seen == {1: one, 2: two}
    assert on("ent_hash", [{"key": "1", "value": {**one, "rate": "0x7"}}])[0] == 1
    assert on("ent_hash", [{"key": 2}], state="absent") == (1, [{"key": 1, "value": {**one, "rate": 7}}])
    assert on("ent_hash", [], purge=True) == (1, [])


@needs_root
def test_full_hash_is_replaced_by_purge(on):
    given = [{"key": number, "value": {"rate": number}} for number in range(8)]
    assert on("ent_hash", given[:4], purge=True)[0] == 4
    assert on("ent_hash", given[4:], purge=True)[0] == 8
    with pytest.raises(BadRequest, match="holds 4 entries, and there would be 5"):
        on("ent_hash", given[:1])
    on("ent_hash", [], purge=True)


@needs_root
def test_lpm_trie_takes_networks(on, loaded):
    wanted = [{"key": "10.0.0.0/8", "value": 1}, {"key": "192.0.2.1", "value": 2}]
    number, after = on("ent_lpm", wanted)
    assert (number, after) == (2, [{"key": "10.0.0.0/8", "value": 1}, {"key": "192.0.2.1/32", "value": 2}])
    witness = sorted(bytes(int(part, 16) for part in row["key"])[4:] for row in bpftool_dump(loaded["ent_lpm"]))
    assert witness == [bytes([10, 0, 0, 0]), bytes([192, 0, 2, 1])]
    assert on("ent_lpm", [{"key": {"prefixlen": 8, "address": "10.1.2.3"}, "value": 1}])[0] == 0
    assert on("ent_lpm", [{"key": "10.0.0.0/8"}], state="absent")[0] == 1


@needs_root
def test_per_cpu_maps_have_a_value_for_each_cpu(on, loaded):
    cpus = bpf.possible_cpus()
    each = [{"rate": number, "name": "x", "on": 0} for number in range(cpus)]
    assert on("ent_pchash", [{"key": 7, "values": each}]) == (1, [{"key": 7, "values": each}])
    witness = bpftool_dump(loaded["ent_pchash"])[0]["formatted"]["values"]
    assert [row["value"] for row in witness] == each
    number, after = on("ent_pcarray", [{"key": 1, "value": 9}])
    assert number == 1 and [entry["values"] for entry in after] == [[0] * cpus, [9] * cpus, [0] * cpus]
    assert on("ent_pcarray", [{"key": 1}], state="absent")[1][1]["values"] == [0] * cpus
    assert on("ent_lists", [{"key": 0, "value": [3, 4]}])[1] == [{"key": 0, "values": [[3, 4]] * cpus}]


@needs_root
def test_array_deletes_by_zero(on):
    assert on("ent_array", [{"key": 0, "value": 5}, {"key": 2, "value": 6}])[0] == 2
    number, after = on("ent_array", [{"key": 2, "value": 6}], purge=True)
    assert number == 1 and [entry["value"] for entry in after] == [0, 0, 6]
    with pytest.raises(BadRequest, match="no index 3"):
        on("ent_array", [{"key": 3, "value": 1}])


@needs_root
def test_globals_that_are_not_named_keep_their_value(on, loaded):
    before = on(".data", [])[1]
    assert before == [{"key": 0, "value": {"first": 1, "second": -2, "third": "three"}}]
    number, after = on(".data", [{"key": 0, "value": {"second": 40}}])
    assert number == 1 and after[0]["value"] == {**before[0]["value"], "second": 40}
    witness = bpftool_dump(loaded[".data"])[0]["formatted"]["value"][".data"]
    assert {key: value for row in witness for key, value in row.items()}["second"] == 40


@needs_root
def test_lru_takes_entries(on):
    assert on("ent_lru", [{"key": 1, "value": 2}])[1] == [{"key": 1, "value": 2}]


def made(kind, key, value, most, flags=0):
    """An fd of a map without BTF; closing it is its end."""

    class Options(ctypes.Structure):  # struct bpf_map_create_opts
        _fields_ = (("sz", ctypes.c_size_t), ("ids", ctypes.c_uint32 * 5), ("flags", ctypes.c_uint32))

    options = Options(sz=ctypes.sizeof(Options), flags=flags)
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    fd = library.bpf_map_create(kind, b"ent_plain", key, value, most, ctypes.byref(options))
    assert fd >= 0, os.strerror(ctypes.get_errno())
    return bpf.Fd(fd)


@needs_root
def test_map_without_btf_has_numbers_and_hex():
    with made(contents.HASH, 4, 6, 4) as fd:
        info = bpf.map_info(fd)
        written = entries.of(info)
        wanted = entries.pack(written, [{"key": 5, "value": "hex:02:00:00:00:00:01"}])
        assert contents.carry_out(fd, info, contents.plan(info, [], wanted)) == 1
        assert entries.unpack(written, contents.read(fd, info)) == [{"key": 5, "value": "hex:020000000001"}]


@needs_root
def test_carry_out_says_how_far_it_came_and_why_no_further():
    with made(contents.HASH, 4, 4, 2) as fd:
        info = bpf.map_info(fd)
        puts = tuple((number.to_bytes(4, sys.byteorder), bytes(4)) for number in range(3))
        with pytest.raises(BadRequest, match="full at 2 entries") as caught:
            contents.carry_out(fd, info, contents.Edit(puts, (), 0, False))
        assert caught.value.detail["done"] == 2
        gone = contents.Edit((), ((9).to_bytes(4, sys.byteorder),), 0, False)
        assert contents.carry_out(fd, info, gone) == 1  # deleted by somebody else: as wanted
    with (
        made(contents.HASH, 4, 4, 2, RDONLY) as fd,
        pytest.raises(BadRequest, match="frozen, or was made with BPF_F_RDONLY"),
    ):
        contents.carry_out(fd, bpf.map_info(fd), contents.Edit(puts[:1], (), 0, False))


@needs_root
@pytest.mark.parametrize(
    ("kind", "key", "value", "name"), [(27, 0, 0, "ringbuf"), (3, 4, 4, "prog_array"), (22, 0, 4, "queue")]
)
def test_maps_without_entries_are_refused_by_name(kind, key, value, name):
    with made(kind, key, value, 4096) as fd:
        info = bpf.map_info(fd)
        for question in (lambda: entries.of(info), lambda: contents.read(fd, info)):
            with pytest.raises(BadRequest) as caught:
                question()
            assert caught.value.detail["type"] == name
