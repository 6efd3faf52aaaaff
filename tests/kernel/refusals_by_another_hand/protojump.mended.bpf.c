// SPDX-License-Identifier: GPL-3.0-or-later
/* sample the head of each packet, then jump to the parser of its protocol */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define SAMPLE 256

struct pkt_sample {
	u64 ts;
	u32 ifindex;
	u32 len;
	u8 head[SAMPLE];
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, u32);
} parsers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} samples SEC(".maps");

static __always_inline int to_parser(struct __sk_buff *skb)
{
	u8 proto;

	if (bpf_skb_load_bytes(skb, 14 + 9, &proto, 1) == 0)
		bpf_tail_call(skb, &parsers, proto);
	return 0;
}

SEC("tc")
int entry(struct __sk_buff *skb)
{
	struct pkt_sample s = {};

	s.ts = bpf_ktime_get_ns();
	s.ifindex = skb->ifindex;
	s.len = skb->len;
	if (bpf_skb_load_bytes(skb, 0, s.head, SAMPLE) == 0)
		bpf_ringbuf_output(&samples, &s, sizeof(s), 0);

	return to_parser(skb);
}

char LICENSE[] SEC("license") = "GPL";
