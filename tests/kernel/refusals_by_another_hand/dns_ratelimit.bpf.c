// SPDX-License-Identifier: GPL-3.0-or-later
// tc ingress: count DNS queries and drop the oversized ones
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define ETH_P_IP	0x0800
#define TC_ACT_OK	0
#define TC_ACT_SHOT	2
#define DNS_MAX		512

struct dnshdr {
	__be16 id, flags, qd, an, ns, ar;
};

__u64 queries, dropped;

/* make sure that the headers are in the linear part */
__attribute__((noinline)) int linearize(struct __sk_buff *skb, __u32 len)
{
	if (skb->len < len)
		return -1;
	return bpf_skb_pull_data(skb, len);
}

SEC("tc")
int dns_ingress(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct udphdr *udp = (void *)(ip + 1);
	struct dnshdr *dns = (void *)(udp + 1);

	if ((void *)(udp + 1) > data_end)
		return TC_ACT_OK;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_UDP || ip->ihl != 5)
		return TC_ACT_OK;

	if ((void *)(dns + 1) > data_end && linearize(skb, 54) < 0)
		return TC_ACT_OK;

	if (udp->dest != bpf_htons(53))
		return TC_ACT_OK;
	__sync_fetch_and_add(&queries, 1);
	if (bpf_ntohs(udp->len) > DNS_MAX) {
		__sync_fetch_and_add(&dropped, 1);
		return TC_ACT_SHOT;
	}
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
