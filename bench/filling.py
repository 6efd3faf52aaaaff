# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling a hash with 100,000 entries: bpf_map's own functions, and `bpftool batch` with as many lines.

Both begin with data as their users write it (numbers for us, bytes in hexadecimal for bpftool) and end in the kernel.
Reading back what was there, which bpf_map does before it writes, is part of its time.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import stage, store, transitions
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import contents, entries, source

TITLE = "Filling a map with 100,000 entries"
HEAD = ("how", "s", "us an entry", "ratio")
COUNT = 100_000
NAME = "bench"
TEXT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 131072);
    __type(key, __u32);
    __type(value, __u64);
} blocked SEC(".maps");

SEC("xdp")
int bench_xdp(struct xdp_md *ctx)
{
    __u32 key = 0;

    return bpf_map_lookup_elem(&blocked, &key) ? XDP_DROP : XDP_PASS;
}

char _license[] SEC("license") = "GPL";
"""


def rows():
    try:
        path = os.path.join(store.home(NAME).loads, staged(), "maps", "blocked")
        theirs = by_bpftool(path)
        empty(path)
        ours = by_us(path)
        again = by_us(path)
    finally:
        transitions.remove(NAME)
    yield row("bpftool batch", theirs, theirs)
    yield row("bpf_map, empty map", ours, theirs)
    yield row("bpf_map, all as wanted already", again, theirs)


def row(how, seconds, theirs):
    return how, seconds, seconds / COUNT * 1e6, seconds / theirs


def staged():
    made = source.Source("bench.bpf.c", TEXT.encode())
    return stage.stage(NAME, stage.Given(source=made, file="bench.bpf.c")).load


def by_us(path):
    wanted = [{"key": number, "value": number} for number in range(COUNT)]
    began = time.perf_counter()
    with bpf.get_pinned(path) as fd:
        info = bpf.map_info(fd)
        before = contents.read(fd, info)
        edit = contents.plan(info, before, entries.pack(entries.of(info), wanted, before))
        contents.carry_out(fd, info, edit)
    return time.perf_counter() - began


def empty(path):
    with bpf.get_pinned(path) as fd:
        info = bpf.map_info(fd)
        contents.carry_out(fd, info, contents.plan(info, contents.read(fd, info), [], purge=True))


def by_bpftool(path):
    with tempfile.NamedTemporaryFile("w", suffix=".bpftool") as batch:
        for number in range(COUNT):
            key = number.to_bytes(4, "little").hex(" ")
            value = number.to_bytes(8, "little").hex(" ")
            batch.write(f"map update pinned {path} key hex {key} value hex {value}\n")
        batch.flush()
        began = time.perf_counter()
        subprocess.run(["bpftool", "batch", "file", batch.name], check=True, capture_output=True)
        return time.perf_counter() - began
