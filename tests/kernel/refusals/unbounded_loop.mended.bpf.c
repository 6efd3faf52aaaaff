// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("xdp")
int wait_for_seven(struct xdp_md *ctx)
{
	for (int i = 0; i < 64; i++)
		if (bpf_get_prandom_u32() == 7)
			break;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
