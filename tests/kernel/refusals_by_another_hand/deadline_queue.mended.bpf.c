// SPDX-License-Identifier: GPL-3.0-or-later
// keep requests ordered by deadline; report how late the earliest one is
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define __contains(type, node) __attribute__((btf_decl_tag("contains:" #type ":" #node)))

extern void *bpf_obj_new_impl(__u64 local_type_id, void *meta) __ksym;
extern int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node,
	bool (less)(struct bpf_rb_node *a, const struct bpf_rb_node *b), void *meta, __u64 off) __ksym;
extern struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *root) __ksym;

struct qreq {
	__u64 deadline;
	struct bpf_rb_node node;
};

static struct bpf_spin_lock lock SEC(".data.queue");
static struct bpf_rb_root queue __contains(qreq, node) SEC(".data.queue");
__u64 late_ns, queued;

static bool earlier(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return container_of(a, struct qreq, node)->deadline <
	       container_of(b, struct qreq, node)->deadline;
}

SEC("tc")
int enqueue(struct __sk_buff *skb)
{
	struct qreq *rq, *head;
	struct bpf_rb_node *first;
	__u64 now = bpf_ktime_get_ns();

	rq = bpf_obj_new_impl(bpf_core_type_id_local(struct qreq), NULL);
	if (!rq)
		return 0;
	rq->deadline = now + skb->priority * 1000000ULL;

	bpf_spin_lock(&lock);
	bpf_rbtree_add_impl(&queue, &rq->node, earlier, NULL, 0);
	first = bpf_rbtree_first(&queue);
	if (first) {
		head = container_of(first, struct qreq, node);
		if (head->deadline < now)
			late_ns = now - head->deadline;
	}
	bpf_spin_unlock(&lock);

	queued++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
