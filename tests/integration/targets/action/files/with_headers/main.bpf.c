// Headers beside the source travel with it, and what they include travels, too.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "common.h"
#include "inner/deep.h"

SEC("xdp")
int itest_verdict(struct xdp_md *ctx)
{
	return ITEST_VERDICT + ITEST_DEEP + ITEST_DEEPER;
}

char _license[] SEC("license") = "GPL";
