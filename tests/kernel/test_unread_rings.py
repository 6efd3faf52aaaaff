# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A ring that nobody reads fills up, and then what is put there is lost: said as long as no process has it open."""

from __future__ import annotations

import subprocess

import private_host
import programs
import pytest
from private_host import NAME, attachment

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import inventory, observe, stage, store

TEXT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} MARK_events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} MARK_perf SEC(".maps");

SEC("xdp")
int MARK_xdp(struct xdp_md *ctx)
{
    __u32 length = ctx->data_end - ctx->data;

    bpf_ringbuf_output(&MARK_events, &length, sizeof(length), 0);
    bpf_perf_event_output(ctx, &MARK_perf, BPF_F_CURRENT_CPU, &length, sizeof(length));
    return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
"""
EVENTS, PERF = f"{programs.MARK}_events", f"{programs.MARK}_perf"
READER = "import ctypes, sys; ctypes.CDLL('libbpf.so.1').bpf_obj_get(sys.argv[1].encode()); print(flush=True); input()"


@pytest.fixture
def attached(host):
    stage.stage(NAME, programs.given(1, TEXT))
    host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))
    return host


def unread(host):
    seen = host.facts()
    return observe.unread_rings(seen, seen.confirmed)


def test_rings_that_nobody_has_open_are_named(attached):
    assert unread(attached) == [EVENTS, PERF]
    assert inventory.deployment(NAME)["unread"] == [EVENTS, PERF]


def test_ring_with_a_reader_is_not(attached):
    path = f"{store.home(NAME).loads}/{attached.facts().confirmed.load}/maps/{EVENTS}"
    with subprocess.Popen(
        ["/usr/bin/python3", "-c", READER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        reader.stdout.readline()

        assert unread(attached) == [PERF]

        reader.communicate(b"\n")
    assert unread(attached) == [EVENTS, PERF]
