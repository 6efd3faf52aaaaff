// SPDX-License-Identifier: GPL-3.0-or-later
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct guarded {
	struct bpf_spin_lock lock;
	__u64 switches;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guarded);
} counts SEC(".maps");

SEC("tracepoint/sched/sched_switch")
int count(void *ctx)
{
	__u32 zero = 0;
	struct guarded *guarded = bpf_map_lookup_elem(&counts, &zero);

	if (!guarded)
		return 0;
	bpf_spin_lock(&guarded->lock);
	guarded->switches++;
	bpf_spin_unlock(&guarded->lock);
	return 0;
}

char _license[] SEC("license") = "GPL";
