// A counter at three places on the way that the controller comes in by. By a flag, the next version of it cuts the host off.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#ifndef STEP
#define STEP 1
#endif

enum place { RECEIVED, SENT, FROM_CGROUP, PLACES };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

static __always_inline void count(__u32 place)
{
	__u64 *packets = bpf_map_lookup_elem(&seen, &place);

	if (packets)
		__sync_fetch_and_add(packets, STEP);
}

#ifdef DROPS_NEW
static __always_inline int opens_connection(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct tcphdr *tcp = (void *)ip + sizeof(*ip);

	if ((void *)(tcp + 1) > end || eth->h_proto != bpf_htons(0x0800))
		return 0;
	return ip->protocol == IPPROTO_TCP && ip->ihl == 5 && tcp->syn && !tcp->ack;
}
#endif

SEC("xdp")
int itest_received(struct xdp_md *ctx)
{
#ifdef REFUSED
	return *(int *)(long)ctx->data;
#endif
#ifdef DROPS_INGRESS
	return XDP_DROP;
#endif
#ifdef DROPS_NEW
	if (opens_connection(ctx))
		return XDP_DROP;
#endif
	count(RECEIVED);
	return XDP_PASS;
}

SEC("tc")
int itest_sent(struct __sk_buff *skb)
{
#ifdef DROPS_EGRESS
	return 2; /* TCX_DROP */
#endif
	count(SENT);
	return -1; /* TCX_NEXT: the next program decides */
}

SEC("cgroup_skb/egress")
int itest_from_cgroup(struct __sk_buff *skb)
{
#ifdef DROPS_FROM_CGROUP
	return 0;
#endif
	count(FROM_CGROUP);
	return 1;
}

char _license[] SEC("license") = "GPL";
