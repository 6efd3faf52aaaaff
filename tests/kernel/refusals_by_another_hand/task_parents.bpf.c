// SPDX-License-Identifier: GPL-3.0-or-later
// bpf_iter that prints each task together with its parent, like "ps -o pid,ppid,comm".
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;

static const char hdr[] = "    pid    ppid  comm <- parent\n";
static const char row[] = "%7d %7d  %s <- %s\n";

SEC("iter/task")
int dump_parents(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	struct task_struct *parent;
	__u64 args[4];

	if (!task)
		return 0;
	if (task->pid != task->tgid)
		return 0;

	if (ctx->meta->seq_num == 0)
		bpf_seq_printf(seq, hdr, sizeof(hdr), NULL, 0);

	parent = bpf_task_acquire(task->parent);
	if (!parent)
		return 0;

	args[0] = task->pid;
	args[1] = parent->tgid;
	args[2] = (__u64)task->comm;
	args[3] = (__u64)parent->comm;
	bpf_seq_printf(seq, row, sizeof(row), args, sizeof(args));

	bpf_task_release(parent);
	return 0;
}
