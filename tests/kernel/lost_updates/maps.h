/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What racy.bpf.c and safe.bpf.c count in. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAP(name, kind, value_type, ...)                                                                               \
    struct {                                                                                                           \
        __uint(type, BPF_MAP_TYPE_##kind);                                                                             \
        __uint(max_entries, 16);                                                                                       \
        __type(key, __u32);                                                                                            \
        __type(value, value_type);                                                                                     \
        __VA_ARGS__                                                                                                    \
    } name SEC(".maps")

struct flow {
    __u64 packets;
    __u64 bytes;
    __u32 flags;
    __u16 small;
};

struct guarded {
    struct bpf_spin_lock lock;
    __u64 packets;
};

MAP(numbers, ARRAY, __u64);
MAP(flows, HASH, struct flow);
MAP(recent, LRU_HASH, struct flow);
MAP(own_numbers, PERCPU_ARRAY, __u64);
MAP(own_flows, PERCPU_HASH, struct flow);
MAP(locked, HASH, struct guarded);

char _license[] SEC("license") = "Dual BSD/GPL";
