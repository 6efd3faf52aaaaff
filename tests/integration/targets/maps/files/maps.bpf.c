// Maps of each kind that has entries, with keys and values that are worth a name. The program keeps them; it does nothing.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

enum verdict { ITEST_PASS, ITEST_DROP };

struct rule {
	enum verdict verdict;
	__u32 hits;
	char note[8];
};

struct network {
	__u32 prefixlen;
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8);
	__type(key, struct network);
	__type(value, __u8);
} networks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} per_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u16);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

__u64 itest_seen;

SEC("xdp")
int itest_keeps_maps(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct network any = {};

	bpf_map_lookup_elem(&rules, &key);
	bpf_map_lookup_elem(&networks, &any);
	bpf_map_lookup_elem(&per_cpu, &key);
	bpf_map_lookup_elem(&ports, &key);
	__sync_fetch_and_add(&itest_seen, 1);
	bpf_ringbuf_query(&events, BPF_RB_RING_SIZE);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
