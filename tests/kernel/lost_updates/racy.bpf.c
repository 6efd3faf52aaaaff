// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Each program loses updates on two CPUs, in the lines marked "lost: map", and nowhere else. */
#include "maps.h"

__u64 hits;
__u32 table[16];
static __u64 started = 1;

struct inner {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} inner_numbers SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 1);
    __type(key, __u32);
    __array(values, struct inner);
} outer SEC(".maps") = {.values = {&inner_numbers}};

SEC("xdp")
int racy_array(struct xdp_md *ctx)
{
    __u32 key = 0;
    __u64 *value = bpf_map_lookup_elem(&numbers, &key);

    if (value)
        (*value)++; /* lost: numbers */
    return XDP_PASS;
}

SEC("xdp")
int racy_hash_fields(struct xdp_md *ctx)
{
    __u32 key = ctx->ingress_ifindex;
    struct flow *flow = bpf_map_lookup_elem(&flows, &key);

    if (!flow)
        return XDP_PASS;
    flow->packets += 1;                     /* lost: flows */
    flow->bytes += ctx->data_end - ctx->data; /* lost: flows */
    flow->flags |= 4;                       /* lost: flows */
    return XDP_PASS;
}

SEC("xdp")
int racy_small_field(struct xdp_md *ctx)
{
    __u32 key = ctx->ingress_ifindex;
    struct flow *flow = bpf_map_lookup_elem(&recent, &key);

    if (flow)
        flow->small++; /* lost: recent */
    return XDP_PASS;
}

SEC("xdp")
int racy_global(struct xdp_md *ctx)
{
    hits++; /* lost: bss hits */
    return XDP_PASS;
}

SEC("xdp")
int racy_static_global(struct xdp_md *ctx)
{
    started += 2; /* lost: data started */
    return started & 1 ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int racy_table(struct xdp_md *ctx)
{
    table[ctx->rx_queue_index & 15]++; /* lost: bss table */
    return XDP_PASS;
}

SEC("xdp")
int racy_average(struct xdp_md *ctx)
{
    __u32 key = 1;
    __u64 *value = bpf_map_lookup_elem(&numbers, &key);

    if (value)
        *value = (*value * 7 + (ctx->data_end - ctx->data)) / 8; /* lost: numbers */
    return XDP_PASS;
}

SEC("xdp")
int racy_copy_written_back(struct xdp_md *ctx)
{
    __u32 key = ctx->ingress_ifindex;
    struct flow *flow = bpf_map_lookup_elem(&flows, &key), copy = {};

    if (flow)
        copy = *flow;
    copy.packets++;
    bpf_map_update_elem(&flows, &key, &copy, BPF_ANY); /* lost: flows */
    return XDP_PASS;
}

static __noinline __u64 bump(__u64 *value)
{
    if (!value)
        return 0;
    *value += 1; /* lost: numbers */
    return *value;
}

SEC("xdp")
int racy_subprogram(struct xdp_md *ctx)
{
    __u32 key = 2;

    return bump(bpf_map_lookup_elem(&numbers, &key)) ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int racy_loaded_before_the_lock(struct xdp_md *ctx)
{
    __u32 key = 0;
    struct guarded *value = bpf_map_lookup_elem(&locked, &key);
    __u64 packets;

    if (!value)
        return XDP_PASS;
    packets = *(volatile __u64 *)&value->packets;
    bpf_spin_lock(&value->lock);
    *(volatile __u64 *)&value->packets = packets + 1; /* lost: locked */
    bpf_spin_unlock(&value->lock);
    return XDP_PASS;
}

SEC("xdp")
int racy_stored_after_the_lock(struct xdp_md *ctx)
{
    __u32 key = 0;
    struct guarded *value = bpf_map_lookup_elem(&locked, &key);
    __u64 packets;

    if (!value)
        return XDP_PASS;
    bpf_spin_lock(&value->lock);
    packets = *(volatile __u64 *)&value->packets;
    bpf_spin_unlock(&value->lock);
    *(volatile __u64 *)&value->packets = packets + 1; /* lost: locked */
    return XDP_PASS;
}

SEC("xdp")
int racy_inner_map(struct xdp_md *ctx)
{
    __u32 key = 0;
    void *inner = bpf_map_lookup_elem(&outer, &key);
    __u64 *value = inner ? bpf_map_lookup_elem(inner, &key) : 0;

    if (value)
        *value += 1; /* lost: outer[] */
    return XDP_PASS;
}

SEC("xdp")
int racy_in_a_loop(struct xdp_md *ctx)
{
    for (int turn = 0; turn < 4; turn++) {
        __u32 key = turn;
        __u64 *value = bpf_map_lookup_elem(&numbers, &key);

        if (value)
            *value ^= turn; /* lost: numbers */
    }
    return XDP_PASS;
}

static long each_flow(void *map, __u32 *key, struct flow *flow, void *context)
{
    flow->packets >>= 1; /* lost: flows */
    return 0;
}

SEC("xdp")
int racy_callback(struct xdp_md *ctx)
{
    bpf_for_each_map_elem(&flows, each_flow, 0, 0);
    return XDP_PASS;
}

SEC("xdp")
int racy_either_map(struct xdp_md *ctx)
{
    __u32 key = ctx->ingress_ifindex;
    struct flow *flow = bpf_map_lookup_elem(&flows, &key);

    if (!flow)
        flow = bpf_map_lookup_elem(&recent, &key);
    if (flow)
        flow->packets++; /* lost: flows, recent */
    return XDP_PASS;
}
