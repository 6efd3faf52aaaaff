// SPDX-License-Identifier: GPL-3.0-or-later
// tc ingress: a token bucket per source address
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define TC_ACT_OK 0
#define TC_ACT_SHOT 2
#define BURST 1000
#define NS_PER_TOKEN 1000000

struct src_bucket {
	struct bpf_spin_lock lock;
	__u32 tokens;
	__u64 last;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct src_bucket);
} buckets SEC(".maps");

SEC("tc")
int limit_src(struct __sk_buff *skb)
{
	struct src_bucket fresh = { .tokens = BURST }, *b;
	__u64 now = bpf_ktime_get_ns(), gained;
	int verdict = TC_ACT_OK;
	__u32 src;

	if (skb->protocol != bpf_htons(0x0800))
		return TC_ACT_OK;
	if (bpf_skb_load_bytes(skb, 14 + 12, &src, sizeof(src)))
		return TC_ACT_OK;

	b = bpf_map_lookup_elem(&buckets, &src);
	if (!b) {
		fresh.last = now;
		bpf_map_update_elem(&buckets, &src, &fresh, BPF_NOEXIST);
		return TC_ACT_OK;
	}

	bpf_spin_lock(&b->lock);
	gained = (now - b->last) / NS_PER_TOKEN;
	if (gained) {
		b->tokens = b->tokens + gained > BURST ? BURST : b->tokens + gained;
		b->last = now;
	}
	if (b->tokens)
		b->tokens--;
	else
		verdict = TC_ACT_SHOT;
	bpf_spin_unlock(&b->lock);
	return verdict;
}

char LICENSE[] SEC("license") = "GPL";
