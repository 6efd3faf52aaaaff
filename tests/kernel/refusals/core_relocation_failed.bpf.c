// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct___next {
	int no_such_field;
} __attribute__((preserve_access_index));

SEC("tp/syscalls/sys_enter_openat")
int look(void *ctx)
{
	struct task_struct___next *task = (void *)bpf_get_current_task();

	if (!task)
		return 0;
	return BPF_CORE_READ(task, no_such_field);
}

char _license[] SEC("license") = "GPL";
