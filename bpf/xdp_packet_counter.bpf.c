/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counts the packets that an interface receives, and passes them all.
 *
 * One counter per CPU: a plain increment on a shared value would lose updates as soon as two CPUs receive at once.
 * The sum over the CPUs is the count.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} packet_count_map SEC(".maps");

SEC("xdp")
int xdp_packet_counter(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *packets = bpf_map_lookup_elem(&packet_count_map, &key);

	if (packets)
		*packets += 1;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
