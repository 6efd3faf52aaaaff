#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int itest_count(struct xdp_md *ctx)
{
	unsigned char *packet = (void *)(long)ctx->data;

	return packet[12] == 8 ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
