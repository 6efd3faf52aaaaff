#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

int itest_count(struct xdp_md *ctx)
{
	return XDP_PASS;
}
