// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("uprobe")
int take(struct pt_regs *ctx)
{
	char letter = 0;

	bpf_copy_from_user(&letter, 1, (void *)ctx->ip);
	return 0;
}

char _license[] SEC("license") = "GPL";
