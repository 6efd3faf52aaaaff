/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A version with a common fault: it reads the sender's address without asking whether the packet is that long. clang takes it, the
 * kernel's verifier does not.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} counted_by_sender SEC(".maps");

SEC("xdp")
int xdp_packet_counter(struct xdp_md *ctx)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(ethernet + 1);
	__u32 sender = ip->saddr;
	__u64 one = 1, *packets = bpf_map_lookup_elem(&counted_by_sender, &sender);

	if (packets)
		*packets += 1;
	else
		bpf_map_update_elem(&counted_by_sender, &sender, &one, BPF_ANY);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
