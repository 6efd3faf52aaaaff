// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

static __attribute__((noinline)) int inner(struct xdp_md *ctx)
{
	volatile char text[300];
	__u32 i = ctx->rx_queue_index;

	if (i >= 300)
		return 0;
	text[i] = 1;
	return text[i];
}

static __attribute__((noinline)) int outer(struct xdp_md *ctx)
{
	volatile char text[300];
	__u32 i = ctx->ingress_ifindex;

	if (i >= 300)
		return 0;
	text[i] = inner(ctx);
	return text[i];
}

SEC("xdp")
int nested(struct xdp_md *ctx)
{
	return outer(ctx) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
