// SPDX-License-Identifier: GPL-3.0-or-later
// First stage of an XDP pipeline: snapshot the headers, then hand the packet on by protocol.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define SNAP 320

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} stages SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} snaps SEC(".maps");

static __always_inline int hand_on(struct xdp_md *ctx, __u32 proto)
{
	bpf_tail_call(ctx, &stages, proto & 0xff);
	return XDP_PASS;	/* no stage for this protocol */
}

SEC("xdp")
int dispatch(struct xdp_md *ctx)
{
	unsigned char snap[SNAP];
	struct iphdr *ip;

	if (bpf_xdp_load_bytes(ctx, 0, snap, sizeof(snap)))
		return XDP_PASS;
	bpf_ringbuf_output(&snaps, snap, sizeof(snap), 0);
	ip = (struct iphdr *)(snap + sizeof(struct ethhdr));
	if (ip->version != 4)
		return XDP_PASS;
	return hand_on(ctx, ip->protocol);
}

char LICENSE[] SEC("license") = "GPL";
