// SPDX-License-Identifier: GPL-3.0-or-later
// tracepoint: one variable-sized record per exec in a ring buffer
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define MAX_NAME 128

struct exec_hdr {
	__u64 ts;
	__u32 pid;
	__u32 name_len;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

__u64 dropped;

SEC("tracepoint/sched/sched_process_exec")
int on_exec(struct trace_event_raw_sched_process_exec *ctx)
{
	unsigned int off = ctx->__data_loc_filename & 0xffff;
	struct exec_hdr h = {};
	struct bpf_dynptr rec;
	char name[MAX_NAME];
	long n;

	n = bpf_probe_read_kernel_str(name, sizeof(name), (void *)ctx + off);
	if (n <= 0 || n > MAX_NAME)
		return 0;

	h.ts = bpf_ktime_get_ns();
	h.pid = ctx->pid;
	h.name_len = n;

	if (bpf_ringbuf_reserve_dynptr(&events, sizeof(h) + n, 0, &rec)) {
		__sync_fetch_and_add(&dropped, 1);
		return 0;
	}
	bpf_dynptr_write(&rec, 0, &h, sizeof(h), 0);
	bpf_dynptr_write(&rec, sizeof(h), name, n, 0);
	bpf_ringbuf_submit_dynptr(&rec, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
