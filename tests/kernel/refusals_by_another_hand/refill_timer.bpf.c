// SPDX-License-Identifier: GPL-3.0-or-later
// Token bucket whose tokens are refilled by a timer rather than by the clock.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define CLOCK_MONOTONIC 1
#define TC_ACT_OK 0
#define TC_ACT_SHOT 2
#define BURST 1000
#define PERIOD_NS 10000000ULL

struct tbucket {
	struct bpf_timer refill;
	__u64 tokens;
	__u32 started;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tbucket);
} buckets SEC(".maps");

static int on_refill(void *map, __u32 *key, struct tbucket *b)
{
	b->tokens = BURST;
	bpf_timer_start(&b->refill, PERIOD_NS, 0);
	return 0;
}

SEC("tc")
int limit(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct tbucket *b = bpf_map_lookup_elem(&buckets, &zero);

	if (!b)
		return TC_ACT_OK;
	if (!b->started) {
		b->started = 1;
		b->tokens = BURST;
		bpf_timer_init(&b->refill, &buckets, CLOCK_MONOTONIC);
		bpf_timer_set_callback(&b->refill, on_refill);
		bpf_timer_start(&b->refill, PERIOD_NS, 0);
	}
	if (!b->tokens)
		return TC_ACT_SHOT;
	b->tokens--;
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
