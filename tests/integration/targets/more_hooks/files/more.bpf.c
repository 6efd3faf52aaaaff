// One program for each of four hooks; VERSION is what the counters say that ran.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

enum place { FILTERED, ACCEPTED, LOOKED_UP, CALLED, PLACES };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * PLACES);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

static __always_inline void count(__u32 place)
{
	__u32 row = (VERSION - 1) * PLACES + place;
	__u64 *events = bpf_map_lookup_elem(&seen, &row);

	if (events)
		__sync_fetch_and_add(events, 1);
}

SEC("tc")
int more_filtered(struct __sk_buff *skb)
{
	count(FILTERED);
	return -1; /* TC_ACT_UNSPEC: the next filter decides */
}

SEC("netfilter")
int more_accepted(void *ctx)
{
	count(ACCEPTED);
	return 1; /* NF_ACCEPT */
}

SEC("sk_lookup")
int more_looked_up(struct bpf_sk_lookup *ctx)
{
	count(LOOKED_UP);
	return SK_PASS;
}

SEC("tracepoint/syscalls/sys_enter_sched_get_priority_max")
int more_called(void *ctx)
{
	count(CALLED);
	return 0;
}

char _license[] SEC("license") = "GPL";
