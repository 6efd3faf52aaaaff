// SPDX-License-Identifier: GPL-3.0-or-later
// Send the start of every DNS query to user space.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define TC_ACT_OK 0
#define DNS_OFF (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr))

struct query {
	__u32 ifindex;
	__u32 len;
	__u8 data[128];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} queries SEC(".maps");

SEC("tc")
int dns(struct __sk_buff *skb)
{
	struct query *q;
	__u16 dport;
	__u64 len;

	if (bpf_skb_load_bytes(skb, DNS_OFF - 6, &dport, sizeof(dport)) || dport != bpf_htons(53))
		return TC_ACT_OK;
	q = bpf_ringbuf_reserve(&queries, sizeof(*q), 0);
	if (!q)
		return TC_ACT_OK;
	len = skb->len - DNS_OFF;
	if (len > sizeof(q->data))
		len = sizeof(q->data);
	q->ifindex = skb->ifindex;
	q->len = len;
	if (!len || bpf_skb_load_bytes(skb, DNS_OFF, q->data, len)) {
		bpf_ringbuf_discard(q, 0);
		return TC_ACT_OK;
	}
	bpf_ringbuf_submit(q, 0);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
