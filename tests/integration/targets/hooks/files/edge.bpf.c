// One program for each of three hooks, each with a counter of its own.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

enum place { RECEIVED, INGRESS, EGRESS, FROM_CGROUP, PLACES };

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
		__sync_fetch_and_add(packets, 1);
}

SEC("xdp")
int itest_received(struct xdp_md *ctx)
{
	count(RECEIVED);
	return XDP_PASS;
}

SEC("tc")
int itest_ingress(struct __sk_buff *skb)
{
	count(INGRESS);
	return -1; /* TCX_NEXT: the next program decides */
}

SEC("tc")
int itest_egress(struct __sk_buff *skb)
{
	count(EGRESS);
	return -1;
}

SEC("cgroup_skb/egress")
int itest_deny(struct __sk_buff *skb)
{
	count(FROM_CGROUP);
	return 0; /* drop it */
}

char _license[] SEC("license") = "GPL";
