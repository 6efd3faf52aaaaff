// Programs that sit on the way in, and let everything pass. With -DDROP they cut the host off, with -DLOSES=60 XDP loses so many of a
// hundred packets.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifdef DROP
enum { XDP_VERDICT = XDP_DROP, TCX_VERDICT = 2 /* TCX_DROP */, CGROUP_VERDICT = 0 };
#else
enum { XDP_VERDICT = XDP_PASS, TCX_VERDICT = -1 /* TCX_NEXT */, CGROUP_VERDICT = 1 };
#endif

SEC("xdp")
int itest_xdp(struct xdp_md *ctx)
{
#ifdef LOSES
	if (bpf_get_prandom_u32() % 100 < LOSES)
		return XDP_DROP;
#endif
	return XDP_VERDICT;
}

SEC("tc")
int itest_tcx(struct __sk_buff *skb)
{
	return TCX_VERDICT;
}

SEC("cgroup_skb/egress")
int itest_cgroup(struct __sk_buff *skb)
{
	return CGROUP_VERDICT;
}

#ifdef MORE
SEC("xdp")
int itest_more(struct xdp_md *ctx)
{
	return XDP_PASS;
}
#endif

char _license[] SEC("license") = "GPL";
