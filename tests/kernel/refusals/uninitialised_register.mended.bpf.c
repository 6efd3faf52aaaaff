// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("xdp")
int add_one(struct xdp_md *ctx)
{
	__u64 sum = 0;

	if (ctx->rx_queue_index == 0)
		sum = ctx->ingress_ifindex;
	asm volatile("%[sum] += 1" : [sum] "+r"(sum));
	return sum == 1 ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
