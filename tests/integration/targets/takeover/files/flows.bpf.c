// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts packets by their length. SECOND has another layout of the counters, a field more, and room for more of them. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct flow {
#ifdef SECOND
	__u64 bytes;
	__u64 packets;
	__u64 errors;
#else
	__u64 packets;
	__u64 bytes;
#endif
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
#ifdef SECOND
	__uint(max_entries, 4096);
#else
	__uint(max_entries, 1024);
#endif
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
#ifdef SECOND
	__uint(max_entries, 64);
#else
	__uint(max_entries, 16);
#endif
	__type(key, __u32);
	__type(value, __u64);
} limits SEC(".maps");

SEC("xdp")
int count_flow(struct xdp_md *ctx)
{
	__u32 length = ctx->data_end - ctx->data;
	struct flow none = {};
	struct flow *flow = bpf_map_lookup_elem(&flows, &length);

	if (!flow) {
		bpf_map_update_elem(&flows, &length, &none, BPF_NOEXIST);
		flow = bpf_map_lookup_elem(&flows, &length);
	}
	if (flow) {
		flow->packets += 1;
		flow->bytes += length;
	}
	return bpf_map_lookup_elem(&limits, &length) ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
