# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The C source that the tests deploy: one program per hook, each counting every packet under its version and its row.

MARK stands before each name and is this run's own, so that at the end a look at the whole kernel finds what is ours.
"""

from __future__ import annotations

import os
import re

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import stage
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import source

MARK = f"k{os.getpid():x}"
FILE = "counters.bpf.c"
XDP, TCX, CGROUP = f"{MARK}_xdp", f"{MARK}_tcx", f"{MARK}_cgroup"
SEEN = f"{MARK}_seen"
NETFILTER, SK_LOOKUP, TRACEPOINT = f"{MARK}_netfilter", f"{MARK}_sk_lookup", f"{MARK}_tracepoint"
SOCK, CONNECT, SENDMSG, OPS = f"{MARK}_sock", f"{MARK}_connect", f"{MARK}_sendmsg", f"{MARK}_ops"
DEV, SYSCTL, SETSOCKOPT, FLOW = f"{MARK}_dev", f"{MARK}_sysctl", f"{MARK}_setsockopt", f"{MARK}_flow"
ROWS = {XDP: 0, TCX: 1, CGROUP: 2}  # where in SEEN a program counts: 4 * version + row; those of MORE in row 3


TEXT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, VERSION < 60 ? 256 : 512); /* from version 60 on the map is another one */
    __type(key, __u32);
    __type(value, __u64);
} MARK_seen SEC(".maps");

static __always_inline void seen(__u32 row)
{
    __u32 key = 4 * VERSION + row;
    __u64 *packets = bpf_map_lookup_elem(&MARK_seen, &key);

    if (packets)
        *packets += 1;
}

SEC("xdp")
int MARK_xdp(struct xdp_md *ctx)
{
    seen(0);
    return XDP_PASS;
}

SEC("tcx/ingress")
int MARK_tcx(struct __sk_buff *skb)
{
    seen(1);
    return -1; /* TCX_NEXT: those of others run too */
}

SEC("cgroup_skb/egress")
int MARK_cgroup(struct __sk_buff *skb)
{
    seen(2);
    return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
"""

# One function each for hooks that not every kernel has: a source holds them where it is asked for.
MORE = {
    NETFILTER: 'SEC("netfilter") int MARK_netfilter(void *ctx) { seen(3); return 1; /* NF_ACCEPT */ }',
    SK_LOOKUP: 'SEC("sk_lookup") int MARK_sk_lookup(struct bpf_sk_lookup *ctx) { seen(3); return SK_PASS; }',
    SOCK: 'SEC("cgroup/sock_create") int MARK_sock(struct bpf_sock *ctx) { seen(3); return 1; }',
    CONNECT: 'SEC("cgroup/connect4") int MARK_connect(struct bpf_sock_addr *ctx) { seen(3); return 1; }',
    SENDMSG: 'SEC("cgroup/sendmsg4") int MARK_sendmsg(struct bpf_sock_addr *ctx) { seen(3); return 1; }',
    OPS: 'SEC("sockops") int MARK_ops(struct bpf_sock_ops *ctx)'
    " { if (ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB) seen(3); return 1; }",
    DEV: 'SEC("cgroup/dev") int MARK_dev(struct bpf_cgroup_dev_ctx *ctx) { seen(3); return 1; }',
    SYSCTL: 'SEC("cgroup/sysctl") int MARK_sysctl(struct bpf_sysctl *ctx) { seen(3); return 1; }',
    SETSOCKOPT: 'SEC("cgroup/setsockopt") int MARK_setsockopt(struct bpf_sockopt *ctx) { seen(3); return 1; }',
    FLOW: 'SEC("flow_dissector") int MARK_flow(struct __sk_buff *skb) { seen(3); return 129; /* CONTINUE */ }',
    TRACEPOINT: 'SEC("tracepoint") int MARK_tracepoint(void *ctx) { seen_of_ours(3); return 0; }',
}
# An event of the whole machine: other processes' do not count.
OURS = f"""
static __always_inline void seen_of_ours(__u32 row)
{{
    if (bpf_get_current_pid_tgid() >> 32 == {os.getpid()})
        seen(row);
}}
"""


def text_with(program):
    """TEXT, with this program's function where it is one of MORE."""
    return f"{TEXT}\n{OURS}\n{MORE[program]}\n" if program in MORE else TEXT


def given(version, text=TEXT, name=FILE, programs=()):
    """What a user gives bpf_program: this version of the source."""
    marked = re.sub(r"\bMARK_", MARK + "_", text)
    made = source.Source(name, marked.encode(), cflags=(f"-DVERSION={version}",))
    return stage.Given(source=made, file=name, programs=programs)


def object_of(version, text=TEXT):
    """The bytes of this version's object."""
    return stage.build("object", given(version, text)).object
