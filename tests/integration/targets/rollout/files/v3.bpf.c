// The third version of the collection's counter: it counts by four, and nobody will like it.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} packet_count_map SEC(".maps");

SEC("xdp")
int xdp_packet_counter(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *packets = bpf_map_lookup_elem(&packet_count_map, &key);

	if (packets)
		*packets += 4;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
