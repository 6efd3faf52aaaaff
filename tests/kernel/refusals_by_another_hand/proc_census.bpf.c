// SPDX-License-Identifier: GPL-3.0-or-later
// Run on demand through BPF_PROG_TEST_RUN: how many processes belong to each uid?
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task,
			     unsigned int flags) __ksym;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} per_uid SEC(".maps");

static void count(__u32 uid)
{
	__u64 one = 1, *n = bpf_map_lookup_elem(&per_uid, &uid);

	if (n)
		*n += 1;
	else
		bpf_map_update_elem(&per_uid, &uid, &one, BPF_ANY);
}

SEC("syscall")
int census(void *ctx)
{
	struct bpf_iter_task it;
	struct task_struct *p;

	bpf_iter_task_new(&it, NULL, BPF_TASK_ITER_ALL_PROCS);
	while ((p = bpf_iter_task_next(&it)))
		count(p->cred->uid.val);
	bpf_iter_task_destroy(&it);
	return 0;
}
