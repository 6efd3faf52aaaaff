// SPDX-License-Identifier: GPL-3.0-or-later
// On process exit send a record; failures get the command name appended, so the size varies.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

struct exit_rec {
	__u64 ts;
	__u32 pid;
	__s32 code;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} exits SEC(".maps");

__u64 lost;

SEC("tp_btf/sched_process_exit")
int BPF_PROG(report_exit, struct task_struct *task)
{
	struct exit_rec rec = {};
	struct bpf_dynptr rb;
	char comm[16] = {};
	__u32 size = sizeof(rec);

	rec.ts = bpf_ktime_get_ns();
	rec.pid = task->pid;
	rec.code = task->exit_code;
	if (rec.code)
		size += sizeof(comm);

	if (bpf_ringbuf_reserve_dynptr(&exits, size, 0, &rb)) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}

	bpf_dynptr_write(&rb, 0, &rec, sizeof(rec), 0);
	if (rec.code) {
		bpf_get_current_comm(comm, sizeof(comm));
		bpf_dynptr_write(&rb, sizeof(rec), comm, sizeof(comm), 0);
	}
	bpf_ringbuf_submit_dynptr(&rb, 0);
	return 0;
}
