// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("xdp")
int first_byte(struct xdp_md *ctx)
{
	char byte = 0;

	bpf_xdp_load_bytes(ctx, 0, &byte, 1);
	return byte ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
