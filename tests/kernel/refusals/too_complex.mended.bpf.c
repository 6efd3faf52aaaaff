// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

volatile __u64 hits;

static long throw_one(__u32 i, void *unused)
{
	if (bpf_get_prandom_u32() > 1000)
		hits += 1;
	return 0;
}

SEC("xdp")
int throw_dice(struct xdp_md *ctx)
{
	bpf_loop(9000, throw_one, 0, 0);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
