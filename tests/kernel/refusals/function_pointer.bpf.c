// SPDX-License-Identifier: GPL-3.0-or-later
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

static __attribute__((noinline)) int even(__u32 queue)
{
	return queue > 6 ? XDP_DROP : XDP_PASS;
}

static __attribute__((noinline)) int odd(__u32 queue)
{
	return queue > 9 ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int choose(struct xdp_md *ctx)
{
	int (*check)(__u32 queue) = ctx->rx_queue_index & 1 ? odd : even;

	return check(ctx->rx_queue_index);
}

char _license[] SEC("license") = "GPL";
