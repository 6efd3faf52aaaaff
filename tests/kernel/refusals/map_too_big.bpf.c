// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct page_of_bytes {
	char bytes[1 << 24];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct page_of_bytes);
} pages SEC(".maps");

SEC("xdp")
int look(struct xdp_md *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&pages, &key) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
