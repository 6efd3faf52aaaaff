// SPDX-License-Identifier: GPL-3.0-or-later
// tracepoint: how often, and for how long, one named process is off the CPU
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define TASK_COMM_LEN 16

/* filled in by the loader before the object is loaded */
const char target[TASK_COMM_LEN] = "nginx";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} off_since SEC(".maps");

__u64 switches, off_ns;

SEC("tracepoint/sched/sched_switch")
int on_switch(struct trace_event_raw_sched_switch *ctx)
{
	__u64 now = bpf_ktime_get_ns(), *since;
	char comm[TASK_COMM_LEN];
	__u32 pid;

	pid = ctx->next_pid;
	since = bpf_map_lookup_elem(&off_since, &pid);
	if (since) {
		__sync_fetch_and_add(&off_ns, now - *since);
		bpf_map_delete_elem(&off_since, &pid);
	}

	bpf_get_current_comm(comm, sizeof(comm));	/* still the one that leaves */
	if (bpf_strncmp(comm, sizeof(comm), target))
		return 0;

	pid = ctx->prev_pid;
	__sync_fetch_and_add(&switches, 1);
	bpf_map_update_elem(&off_since, &pid, &now, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
