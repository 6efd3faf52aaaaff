# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What the sentences are filled with beside a rule's own groups, by the name of a function or section.

Pairs of a regular expression for the whole name and the text; the last pair of a table takes any name.
"""

from __future__ import annotations

# Acquiring function -> how what it gives is given back; \1 and the like are the pattern's groups.
RELEASES = (
    (
        r"bpf_ringbuf_reserve_dynptr",
        "bpf_ringbuf_submit_dynptr(&ptr, 0) or bpf_ringbuf_discard_dynptr(&ptr, 0); discard it even when the "
        "reservation "
        "failed: if (bpf_ringbuf_reserve_dynptr(…)) { bpf_ringbuf_discard_dynptr(&ptr, 0); return 0; }",
    ),
    (r"bpf_ringbuf_reserve", "bpf_ringbuf_submit(event, 0) or bpf_ringbuf_discard(event, 0)"),
    (r"bpf_skc?_lookup\w*|bpf_sk_fullsock|bpf_get_listener_sock|bpf_map_lookup_elem", "bpf_sk_release(sk)"),
    (r"bpf_iter_(\w+)_new", r"bpf_iter_\1_destroy(&it)"),
    (r"bpf_(\w*irq)_\w+", r"bpf_\1_restore(&flags)"),
    (r"bpf_(\w*spin)_\w+", r"bpf_\1_unlock(&value->lock)"),
    (r"bpf_rcu_\w+", "bpf_rcu_read_unlock()"),
    (r"bpf_preempt_\w+", "bpf_preempt_enable()"),
    (r"bpf_(?:skb|xdp)_ct_\w+", "bpf_ct_release(ct), or bpf_ct_insert_entry(ct) for one that was allocated"),
    (r"bpf_lookup_(?:user|system)_key", "bpf_key_put(key)"),
    (r"bpf_get_task_exe_file", "bpf_put_file(file)"),
    (r"bpf_(task|cgroup|cpumask|crypto_ctx)_\w+", r"bpf_\1_release(\1)"),
    (r"bpf_(?:percpu_)?obj_new\w*|bpf_refcount_acquire\w*|bpf_(?:list_pop|rbtree_remove)\w*", "bpf_obj_drop(node)"),
    (r"bpf_kptr_xchg", "if (old) and the function for its type, bpf_task_release(old), bpf_obj_drop(old)"),
    (r"\w*", "the function that belongs to it"),
)

# Helper -> the types of map that it is for.
MAPS_FOR = (
    (r"bpf_redirect_map", "DEVMAP, DEVMAP_HASH, CPUMAP or XSKMAP"),
    (r"bpf_perf_event_\w+|bpf_(?:skb|xdp)_output", "PERF_EVENT_ARRAY"),
    (r"bpf_user_ringbuf_\w+", "USER_RINGBUF"),
    (r"bpf_ringbuf_\w+", "RINGBUF"),
    (r"bpf_tail_call", "PROG_ARRAY"),
    (r"bpf_get_stackid", "STACK_TRACE"),
    (r"bpf_sk_storage_\w+", "SK_STORAGE"),
    (r"bpf_task_storage_\w+", "TASK_STORAGE"),
    (r"bpf_inode_storage_\w+", "INODE_STORAGE"),
    (r"bpf_cgrp_storage_\w+", "CGRP_STORAGE"),
    (r"bpf_get_local_storage", "CGROUP_STORAGE"),
    (r"bpf_(?:sk|msg)_redirect_map|bpf_sock_map_update", "SOCKMAP"),
    (r"bpf_(?:sk|msg)_redirect_hash|bpf_sock_hash_update", "SOCKHASH"),
    (r"bpf_sk_select_reuseport", "REUSEPORT_SOCKARRAY"),
    (r"bpf_\w+_under_cgroup", "CGROUP_ARRAY"),
    (r"bpf_map_(?:push|pop|peek)_elem", "QUEUE, STACK or BLOOM_FILTER"),
    (r"bpf_map_lookup_percpu_elem", "PERCPU_ARRAY or PERCPU_HASH"),
    (r"bpf_map_\w+|bpf_for_each_map_elem", "HASH or ARRAY (some others user space alone may read or fill)"),
    (r".*", "the kind in its documentation (man bpf-helpers)"),
)

# Section -> what loading it asks for beside CAP_BPF (is_net_admin_prog_type, is_perfmon_prog_type in bpf/syscall.c).
CAPABILITIES = (
    (r"freplace", ("CAP_NET_ADMIN", "CAP_PERFMON")),
    (r"cgroup_skb|cgroup/skb|sk_reuseport|sk_lookup|socket|syscall", ()),
    (
        r"k?(?:ret)?probe|kretprobe|ksyscall|kretsyscall|u(?:ret)?probe|usdt|tp|tracepoint|raw_t|perf_event",
        ("CAP_PERFMON",),
    ),
    (r"fentry|fexit|fmod_ret|lsm|iter|struct_ops", ("CAP_PERFMON",)),
    (r"", ("CAP_NET_ADMIN",)),
)
