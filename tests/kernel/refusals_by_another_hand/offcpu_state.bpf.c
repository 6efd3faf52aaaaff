// SPDX-License-Identifier: GPL-3.0-or-later
// how do tasks leave the cpu: runnable, sleeping, in disk wait ...
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define TASK_INTERRUPTIBLE	1
#define TASK_UNINTERRUPTIBLE	2

/* v5.14 renamed state to __state */
struct task_struct___old {
	volatile long state;
} __attribute__((preserve_access_index));

struct task_struct___new {
	volatile long __state;
} __attribute__((preserve_access_index));

enum { RUNNABLE, SLEEPING, DISK, OTHER, NR_KINDS };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NR_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} leaves SEC(".maps");

static __always_inline long task_state(void *task)
{
	struct task_struct___new *t = task;

	if (bpf_core_field_exists(t->__state))
		return t->__state;
	return ((struct task_struct___old *)task)->state;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	long state = task_state(prev);
	__u32 kind = OTHER;
	__u64 *n;

	if (preempt || state == 0)
		kind = RUNNABLE;
	else if (state & TASK_INTERRUPTIBLE)
		kind = SLEEPING;
	else if (state & TASK_UNINTERRUPTIBLE)
		kind = DISK;

	n = bpf_map_lookup_elem(&leaves, &kind);
	if (n)
		*n += 1;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
