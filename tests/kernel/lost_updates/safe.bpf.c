// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* No program here loses an update, whatever runs at once. */
#include "maps.h"

__u64 hits;
__u64 per_cpu_table[64];
__u64 last_length;

SEC("xdp")
int safe_atomic(struct xdp_md *ctx)
{
    __u32 key = 0;
    __u64 *value = bpf_map_lookup_elem(&numbers, &key);

    if (value)
        __sync_fetch_and_add(value, 1);
    return XDP_PASS;
}

SEC("xdp")
int safe_atomic_global(struct xdp_md *ctx)
{
    __sync_fetch_and_add(&hits, 1);
    return XDP_PASS;
}

SEC("xdp")
int safe_per_cpu_array(struct xdp_md *ctx)
{
    __u32 key = 0;
    __u64 *value = bpf_map_lookup_elem(&own_numbers, &key);

    if (value)
        (*value)++;
    return XDP_PASS;
}

SEC("xdp")
int safe_per_cpu_hash(struct xdp_md *ctx)
{
    __u32 key = ctx->ingress_ifindex;
    struct flow *flow = bpf_map_lookup_elem(&own_flows, &key), copy = {};

    if (flow)
        copy = *flow;
    copy.packets++;
    bpf_map_update_elem(&own_flows, &key, &copy, BPF_ANY);
    return XDP_PASS;
}

SEC("xdp")
int safe_spin_lock(struct xdp_md *ctx)
{
    __u32 key = 0;
    struct guarded *value = bpf_map_lookup_elem(&locked, &key);

    if (!value)
        return XDP_PASS;
    bpf_spin_lock(&value->lock);
    value->packets++;
    bpf_spin_unlock(&value->lock);
    return XDP_PASS;
}

SEC("xdp")
int safe_compare_and_swap(struct xdp_md *ctx)
{
    __u32 key = 0;
    __u64 *value = bpf_map_lookup_elem(&numbers, &key);

    if (!value)
        return XDP_PASS;
    for (int tries = 0; tries < 4; tries++) {
        __u64 old = *(volatile __u64 *)value;

        if (__sync_val_compare_and_swap(value, old, old * 2 + 1) == old)
            break;
    }
    return XDP_PASS;
}

SEC("xdp")
int safe_key_is_the_cpu(struct xdp_md *ctx)
{
    __u32 key = bpf_get_smp_processor_id();
    __u64 *value = bpf_map_lookup_elem(&numbers, &key);

    if (value)
        (*value)++;
    return XDP_PASS;
}

SEC("xdp")
int safe_index_is_the_cpu(struct xdp_md *ctx)
{
    per_cpu_table[bpf_get_smp_processor_id() & 63]++;
    return XDP_PASS;
}

SEC("xdp")
int safe_overwritten(struct xdp_md *ctx)
{
    __u32 key = 0;
    __u64 *value = bpf_map_lookup_elem(&numbers, &key);

    if (value)
        *value = ctx->data_end - ctx->data;
    last_length = ctx->data_end - ctx->data;
    return XDP_PASS;
}

SEC("xdp")
int safe_read_only(struct xdp_md *ctx)
{
    __u32 key = ctx->ingress_ifindex;
    struct flow *flow = bpf_map_lookup_elem(&flows, &key);

    return flow && flow->packets + 1 > 100 ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int safe_from_one_map_to_another(struct xdp_md *ctx)
{
    __u32 key = ctx->ingress_ifindex, first = 0;
    struct flow *flow = bpf_map_lookup_elem(&flows, &key);
    __u64 *value = bpf_map_lookup_elem(&numbers, &first);

    if (flow && value)
        *value = flow->packets + 1;
    return XDP_PASS;
}

SEC("xdp")
int safe_new_entry(struct xdp_md *ctx)
{
    __u32 key = ctx->ingress_ifindex;
    struct flow fresh = {.packets = 1}, *flow = bpf_map_lookup_elem(&flows, &key);

    if (flow) {
        __sync_fetch_and_add(&flow->packets, 1);
        return XDP_PASS;
    }
    bpf_map_update_elem(&flows, &key, &fresh, BPF_NOEXIST);
    return XDP_PASS;
}

static __noinline void bump(__u64 *value)
{
    if (value)
        *value += 1;
}

SEC("xdp")
int safe_subprogram(struct xdp_md *ctx)
{
    __u32 key = 0;

    bump(bpf_map_lookup_elem(&own_numbers, &key));
    return XDP_PASS;
}

SEC("xdp")
int safe_field_from_field(struct xdp_md *ctx)
{
    __u32 key = ctx->ingress_ifindex;
    struct flow *flow = bpf_map_lookup_elem(&flows, &key);

    if (flow)
        flow->bytes = flow->packets * 64;
    return XDP_PASS;
}

SEC("xdp")
int safe_copied_under_the_lock(struct xdp_md *ctx)
{
    __u32 key = 0;
    struct guarded *value = bpf_map_lookup_elem(&locked, &key);
    __u64 packets;

    if (!value)
        return XDP_PASS;
    bpf_spin_lock(&value->lock);
    packets = ++value->packets;
    bpf_spin_unlock(&value->lock);
    return packets > 1000 ? XDP_DROP : XDP_PASS;
}
