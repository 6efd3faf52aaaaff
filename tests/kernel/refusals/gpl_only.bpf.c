// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("tp/syscalls/sys_enter_openat")
int peek(void *ctx)
{
	char bytes[8];

	return bpf_probe_read_kernel(bytes, sizeof(bytes), ctx);
}

char _license[] SEC("license") = "Proprietary";
