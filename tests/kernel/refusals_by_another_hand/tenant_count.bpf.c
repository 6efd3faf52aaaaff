// SPDX-License-Identifier: GPL-3.0-or-later
// Bytes per tenant and protocol: one inner array per tenant, so that tenants can be swapped at once.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define MAX_TENANTS 64

struct counters {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} tenant0 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_TENANTS);
	__type(key, __u32);
	__array(values, struct counters);
} tenants SEC(".maps") = { .values = { &tenant0 } };

SEC("cgroup_skb/ingress")
int count(struct __sk_buff *skb)
{
	__u32 tenant = skb->mark % MAX_TENANTS;
	__u64 *bytes;

	bytes = bpf_map_lookup_elem(&tenants, &tenant);
	if (!bytes)
		return 1;
	__sync_fetch_and_add(bytes, skb->len);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
