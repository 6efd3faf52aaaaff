// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

volatile __u64 total;

static long add(__u32 i, void *unused)
{
	total += i;
	return 0;
}

SEC("xdp")
int add_up(struct xdp_md *ctx)
{
	bpf_loop(400000, add, 0, 0);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
