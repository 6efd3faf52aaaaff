// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

static __u64 (*bpf_from_the_future)(void) = (void *)9999;

SEC("xdp")
int ask(struct xdp_md *ctx)
{
	return bpf_from_the_future() ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
