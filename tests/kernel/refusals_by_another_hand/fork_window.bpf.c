// SPDX-License-Identifier: GPL-3.0-or-later
// Open a five-second window for a process that forks; when it closes, count it and forget the process.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define CLOCK_MONOTONIC 1
#define FIVE_SECONDS (5ULL * 1000 * 1000 * 1000)

struct window {
	__u64 started;
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct window);
} windows SEC(".maps");

__u64 closed;

static int expired(void *map, __u32 *pid, struct window *win)
{
	__sync_fetch_and_add(&closed, 1);
	bpf_map_delete_elem(map, pid);
	return 0;
}

SEC("raw_tp/sched_process_fork")
int on_fork(__u64 *ctx)
{
	struct window fresh = {}, *win;
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	fresh.started = bpf_ktime_get_ns();
	bpf_map_update_elem(&windows, &pid, &fresh, BPF_ANY);
	win = bpf_map_lookup_elem(&windows, &pid);
	if (!win)
		return 0;
	if (bpf_timer_init(&win->timer, &windows, CLOCK_MONOTONIC))
		return 0;
	bpf_timer_set_callback(&win->timer, expired);
	bpf_timer_start(&win->timer, FIVE_SECONDS, 0);
	return 0;
}
