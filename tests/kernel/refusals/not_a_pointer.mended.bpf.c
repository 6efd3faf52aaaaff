// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("tp/syscalls/sys_enter_openat")
int first_letter(struct trace_event_raw_sys_enter *ctx)
{
	char *path = (char *)ctx->args[1];
	char letter = 0;

	bpf_probe_read_user(&letter, 1, path);
	return letter == '/';
}

char _license[] SEC("license") = "GPL";
