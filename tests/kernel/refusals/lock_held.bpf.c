// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct guarded {
	struct bpf_spin_lock lock;
	__u32 value;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guarded);
} state SEC(".maps");

SEC("xdp")
int step(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct guarded *guarded = bpf_map_lookup_elem(&state, &zero);

	if (!guarded)
		return XDP_PASS;
	bpf_spin_lock(&guarded->lock);
	if (guarded->value == 7)
		return XDP_DROP;
	guarded->value += 1;
	bpf_spin_unlock(&guarded->lock);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
