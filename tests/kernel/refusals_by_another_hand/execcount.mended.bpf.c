// SPDX-License-Identifier: GPL-3.0-or-later
/* how often does each command get switched in, and on which cpu last */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define COMM_LEN 16

struct comm_key {
	char comm[COMM_LEN];
};

struct seen {
	u64 times;
	u32 last_cpu;
	u32 last_pid;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct comm_key);
	__type(value, struct seen);
} by_comm SEC(".maps");

SEC("tracepoint/sched/sched_switch")
int count_switch(struct trace_event_raw_sched_switch *ctx)
{
	struct seen first = { .times = 1 };
	struct comm_key key = {};
	struct seen *s;

	first.last_cpu = bpf_get_smp_processor_id();
	first.last_pid = ctx->next_pid;
	if (!first.last_pid)
		return 0;

	bpf_probe_read_kernel(key.comm, sizeof(key.comm), ctx->next_comm);
	s = bpf_map_lookup_elem(&by_comm, &key);
	if (s) {
		__sync_fetch_and_add(&s->times, 1);
		s->last_cpu = first.last_cpu;
		s->last_pid = first.last_pid;
		return 0;
	}
	bpf_map_update_elem(&by_comm, &key, &first, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
