// SPDX-License-Identifier: GPL-3.0-or-later
// log2 histogram of system call latency; the start time is kept in the task itself.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__type(key, int);
	__type(value, __u64);
} started SEC(".maps");

__u64 slots[32];

SEC("tp_btf/sys_enter")
int enter(__u64 *ctx)
{
	struct task_struct *me = bpf_get_current_task_btf();
	__u64 *ts;

	ts = bpf_task_storage_get(&started, me, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (ts)
		*ts = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sys_exit")
int leave(__u64 *ctx)
{
	struct task_struct *me = bpf_get_current_task_btf();
	__u64 *ts, us;
	int slot = 0;

	ts = bpf_task_storage_get(&started, me, 0, 0);
	if (!ts || !*ts)
		return 0;
	us = (bpf_ktime_get_ns() - *ts) / 1000;
	*ts = 0;
	if (us >> 16) { us >>= 16; slot += 16; }
	if (us >> 8) { us >>= 8; slot += 8; }
	if (us >> 4) { us >>= 4; slot += 4; }
	if (us >> 2) { us >>= 2; slot += 2; }
	if (us >> 1) slot += 1;
	__sync_fetch_and_add(&slots[slot & 31], 1);
	return 0;
}
