// SPDX-License-Identifier: GPL-3.0-or-later
// XDP: sample the start of each packet to user space, then jump to the handler of its protocol
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define ETH_P_IP 0x0800

struct pkt_sample {
	__u32 ifindex;
	__u32 len;
	__u8 bytes[192];
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 256);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} handlers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} samples SEC(".maps");

static __noinline int run_handler(struct xdp_md *ctx, __u32 proto)
{
	bpf_tail_call(ctx, &handlers, proto);
	return XDP_PASS;	/* no handler installed */
}

SEC("xdp")
int xdp_dispatch(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *iph = data + sizeof(*eth);
	struct pkt_sample s = {};

	if ((void *)(iph + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;

	s.ifindex = ctx->ingress_ifindex;
	s.len = data_end - data;
	if (bpf_xdp_load_bytes(ctx, 0, s.bytes, sizeof(s.bytes)) == 0)
		bpf_perf_event_output(ctx, &samples, BPF_F_CURRENT_CPU, &s, sizeof(s));

	return run_handler(ctx, iph->protocol);
}

char LICENSE[] SEC("license") = "GPL";
