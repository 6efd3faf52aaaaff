// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

static __attribute__((noinline)) int depth(struct xdp_md *ctx, int n)
{
	int sum = 0;

	for (int i = 0; i < n && i < 8; i++)
		sum = sum * 3 + 1;
	return sum;
}

SEC("xdp")
int descend(struct xdp_md *ctx)
{
	return depth(ctx, 3) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
