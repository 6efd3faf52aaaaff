// SPDX-License-Identifier: GPL-3.0-or-later
// egress token bucket per cgroup
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define NSEC_PER_SEC 1000000000ULL

struct tbucket {
	struct bpf_spin_lock lock;
	__u64 tokens;
	__u64 last;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(key_size, sizeof(__u64));
	__uint(value_size, sizeof(struct tbucket));
} buckets SEC(".maps");

const volatile __u64 rate = 1 << 20;	/* bytes each second */

SEC("cgroup_skb/egress")
int shape(struct __sk_buff *skb)
{
	__u64 id = bpf_skb_cgroup_id(skb), now = bpf_ktime_get_ns(), elapsed;
	struct tbucket *b;
	int pass = 0;

	b = bpf_map_lookup_elem(&buckets, &id);
	if (!b)
		return 1;

	bpf_spin_lock(&b->lock);
	elapsed = now - b->last;
	if (elapsed > NSEC_PER_SEC)
		elapsed = NSEC_PER_SEC;
	b->tokens += elapsed * rate / NSEC_PER_SEC;
	if (b->tokens > rate)
		b->tokens = rate;
	b->last = now;
	if (b->tokens >= skb->len) {
		b->tokens -= skb->len;
		pass = 1;
	}
	bpf_spin_unlock(&b->lock);
	return pass;
}

char LICENSE[] SEC("license") = "GPL";
