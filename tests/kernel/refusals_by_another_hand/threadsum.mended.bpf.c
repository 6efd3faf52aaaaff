// SPDX-License-Identifier: GPL-3.0-or-later
/* run on demand: how many processes and kernel threads there are, and their faults */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define PF_KTHREAD 0x00200000

extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task__nullable,
			     unsigned int flags) __ksym;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

struct summary {
	u64 processes;
	u64 kthreads;
	u64 major_faults;
};

struct summary sum;

SEC("syscall")
int summarise(void *ctx)
{
	struct summary now = {};
	struct bpf_iter_task it;
	struct task_struct *t;

	bpf_rcu_read_lock();
	bpf_iter_task_new(&it, (void *)0, BPF_TASK_ITER_ALL_PROCS);
	while ((t = bpf_iter_task_next(&it))) {
		if (t->flags & PF_KTHREAD)
			now.kthreads++;
		else
			now.processes++;
		now.major_faults += t->maj_flt;
	}
	bpf_iter_task_destroy(&it);
	bpf_rcu_read_unlock();

	sum = now;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
