// SPDX-License-Identifier: GPL-3.0-or-later
/* a ring of opened paths, each record just as long as its path */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define PATH_LEN 256

struct rec_head {
	u64 ts;
	u32 pid;
	u32 len;
};

struct scratch {
	char path[PATH_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} bufs SEC(".maps");

u64 dropped;

SEC("tracepoint/syscalls/sys_enter_openat")
int log_open(struct trace_event_raw_sys_enter *ctx)
{
	struct rec_head head = { .ts = bpf_ktime_get_ns() };
	struct bpf_dynptr rec;
	struct scratch *s;
	u32 zero = 0;
	long len;

	s = bpf_map_lookup_elem(&bufs, &zero);
	if (!s)
		return 0;
	len = bpf_probe_read_user_str(s->path, PATH_LEN, (void *)ctx->args[1]);
	if (len <= 0 || len > PATH_LEN)
		return 0;
	head.pid = bpf_get_current_pid_tgid() >> 32;
	head.len = len;

	if (bpf_ringbuf_reserve_dynptr(&events, sizeof(head) + len, 0, &rec)) {
		__sync_fetch_and_add(&dropped, 1);
		bpf_ringbuf_discard_dynptr(&rec, 0);
		return 0;
	}
	bpf_dynptr_write(&rec, 0, &head, sizeof(head), 0);
	bpf_dynptr_write(&rec, sizeof(head), s->path, len, 0);
	bpf_ringbuf_submit_dynptr(&rec, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
