# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What maps will take is told before they are created, to the byte; what there is no room for is not created.

The witness is the kernel's own figure, which bpftool reads from fdinfo.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct

import private_host
import pytest
from private_host import NAME

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import stage, store
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BeyondLimits, NoMemory, VerifierRefused
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import available, bpf, files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf, memory, source

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAP(name, kind, entries, key_bytes, value_bytes, flags)     \\
    struct {                                                        \\
        __uint(type, BPF_MAP_TYPE_##kind);                          \\
        __uint(max_entries, entries);                               \\
        __uint(key_size, key_bytes);                                \\
        __uint(value_size, value_bytes);                            \\
        __uint(map_flags, flags);                                   \\
    } name SEC(".maps")

SEC("xdp")
int nothing(struct xdp_md *ctx)
{
    return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
"""

KINDS = """
MAP(one, ARRAY, 1, 4, 8, 0);
MAP(uneven, ARRAY, 9999, 4, 13, 0);
MAP(mapped, ARRAY, 1000, 4, 8, BPF_F_MMAPABLE);
MAP(cpu_array, PERCPU_ARRAY, 1000, 4, 20, 0);
MAP(hash_of_one, HASH, 1, 4, 8, 0);
MAP(hash_of_three, HASH, 3, 5, 3, 0);
MAP(flows, HASH, 10000, 40, 64, 0);
MAP(grows, HASH, 10000, 16, 24, BPF_F_NO_PREALLOC);
MAP(cpu_hash, PERCPU_HASH, 5000, 4, 8, 0);
MAP(cpu_grows, PERCPU_HASH, 5000, 4, 9, BPF_F_NO_PREALLOC);
MAP(lru, LRU_HASH, 10000, 16, 24, 0);
MAP(lru_per_cpu, LRU_HASH, 10001, 16, 24, BPF_F_NO_COMMON_LRU);
MAP(cpu_lru, LRU_PERCPU_HASH, 1000, 16, 20, 0);
MAP(tails, PROG_ARRAY, 8, 4, 4, 0);
MAP(events, PERF_EVENT_ARRAY, 0, 4, 4, 0);
MAP(cgroups, CGROUP_ARRAY, 16, 4, 4, 0);
MAP(devices, DEVMAP, 64, 4, 4, 0);
MAP(device_hash, DEVMAP_HASH, 100, 4, 8, 0);
MAP(sockets, SOCKMAP, 100, 4, 4, 0);
MAP(socket_hash, SOCKHASH, 100, 12, 8, 0);
MAP(cpus, CPUMAP, 2, 4, 4, 0);
MAP(xsks, XSKMAP, 100, 4, 4, 0);
MAP(reuseport, REUSEPORT_SOCKARRAY, 16, 4, 8, 0);
MAP(stacks, STACK_TRACE, 1000, 4, 1016, 0);
MAP(trie, LPM_TRIE, 1000, 8, 8, BPF_F_NO_PREALLOC);
MAP(waiting, QUEUE, 1000, 0, 12, 0);
MAP(piled, STACK, 1000, 0, 8, 0);
MAP(bloom, BLOOM_FILTER, 100, 0, 8, 0);

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_USER_RINGBUF); __uint(max_entries, 4096); } user_ring SEC(".maps");

struct inner {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 100);
    __type(key, __u32);
    __array(values, struct inner);
} array_of_maps SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
    __uint(max_entries, 1000);
    __type(key, __u32);
    __array(values, struct inner);
} hash_of_maps SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, __u64);
} of_task SEC(".maps");

__u64 variable = 1;
__u64 zeroed[5000];
"""
CANNOT_BE_TOLD = {"bloom", "of_task"}


def object_with(maps):
    made = source.Source("maps.bpf.c", (HEAD + maps).encode())
    return stage.build(NAME, stage.Given(source=made, file="maps.bpf.c")).object


@contextlib.contextmanager
def loaded(maps):
    """(what elf.load says of the maps, where they are pinned); they are gone afterwards."""
    pins = os.path.join(files.BPFFS, "measured")
    try:
        yield elf.load(object_with(maps), NAME, pins=pins).maps, os.path.join(pins, "maps")
    finally:
        files.remove_tree(pins)


def bytes_of(folder, name):
    return private_host.bpftool("map", "show", "pinned", os.path.join(folder, name))["bytes_memlock"]


def keeps_sums():
    kernel = memory.of_this_host()
    return kernel is not None and kernel.keeps_sums


needs_sums = pytest.mark.skipif(
    "os.geteuid() == 0 and not keeps_sums()", reason="before 6.4 the kernel has an estimate only"
)


@needs_sums
def test_every_kind_of_map_takes_what_was_told_to_the_byte(host):
    with loaded(KINDS) as (told, folder):
        taken = {name: bytes_of(folder, name) for name in os.listdir(folder)}

    assert {name: row["bytes"] for name, row in told.items()} == taken
    assert {name for name, row in told.items() if row["predicted"] is None} == CANNOT_BE_TOLD
    assert {
        name: (row["predicted"], taken[name])
        for name, row in told.items()
        if name not in CANNOT_BE_TOLD and row["predicted"] != taken[name]
    } == {}
    assert len(taken) >= 30


@needs_sums
@pytest.mark.parametrize("name", ["grows", "cpu_grows", "trie"])
def test_map_that_grows_takes_when_full_what_was_told(host, name):
    (line,) = (line for line in KINDS.splitlines() if line.startswith(f"MAP({name},"))
    with loaded(line) as (told, folder):
        with bpf.get_pinned(os.path.join(folder, name)) as fd:
            info = bpf.map_info(fd)
            for number in range(info.max_entries):
                head = struct.pack("=I", 32) if name == "trie" else b""
                key = (head + struct.pack(">I", number)).ljust(info.bytes_key, b"\0")
                bpf.map_update(fd, key, bytes(bpf.value_room(info)))
        assert bytes_of(folder, name) == told[name]["bytes_full"] > told[name]["bytes"]


def test_map_beyond_the_hosts_memory_is_refused_with_its_figure(host):
    entries = available.memory() // 1024 * 2

    with pytest.raises(NoMemory, match="this host has") as refused:
        elf.load(object_with(f"MAP(small, ARRAY, 1, 4, 8, 0);\nMAP(huge, HASH, {entries}, 4, 1024, 0);"), NAME)

    assert refused.value.detail["map"] == "huge"
    assert refused.value.detail["bytes_needed"] > 1024 * entries > refused.value.detail["bytes_available"]
    assert "map huge" in refused.value.do


# ---- in a cgroup with a limit --------------------------------------------------------------------

MIB = 1 << 20
LIMIT = 128 * MIB


@contextlib.contextmanager
def limited_cgroup(host):
    """The path of a cgroup that may take 128 MiB; it is gone afterwards."""
    with private_host.memory_cgroup(host) as folder:
        limit = os.path.join(folder, "memory.limit_in_bytes")
        limit = limit if os.path.exists(limit) else os.path.join(folder, "memory.max")
        with open(limit, "w", encoding="ascii") as stream:
            stream.write(str(LIMIT))
        yield folder


def test_map_beyond_the_cgroups_limit_is_refused_and_the_cgroup_named(host):
    data = object_with(f"MAP(flows, HASH, {2 * LIMIT // 1024}, 4, 1024, 0);")

    with limited_cgroup(host) as folder:
        ended = private_host.in_cgroup(folder, lambda: elf.load(data, NAME))

    assert ended.code == "no_memory"
    assert os.path.basename(folder) in ended.failure
    assert elf.load(data, NAME).maps["flows"]["bytes"] > LIMIT


def test_per_cpu_values_are_not_charged_to_a_cgroup_and_not_refused_for_it(host):
    entries = 2 * LIMIT // (32768 * bpf.possible_cpus())
    data = object_with(f"MAP(counts, PERCPU_ARRAY, {entries}, 4, 32768, 0);")

    with limited_cgroup(host) as folder:
        ended = private_host.in_cgroup(folder, lambda: elf.load(data, NAME))

    assert ended.failure == ""


@needs_sums
def test_map_that_will_not_fit_once_it_is_full_is_warned_about_with_both_figures(host):
    entries = 2 * LIMIT // 1024
    many = given(f"{HEAD}MAP(grows, HASH, {entries}, 4, 1024, BPF_F_NO_PREALLOC);\nMAP(flows, HASH, 10, 4, 8, 0);")
    few = given(f"{HEAD}MAP(grows, LPM_TRIE, 1000, 8, 8, BPF_F_NO_PREALLOC);")
    reading, writing = os.pipe()

    def warned():
        for each in (many, few):
            sentences = stage.verify(NAME, stage.build(NAME, each))[1]
            os.write(writing, json.dumps(sentences).encode() + b"\n")

    with limited_cgroup(host) as folder:
        ended = private_host.in_cgroup(folder, warned)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as stream:
        (sentence,), nothing = map(json.loads, stream)

    assert ended.failure == ""
    assert nothing == []
    assert sentence.startswith("Map grows grows with its entries: full it takes 2")
    assert f"cgroup /{os.path.basename(folder)}, in which Ansible works, leaves" in sentence
    assert sentence.endswith("of its 128 MiB")


# ---- limits, and what a release costs beside the one that runs ------------------------------------

PLAIN = HEAD + "MAP(counts, ARRAY, 1000, 4, 8, 0);\n"
COSTLY = PLAIN.replace(
    "    return XDP_PASS;",
    """    __u64 sum = 0;
    volatile __u64 kept[24] = {};

    for (int turn = 0; turn < 24; turn++)
        sum += kept[turn] + bpf_ktime_get_ns();
    return sum ? XDP_PASS : XDP_DROP;""",
)


def given(text, **more):
    return stage.Given(source=source.Source("cost.bpf.c", text.encode()), file="cost.bpf.c", **more)


@pytest.mark.parametrize(
    ("limits", "figure"),
    [
        ({"insns": 40}, lambda loaded: loaded.programs["nothing"]["processed_insns"]),
        ({"stack": 191}, lambda loaded: loaded.programs["nothing"]["stack_depth"]),
        ({"map_bytes": 8000}, lambda loaded: loaded.maps["counts"]["bytes"]),
    ],
)
def test_release_beyond_a_limit_is_refused_and_leaves_nothing(host, limits, figure):
    counted = figure(elf.load(stage.build(NAME, given(COSTLY)).object, NAME))
    (word,) = limits

    with pytest.raises(BeyondLimits) as refused:
        stage.stage(NAME, given(COSTLY, limits=limits))

    assert (refused.value.detail["limit"], refused.value.detail["counted"]) == (word, counted)
    assert not os.path.exists(store.home(NAME).folder)
    assert not os.path.exists(store.home(NAME).pins)
    assert stage.stage(NAME, given(COSTLY, limits={word: counted})).state == "staged"


@needs_sums
def test_limit_of_memory_is_judged_before_the_first_map_is_there(host):
    """By a program that the verifier would refuse: it never sees it."""
    text = PLAIN.replace("return XDP_PASS;", "return *(int *)0;")
    with pytest.raises(VerifierRefused):
        stage.stage(NAME, given(text))

    with pytest.raises(BeyondLimits) as refused:
        stage.stage(NAME, given(text, limits={"map_bytes": 8000}))

    assert refused.value.detail["map"] == "counts"
    assert refused.value.detail["counted"] > 8000


def test_lower_limit_refuses_what_is_staged_already(host):
    stage.stage(NAME, given(COSTLY))

    with pytest.raises(BeyondLimits):
        stage.stage(NAME, given(COSTLY, limits={"insns": 40}))


def test_unchanged_run_gives_the_figures_of_the_load(host):
    first = stage.stage(NAME, given(COSTLY))
    again = stage.stage(NAME, given(COSTLY))

    assert again.steps == ()
    assert again.figures == first.figures
    assert again.figures.programs["nothing"]["processed_insns"] > 40


def test_cost_stands_beside_that_of_the_release_that_runs(host):
    plain = stage.stage(NAME, given(PLAIN))
    host.attach(private_host.attachment("xdp", "nothing", interface=private_host.DEVICE))

    costly = stage.stage(NAME, given(COSTLY))

    assert stage.costs(plain) == {}
    before, after = (each.figures.programs["nothing"] for each in (plain, costly))
    assert stage.costs(costly)["nothing"] == {
        "insns": {"before": before["processed_insns"], "after": after["processed_insns"]},
        "states": {"before": before["total_states"], "after": after["total_states"]},
        "stack": {"before": before["stack_depth"], "after": after["stack_depth"]},
    }
    assert after["processed_insns"] > before["processed_insns"]
