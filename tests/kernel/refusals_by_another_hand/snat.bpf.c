// SPDX-License-Identifier: GPL-3.0-or-later
/* source NAT of one address: rewrite saddr, mend the checksums, count by protocol */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define TC_ACT_OK 0
#define ETH_P_IP 0x0800
#define IP_CSUM_OFF (sizeof(struct ethhdr) + __builtin_offsetof(struct iphdr, check))
#define IP_SRC_OFF (sizeof(struct ethhdr) + __builtin_offsetof(struct iphdr, saddr))

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, u64);
} rewritten SEC(".maps");

const volatile __be32 inside = 0x0a000002;
const volatile __be32 outside = 0x0a636363;

SEC("tc")
int snat(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *iph = data + sizeof(*eth);
	__be32 from, to = outside;
	u64 *count;
	u32 proto;

	if ((void *)(iph + 1) > data_end)
		return TC_ACT_OK;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || iph->saddr != inside)
		return TC_ACT_OK;

	from = iph->saddr;
	bpf_l3_csum_replace(skb, IP_CSUM_OFF, from, to, sizeof(to));
	bpf_skb_store_bytes(skb, IP_SRC_OFF, &to, sizeof(to), 0);

	proto = iph->protocol;
	count = bpf_map_lookup_elem(&rewritten, &proto);
	if (count)
		__sync_fetch_and_add(count, 1);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
