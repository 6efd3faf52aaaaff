// SPDX-License-Identifier: GPL-3.0-or-later
// Audit of unlink and rename: two record layouts that begin with the same header.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct header { __u64 ts; __u32 pid; __u32 kind; char comm[16]; };
struct unlink_rec { struct header h; __s32 dfd; __u32 pad; };
struct rename_rec { struct header h; __s32 from_dfd; __s32 to_dfd; };

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} audit SEC(".maps");

__noinline int fill_header(void *rec, __u32 kind)
{
	struct header *h = rec;

	h->ts = bpf_ktime_get_boot_ns();
	h->pid = bpf_get_current_pid_tgid() >> 32;
	h->kind = kind;
	return bpf_get_current_comm(h->comm, sizeof(h->comm));
}

SEC("kprobe/do_unlinkat")
int audit_unlink(struct pt_regs *ctx)
{
	struct unlink_rec *r = bpf_ringbuf_reserve(&audit, sizeof(*r), 0);

	if (!r)
		return 0;
	fill_header(r, 1);
	r->dfd = (int)ctx->di;
	r->pad = 0;
	bpf_ringbuf_submit(r, 0);
	return 0;
}

SEC("kprobe/do_renameat2")
int audit_rename(struct pt_regs *ctx)
{
	struct rename_rec *r = bpf_ringbuf_reserve(&audit, sizeof(*r), 0);

	if (!r)
		return 0;
	fill_header(r, 2);
	r->from_dfd = (int)ctx->di;
	r->to_dfd = (int)ctx->dx;
	bpf_ringbuf_submit(r, 0);
	return 0;
}
