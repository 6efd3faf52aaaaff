// SPDX-License-Identifier: GPL-3.0-or-later
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct guarded {
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
	__sync_fetch_and_add(&guarded->switches, 1);
	return 0;
}

char _license[] SEC("license") = "GPL";
