// SPDX-License-Identifier: GPL-3.0-or-later
// tc egress: set the DSCP of DNS traffic to CS5 with dynptrs, so that non-linear skbs work too
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define TC_ACT_OK 0
#define DSCP_CS5 (40 << 2)

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags,
			       struct bpf_dynptr *ptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset,
			      void *buffer, __u32 buffer__szk) __ksym;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *ptr, __u32 offset,
				   void *buffer, __u32 buffer__szk) __ksym;

SEC("tc")
int dscp_mark(struct __sk_buff *skb)
{
	__u8 ibuf[sizeof(struct iphdr)] = {}, ubuf[sizeof(struct udphdr)] = {};
	struct bpf_dynptr pkt;
	struct udphdr *uh;
	struct iphdr *iph;
	__u32 sum;

	if (skb->protocol != bpf_htons(0x0800))
		return TC_ACT_OK;
	if (bpf_dynptr_from_skb(skb, 0, &pkt))
		return TC_ACT_OK;

	uh = bpf_dynptr_slice(&pkt, sizeof(struct ethhdr) + sizeof(*iph), ubuf, sizeof(ubuf));
	if (!uh || uh->dest != bpf_htons(53))
		return TC_ACT_OK;

	iph = bpf_dynptr_slice_rdwr(&pkt, sizeof(struct ethhdr), ibuf, sizeof(ibuf));
	if (!iph || iph->ihl != 5 || iph->protocol != IPPROTO_UDP)
		return TC_ACT_OK;

	sum = bpf_ntohs(iph->check) + iph->tos + (0xffff - DSCP_CS5);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	iph->tos = DSCP_CS5;
	iph->check = bpf_htons(sum);

	if ((void *)iph == (void *)ibuf)
		bpf_dynptr_write(&pkt, sizeof(struct ethhdr), ibuf, sizeof(ibuf), 0);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
