#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int itest_count(struct xdp_md *ctx)
{
	return XDP_PASS
}

char _license[] SEC("license") = "GPL";
