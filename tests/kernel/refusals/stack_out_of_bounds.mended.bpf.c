// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("xdp")
int pick(struct xdp_md *ctx)
{
	volatile char names[16] = {};
	__u32 i = bpf_get_prandom_u32();

	if (i >= sizeof(names))
		return XDP_PASS;
	names[i] = 1;
	return names[0] ? XDP_DROP : XDP_PASS;
}

char _license[] SEC("license") = "GPL";
