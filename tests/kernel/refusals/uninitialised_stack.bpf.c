// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct flow {
	__u8 protocol;
	__u32 port;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, struct flow);
	__type(value, __u64);
} flows SEC(".maps");

SEC("xdp")
int seen(struct xdp_md *ctx)
{
	struct flow flow;

	flow.protocol = 6;
	flow.port = ctx->rx_queue_index;
	return bpf_map_lookup_elem(&flows, &flow) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
