// SPDX-License-Identifier: GPL-3.0-or-later
/* run queue latency, as a log2 histogram */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define SLOTS 26

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u32);
	__type(value, u64);
} woken SEC(".maps");

u64 hist[SLOTS];

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *p)
{
	u64 ts = bpf_ktime_get_ns();
	u32 pid = p->pid;

	bpf_map_update_elem(&woken, &pid, &ts, BPF_ANY);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	u32 pid = next->pid, slot = 0;
	u64 *tsp, delta;

	if (prev->__state == 0) {
		u32 again = prev->pid;
		u64 now = bpf_ktime_get_ns();

		bpf_map_update_elem(&woken, &again, &now, BPF_ANY);
	}

	tsp = bpf_map_lookup_elem(&woken, &pid);
	if (!tsp)
		return 0;
	delta = (bpf_ktime_get_ns() - *tsp) / 1000;
#pragma unroll
	for (int i = 0; i < SLOTS - 1; i++)
		if (delta >> (i + 1))
			slot = i + 1;
	if (slot < SLOTS)
		__sync_fetch_and_add(&hist[slot], 1);
	bpf_map_delete_elem(&woken, &pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
