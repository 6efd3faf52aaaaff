/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The next version of ebpf.deploy.xdp_packet_counter. It counts in a map of its own, so that a reader can tell who counted which
 * packet. packet_count_map is the same as before: ebpf.deploy keeps it, with its entries.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} packet_count_map SEC(".maps"), counted_by_v2 SEC(".maps");

SEC("xdp")
int xdp_packet_counter(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *packets = bpf_map_lookup_elem(&counted_by_v2, &key);

	if (packets)
		*packets += 1;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
