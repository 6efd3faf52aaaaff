// SPDX-License-Identifier: GPL-3.0-or-later
// Rewrite the destination MAC of frames for a known next hop, with dynptrs so that the headers may be non-linear.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define TC_ACT_OK 0
#define ETH_P_IP 0x0800

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 off, void *buf, __u32 len) __ksym;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *ptr, __u32 off, void *buf, __u32 len) __ksym;

struct mac { __u8 b[6]; };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct mac);
} next_hops SEC(".maps");

SEC("tc")
int rewrite(struct __sk_buff *skb)
{
	struct ethhdr buf = {}, *eth;
	struct iphdr ibuf = {}, *ip;
	struct bpf_dynptr ptr;
	struct mac *hop;
	__u32 daddr;

	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_dynptr_from_skb(skb, 0, &ptr))
		return TC_ACT_OK;
	ip = bpf_dynptr_slice(&ptr, sizeof(*eth), &ibuf, sizeof(ibuf));
	if (!ip)
		return TC_ACT_OK;
	daddr = ip->daddr;
	hop = bpf_map_lookup_elem(&next_hops, &daddr);
	if (!hop)
		return TC_ACT_OK;
	eth = bpf_dynptr_slice(&ptr, 0, &buf, sizeof(buf));
	if (!eth)
		return TC_ACT_OK;
	__builtin_memcpy(eth->h_dest, hop->b, sizeof(hop->b));
	if ((void *)eth == (void *)&buf)
		bpf_dynptr_write(&ptr, 0, &buf, sizeof(buf), 0);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
