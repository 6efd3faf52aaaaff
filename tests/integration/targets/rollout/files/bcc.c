#include <uapi/linux/bpf.h>

BPF_PERCPU_ARRAY(packet_count_map, u64, 1);

int itest_bcc(struct xdp_md *ctx)
{
	int key = 0;
	u64 *packets = packet_count_map.lookup(&key);

	if (packets)
		*packets += 1;
	return XDP_PASS;
}
