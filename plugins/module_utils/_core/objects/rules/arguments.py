# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The verifier's words on what a call is given: maps, constants, dynptrs, iterators, nodes, types."""

from __future__ import annotations

from . import facts
from .form import RETURNED, Rule

RULES = (
    Rule(
        "jit_needed",
        r"JIT is required|JIT (?:does not|doesn't) support|requires BPF JIT|non-JITed|not supported by jit"
        r"|should be JITed"
        r"|only JITed progs",
        "the program needs the JIT compiler for something that it does not do here: {verdict}",
        "The JIT is switched off, or this architecture's does not know what the program uses.",
        "Switch it on, sysctl net.core.bpf_jit_enable=1, or use a newer kernel, or do without (static functions "
        "inlined, "
        "helpers instead of kfuncs).",
    ),
    Rule(
        "tail_target_missing",
        r"map '(?P<map>[^']+)': failed to initialize slot \[\d+\] to prog '(?P<name>[^']+)' fd=-",
        "the object puts program {name} into prog array {map}, and that program is not among those chosen",
        "What is not loaded cannot be called.",
        "Choose {name} in programs, too, or leave programs out.",
    ),
    Rule(
        "tail_call_incompatible",
        r"tail_calls? (?:are|is) not allowed|tail_call (?:abusing|is only allowed|lead)|mix(?:ing|es)? of tail_?calls"
        r"|cannot tail call|expected prog array map for tail call|tracking tail call prog|tail call poke"
        r"|failed to initialize slot \[\d+\] to prog|owned by prog type",
        "the program and the prog array it calls through do not go together",
        "All programs that use one prog array must have the same type, and JIT, XDP fragments and attach type alike.",
        "Give each program type a prog array of its own, and put only programs of that type into it.",
    ),
    Rule(
        "bad_map_for_helper",
        r"cannot pass map_type (?P<map_type>\d+) into func (?P<helper>\w+)|map_type \d+ (?:is )?not supported",
        "{helper} does not work on a map of type {map_type}",
        "Each map type has its own helpers.",
        "Give it a map of type {wanted_map}, or use the helper that belongs to this map.",
    ),
    Rule(
        "bad_global_function",
        r"Global function \S+ (?:doesn't return|return value|with)|Arg#\d+ type \S+ in \S+ is not supported"
        r"|size cannot be determined|Global functions need|[Gg]lobal function \S+ has|Function \S+ has \d+ > \d+ args"
        r"|Invalid type of function|kernel supports at most \d+ parameters|arg#\d+ (?:type tag|has unsupported set"
        r"|has invalid"
        r"|has pointer tag|\w+ cannot be combined)|arg#\d+ reference type[^\n]*(?:candidate|module type)",
        "a global function has a signature that the verifier cannot check by itself",
        "A function without static is verified on its own: it returns a number and takes numbers, the context, or "
        "pointers of known size.",
        "Make it static (static __noinline), or give it such arguments.",
    ),
    Rule(
        "return_value_range",
        r"register R\d+ is not a (?:known|scalar) value|R0 not a scalar value|cannot return stack pointer",
        "the value returned is not one that the verifier knows, and here it must be",
        "What a value means is fixed by the program type, or by the function that calls back; others are refused "
        "before "
        "the program ever runs.",
        "Return a constant on every path: return 0;",
        blame=RETURNED,
    ),
    Rule(
        "constant_string",
        r"does not point to a readonly map|is not a constant address|direct value access|string is not zero-terminated"
        r"|doesn't point to a const string|Invalid format string|cannot be used as const string"
        r"|failed to retrieve map value",
        "the string given here is not a constant that the verifier can read",
        "This helper takes a string in read-only memory, ended by a zero, at an offset known at load: not the stack, "
        "not a "
        "writable global, not a map's value.",
        'Make it const, so that it lies in .rodata: static const char name[] = "nginx"; (const volatile where the '
        "loader "
        "sets it before the load).",
    ),
    Rule(
        "constant_argument",
        r"must be a known constant",
        "the length of a slice must be a number that is known at load, and is not",
        "The slice is memory of that size to the verifier from then on.",
        "Give a constant, the largest length or sizeof(buffer), where the packet has that much; for a length that "
        "varies copy instead: if (length > sizeof(buffer)) return 0; bpf_dynptr_read(buffer, length, &ptr, offset, 0).",
        when=(facts.at_call(r"bpf_dynptr_slice\w*"),),
    ),
    Rule(
        "constant_argument",
        r"is not a known constant|must be a known constant|is not a const$|local type ID argument|exceeds u32 max",
        "an argument must be a number that is known at load, and is not",
        "The verifier needs its value, since the size or type of something depends on it.",
        "Give a literal or sizeof, bpf_ringbuf_reserve(&events, sizeof(struct event), 0); where the size varies use "
        "bpf_ringbuf_output(…) or a dynptr (bpf_ringbuf_reserve_dynptr).",
    ),
    Rule(
        "dynptr_state",
        r"Expected an initialized dynptr|expected pointer to stack or const struct bpf_dynptr",
        "the dynptr has no contents here",
        "It was never made on this path, was submitted or discarded, or written over; copies of it count for nothing.",
        "Make it first, bpf_dynptr_from_skb(skb, 0, &ptr), and give &ptr itself: the variable on the stack, unmoved.",
    ),
    Rule(
        "dynptr_state",
        r"uninitialized dynptr|cannot overwrite referenced dynptr|write to dynptr at",
        "the dynptr is in use here, and would be overwritten",
        "It still owns a record, or was made before; the memory of a dynptr is the kernel's until it is released.",
        "Use a variable of its own for each: struct bpf_dynptr other; and submit or discard the first one before: "
        "bpf_ringbuf_discard_dynptr(&ptr, 0);",
    ),
    Rule(
        "dynptr_state",
        r"dynptr",
        "the dynptr is not of the kind that the called function takes: {verdict}",
        "Some are read-only or of one kind (ring buffer, packet, memory); each has functions of its own.",
        "Give the dynptr that belongs to the function, &ptr itself and unmoved; bpf_dynptr_from_mem(…) takes memory "
        "of a "
        "map value, not of the stack.",
    ),
    Rule(
        "iterator_state",
        r"expected (?:an |un)?initialized iter_(?P<what>\w+)|(?P<what__2>\w*iter\w*) (?:is only allowed|has to be"
        r"|at an offset)"
        r"|valid iter pointer|pointer to an iterator|cannot pass in iter",
        "the iterator is not in the state that this call needs",
        "Each lives on the stack: first new, then next until it gives NULL, then destroy, on every path and once.",
        "Follow the order: struct bpf_iter_num it; bpf_iter_num_new(&it, 0, 10); while ((v = bpf_iter_num_next(&it))) "
        "… "
        "bpf_iter_num_destroy(&it); or the macro bpf_for(i, 0, 10).",
    ),
    Rule(
        "graph_node",
        r"non-owning|owning ref|bpf_obj_drop|allocated object|same allocation|rbtree|expects arg#1"
        r"|but expected \w+ at offset"
        r"|bpf_refcount field|bpf_(?:percpu_)?obj_new",
        "a node of a list or tree is not given as its function takes it: {verdict}",
        "A node is owned (from bpf_obj_new or a removal) or belongs to the list; each function takes one of the two.",
        "Own it first: node = bpf_obj_new(typeof(*node)); if (!node) return 0; then bpf_list_push_front(&head, "
        "&node->link), after which it is no longer yours.",
    ),
    Rule(
        "arena_misused",
        r"[Aa]rena|addr_space_cast",
        "the arena is not used as the verifier demands: {verdict}",
        "One arena for a program, through pointers that are marked with its address space, and with the JIT.",
        "Declare one map of BPF_MAP_TYPE_ARENA with map_extra, and mark pointers with __arena: int __arena *value;",
    ),
    Rule(
        "constant_string",
        r"R\d+ type=(?P<type>\S+) expected=map_value\b",
        "the string given here is not a constant that the verifier can read",
        "{call} takes its format or pattern from read-only memory, not from the stack.",
        'Make it const, so that it lies in .rodata: static const char format[] = "%d"; {call}(…, format, …);',
        when=(facts.at_call(r"(?P<call>bpf_(?:\w*printf|strncmp|trace_vprintk))"),),
    ),
    Rule(
        "field_of_map_missed",
        r"R\d+ type=(?P<type>\S+) expected=map_value\b",
        "{call} is given memory of kind {type}, and works on a field of a map's value only",
        "Locks, timers and kernel pointers live in maps, where the kernel finds them by the value's type.",
        "Declare it in the value's struct, look the value up, value = bpf_map_lookup_elem(&map, &key); and give "
        "&value->field.",
        when=(facts.at_call(r"(?P<call>bpf_(?:spin|timer|kptr|wq)\w*)"),),
    ),
    Rule(
        "map_not_declared",
        r"R\d+ type=map_value expected=map_ptr",
        "a plain variable is given where a map is wanted",
        'Only what stands in section .maps becomes a map: its definition lacks SEC(".maps").',
        'Complete it: struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); … }} hits SEC(".maps");',
    ),
    Rule(
        "bad_argument_type",
        r"R(?P<register>\d+) type=ctx expected=(?P<expected>[^\n\t]*\b(?:fp|map_value|mem)\b[^\n\t]*)",
        "a part of the context is given where the helper takes memory",
        "The context is no memory to a helper: a field is read into a variable, and the variable is given.",
        "Copy it into a local variable first: __u32 key = ctx->field; bpf_map_lookup_elem(&map, &key); an array or "
        "text of a tracepoint by bpf_probe_read_kernel(&key, sizeof(key), ctx->field).",
    ),
    Rule(
        "not_a_pointer",
        r"R(?P<register>\d+) type=(?:scalar|inv) expected=(?:(?:trusted_|rcu_)?ptr_(?:, )?)+(?=\t|$)",
        "a number is given where the helper takes a pointer to an object of the kernel",
        "bpf_get_current_task() and what was read by bpf_probe_read_kernel are numbers to the verifier.",
        "Give a pointer with a type: bpf_get_current_task_btf(), or an argument of a tp_btf, fentry or LSM program.",
    ),
    Rule(
        "bad_argument_type",
        r"R(?P<register>\d+) type=(?P<type>\S+) expected=(?P<expected>[^\n\t]+)",
        "the helper gets {type} where it takes {expected}",
        "It is a number, a pointer to something else, or an object that this path has released already.",
        "Pass the address of a variable of the right type: bpf_map_lookup_elem(&map, &key); never a number cast to a "
        "pointer.",
    ),
    Rule(
        "bad_argument_type",
        r"Caller passes invalid args into func"
        r"|args?(?:#| )?\d+ (?:is|expects?|expected|should|struct|BTF|must|pointer|type|has|to|memory|doesn't"
        r"|and)[^\n]*"
        r"|R\d+ (?:is neither|is of type|is \S+ expected|is not a|expect|pointer type|memory|doesn't|and)[^\n]*"
        r"|type ID (?:argument|\d+)|unable to resolve the size|invalid map_ptr|isn't map pointer|non-zero flags"
        r"|invalid arg_type|[Hh]elper has invalid btf|Unsupported reg type|Unrecognized \S+ type|R\d+ must (?:be"
        r"|have|point)[^\n]*"
        r"|reg type unsupported for arg|Call Type Safety|is not a (?:const|known|constant)|must be a known constant"
        r"|[Ee]xpected (?:an? )?"
        r"(?:initialized|uninitialized)? ?(?:dynptr|iter_\w+)|dereference of modified \w+ ptr|unrecognized arg"
        r"|invalid args?\b",
        "an argument is not what the called function takes: {verdict}",
        "The verifier compares each argument with the function's declaration, its kind as well as its state.",
        "Pass what the declaration demands: an initialised, unmodified pointer to that very type, or a constant.",
    ),
)
