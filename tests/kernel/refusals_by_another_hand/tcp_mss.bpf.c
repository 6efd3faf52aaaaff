// SPDX-License-Identifier: GPL-3.0-or-later
// look for the MSS option in SYN segments, whether or not they are linear
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define TCPOPT_MSS 2

extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, __u64 flags, struct bpf_dynptr *p) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *p, __u32 off, void *buf, __u32 len) __ksym;

__u64 small_mss;

SEC("xdp")
int syn_mss(struct xdp_md *ctx)
{
	__u8 hbuf[sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct tcphdr)];
	__u8 obuf[40];
	struct bpf_dynptr pkt;
	struct ethhdr *eth;
	struct iphdr *ip;
	struct tcphdr *tcp;
	__u32 optlen;
	__u8 *opt;

	if (bpf_dynptr_from_xdp(ctx, 0, &pkt))
		return XDP_PASS;
	eth = bpf_dynptr_slice(&pkt, 0, hbuf, sizeof(hbuf));
	if (!eth || eth->h_proto != bpf_htons(0x0800))
		return XDP_PASS;
	ip = (void *)(eth + 1);
	tcp = (void *)(ip + 1);
	if (ip->protocol != IPPROTO_TCP || ip->ihl != 5 || !tcp->syn)
		return XDP_PASS;

	optlen = tcp->doff * 4 - sizeof(*tcp);
	if (optlen < 4 || optlen > sizeof(obuf))
		return XDP_PASS;
	opt = bpf_dynptr_slice(&pkt, sizeof(hbuf), obuf, optlen);
	if (!opt)
		return XDP_PASS;

	/* everybody sends MSS first */
	if (opt[0] == TCPOPT_MSS && opt[1] == 4 && (opt[2] << 8 | opt[3]) < 536)
		__sync_fetch_and_add(&small_mss, 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
