// SPDX-License-Identifier: GPL-3.0-or-later
// Log the lines typed into an interactive shell: uprobe on the return of readline().
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

extern int bpf_copy_from_user_str(void *dst, __u32 dst__sz,
				  const void *unsafe_ptr__ign, __u64 flags) __ksym;

struct line {
	__u32 pid;
	__s32 len;
	char text[80];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 128 * 1024);
} lines SEC(".maps");

SEC("uretprobe.s")
int typed_line(struct pt_regs *ctx)
{
	const void *user = (const void *)PT_REGS_RC(ctx);
	struct line *l;

	if (!user)
		return 0;
	l = bpf_ringbuf_reserve(&lines, sizeof(*l), 0);
	if (!l)
		return 0;

	l->pid = bpf_get_current_pid_tgid() >> 32;
	l->len = bpf_copy_from_user_str(l->text, sizeof(l->text), user, 0);
	if (l->len <= 1)
		bpf_ringbuf_discard(l, 0);
	else
		bpf_ringbuf_submit(l, 0);
	return 0;
}
