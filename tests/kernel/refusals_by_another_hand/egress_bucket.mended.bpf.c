// SPDX-License-Identifier: GPL-3.0-or-later
// Token bucket per cgroup for outgoing traffic.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define BYTES_PER_MS 1250
#define BURST (64 * 1024)

struct tbucket {
	struct bpf_spin_lock lock;
	__u64 last_ns;
	__u64 tokens;
};

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
	__type(key, struct bpf_cgroup_storage_key);
	__type(value, struct tbucket);
} buckets SEC(".maps");

SEC("cgroup_skb/egress")
int limit_egress(struct __sk_buff *skb)
{
	struct tbucket *b = bpf_get_local_storage(&buckets, 0);
	__u64 now, tokens;
	int allow = 0;

	now = bpf_ktime_get_ns();
	bpf_spin_lock(&b->lock);
	tokens = b->tokens + (now - b->last_ns) / 1000000 * BYTES_PER_MS;
	if (tokens > BURST)
		tokens = BURST;
	if (tokens >= skb->len) {
		tokens -= skb->len;
		allow = 1;
	}
	b->tokens = tokens;
	b->last_ns = now;
	bpf_spin_unlock(&b->lock);
	return allow;
}
