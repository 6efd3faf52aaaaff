// SPDX-License-Identifier: GPL-3.0-or-later
/* packets' departure times, kept in order in an rbtree */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define __contains(name, node) __attribute__((btf_decl_tag("contains:" #name ":" #node)))
#define private(name) SEC(".data." #name) __hidden __attribute__((aligned(8)))
#define bpf_obj_new(type) ((type *)bpf_obj_new_impl(bpf_core_type_id_local(type), NULL))
#define NULL ((void *)0)

extern void *bpf_obj_new_impl(__u64 local_type_id__k, void *meta__ign) __ksym;
extern int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node,
			       bool (less)(struct bpf_rb_node *a, const struct bpf_rb_node *b),
			       void *meta__ign, __u64 off) __ksym;

struct departure {
	struct bpf_rb_node node;
	u64 when;
	u32 len;
};

private(A) struct bpf_spin_lock glock;
private(A) struct bpf_rb_root queue __contains(departure, node);

u64 queued_bytes;
u64 latest;

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return ((struct departure *)a)->when < ((struct departure *)b)->when;
}

SEC("tc")
int enqueue(struct __sk_buff *skb)
{
	struct departure *d = bpf_obj_new(struct departure);

	if (!d)
		return 0;
	d->when = bpf_ktime_get_ns() + (u64)skb->priority * 1000;
	d->len = skb->len;

	latest = d->when;
	bpf_spin_lock(&glock);
	bpf_rbtree_add_impl(&queue, &d->node, less, NULL, 0);
	bpf_spin_unlock(&glock);

	__sync_fetch_and_add(&queued_bytes, skb->len);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
