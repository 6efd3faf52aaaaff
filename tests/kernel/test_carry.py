# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contents carried from one map of this kernel into another: copied with their layout changed, or moved by the merge's
small program.
"""

from __future__ import annotations

import os
import struct

import private_host
import programs
import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import stage
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest, Unsupported
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import carry, contents, elf

OLD = """struct flow { __u64 packets; __u64 bytes; };"""
NEW = """struct flow { __u64 bytes; __u64 packets; __u32 last_seen; };"""
TEXT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

FLOW

struct {
    __uint(type, BPF_MAP_TYPE_KIND);
    __uint(max_entries, ENTRIES);
    __uint(map_flags, FLAGS);
    __type(key, __u32);
    __type(value, struct flow);
} MARK_flows SEC(".maps");

SEC("xdp")
int MARK_xdp(struct xdp_md *ctx)
{
    __u32 key = 0;

    return bpf_map_lookup_elem(&MARK_flows, &key) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
"""


@pytest.fixture
def made(host):
    """A function that creates the map `flows` of one shape, and gives its Fd and its maps.Shape."""
    fds, number = [], [0]

    def make(flow, kind="HASH", entries=16, flags=0):
        number[0] += 1
        text = TEXT.replace("FLOW", flow).replace("KIND", kind).replace("ENTRIES", str(entries))
        built = stage.build("carried", programs.given(number[0], text.replace("FLAGS", str(flags))))
        pins = os.path.join(files.BPFFS, f"carry{number[0]}")
        elf.load(built.object, "carried", None, {}, pins)
        fd = bpf.get_pinned(os.path.join(pins, "maps", f"{programs.MARK}_flows"))
        files.remove_tree(pins)
        fds.append(fd)
        return fd.number, built.spec.maps[0]

    yield make
    for fd in fds:
        fd.close()


def key(number):
    return struct.pack("=I", number)


def old_flow(packets, size):
    return struct.pack("=QQ", packets, size)


def new_flow(packets, size, last=0):
    return struct.pack("=QQII", size, packets, last, 0)


def held(fd):
    info = bpf.map_info(fd)
    return dict(contents.read(fd, info))


def test_copy_of_100_000_entries_into_a_larger_map_with_a_new_field_loses_no_key(made, figures):
    old, before = made(OLD, entries=100_000)
    new, after = made(NEW, entries=200_000)
    for number in range(100_000):
        bpf.map_update(old, key(number), old_flow(number, 2 * number))
    bpf.map_update(new, key(150_000), new_flow(1, 1))  # of an earlier try: `copy` makes equal

    report = carry.copy(old, new, carry.moves(before, after, "copy"))

    assert report == carry.Report(100_000, 100_000, 100_000)
    found = held(new)
    assert found == {key(number): new_flow(number, 2 * number) for number in range(100_000)}
    figures.append("copy: 100,000 hash entries into a larger map with another layout: every key and value there")


def test_copy_refuses_more_than_the_new_map_can_hold_and_leaves_it_empty(made):
    old, before = made(OLD, entries=16)
    new, after = made(NEW, entries=8)
    for number in range(9):
        bpf.map_update(old, key(number), old_flow(1, 1))

    with pytest.raises(BadRequest, match="holds 8 entries"):
        carry.copy(old, new, carry.moves(before, after, "copy"))

    assert held(new) == {}


@pytest.mark.parametrize("kind", ["HASH", "LRU_HASH", "ARRAY"])
def test_merge_moves_counts_and_adds_them_to_what_was_counted_meanwhile(made, kind):
    old, before = made(OLD, kind)
    new, after = made(NEW, kind)
    bpf.map_update(old, key(1), old_flow(10, 1000))
    bpf.map_update(old, key(2), old_flow(20, 2000))
    bpf.map_update(new, key(2), new_flow(3, 300, 7))
    rows = carry.moves(before, after, "merge")

    with carry.merger(old, new, rows) as program:
        report = carry.merge(old, new, program, rows)
        again = carry.merge(old, new, program, rows)

    assert (report.carried, report.left, again.left) == (2, 0, 0)
    assert held(new)[key(1)] == new_flow(10, 1000)
    assert held(new)[key(2)] == new_flow(23, 2300, 7)
    assert set(held(old).values()) == {old_flow(0, 0)}


def test_merge_and_its_way_back_end_where_they_began(made):
    old, before = made(OLD)
    new, after = made(NEW)
    bpf.map_update(old, key(1), old_flow(10, 1000))
    rows = carry.moves(before, after, "merge")
    with carry.merger(old, new, rows) as forward:
        carry.merge(old, new, forward, rows)
    bpf.map_update(new, key(9), new_flow(9, 900))
    home = carry.reversed_moves(rows)

    with carry.merger(new, old, home) as backward:
        carry.merge(new, old, backward, home)

    assert held(old) == {key(1): old_flow(10, 1000), key(9): old_flow(9, 900)}
    assert set(held(new).values()) == {new_flow(0, 0)}


@pytest.mark.parametrize("kinds", [("PERCPU_HASH", "PERCPU_HASH"), ("HASH", "PERCPU_HASH"), ("PERCPU_ARRAY", "ARRAY")])
def test_merge_between_maps_per_cpu_and_shared_ones_keeps_the_sum(made, kinds):
    cpus = bpf.possible_cpus()
    old, before = made(OLD, kinds[0])
    new, after = made(NEW, kinds[1])
    values = [old_flow(number + 1, 0) for number in range(cpus)]
    bpf.map_update(old, key(3), contents.join(values) if "PERCPU" in kinds[0] else values[0])
    rows = carry.moves(before, after, "merge")

    with carry.merger(old, new, rows) as program:
        assert carry.merge(old, new, program, rows).left == 0

    value = held(new)[key(3)]
    parts = contents.split(value, 24) if "PERCPU" in kinds[1] else [value]
    packets = sum(struct.unpack("=QQII", part)[1] for part in parts)
    assert packets == (sum(range(1, cpus + 1)) if "PERCPU" in kinds[0] else 1)


def test_merge_takes_the_larger_where_told_so(made):
    shape = "struct flow { __u64 packets; __u64 last; };"
    old, before = made(shape)
    new, after = made(shape.replace("__u64 packets;", "__u64 packets; __u64 more;"))
    bpf.map_update(old, key(1), struct.pack("=QQ", 1, 50))
    bpf.map_update(old, key(2), struct.pack("=QQ", 1, 50))
    bpf.map_update(new, key(2), struct.pack("=QQQ", 1, 0, 99))
    rows = carry.moves(before, after, "merge", {"last": "max"})

    with carry.merger(old, new, rows) as program:
        carry.merge(old, new, program, rows)

    assert held(new) == {key(1): struct.pack("=QQQ", 1, 0, 50), key(2): struct.pack("=QQQ", 2, 0, 99)}


def test_merge_refuses_values_with_a_lock(made):
    shape = "struct flow { struct bpf_spin_lock lock; __u32 packets; };"
    old = made(OLD)[0]
    new = made(shape)[0]

    with pytest.raises(Unsupported, match="bpf_spin_lock"):
        carry.merger(old, new, [])


def test_pinned_merge_program_holds_both_maps(made):
    old, before = made(OLD)
    new, after = made(NEW)
    rows = carry.moves(before, after, "merge")

    with carry.merger(old, new, rows) as program:
        assert sorted(bpf.prog_info(program).map_ids) == sorted([bpf.map_info(old).id, bpf.map_info(new).id])
    assert private_host.ours_in_kernel()
