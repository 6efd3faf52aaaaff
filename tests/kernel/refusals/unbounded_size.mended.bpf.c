// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

SEC("tp/syscalls/sys_enter_write")
int take(struct trace_event_raw_sys_enter *ctx)
{
	char text[64];
	__u64 size = ctx->args[2];

	if (size > sizeof(text))
		size = sizeof(text);
	bpf_probe_read_user(text, size, (void *)ctx->args[1]);
	return text[0] == '/';
}

char _license[] SEC("license") = "GPL";
