// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct bpf_map_def {
	unsigned int type, key_size, value_size, max_entries, map_flags;
} hits SEC("maps") = {BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0};

SEC("xdp")
int look(struct xdp_md *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&hits, &key) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
