// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("xdp")
int read_type(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;

	if (data >= data_end)
		return XDP_DROP;
	if (eth->h_proto == 8)
		return XDP_DROP;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
