// SPDX-License-Identifier: GPL-3.0-or-later
// per source counters; a timer wipes a flow that has been idle
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define CLOCK_MONOTONIC 1
#define IDLE_NS (30ULL * 1000000000)

struct flow {
	struct bpf_timer timer;
	__u64 packets;
	__u64 last_seen;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

static int flow_idle(void *map, __u32 *saddr, struct flow *f)
{
	if (bpf_ktime_get_ns() - f->last_seen < IDLE_NS) {
		/* still alive: look again later */
		bpf_timer_start(&f->timer, IDLE_NS, 0);
		return 0;
	}
	bpf_map_delete_elem(map, saddr);
	return 0;
}

SEC("xdp")
int count_flows(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct flow *f, fresh = {};
	__u32 saddr;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(0x0800))
		return XDP_PASS;
	saddr = ip->saddr;
	f = bpf_map_lookup_elem(&flows, &saddr);
	if (!f) {
		bpf_map_update_elem(&flows, &saddr, &fresh, BPF_NOEXIST);
		f = bpf_map_lookup_elem(&flows, &saddr);
		if (!f)
			return XDP_PASS;
		bpf_timer_init(&f->timer, &flows, CLOCK_MONOTONIC);
		bpf_timer_set_callback(&f->timer, flow_idle);
		bpf_timer_start(&f->timer, IDLE_NS, 0);
	}
	__sync_fetch_and_add(&f->packets, 1);
	f->last_seen = bpf_ktime_get_ns();
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
