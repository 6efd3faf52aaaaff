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
RAW_TRACEPOINT, TP_BTF, FENTRY, FEXIT = (f"{MARK}_{kind}" for kind in ("raw_tp", "tp_btf", "fentry", "fexit"))
FMOD_RET, LSM, UPROBE, URETPROBE = (f"{MARK}_{kind}" for kind in ("fmod_ret", "lsm", "uprobe", "uretprobe"))
PERF_EVENT, ITER = f"{MARK}_perf_event", f"{MARK}_iter"
KPROBE, KRETPROBE, KSYSCALL, KRETSYSCALL = (f"{MARK}_k{kind}" for kind in ("probe", "ret", "sys", "retsys"))
RARE_CALL = {"x86_64": 146, "aarch64": 125}.get(os.uname().machine, 0)  # the number of sched_get_priority_max
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
    RAW_TRACEPOINT: 'SEC("raw_tp") int MARK_raw_tp(__u64 *ctx) { seen_in_rare_call(ctx[1]); return 0; }',
    TP_BTF: 'SEC("tp_btf/sys_enter") int MARK_tp_btf(__u64 *ctx) { seen_in_rare_call(ctx[1]); return 0; }',
    FENTRY: 'SEC("fentry/security_task_getscheduler") int MARK_fentry(void *ctx) { seen_of_ours(3); return 0; }',
    FEXIT: 'SEC("fexit/security_task_getscheduler") int MARK_fexit(void *ctx) { seen_of_ours(3); return 0; }',
    FMOD_RET: 'SEC("fmod_ret/security_task_getscheduler") int MARK_fmod_ret(void *ctx) { seen_of_ours(3); return 0; }',
    KPROBE: 'SEC("kprobe") int MARK_kprobe(void *ctx) { seen_of_ours(3); return 0; }',
    KRETPROBE: 'SEC("kretprobe") int MARK_kret(void *ctx) { seen_of_ours(3); return 0; }',
    KSYSCALL: 'SEC("ksyscall") int MARK_ksys(void *ctx) { seen_of_ours(3); return 0; }',
    KRETSYSCALL: 'SEC("kretsyscall") int MARK_kretsys(void *ctx) { seen_of_ours(3); return 0; }',
    UPROBE: 'SEC("uprobe") int MARK_uprobe(void *ctx) { seen(3); return 0; }',
    URETPROBE: 'SEC("uretprobe") int MARK_uretprobe(void *ctx) { seen(3); return 0; }',
    PERF_EVENT: 'SEC("perf_event") int MARK_perf_event(void *ctx) { seen_by_name(3); return 0; }',
    # ctx[0] is the meta of bpf_iter__task, whose seq_num is 0 at the first task of each reading
    ITER: 'SEC("iter/task") int MARK_iter(__u64 *ctx) { if (!((__u64 *)ctx[0])[2]) seen_of_ours(3); return 0; }',
    LSM: 'SEC("lsm/task_getscheduler") int MARK_lsm(void *ctx) { seen_of_ours(3); return 0; }',
}
MORE[PERF_EVENT] = """
struct name { char comm[16]; };

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, struct name);
    __type(value, __u64);
} MARK_names SEC(".maps");

/* A clock comes any number of times: it counts once for each name that our process gives itself. */
static __always_inline void seen_by_name(__u32 row)
{
    struct name name = {};
    __u64 one = 1;

    bpf_get_current_comm(&name, sizeof(name));
    if (name.comm[0] != '#')
        return;
    name.comm[15] = VERSION;
    if (!bpf_map_update_elem(&MARK_names, &name, &one, BPF_NOEXIST))
        seen_of_ours(row);
}
""" + MORE[PERF_EVENT]
# An event of the whole machine: other processes' do not count.
OURS = f"""
static __always_inline void seen_of_ours(__u32 row)
{{
    if (bpf_get_current_pid_tgid() >> 32 == {os.getpid()})
        seen(row);
}}

static __always_inline void seen_in_rare_call(__u64 number)
{{
    if (number == {RARE_CALL})
        seen_of_ours(3);
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
