// SPDX-License-Identifier: GPL-3.0-or-later
/* who deletes which file: one event for each unlink */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#define PATH_LEN 128

struct unlink_event {
	u32 tgid;
	u32 uid;
	char comm[16];
	char path[PATH_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

const volatile u32 only_uid = -1;

static __always_inline bool wanted(u32 uid)
{
	return only_uid == (u32)-1 || only_uid == uid;
}

SEC("kprobe/do_unlinkat")
int BPF_KPROBE(on_unlink, int dfd, struct filename *name)
{
	u32 uid = (u32)bpf_get_current_uid_gid();
	struct unlink_event *e;

	if (wanted(uid)) {
		e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
		if (e) {
			e->tgid = bpf_get_current_pid_tgid() >> 32;
			e->uid = uid;
			bpf_get_current_comm(e->comm, sizeof(e->comm));
			bpf_probe_read_kernel_str(e->path, PATH_LEN, BPF_CORE_READ(name, name));
			bpf_ringbuf_submit(e, 0);
		}
	}
}

char LICENSE[] SEC("license") = "GPL";
