# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A map's shape against another: in words, and every kind of map as an object has it and as the kernel made it."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, btf
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import maps

U32, U64 = ({"kind": "int", "size": size, "signed": False} for size in (4, 8))
ENUM = {"kind": "enum", "size": 4}


def struct_of(**fields):
    rows = [{"name": name, "at": 8 * place, "type": kind} for place, (name, kind) in enumerate(fields.items())]
    return {"kind": "struct", "size": 8 * len(rows), "fields": rows}


FLOW = maps.Shape("flows", 1, "hash", 4, 16, 1024, 0, U32, struct_of(packets=U64, bytes=U64))
RING = maps.Shape("ring", 27, "ringbuf", 0, 0, 8192)
PERF = maps.Shape("perf", 4, "perf_event_array", 4, 4, 0, 0, U32, U32)
RODATA = maps.Shape(".rodata", 2, "array", 4, 4, 1, 1152, None, struct_of(limit=U64))
DEVMAP = maps.Shape("dev", 14, "devmap", 4, 4, 8, 0, U32, U32)
COUNTS = maps.Shape("counts", 2, "array", 4, 8, 16, 0, ENUM, U64)
TRIE = maps.Shape("trie", 11, "lpm_trie", 8, 8, 16, 1, U64, U64)


def bare(shape):
    return shape._replace(key_layout=None, value_layout=None)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (FLOW, FLOW._replace(name="streams"), []),
        (FLOW, FLOW._replace(type=9, type_name="lru_hash"), ["type: lru_hash, was hash"]),
        (FLOW, FLOW._replace(max_entries=2048), ["max_entries: 2048, was 1024"]),
        (FLOW, FLOW._replace(flags=1), ["flags: BPF_F_NO_PREALLOC, was none"]),
        (FLOW, FLOW._replace(flags=1 << 10 | 1 << 30), ["flags: BPF_F_MMAPABLE | 0x40000000, was none"]),
        (
            FLOW,
            FLOW._replace(value_layout=struct_of(bytes=U64, packets=U64)),
            ["value.bytes: u64 at 0 was u64 at 8", "value.packets: u64 at 8 was u64 at 0"],
        ),
        (
            FLOW,
            FLOW._replace(value_size=24, value_layout=struct_of(packets=U64, bytes=U64, drops=U64)),
            ["value: 24 bytes, was 16", "value.drops: u64 at 16 is new"],
        ),
        (FLOW, FLOW._replace(key_size=8, key_layout=U64), ["key: u64, was u32"]),
        (bare(FLOW), bare(FLOW._replace(key_size=8)), ["key: 8 bytes, was 4"]),
        (bare(FLOW), FLOW, ["key: u32, was without BTF", "value: struct of 16 bytes, was without BTF"]),
        (FLOW, bare(FLOW), ["key: without BTF, was u32", "value: without BTF, was struct of 16 bytes"]),
        (RING, RING._replace(max_entries=5000), []),
        (RING, RING._replace(max_entries=9000), ["max_entries: 16384, was 8192"]),
        (PERF._replace(max_entries=4), PERF, []),
        (RODATA, RODATA._replace(name="rodata", flags=0), []),
        (RODATA, RODATA._replace(flags=1), ["flags: BPF_F_NO_PREALLOC, was none"]),
        (bare(DEVMAP)._replace(flags=128), DEVMAP, []),
        (bare(COUNTS), COUNTS, []),
        (COUNTS, COUNTS._replace(value_layout={**U64, "signed": True}), ["value: s64, was u64"]),
        (bare(COUNTS), COUNTS._replace(value_size=16), ["value: 16 bytes, was 8"]),
        (bare(COUNTS), COUNTS._replace(key_layout=U32), ["key: u32, was without BTF", "value: u64, was without BTF"]),
        (bare(TRIE), TRIE, []),
        (bare(RODATA), RODATA, ["value: struct of 8 bytes, was without BTF"]),
    ],
)
def test_differences_say_what_changed(old, new, said):
    assert maps.differences(old, new, page_size=4096) == said


def test_differences_of_a_perf_event_array_where_the_number_of_cpus_is_known():
    assert maps.differences(PERF._replace(max_entries=4), PERF, cpus=4) == []
    assert maps.differences(PERF._replace(max_entries=4), PERF, cpus=8) == ["max_entries: 8, was 4"]


def test_differences_of_a_ring_follow_the_page_size():
    assert maps.differences(RING._replace(max_entries=65536), RING, page_size=65536) == []


def test_record_survives_json_and_a_later_version():
    record = json.loads(json.dumps(maps.as_record(FLOW)))
    assert maps.from_record(record) == FLOW
    assert maps.from_record({**record, "color": "blue"}) == FLOW
    assert maps.differences(maps.from_record(record), FLOW) == []


def test_layout_of_nothing_is_none():
    assert maps.layout_of(None, 5) is None


# ---- every kind, in the kernel ---------------------------------------------------------------------------------------

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum place { HERE, THERE };
struct count { __u64 packets; };
struct prefix { __u32 prefixlen; __u32 address; };
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, __u32); __type(value, __u32); __uint(max_entries, 1); };
#define MAP(n, t, k, v, max, more) struct { \\
    __uint(type, BPF_MAP_TYPE_##t); __type(key, k); __type(value, v); __uint(max_entries, max); more } n SEC(".maps")
#define OF(n, t, max, more) struct { __uint(type, BPF_MAP_TYPE_##t); __uint(max_entries, max); more } n SEC(".maps")
MAP(map_hash, HASH, enum place, struct count, 4, );
MAP(map_pchash, PERCPU_HASH, struct count, __u8, 4, );
MAP(map_lru, LRU_HASH, __u32, struct count, 4, );
MAP(map_array, ARRAY, __u32, struct count, 4, );
MAP(map_array_enum, ARRAY, enum place, struct count, 4, );
MAP(map_pcarray_enum, PERCPU_ARRAY, enum place, struct count, 4, );
MAP(map_lpm, LPM_TRIE, struct prefix, __u8, 4, __uint(map_flags, 1););
MAP(map_lpm_plain, LPM_TRIE, __u64, __u8, 4, __uint(map_flags, 1););
MAP(map_prog, PROG_ARRAY, __u32, __u32, 4, );
MAP(map_perf, PERF_EVENT_ARRAY, __u32, __u32, 0, );
MAP(map_stacks, STACK_TRACE, __u32, __u64[20], 4, );
MAP(map_cgroups, CGROUP_ARRAY, __u32, __u32, 4, );
MAP(map_dev, DEVMAP, __u32, __u32, 4, );
MAP(map_devhash, DEVMAP_HASH, __u32, __u32, 4, );
MAP(map_cpu, CPUMAP, __u32, __u32, 1, );
MAP(map_xsk, XSKMAP, __u32, __u32, 2, );
MAP(map_sock, SOCKMAP, __u32, __u32, 2, );
MAP(map_sockhash, SOCKHASH, __u32, __u64, 2, );
MAP(map_reuse, REUSEPORT_SOCKARRAY, __u32, __u64, 2, );
MAP(map_socks, SK_STORAGE, int, struct count, 0, __uint(map_flags, 1););
OF(map_queue, QUEUE, 4, __type(value, struct count););
OF(map_stack, STACK, 4, __type(value, struct count););
OF(map_ring, RINGBUF, 5000, );
OF(map_arrays, ARRAY_OF_MAPS, 2, __type(key, __u32); __array(values, struct inner););
OF(map_hashes, HASH_OF_MAPS, 2, __type(key, __u32); __array(values, struct inner););
int global = 3;
const volatile int constant = 4;
int zero;
"""
FIELDS = ("type", "key_size", "value_size", "max_entries", "map_flags", "btf_key_type_id", "btf_value_type_id")


def shape_of(types, name, number, key_size, value_size, max_entries, flags, key_type, value_type):
    layouts = (maps.layout_of(types, type_id) for type_id in (key_type, value_type))
    return maps.Shape(name, number, bpf.map_type_name(number), key_size, value_size, max_entries, flags, *layouts)


def shape_in_kernel(name, fd):
    info = bpf.map_info(fd)
    raw = bpf.btf_bytes(info.btf_id)
    types = btf.parse(raw) if raw else None
    return shape_of(
        types, name, info.type_number, info.bytes_key, info.bytes_value, info.max_entries, info.flags,
        info.btf_key_type_id, info.btf_value_type_id,
    )  # fmt: skip


@pytest.fixture(name="library", scope="module")
def fixture_library():
    library = ctypes.CDLL("libbpf.so.1")
    for symbol in ("bpf_object__open_file", "bpf_object__next_map", "bpf_object__btf", "btf__raw_data"):
        getattr(library, symbol).restype = ctypes.c_void_p
    library.bpf_map__name.restype = ctypes.c_char_p
    return library


def shapes_in_object(library, thing):
    """{pointer to the map: its shape} of an opened object, as libbpf read it."""
    size, found, pointer = ctypes.c_uint32(), {}, None
    raw = library.btf__raw_data(ctypes.c_void_p(library.bpf_object__btf(thing)), ctypes.byref(size))
    types = btf.parse(ctypes.string_at(raw, size.value))
    while True:
        pointer = library.bpf_object__next_map(thing, ctypes.c_void_p(pointer))
        if not pointer:
            return found
        told = [getattr(library, f"bpf_map__{field}")(ctypes.c_void_p(pointer)) for field in FIELDS]
        name = library.bpf_map__name(ctypes.c_void_p(pointer)).decode()
        found[pointer] = shape_of(types, name, *told)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes maps")
def test_differences_there_are_none_between_an_object_and_what_the_kernel_made_of_it(library, tmp_path):
    """Else a release could not be rolled out twice: each kind of map, the old being the pinned one."""
    (tmp_path / "map.c").write_text(SOURCE)
    machine = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    command = ["clang", "-target", "bpf", "-g", "-O2", machine, "-c", "map.c", "-o", "map.o"]
    subprocess.run(command, check=True, cwd=tmp_path)
    thing = ctypes.c_void_p(library.bpf_object__open_file(bytes(tmp_path / "map.o"), None))
    try:
        wanted = shapes_in_object(library, thing)
        assert library.bpf_object__load(thing) == 0
        lost = set()
        for pointer, shape in wanted.items():
            made = shape_in_kernel(shape.name, library.bpf_map__fd(ctypes.c_void_p(pointer)))
            assert (shape.name, maps.differences(made, shape, cpus=bpf.possible_cpus())) == (shape.name, [])
            assert maps.differences(made, shape._replace(value_size=40, value_layout=U64)) != []
            lost |= {shape.name} if made.value_layout is None and shape.value_layout is not None else set()
        assert len(wanted) == 28
        assert {"map_array_enum", "map_lpm_plain", "map_perf", "map_dev"} <= lost
        assert not lost & {"map_hash", "map_array", "map_lpm"}
    finally:
        library.bpf_object__close(thing)
