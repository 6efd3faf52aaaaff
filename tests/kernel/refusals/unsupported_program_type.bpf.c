// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("lirc_mode2")
int decode(void *ctx)
{
	return 0;
}

char _license[] SEC("license") = "GPL";
