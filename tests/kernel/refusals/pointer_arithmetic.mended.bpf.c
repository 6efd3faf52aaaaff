// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("xdp")
int align(struct xdp_md *ctx)
{
	__u64 data = ctx->data_end - ctx->data;

	asm volatile("%[data] *= 3" : [data] "+r"(data));
	return data ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
