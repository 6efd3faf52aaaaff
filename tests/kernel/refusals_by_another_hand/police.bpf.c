// SPDX-License-Identifier: GPL-3.0-or-later
// Per-source token bucket; idle buckets are started afresh.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define BURST 64000
#define IDLE_NS 1000000000ULL

struct tbucket {
	struct bpf_spin_lock lock;
	__u32 dropped;
	__u64 tokens;
	__u64 last;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct tbucket);
} buckets SEC(".maps");

SEC("cgroup_skb/egress")
int police(struct __sk_buff *skb)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 len = skb->len, key = skb->hash & 0xff;
	struct tbucket *b = bpf_map_lookup_elem(&buckets, &key);
	int pass = 1;

	if (!b)
		return 1;
	bpf_spin_lock(&b->lock);
	if (now - b->last > IDLE_NS) {
		__builtin_memset(b, 0, sizeof(*b));
		b->tokens = BURST;
	}
	b->last = now;
	if (b->tokens >= len) {
		b->tokens -= len;
	} else {
		b->dropped++;
		pass = 0;
	}
	bpf_spin_unlock(&b->lock);
	return pass;
}

char LICENSE[] SEC("license") = "GPL";
