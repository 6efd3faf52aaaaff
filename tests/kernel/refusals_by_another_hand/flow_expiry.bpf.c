// SPDX-License-Identifier: GPL-3.0-or-later
// XDP: count packets of watched sources (entered by the agent), forget one after 30 idle seconds
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define CLOCK_MONOTONIC 1
#define IDLE_NS 30000000000ULL

struct flow {
	__u64 packets;
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct flow);
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct in6_addr);
	__type(value, struct flow);
} flows6 SEC(".maps");

static int expire(void *map, void *key, struct flow *f)
{
	bpf_map_delete_elem(map, key);
	return 0;
}

SEC("xdp")
int flow_expiry(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip4 = data + sizeof(*eth);
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	struct flow *f, *f6;
	if ((void *)(ip4 + 1) <= end && eth->h_proto == bpf_htons(0x0800)) {
		f = bpf_map_lookup_elem(&flows4, &ip4->saddr);
		if (!f)
			return XDP_PASS;
		if (!bpf_timer_init(&f->timer, &flows4, CLOCK_MONOTONIC))
			bpf_timer_set_callback(&f->timer, expire);
	} else if ((void *)(ip6 + 1) <= end && eth->h_proto == bpf_htons(0x86dd)) {
		f = f6 = bpf_map_lookup_elem(&flows6, &ip6->saddr);
		if (!f6)
			return XDP_PASS;
		if (!bpf_timer_init(&f6->timer, &flows4, CLOCK_MONOTONIC))
			bpf_timer_set_callback(&f6->timer, expire);
	} else
		return XDP_PASS;
	__sync_fetch_and_add(&f->packets, 1);
	bpf_timer_start(&f->timer, IDLE_NS, 0);
	return XDP_PASS;
}
char LICENSE[] SEC("license") = "GPL";
