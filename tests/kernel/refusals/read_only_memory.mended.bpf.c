// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

volatile __u32 limit = 7;

SEC("xdp")
int change(struct xdp_md *ctx)
{
	*(volatile __u32 *)&limit = 8;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
