// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

volatile __u64 total;

SEC("xdp")
int add_up(struct xdp_md *ctx)
{
	for (__u32 i = 0; i < 400000; i++)
		total += i;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
