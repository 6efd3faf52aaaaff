# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The verifier's words on memory: the stack, NULL, the packet, maps' values, the kernel's structs, and their bounds."""

from __future__ import annotations

from . import facts
from .form import DEEPEST, Rule

RULES = (
    Rule(
        "stack_too_large",
        r"combined stack size(?: of (?P<calls>\d+) calls)? is (?P<size>\d+)\. Too large",
        "the stack of the called functions together is {size} bytes, more than 512",
        "One stack of 512 bytes serves the program and all that it calls.",
        "Move the large buffer into a per-CPU array: char *text = bpf_map_lookup_elem(&scratch, &zero); if (!text) "
        "return 0;",
        blame=DEEPEST,
    ),
    Rule(
        "stack_too_large",
        r"tail_calls are not allowed when call stack of previous frames is (?P<size>\d+) bytes",
        "{size} bytes of stack are in use where a called function makes a tail call; 256 are allowed",
        "A tail call keeps the frames of the callers, so the kernel halves what they may use.",
        "Make the tail call from the main function, or move the buffer into a per-CPU array.",
        blame="call bpf_tail_call#12",
    ),
    Rule(
        "stack_too_large",
        r"invalid (?:write to |read from )?stack (?:R10 )?off=-(?:51[3-9]|5[2-9]\d|[6-9]\d\d|\d{4,}) "
        r"|stack limit of 512 bytes|stack size (?:of subprog )?\d+(?:\(extra \d+\))? is (?:\d+\. Too|too) large",
        "the function's variables need more than 512 bytes of stack",
        "512 bytes are all the stack that a program has.",
        "Move the large variable into a per-CPU array: char *text = bpf_map_lookup_elem(&scratch, &zero); if (!text) "
        "return 0;",
    ),
    Rule(
        "uninitialised_stack",
        r"invalid (?:indirect )?(?:read from|indirect access to) stack (?:R(?P<register>\d+) )?(?:off -?\d+[+]-?\d+"
        r"|var_off )"
        r"|Memory Safety: .*[Uu]ninitialized stack|slot poisoned by dead code",
        "bytes of the stack are read that were never written",
        "A helper reads the whole struct, padding between its fields included. CAP_PERFMON lifts this check since "
        "Linux 6.3.",
        "Zero it first: struct key key; __builtin_memset(&key, 0, sizeof(key)); then set its fields.",
    ),
    Rule(
        "stack_out_of_bounds",
        r"invalid (?:unbounded )?variable-offset (?P<act>read from|write to"
        r"|indirect access to)(?: the)? stack(?: R(?P<register>\d+))?"
        r"|variable(?:-offset)? stack (?:access|read|write)|R\d+ variable stack access prohibited",
        "the index into an array on the stack is not bounded by the array's size",
        "The verifier must know the smallest and the largest value that the index can have here.",
        "Compare before use, with an unsigned index: if (i >= sizeof(array)) return 0;",
    ),
    Rule(
        "stack_out_of_bounds",
        r"invalid (?:\S+ )?(?:write to|read from|access to|type) stack|invalid stack (?:type )?(?:R\d+ )?off="
        r"|stack pointer .*out of range"
        r"|invalid (?:write|read|indirect access).*\bstack R\d+ off=|attempt to corrupt spilled pointer"
        r"|corrupted spill memory|variable offset stack pointer cannot be passed|spilled ptr in range of var-offset"
        r"|invalid size of register (?:spill|fill)",
        "an access lies outside the variable on the stack",
        "The offset and size reach past the stack, or over a pointer that was saved there.",
        "Keep within the array: if (i >= sizeof(array)) return 0; and pass sizeof(variable) as the size.",
    ),
    # NULL
    Rule(
        "null_not_checked",
        r"R(?P<register>\d+) (?:invalid mem access '|pointer arithmetic on |type=)(?P<type>\w*_or_null\w*)",
        "the pointer may be NULL here",
        "What a lookup or a reservation returns ({type}) may be NULL, and no check lies on this path.",
        "Check before use: if (!value) return 0;",
    ),
    Rule(
        "null_not_checked",
        r"R(?P<register>\d+) invalid mem access '\w+'\t\[(?P<type>\w*_or_null\w*)|Possibly NULL pointer passed to"
        r"|null-check it first"
        r"|may be NULL here|(?:arg#|R)\d+ (?:is|expected).*NULL",
        "the pointer may be NULL here",
        "No check for NULL lies on this path.",
        "Check before use: if (!value) return 0;",
    ),
    # packet
    Rule(
        "option_out_of_bounds",
        r"invalid access to packet|offset is outside of the packet",
        "the option's value is used without a comparison with optval_end",
        "optval to optval_end is all there is of the value; it may be shorter than its type, or empty.",
        "Compare before use: if ((void *)(value + 1) > ctx->optval_end) return 1;",
        when=(facts.section("cgroup/[gs]etsockopt.*"),),
    ),
    Rule(
        "packet_out_of_bounds",
        r"offset is outside of the packet\t\[pkt[^\n]*umax(?:_value|\d*)?=(?:0x[0-9a-f]{5,}|\d{6,})",
        "the offset into the packet may be so large that no comparison with data_end counts",
        "The verifier follows offsets up to 65535; what is larger may wrap around.",
        "Bound the offset first: if (offset > 1500) return XDP_PASS; then if (data + offset + size > data_end) return "
        "XDP_PASS;",
    ),
    Rule(
        "packet_out_of_bounds",
        r"invalid access to packet, off=(?P<offset>-?\d+) size=(?P<size>\d+), "
        r"R(?P<register>\d+)\((?:.*?)r=(?P<range>\d+)\)",
        "an access of {bytes} at offset {offset} of the packet, of which only the first {range} are known to be there",
        "A packet may be shorter. The comparison with data_end that covers these bytes is missing on this path.",
        "Compare before use: if ((void *)(header + 1) > data_end) return XDP_PASS; that is data + offset + size > "
        "data_end.",
    ),
    Rule(
        "packet_out_of_bounds",
        r"offset is outside of the packet|invalid access to packet|makes pkt(?:_meta)? pointer be out of bounds"
        r"|math between pkt(?:_meta)? pointer|R(?P<register>\d+) (?:unbounded memory access|m(?:in"
        r"|ax) value is)[^\n]*\t\[pkt",
        "the access into the packet is not bounded by data_end",
        "The offset is unknown or may be larger than the verifier follows (65535), so no comparison with data_end "
        "covers it.",
        "Bound the offset, then compare: if (offset > 1500) return XDP_PASS; if (data + offset + size > data_end) "
        "return XDP_PASS;",
    ),
    # map values and other memory
    Rule(
        "map_value_out_of_bounds",
        r"invalid access to map value, value_size=(?P<have>\d+) off=(?P<offset>-?\d+) size=(?P<size>\d+)",
        "{call} takes {bytes}, from offset {offset} of a map value whose size is {have}",
        "The helper reads or writes as much as the size given, or as the key or value of its map has.",
        "Give memory of that size: sizeof(value->field) as the size, or a key of the map's own type.",
        when=(facts.at_call(r"(?P<call>\w+)"),),
    ),
    Rule(
        "map_value_out_of_bounds",
        r"invalid access to map value, value_size=(?P<have>\d+) off=(?P<offset>-?\d+) size=(?P<size>\d+)",
        "an access of {bytes} at offset {offset} of a map value whose size is {have}",
        "The index, or the cast to another type, reaches past the value; global variables are map values, too.",
        "Compare with the array's length before use: if (i >= 16) return 0; where 16 is what the value holds.",
    ),
    Rule(
        "map_value_out_of_bounds",
        r"invalid access to map value pointer, value_size=(?P<have>\d+) off=(?P<offset>-?\d+)"
        r"(?: size=(?P<size>\d+))?",
        "an access at offset {offset} of a map value whose size is {have}",
        "The index, or the cast to another type, reaches past the value; global variables are map values, too.",
        "Compare with the array's length before use: if (i >= 16) return 0; where 16 is what the value holds.",
    ),
    Rule(
        "map_value_out_of_bounds",
        r"R(?P<register>\d+) (?:unbounded memory access|m(?:in|ax) value is)[^\n]*\t\[map_value"
        r"|math between map_value pointer"
        r"|makes map_value pointer be out of bounds|outside of the (?:array|allowed memory) range[^\n]*\t\[map_value"
        r"|array access into a map",
        "the index into the map's value is not bounded",
        "The verifier must know the smallest and the largest value that the index can have here.",
        "Compare before use, with an unsigned index: if (i >= 16) return 0; or mask it: i &= 15.",
    ),
    Rule(
        "zero_size",
        r"(?:R(?P<register>\d+) )?invalid zero-sized read",
        "the size given to the helper may be zero",
        "This helper takes at least one byte; the size is bounded from above only.",
        "Exclude zero, too: if (size == 0 || size > sizeof(buffer)) return 0;",
    ),
    Rule(
        "unbounded_size",
        r"R(?P<register>\d+) (?:min value is negative, either use unsigned or|unbounded memory access, use)",
        "the size given to the helper has no bound that the verifier can see",
        "It may be negative, zero, or larger than the buffer.",
        "Bound it, unsigned: if (size > sizeof(buffer)) size = sizeof(buffer);",
    ),
    Rule(
        "memory_out_of_bounds",
        r"invalid access to (?P<what>memory|map key|mem|buffer|buf)(?:, (?:mem|key"
        r"|buf)_size=(?P<have>\d+))? off=(?P<offset>-?\d+)"
        r" size=(?P<size>\d+)",
        "an access of {bytes} at offset {offset} of memory whose size is {have}",
        "The record, buffer or struct is smaller than what is read or written.",
        "Ask for as much as you use, bpf_ringbuf_reserve(&events, sizeof(struct event), 0) or bpf_dynptr_slice(&ptr, "
        "0, "
        "buffer, sizeof(struct header)), and stay within it.",
    ),
    Rule(
        "memory_out_of_bounds",
        r"R(?P<register>\d+) (?:unbounded memory access|m(?:in|ax) value is)|outside of the allowed memory range"
        r"|invalid variable buffer offset|invalid \w+ buffer access|invalid negative \w+ buffer offset"
        r"|Memory Safety: Access outside bounds|makes \w+ pointer be out of bounds|math between \w+ pointer",
        "the access has no bound that the verifier can see",
        "The verifier must know the smallest and the largest offset that can occur here.",
        "Compare before use, with an unsigned index: if (i >= LENGTH) return 0;",
    ),
    Rule(
        "kernel_field_read_only",
        r"no write support to \w+|write access at off \d+ with size \d+|only read is supported"
        r"|only access to \w+ is supported|direct access to \w+ is disallowed"
        r"|R\d+ cannot write into (?:\w+_)?ptr_\w*",
        "a field of a kernel struct is written that programs may only read: {verdict}",
        "The kernel's structs are read-only to programs but for the few fields that the hook names as writable.",
        "Keep your own state in memory that is yours: a map, or what the struct has for it (icsk_ca_priv of a "
        "congestion "
        "control may be written); to change the kernel's, use a helper such as bpf_setsockopt(…).",
    ),
    Rule(
        "kernel_struct_variable_index",
        r"R\d+ is \w*ptr_\w* invalid (?:variable offset|negative access)|R\d+ is \w+ invalid negative access",
        "a field of a kernel struct is reached by an index that varies",
        "The verifier takes direct reads of the kernel's structs at constant offsets only.",
        "Compute the address and copy: bpf_probe_read_kernel(&value, sizeof(value), &object->array[i]); or use a "
        "constant "
        "index in an unrolled loop.",
    ),
    Rule(
        "user_memory",
        r"access user memory",
        "an address of user space is dereferenced",
        "The kernel marks the pointer as __user: it is valid in the process only, and its page may be absent.",
        "Copy through a helper: bpf_probe_read_user(&value, sizeof(value), address), or bpf_copy_from_user(…) in a "
        "sleepable program.",
    ),
    Rule(
        "percpu_memory",
        r"access percpu memory|R\d+ invalid mem access '\w*percpu\w*'",
        "a per-CPU address is dereferenced as it stands",
        "It stands for one address for each CPU.",
        "Ask for one CPU's: value = bpf_per_cpu_ptr(&variable, cpu); if (!value) return 0; or "
        "bpf_this_cpu_ptr(&variable).",
    ),
    Rule(
        "kernel_struct_out_of_bounds",
        r"access beyond the end of member (?P<member>\w+) \(mend:\d+\) in struct (?P<type>\w+)"
        r" with off \d+ size (?P<size>\d+)",
        "{bytes} read here reach beyond the end of {member}, as this kernel has it in struct {type}",
        "CO-RE moves a field to its place, but reads it in the size that the program declares it with: libbpf adjusts "
        "the size of unsigned fields and pointers alone.",
        "Declare the field {member} with the kernel's type, as vmlinux.h has it, in the program's own struct {type} "
        "(or {type}___old, or with another such suffix); of an array read nothing behind its end.",
    ),
    Rule(
        "kernel_struct_out_of_bounds",
        r"access beyond (?:struct|the end of member) (?P<type>\S+)|cannot access ptr member"
        r"|doesn't have field at offset"
        r"|field \S+ doesn't have size|Type '\w*' is not a struct",
        "the access lies outside the kernel's struct",
        "This kernel's struct is shorter, or the field is of another size, than the object was compiled for.",
        "Read it through CO-RE: BPF_CORE_READ(task, field), or ask if (bpf_core_field_exists(task->field)) first.",
    ),
)
