// Counts packets. __FILE__ and the debug information would tell where it was compiled, if paths were not mapped away.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "counter.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("xdp")
int itest_count(struct xdp_md *ctx)
{
	__u32 key = FIRST;
	__u64 *packets = bpf_map_lookup_elem(&seen, &key);

	if (!packets)
		bpf_printk("%s", __FILE__);
	else
		__sync_fetch_and_add(packets, 1);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
