// SPDX-License-Identifier: GPL-3.0-or-later
// Alert when a process of a protected name is the caller of ptrace(2).
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct alert {
	__u64 ts;
	__u32 pid;
	__u32 uid;
	__u64 request;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} alerts SEC(".maps");

const char watched[16] = "sshd";

SEC("tracepoint/syscalls/sys_enter_ptrace")
int on_ptrace(struct trace_event_raw_sys_enter *ctx)
{
	struct alert a = {};
	char comm[16];

	if (bpf_get_current_comm(comm, sizeof(comm)))
		return 0;
	if (bpf_strncmp(comm, sizeof(comm), watched) != 0)
		return 0;

	a.ts = bpf_ktime_get_ns();
	a.pid = bpf_get_current_pid_tgid() >> 32;
	a.uid = (__u32)bpf_get_current_uid_gid();
	a.request = ctx->args[0];
	bpf_perf_event_output(ctx, &alerts, BPF_F_CURRENT_CPU, &a, sizeof(a));
	return 0;
}
