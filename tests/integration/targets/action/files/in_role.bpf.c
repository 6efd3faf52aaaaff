// The program that must go on counting, whatever is tried beside it.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("xdp")
int itest_count(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *packets = bpf_map_lookup_elem(&seen, &key);

	if (packets)
		__sync_fetch_and_add(packets, 1);
	return XDP_PASS;
}

SEC("tc")
int itest_mark(struct __sk_buff *skb)
{
	return -1; /* TCX_NEXT: the next program decides */
}

SEC("cgroup_skb/egress")
int itest_egress(struct __sk_buff *skb)
{
	return 1; /* let it go */
}

char _license[] SEC("license") = "GPL";
