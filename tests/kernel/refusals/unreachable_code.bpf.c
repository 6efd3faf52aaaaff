// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("xdp")
int skip(struct xdp_md *ctx)
{
	asm volatile("goto +1; r0 = 7;" ::: "r0");
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
