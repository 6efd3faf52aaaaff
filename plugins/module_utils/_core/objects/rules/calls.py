# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The verifier's words on calls of helpers and kernel functions, and on the fields of maps that belong to them."""

from __future__ import annotations

from . import facts
from .form import START, Rule

LOCKED_DOWN = Rule(
    "lockdown",
    r"Lockdown: .*use of bpf to (?:read kernel|write user) RAM",
    "the kernel is locked down and keeps programs from kernel memory",
    "Lockdown takes the helpers that read kernel memory or write user memory away, and the trampolines with "
    "it on some kernels.",
    "Boot with lockdown=integrity or none, or write without bpf_probe_read_kernel and its like: raw fields of the "
    "context only.",
)

RULES = (
    LOCKED_DOWN,
    LOCKED_DOWN._replace(
        pattern=r"bpf_probe_(?:read|write)\w*|bpf_\w*printk|bpf_seq_printf|bpf_copy_from|Lockdown: ",
        when=(facts.lockdown("confidentiality"),),
    ),
    Rule(
        "missing_capability",
        r"(?:program of this type cannot use helper|unknown func) (?P<helper>bpf_(?:probe_read|probe_write|trace_"
        r"|snprintf)\w*)",
        "helper {helper} takes CAP_PERFMON, which the loader lacks",
        "It reads kernel memory; without the capability the kernel acts as if the helper did not exist.",
        "Give the loader CAP_BPF and CAP_PERFMON, or load as root outside a container that drops them.",
        when=(facts.lacks("CAP_PERFMON"),),
    ),
    Rule(
        "helper_not_allowed",
        r"helper call is not allowed in probe",
        "helper {helper} may be called from some functions only, and this is none of them",
        "Elsewhere it could deadlock, or the object it works on may be gone.",
        "Attach to a function on the helper's list (bpf_d_path: fentry/security_file_open, fentry/vfs_truncate, "
        'fentry/filp_close …), or use SEC("lsm.s/…") or an iterator.',
        when=(facts.at_call(r"(?P<helper>\w+)"),),
    ),
    Rule(
        "helper_not_allowed",
        r"program of this type cannot use helper (?P<helper>\w+)(?:#(?P<number>\d+))?"
        r"|unknown func (?P<helper__before_6_6>bpf_\w+)#(?P<number__before_6_6>\d+)"
        r"|helper call (?:is not allowed in probe|is not allowed)"
        r"|func (?P<helper__2>bpf_\w+)#(?P<number__2>\d+) (?:supported only for|not supported for)",
        "helper {helper} cannot be called from a program in section {section}",
        "Each program type has its own helpers; on a kernel under lockdown, or without CAP_PERFMON, those that read "
        "kernel memory "
        "are missing too.",
        "Use the type's own helper (in XDP bpf_xdp_load_bytes instead of bpf_skb_load_bytes), or another section, such "
        "as "
        'SEC("tc").',
    ),
    Rule(
        "sockmap_update",
        r"cannot update sockmap in this context",
        "a sockmap cannot be changed from a program in section {section}",
        "Updates from a program need the socket's lock, which only some program types have.",
        'Add the socket in SEC("sockops") with bpf_sock_map_update(…) or bpf_sock_hash_update(…), or from user space.',
    ),
    Rule(
        "unknown_helper",
        r"(?:invalid|unknown) func (?P<helper>\w+)#(?P<number>-?\d+)",
        "this kernel has no helper number {number}",
        "The helper is newer than the kernel, or the number is wrong.",
        "Ask before the call: if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_name)) …; else use an older "
        "helper, such as "
        "bpf_ktime_get_ns().",
    ),
    Rule(
        "gpl_only",
        r"cannot call GPL[- ](?:restricted|only)|Cannot access kernel 'struct \w+' from non-GPL"
        r"|cannot call kernel function from non-GPL"
        r"|must have a GPL compatible license"
        r"|GPL.?restricted function",
        "a helper is called that only programs under a GPL-compatible licence may call",
        "The object's licence section says something else, or is missing.",
        'Declare the licence, if it is so: char _license[] SEC("license") = "GPL"; or "Dual MIT/GPL".',
    ),
    Rule(
        "map_not_for_sleepable",
        r"Sleepable programs can only use (?P<kinds>[^\n\t]+)",
        "a sleepable program may use {kinds} only",
        "Other kinds of maps (a perf event array among them) rely on the program's not sleeping.",
        "Use such a map, a ring buffer (BPF_MAP_TYPE_RINGBUF) instead of a perf event array, or a non-sleepable "
        'section: SEC("uprobe/…") instead of SEC("uprobe.s/…").',
        blame=START,
    ),
    Rule(
        "map_field_not_for_program",
        r"tracing progs cannot use (?P<what>[^\n]+?)(?: yet)?$",
        "a map with a {what} cannot be used by a program in section {section}",
        "Programs at kprobe, tracepoint, raw_tp and perf_event may interrupt anything, the holder of the lock too; "
        "those of type tracing (tp_btf, fentry, fexit) may use such maps.",
        'Attach at the same place by BTF: SEC("tp_btf/sched_process_fork") instead of SEC("raw_tp/…") or SEC("tp/…"), '
        'SEC("fentry/function") instead of SEC("kprobe/…"); or do without the {what}: '
        "__sync_fetch_and_add(&value->count, 1), or a per-CPU map.",
        blame=START,
    ),
    Rule(
        "map_field_not_for_program",
        r"(?P<who>\w+(?: \w+)?) (?:progs|programs) cannot use (?P<what>[^\n]+?)(?: yet)?$"
        r"|(?P<what__2>bpf_\w+) cannot be used (?:for PREEMPT_RT"
        r"|in tracing)",
        "a map with a {what} cannot be used by a program of this type",
        "Locks, timers and lists need a context that programs of this type, or this kernel, do not have.",
        "Count with atomics, __sync_fetch_and_add(&value->count, 1), or in a per-CPU map; what needs the {what} "
        "belongs "
        'into another program type, such as SEC("tc").',
        blame=START,
    ),
    Rule(
        "map_of_another_field",
        r"(?P<what>timer|workqueue|bpf_task_work"
        r"|\w+) pointer in R\d+ map_uid=\d+[^\n]*doesn't match map pointer in R\d+[^\n]*\t"
        r"\[[^\]]*?map=(?P<holder>[^,)]+)[^\]]*\]\[[^\]]*?map=(?P<given>[^,)]+)",
        "the {what} lies in a value of map {holder}, but map {given} is given with it",
        "The kernel ties the {what} to a map, and frees it with that map: it must be the map that holds the value.",
        "Give the same map that the value was looked up in: &{holder} instead of &{given}.",
    ),
    Rule(
        "map_of_another_field",
        r"(?P<what>timer|workqueue|bpf_task_work|\w+) pointer in \w+ map_uid=\d+(?:[^\n]*"
        r"|\s*)doesn't match map pointer",
        "the {what} lies in a value of another map than the one given with it",
        "The kernel ties the {what} to a map, and frees it with that map: it must be the map that holds the value.",
        "Give the same map that the value was looked up in: value = bpf_map_lookup_elem(&flows, &key); "
        "bpf_timer_init(&value->timer, &flows, CLOCK_MONOTONIC).",
    ),
    Rule(
        "kptr_access",
        r"\b(?:kptr|uptr)\b(?! cannot be accessed directly)",
        "a kernel pointer in a map value is not used as the verifier demands",
        "Such a pointer is owned by the map: whole, at its own offset, and moved by one helper alone.",
        "Exchange it: old = bpf_kptr_xchg(&value->task, task); if (old) bpf_task_release(old); to read an __kptr one "
        "use "
        "it under bpf_rcu_read_lock() after a check for NULL.",
    ),
    Rule(
        "field_of_map_missed",
        r"off \d+ doesn't point to 'struct (?P<what>\w+)'|has no valid (?P<what__2>\w+)"
        r"|doesn't have 'struct (?P<what__3>\w+)'"
        r"|more than one 'struct (?P<what__4>\w+)'|or (?P<what__5>\w+) is mangled"
        r"|doesn't have constant offset\. (?P<what__6>\w+) has to|(?P<what__7>\w+) not found at offset=",
        "what is given here is not the {what} of the map's value",
        "The kernel knows from the value's type at which constant offset its {what} lies; it takes a pointer to that "
        "place only, and one {what} per value.",
        "Declare it in the value's struct, struct value {{ struct bpf_timer timer; … }}, and give &value->timer of "
        "what a "
        "lookup returned, not of an array of them.",
    ),
    Rule(
        "field_not_for_map",
        r"map '(?P<map>[^']*)' has to have BTF in order to use (?P<what>\w+)",
        "map {map} is declared without the types of its key and value, so that the kernel knows of no {what} in it",
        "key_size and value_size give sizes alone; where a {what} lies the kernel learns from the value's type.",
        "Declare the map with types, __type(key, __u32); __type(value, struct value); instead of __uint(key_size, …) "
        "and __uint(value_size, …), both of them.",
        when=(facts.MAPS_AS_DECLARED,),
    ),
    Rule(
        "field_not_for_map",
        r"map '(?P<map>[^']*)' has to have BTF in order to use (?P<what>\w+)",
        "map {map} cannot hold a {what}",
        "The kernel took the map without its types only (libbpf tries that second), because a map of this type may not "
        "hold such a field; or the object has no types at all.",
        "Keep it in another map type, a plain BPF_MAP_TYPE_ARRAY or BPF_MAP_TYPE_HASH, neither LRU nor per-CPU, and "
        "compile with -g.",
    ),
    Rule(
        "special_field_access",
        r"(?P<what>bpf_\w+|kptr) (?:cannot|can't) be accessed directly",
        "a {what} is read or written like a plain field",
        "The kernel's own fields in a map value (locks, timers, lists, pointers) belong to their helpers; clearing or "
        "copying the whole value touches them as well.",
        "Set the other fields one by one, value->count = 0;, and leave the {what} out.",
    ),
    Rule(
        "sleep_not_allowed",
        r"(?:can only|cannot|can) be sleepable|Sleepable programs? cannot attach",
        "programs of section {section} cannot be sleepable here",
        "Only some program types, and only some of the functions they attach to, may sleep.",
        'Leave out the .s of the section, SEC("fentry/…") instead of SEC("fentry.s/…"); SEC("syscall") alone is always '
        "sleepable.",
        blame=START,
    ),
    Rule(
        "sleep_not_allowed",
        r"(?:helper call|kfunc|call)? ?might sleep in a? ?non-sleepable|must be sleepable to call|sleepable (?:helper"
        r"|kfunc|call)[^\n]*(?:in|within)"
        r"|kernel func(?:tion)? \S+ is sleepable (?:within|but)|is not sleepable|cannot call operations that may sleep"
        r"|sleepable global function \S+ called",
        "something that may sleep is called where sleeping is not allowed",
        "The program is not of a sleepable kind, or holds a lock, RCU or disabled preemption here.",
        'Use the sleepable section, SEC("fentry.s/…"), SEC("lsm.s/…") or SEC("uprobe.s/…"), or call outside the locked '
        "region.",
    ),
    Rule(
        "device_bound",
        r"metadata kfuncs|bound device mismatch|offload device mismatch",
        "the program must be bound to the device whose metadata it reads",
        "bpf_xdp_metadata_rx_hash and its like are the driver's: the kernel must know the driver when it loads the "
        "program.",
        "Load it for that interface (bpf_program__set_ifindex with BPF_F_XDP_DEV_BOUND_ONLY), or leave the metadata "
        "out.",
        blame="call bpf_xdp_metadata",
    ),
    Rule(
        "untrusted_pointer",
        r"R\d+ (?:must be (?:a rcu pointer|referenced or trusted)|type=untrusted_ptr_[^\n\t]*)\t"
        r"\[(?:untrusted_|rcu_)?ptr_(?:or_null_)?task_struct\(",
        "the task given here may be gone already: the pointer to it is neither owned, trusted nor kept by RCU",
        "What was read out of another struct is safe only where the kernel declares the field so: task->real_parent "
        "and task->group_leader are, task->parent is not.",
        "Use task->real_parent instead of task->parent (under bpf_rcu_read_lock() in a sleepable program), or look it "
        "up, parent = bpf_task_from_pid(pid); if (!parent) return 0; … bpf_task_release(parent); only to read it, "
        "BPF_CORE_READ(task, parent, tgid) will do.",
    ),
    Rule(
        "untrusted_pointer",
        r"R\d+ must be (?:referenced$|a rcu pointer)|must be referenced or trusted|R\d+ type=(?:untrusted|rcu)_ptr\w*"
        r"|expects? ref(?:erenced|counted)|allocated object must be referenced",
        "a pointer to a kernel object is given that may be stale: it is neither owned nor trusted",
        "What was read out of another struct may go away at any time; arguments of tp_btf, LSM and struct_ops "
        "programs, "
        "and what an acquiring function gave, are safe.",
        "Take the one that the program got as its argument; look it up (bpf_task_from_pid, bpf_cgroup_from_id) and "
        "release it; or, where the kernel marks the field __rcu, read and use it between bpf_rcu_read_lock() and "
        "bpf_rcu_read_unlock(), acquiring it to keep it. Only to read through it, BPF_CORE_READ(object, field) will "
        "do.",
    ),
    Rule(
        "kfunc_not_allowed",
        r"calling kernel function (?P<name>\S+) is not allowed|kernel function (?P<name__2>\S+) .*not allowed"
        r"|calling kernel functions? (?:is|are) (?:not )?(?:supported|allowed)",
        "kernel function {name} cannot be called from a program in section {section}",
        "A kfunc is registered for some program types only.",
        "Use a helper for the same purpose, or a section whose type the kfunc is registered for.",
    ),
)
