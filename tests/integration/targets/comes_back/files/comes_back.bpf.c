/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Counts what an interface receives and what a cgroup sends, by the version that it was compiled as; drops what is blocked. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

struct network {
	__u32 prefixlen;
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2000);
	__type(key, struct network);
	__type(value, __u32);
} blocked SEC(".maps");

#ifdef SINCE_6_2 /* an older kernel refuses it: it has no such functions */
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
#else
#define bpf_rcu_read_lock()
#define bpf_rcu_read_unlock()
#endif

static __always_inline void count(__u32 row)
{
	__u32 key = 2 * VERSION + row;
	__u64 *packets;

	bpf_rcu_read_lock();
	packets = bpf_map_lookup_elem(&seen, &key);
	if (packets)
		*packets += 1;
	bpf_rcu_read_unlock();
}

SEC("xdp")
int receive(struct xdp_md *ctx)
{
	struct ethhdr *frame = (void *)(long)ctx->data;
	struct iphdr *packet = (void *)(frame + 1);
	struct network from = { .prefixlen = 32 };

	if ((void *)(packet + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	from.address = packet->saddr;
	if (bpf_map_lookup_elem(&blocked, &from))
		return XDP_DROP;
	count(0);
	return XDP_PASS;
}

SEC("cgroup_skb/egress")
int leave(struct __sk_buff *skb)
{
	count(1);
	return 1;
}

char _license[] SEC("license") = "GPL";
