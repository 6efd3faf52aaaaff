// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct scratch {
	char text[300];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

static __attribute__((noinline)) int inner(struct xdp_md *ctx)
{
	__u32 zero = 0;
	volatile char *text = bpf_map_lookup_elem(&scratch, &zero);
	__u32 i = ctx->rx_queue_index;

	if (!text || i >= 300)
		return 0;
	text[i] = 1;
	return text[i];
}

static __attribute__((noinline)) int outer(struct xdp_md *ctx)
{
	volatile char text[300];
	__u32 i = ctx->ingress_ifindex;

	if (i >= 300)
		return 0;
	text[i] = inner(ctx);
	return text[i];
}

SEC("xdp")
int nested(struct xdp_md *ctx)
{
	return outer(ctx) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
