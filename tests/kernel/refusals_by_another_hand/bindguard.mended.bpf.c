// SPDX-License-Identifier: GPL-3.0-or-later
// cgroup policy: a tenant may only use addresses inside its own /16
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define AF_INET 2

const volatile __u32 tenant_net = 0x0a2a0000;	/* 10.42.0.0, set by the agent */
const volatile __u32 tenant_mask = 0xffff0000;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

static __always_inline void count(__u32 verdict)
{
	__u64 *n = bpf_map_lookup_elem(&verdicts, &verdict);

	if (n)
		__sync_fetch_and_add(n, 1);
}

SEC("cgroup/post_bind4")
int bindguard(struct bpf_sock *ctx)
{
	__u32 addr, verdict = 1;

	if (ctx->family != AF_INET)
		return 1;
	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return 1;

	addr = bpf_ntohl(ctx->src_ip4);
	if (addr && (addr & tenant_mask) != tenant_net)
		verdict = 0;

	count(verdict);
	return verdict;
}

char LICENSE[] SEC("license") = "GPL";
