// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

volatile __u64 hits;

SEC("xdp")
int throw_dice(struct xdp_md *ctx)
{
	for (__u32 i = 0; i < 9000; i++)
		if (bpf_get_prandom_u32() > 1000)
			hits += 1;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
