# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The verifier's words on what a register holds: no value, a number, or a pointer that is gone or may not do this."""

from __future__ import annotations

from . import facts
from .form import Rule

RULES = (
    Rule(
        "kfunc_missing",
        r"R0 !read_ok",
        "a kernel function is called that this kernel does not have",
        "It is declared weak, so libbpf leaves a call of nothing, which gives no result, where no check keeps it out.",
        "Ask before the call, and keep the other way: if (bpf_ksym_exists(bpf_foo)) value = bpf_foo(); else value = 0;",
        when=(facts.UNRESOLVED_CALL,),
        blame="call #0",
    ),
    Rule(
        "uninitialised_register",
        r"R0 !read_ok",
        "the function ends without a return value on this path",
        "R0, the return value, was never set.",
        "End every path with a value: return 0;",
        when=(facts.AT_EXIT,),
    ),
    Rule(
        "uninitialised_register",
        r"R(?P<register>\d+) !read_ok|Register Type Safety: Unreadable register",
        "a variable is used that has no value on this path",
        "It is set on some paths only; or it lived in a register (R1 to R5) over a call, which clears these.",
        "Give it a value where it is declared: __u64 sum = 0;",
    ),
    Rule(
        "uninitialised_register",
        r"unexpected __bpf_trap\(\)",
        "the compiler put a trap here: what the C does at this place is undefined",
        "clang 21 and newer mark with __bpf_trap what only a variable without a value, or a function without a return, "
        "leads to.",
        "Give every variable a value where it is declared, end every path with a return, and read what clang -Wall "
        "says.",
    ),
    Rule(
        "missing_capability",
        r"prohibited for !root|[^\n]* functions are allowed for (?:CAP_|root)|is allowed only to CAP_"
        r"|CAP_\w+ are required"
        r"|leaking pointer from stack|beyond pointer bounds|mixed signed bounds|for speculative verification"
        r"|kfunc calls require CAP_",
        "the verifier allows this only to a process with more capabilities than the loader has",
        "Without CAP_PERFMON and CAP_BPF a program may neither store, compare nor freely compute with the kernel's "
        "addresses, nor call functions; destructive kfuncs take CAP_SYS_BOOT.",
        "Give the loader CAP_BPF and CAP_PERFMON, or load as root outside a container that drops them.",
    ),
    Rule(
        "missing_capability",
        r"leaks addr|pointer comparison prohibited",
        "the verifier allows this only to a process with CAP_PERFMON",
        "Without it a program may neither store nor compare the kernel's addresses.",
        "Give the loader CAP_BPF and CAP_PERFMON, or load as root outside a container that drops them.",
        when=(facts.lacks("CAP_PERFMON"),),
    ),
    Rule(
        "pointer_arithmetic",
        r"pointer arithmetic (?:on (?P<type>\S+) )?(?:with (?P<operator>\S+) operator )?prohibited"
        r"|R\d+ pointer \S+ pointer prohibited"
        r"|bitwise operator \S+ on pointer|subtract(?:ion from stack pointer| pointer from scalar)"
        r"|unsupported alu operation"
        r"|32-bit pointer arithmetic|pointer comparison prohibited|partial copy of pointer"
        r"|sign-extension part of pointer",
        "arithmetic is done on a pointer that does not allow it",
        "To a pointer only a bounded number may be added or subtracted, in 64 bit; some pointers allow nothing at all.",
        "Compute with numbers: __u64 length = ctx->data_end - ctx->data; and add a bounded offset to the pointer last.",
    ),
    Rule(
        "pointer_leak",
        r"leaks addr (?:into|as) (?P<where>[\w ]+)|R\d+ leaks addr",
        "a kernel address would leave the program",
        "An address of the kernel must not reach a map, a packet or the return value.",
        "Store a number instead: an id, an index, or the value that the pointer points to.",
    ),
    Rule(
        "use_after_release",
        r"R(?P<register>\d+) (?:invalid mem access '|type=)(?:scalar|inv)\b|(?:arg#|R)\d+ pointer type",
        "what is used here was released before, by {release}",
        "With the release all pointers to the object, or into it, are gone for the program.",
        "Release once, and move {release}(…) behind the last use; or copy what you need before releasing: __u32 value "
        "= object->field;",
        when=(facts.released_by(r"(?P<release>\w+)"),),
    ),
    Rule(
        "packet_pointer_stale",
        r"R(?P<register>\d+) (?:invalid mem access '|type=)(?:scalar|inv)\b",
        "the pointer into the packet is no longer valid: {mover} may have moved the packet",
        "After a call that can change the packet all pointers into it are gone, and so are the comparisons with "
        "data_end.",
        "Use it before {mover}, or read data and data_end again after {mover}: data = (void *)(long)ctx->data; "
        "data_end = (void *)(long)ctx->data_end; and compare again before use.",
        when=(facts.packet_moved_by("(?P<mover>.+)"),),
    ),
    Rule(
        "packet_pointer_stale",
        r"R\d+ ",
        "the slice is no longer valid: {mover} may have moved what it points into",
        "A slice of a dynptr points into the packet (or the record) and ends with every call that may change that.",
        "Use it before {mover}, or ask for the slice again after {mover}: data = bpf_dynptr_slice(&ptr, 0, buffer, "
        "sizeof(buffer)); if (!data) return 0;",
        when=(facts.slice_ended_by("(?P<mover>.+)"),),
    ),
    Rule(
        "use_after_unlock",
        r"R\d+ ",
        "the node is used after {unlocker}, and it belongs to its list or tree since it was added",
        "What was added is only lent (a non-owning reference), and only while the lock is held.",
        "Use it under the lock, before {unlocker}, or copy what you need before adding it: __u64 when = node->when; to "
        "keep it longer, give it a struct bpf_refcount and take bpf_refcount_acquire(node) first.",
        when=(facts.lent_until(r"(?P<unlocker>\w+)"),),
    ),
    Rule(
        "use_after_unlock",
        r"R\d+ ",
        "the object is used after {unlocker}, and only RCU kept it",
        "Outside of the RCU read section it may be gone at any time.",
        "Use it before {unlocker}(), or own it before that: task = bpf_task_acquire(task); if (!task) …; "
        "bpf_rcu_read_unlock(); … bpf_task_release(task);",
        when=(facts.rcu_left_by(r"(?P<unlocker>\w+)"),),
    ),
    Rule(
        "not_a_pointer",
        r"R\d+ (?:invalid mem access '|type=)(?:scalar|inv)\b",
        "what was read out of a global variable is a number to the verifier, not a pointer",
        "libbpf does not relocate addresses in data sections: a table of pointers, as of strings, holds no addresses "
        "when the program is loaded.",
        "Let the table hold the text itself, an array of arrays and no array of pointers: static const char "
        'names[][16] = {{ "sshd", … }}; an address that user space stored there copy by bpf_probe_read_kernel(&value, '
        "sizeof(value), (void *)address).",
        when=(facts.OUT_OF_TABLE,),
    ),
    Rule(
        "argument_mismatch",
        r"R\d+ (?:invalid mem access '|type=)(?:scalar|inv)\b",
        "the argument of {function} that is used as a pointer here is a number",
        "Its place in the argument list is that of a number: one left out, or one too many, shifts all that follow "
        "(BPF_PROG and the like take them in the order of the prototype).",
        "Give all arguments in the order of the prototype, from the first one on: int BPF_PROG(on_switch, bool "
        "preempt, struct task_struct *prev, …); what is an address and a number by right copy by "
        "bpf_probe_read_kernel(&value, sizeof(value), (void *)address).",
        when=(
            facts.argument(r"(?P<argument>\d+)", read_by=r"(?P<instruction>\d+)"),
            facts.section(
                r"(?P<kind>tp_btf|fentry|fexit|fmod_ret|lsm|lsm_cgroup)(?:\.s)?/(?:[^/:]+:)?(?P<function>\w+).*"
            ),
        ),
    ),
    Rule(
        "not_a_pointer",
        r"R(?P<register>\d+) invalid mem access '(?:scalar|inv)\b",
        "an address of user space is dereferenced as if it were a pointer that the verifier knows",
        "What a uprobe's function got lies in the process; only a helper may read it.",
        "Copy through a helper: bpf_probe_read_user(&value, sizeof(value), &object->field), text with "
        "bpf_probe_read_user_str(…), or BPF_PROBE_READ_USER(object, field).",
        when=(facts.argument(), facts.section("(?:u(?:ret)?probe|usdt|ksyscall).*")),
    ),
    Rule(
        "not_a_pointer",
        r"R\d+ (?:invalid mem access '|type=)(?:scalar|inv)\b",
        "an address is dereferenced that came as a number in the context",
        "In a program of this type the arguments, registers and fields of an event are numbers to the verifier, even "
        "where they are addresses.",
        "Copy through a helper: BPF_CORE_READ((struct file *)address, f_inode), bpf_probe_read_kernel(&value, "
        "sizeof(value), address), or bpf_probe_read_user(…) for an address of the process; fentry and tp_btf give the "
        "same arguments as pointers.",
        when=(
            facts.argument(),
            facts.section("(?:k|u|raw_t|tp/|tracepoint|perf_event|usdt).*"),
        ),
    ),
    Rule(
        "not_a_pointer",
        r"R(?P<register>\d+) invalid mem access '(?:scalar|inv)\b",
        "an address is dereferenced here that is a number to the verifier, not a pointer it knows",
        "Arguments of kprobes, fields of a tracepoint's record and what bpf_get_current_task() gives are numbers; only "
        "tp_btf, fentry and the like get pointers with a type.",
        "Copy through a helper: of the kernel's value = BPF_CORE_READ(task, pid), or bpf_probe_read_kernel(&value, "
        "sizeof(value), address); of user space, as a syscall's arguments are, bpf_probe_read_user(&value, "
        "sizeof(value), address); of the current task use bpf_get_current_task_btf().",
        when=(facts.section("(?:k(?:ret)?probe|raw_t|t(?:race)?p(?:oint)?/|perf_event).*"),),
    ),
    Rule(
        "not_a_pointer",
        r"R(?P<register>\d+) invalid mem access '(?P<type>scalar|inv|fp|ctx)\b"
        r"|is an integer scalar here, not a pointer",
        "what is dereferenced here is a number to the verifier, not a pointer it knows",
        "An address that was computed, or read out of memory of which the verifier does not know what lies there.",
        "Copy through a helper: bpf_probe_read_kernel(&value, sizeof(value), address) or bpf_probe_read_user(…).",
    ),
    Rule(
        "not_a_pointer",
        r"R(?P<register>\d+) invalid mem access '(?P<type>[^']+)'",
        "memory of kind {type} cannot be accessed here",
        "The verifier knows what the pointer is, and that it may not be dereferenced like this.",
        "Use the pointer that a lookup gave, unchanged, or the helper that belongs to its kind.",
    ),
    Rule(
        "inner_map_as_value",
        r"only read from (?P<what>bpf_\w+) is supported",
        "a map is written to as if it were a value",
        "What a lookup in a map of maps gives is the inner map, not an entry of it.",
        "Look up a second time, in the inner map: value = bpf_map_lookup_elem(inner, &key); if (!value) return 0;",
    ),
    Rule(
        "read_only_memory",
        r"cannot write into rdonly_buf|write to change key R\d+",
        "a map's key, or what an iterator shows, is written, and may only be read",
        "To change a key would lose the entry.",
        "Copy it and change the copy: __u32 copy = *key; or delete the entry and insert another.",
    ),
    Rule(
        "read_only_memory",
        r"cannot write into rdonly_\w*mem",
        "memory is written that was given for reading only",
        "The helper or kfunc that gave it (such as bpf_dynptr_slice) promises that it stays as it is.",
        "Ask for memory to write to, bpf_dynptr_slice_rdwr(&ptr, 0, buffer, sizeof(buffer)), or write through "
        "bpf_dynptr_write(…).",
    ),
    Rule(
        "packet_read_only",
        r"cannot write into packet|does not allow writes to packet data",
        "a program in section {section} may not change the packet",
        "Packets are read-only to this program type, cgroup_skb and socket filters among them, and at egress of some.",
        'Only read here: bpf_dynptr_slice(…) instead of bpf_dynptr_slice_rdwr(…); to change the packet use SEC("tc") '
        "or "
        'SEC("xdp").',
    ),
    Rule(
        "packet_not_for_helper",
        r"helper access to the packet is not allowed",
        "a pointer into the packet is given to a helper that takes none in this program",
        "The helper may sleep, or the program type has no direct access to the packet.",
        "Copy the bytes to the stack first: __u32 key = ip->saddr; bpf_map_lookup_elem(&map, &key);",
    ),
    Rule(
        "read_only_memory",
        r"write into map forbidden|read from map forbidden|cannot write into (?P<what>\S+)"
        r"|may write into memory pointed by"
        r"|R\d+ cannot write|is read only",
        "memory is written that is read-only here",
        "A const global, a frozen map, a map made read-only for programs, or an object of the kernel.",
        "Make the variable a plain global (volatile __u32 limit;), or write to a map of your own.",
    ),
    Rule(
        "misaligned_access",
        r"misaligned (?P<what>\w+ )?access off",
        "the access is not aligned to its size",
        "This architecture, or this kind of memory, takes only aligned accesses.",
        "Let each field lie at a multiple of its size: no __attribute__((packed)), larger fields first or with padding "
        "before them; what needs no atomics may be copied: __builtin_memcpy(&value, pointer, sizeof(value));",
    ),
)
