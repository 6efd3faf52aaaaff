/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A version with a fault: it reads a byte of the packet without having asked whether the packet is that long. clang takes it, the
 * kernel's verifier does not.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} counted_by_protocol SEC(".maps");

SEC("xdp")
int xdp_packet_counter(struct xdp_md *ctx)
{
	__u8 *packet = (void *)(long)ctx->data;
	__u32 protocol = packet[23];
	__u64 *packets = bpf_map_lookup_elem(&counted_by_protocol, &protocol);

	if (packets)
		*packets += 1;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
