// SPDX-License-Identifier: GPL-3.0-or-later
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct limits {
    __u32 step;
    __u32 burst;
};

const volatile struct limits limits = {.step = 1, .burst = 64};
const volatile __u16 packet_limit = 100;
const volatile enum xdp_action verdict = XDP_PASS;
const volatile char uplink[16] = "lo";
__u64 cookie_key;

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, __u32);
    __type(value, __u64);
} seen SEC(".maps");

SEC("xdp")
int itest_limiter(struct xdp_md *ctx)
{
    __u32 key = 0;
    __u64 *packets = bpf_map_lookup_elem(&seen, &key);

    if (packets && *packets < packet_limit && uplink[0] && limits.burst && cookie_key != 1)
        __sync_fetch_and_add(packets, limits.step);
    return verdict;
}

char _license[] SEC("license") = "GPL";
