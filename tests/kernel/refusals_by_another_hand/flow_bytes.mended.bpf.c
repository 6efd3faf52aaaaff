// SPDX-License-Identifier: GPL-3.0-or-later
// Per-ethertype accounting on the tc ingress hook.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define TC_ACT_OK 0

/* shared with the reader in user space, keep it small */
struct flow_stat {
	__u32 ifindex;
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct flow_stat);
} flows SEC(".maps");

SEC("tc")
int account(struct __sk_buff *skb)
{
	__u32 key = skb->protocol;
	struct flow_stat *st = bpf_map_lookup_elem(&flows, &key);

	if (!st) {
		struct flow_stat fresh = { .ifindex = skb->ifindex, .packets = 1, .bytes = skb->len };

		bpf_map_update_elem(&flows, &key, &fresh, BPF_NOEXIST);
		return TC_ACT_OK;
	}
	__sync_fetch_and_add(&st->packets, 1);
	__sync_fetch_and_add(&st->bytes, skb->len);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
