// SPDX-License-Identifier: GPL-3.0-or-later
// uprobe on SSL_write: send the first bytes of the plain text to user space
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define SNAP 128

struct event {
	__u64 ts;
	__u32 pid;
	__u32 len;
	char comm[16];
	char data[SNAP];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

volatile const __u32 only_pid = 0;

/* .s: the buffer may not be paged in yet, so bpf_copy_from_user() */
SEC("uprobe.s")
int BPF_KPROBE(ssl_write, void *ssl, const void *buf, int num)
{
	struct event ev = {};
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (only_pid && pid != only_pid)
		return 0;

	ev.ts = bpf_ktime_get_ns();
	ev.pid = pid;
	ev.len = num;
	bpf_get_current_comm(ev.comm, sizeof(ev.comm));
	if (bpf_copy_from_user(ev.data, sizeof(ev.data), buf))
		return 0;

	bpf_ringbuf_output(&events, &ev, sizeof(ev), 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
