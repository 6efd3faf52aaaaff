// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct row {
	__u32 cells[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct row);
} rows SEC(".maps");

SEC("xdp")
int count_cell(struct xdp_md *ctx)
{
	__u32 zero = 0, i = bpf_get_prandom_u32();
	struct row *row = bpf_map_lookup_elem(&rows, &zero);

	if (!row || i >= 16)
		return XDP_PASS;
	row->cells[i] = 1;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
