// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

static __attribute__((noinline)) int depth(struct xdp_md *ctx, int n)
{
	if (n < 1 || ctx->ingress_ifindex == 1)
		return 0;
	return depth(ctx, n - 1) * 3 + 1;
}

SEC("xdp")
int descend(struct xdp_md *ctx)
{
	return depth(ctx, 3) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
