// SPDX-License-Identifier: GPL-3.0-or-later
// count in the mark how many of our filters a packet has passed; drop the loops
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define MAX_HOPS 8
#define HOPS(mark) ((mark) & 0xff)

struct stats {
	__u64 seen;
	__u64 looped;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stats);
} totals SEC(".maps");

SEC("tc")
int hop(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct stats *st;

	st = bpf_map_lookup_elem(&totals, &zero);
	if (!st)
		return 0;
	__sync_fetch_and_add(&st->seen, 1);

	if (HOPS(skb->mark) >= MAX_HOPS) {
		__sync_fetch_and_add(&st->looped, 1);
		return 2;	/* TC_ACT_SHOT */
	}
	skb->mark += 1;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
