# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""One entry per refusal: how it shows, what it means, what to write instead.

The first rule that matches wins, so the particular stands above the general. How a log becomes the lines that are
matched here, and which line of the source is to blame, is verifier.py's. The texts are those of kernel/bpf/verifier.c,
btf.c and the struct_ops' own in 6.1, 6.12, 7.2 and 7.3, and libbpf's up to 1.7. Where 6.x says arg#2, 7.x says R2.

A pattern is a regular expression over all of these lines:
- the verdict, that is what the verifier said after its last instruction. A line that names registers has behind it,
  after a tab, what these last held: "R0 unbounded memory access, …<tab>[map_value(map=rows,ks=4,vs=64)]";
- of Linux 7.3 and newer also the headline ("Verification failed: …") and "Reason: …", one line each;
- where the verifier said nothing, what libbpf printed instead;
- facts, one per line: "fact: errno EPERM", "fact: kernel before 5.11", "fact: lockdown integrity",
  "fact: lacks CAP_BPF", "fact: has every capability", "fact: at exit" (the last instruction is one),
  "fact: section cgroup/bind4", "fact: at call bpf_snprintf" (the last instruction is one);
  "fact: unresolved call" (R0 was to come from a weak kfunc), "fact: read out of a table" (what the verdict's register
  holds, out of .rodata or .data), "fact: maps as declared" (libbpf left no map's types out to have it created);
  what the verdict's register held went with a call: "fact: released by bpf_sk_release", "fact: packet moved by
  bpf_xdp_adjust_head", "fact: slice ended by bpf_dynptr_write", "fact: lent until bpf_spin_unlock", "fact: RCU left by
  bpf_rcu_read_unlock"; or it holds the first argument, which instruction 3 read: "fact: argument 0 read by 3";
  "fact: acquired by bpf_ringbuf_reserve" (whose result was not released),
  "fact: no verdict" (the kernel gave no word), "fact: verified" (it gave its figures alone); and what the host said
  when it was asked afterwards: "fact: program type refused" (or "loads": the smallest program of the same type), and
  of the map that could not be created "fact: map type ringbuf", "fact: map type refused", "fact: max_entries 0",
  "fact: demanded: its key is an int | __type(key, int);" (of DEMANDS).

Named groups fill the sentences; what stands in several wordings is NAME in one and NAME__2 or the like in the others.
program, section, verdict and capabilities are always there, `bytes` is group size in words, `give_back` what RELEASES
has for group acquirer, `taken` where the lock that is held was taken (", taken in line 29"). Group `instruction` moves
the blame to that instruction of the program.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

# codes that say nothing of the release on this kernel: the host had too little just then, withheld what the loader
# needs, or the verdict was lost. Not kfunc_missing: a kernel that lacks it looks like one whose module comes later
NO_VERDICT = (
    "loader_killed",
    "log_too_small",
    "map_no_memory",
    "no_memory",
    "memlock",
    "jit_failed",
    "missing_capability",
    "denied_by_policy",
)

# whose line is to blame: of the last instruction that was looked at; of the program's first; of the one that made the
# value returned; of the one by which a locked region was left; of the one that reaches furthest down the largest stack
# frame; or any other words: of the last instruction that shows so
LAST, START, RETURNED, LEFT, DEEPEST = ("last", "start", "returned", "left", "deepest")


class Rule(NamedTuple):
    """How a refusal shows, and the three sentences. Every pattern of `also` must be found too."""

    code: str
    pattern: str
    summary: str
    cause: str
    fix: str
    also: tuple = ()
    blame: str = LAST


CREATE_EINVAL = (
    r"map '(?P<map>[^']*)': failed to create[^\n]*: (?:Invalid argument|-?EINVAL|-22\b|[^\n]*\b524\b"
    r"|Operation not supported)"
)

RULES = (
    # ---- the kernel, the host or the loader failed, not the program
    Rule(
        "loader_killed",
        r"RIP: \w+:(?:do_check|bpf_check|push_stack|check_|maybe_fork|is_state|states_equal)|^fact: killed"
        r"|\b(?:exit(?:ed)?(?: with)?(?: status| code)? 137|killed by signal 9)\b",
        "the kernel killed the process that loads the program",
        "The verifier itself crashed, or memory ran out. The program may be harmless; this kernel has a fault.",
        "Read dmesg on this host before another try, report the kernel's fault, and load on another kernel version "
        "meanwhile.",
        blame=START,
    ),
    Rule(
        "verifier_bug",
        r"(?i)\bverifier bug\b|verifier internal error|kernel subsystem misconfigured|verifier.* misconfigured"
        r"|^BUG |internal bug|REG INVARIANTS VIOLATION|non-overwritten BPF_PTR_POISON|(?:BTF|btf_vmlinux) is malformed",
        "the verifier found a fault in itself: {verdict}",
        "The kernel's own checks contradict each other on this program; the program may be right.",
        "Try the newest stable kernel, report the log to bpf@vger.kernel.org, and write the expression at this line in "
        "a simpler way.",
    ),
    # ---- relocations that libbpf turned into a poisoned instruction
    Rule(
        "core_relocation_failed",
        r"failed to resolve CO-RE relocation <(?P<kind>[^>]+)> (?:\[\d+\] )?(?P<wanted>[^(\n]*\w)",
        "this kernel has no {wanted}",
        "The object was compiled against another kernel's types. Here the field, type or value is missing or named "
        "differently.",
        "Ask before use: if (bpf_core_field_exists(task->field)) …; for a renamed field declare struct NAME___old and "
        "read that one.",
    ),
    Rule(
        "core_relocation_failed",
        r"(?:invalid func|unknown func|call) unknown#195896080|<invalid CO-RE relocation>|\b0?x?bad2310\b"
        r"|failed to perform CO-RE relocations|relo #\d+: (?:target candidate search failed|failed to relocate)",
        "the program uses a field, type or value that this kernel does not have",
        "libbpf found no match in this kernel's BTF and left an instruction that cannot run; 195896080 is 0xbad2310, "
        "its mark.",
        "Ask before use: if (bpf_core_field_exists(task->field)) …; for a renamed field declare struct NAME___old and "
        "read that one.",
    ),
    Rule(
        "kfunc_missing",
        r"extern \(func ksym\) '(?P<name>[^']+)': not found"
        r"|kfunc '(?P<name__unresolved>[^']+)' is referenced but wasn't resolved"
        r"|<invalid kfunc call>",
        "this kernel has no kernel function {name}",
        "A kfunc is no stable interface: it exists from some version on, in some configurations, or in a module that "
        "is not loaded.",
        "Declare it weak and ask before the call: extern … __ksym __weak; if (!bpf_foo) return 0; or use a kernel that "
        "has it.",
        blame=LAST,
    ),
    Rule(
        "map_not_created",
        r"BPF map '(?P<map>[^']+)' is referenced but wasn't created",
        "map {map} is used here but was not created",
        "Its creation was switched off (autocreate), while this code still runs.",
        "Create the map, or guard the code with a constant: if (have_map) …, with have_map const volatile and false.",
    ),
    Rule(
        "symbol_missing",
        r"failed to find BTF for extern '(?P<name>\w+)'|extern function (?P<name__2>\w+) is unsupported",
        "the program uses {name}, which neither the object nor the kernel has",
        "A function or variable is declared and not defined; memcmp, memcpy and the like the compiler only writes out "
        "for "
        "small, constant sizes.",
        "Define it in the object (static), compare in a loop with a constant bound, for (int i = 0; i < 16; i++) …, or "
        "declare a kernel's symbol with __ksym.",
        blame=START,
    ),
    Rule(
        "kfunc_signature",
        r"extern \((?:func|var) ksym\) '(?P<name>[^']+)': (?:func_proto|incompatible types)",
        "{name} is declared otherwise than this kernel has it",
        "Arguments or types differ: kfuncs are no stable interface, and change with the kernel.",
        "Declare it as this kernel does: bpftool btf dump file /sys/kernel/btf/vmlinux format c | grep {name}; for "
        "several kernels declare {name}___old beside it and ask bpf_ksym_exists({name}).",
        blame=START,
    ),
    Rule(
        "symbol_missing",
        r"extern[^\n]*'(?P<name>CONFIG_\w+)'[^\n]*: (?:not found|not resolved)",
        "this kernel's configuration does not have {name}",
        "A Kconfig value that is not set is missing, unless the declaration says that it may be.",
        "Declare it weak, then it is 0 where it is not set: extern int {name} __kconfig __weak;",
        blame=START,
    ),
    Rule(
        "symbol_missing",
        r"extern (?:\((?:var )?k(?:sym|cfg)\) )?'(?P<name>[^']+)'(?: \(strong\))?: (?:not found|not resolved)"
        r"|address for kernel (?:symbol|function) '?(?P<name__2>\w+)",
        "this kernel has no symbol {name}",
        "An extern (ksym or Kconfig value) was found neither in the kernel's BTF nor in kallsyms or its configuration.",
        "Declare it weak and give the other way: extern … __ksym __weak; if (&name) …",
        blame=START,
    ),
    # ---- loops and size
    Rule(
        "unbounded_loop",
        r"infinite loop detected(?: at insn (?P<where>\d+))?|Program Structure: .*[Ii]nfinite loop",
        "the loop has no end that the verifier can see",
        "The verifier came back to the same place with nothing changed that would end the loop.",
        "Bound it by a constant: for (int i = 0; i < 64; i++) {{ if (done) break; … }}",
    ),
    Rule(
        "recursion",
        r"back-edge from insn (?P<instruction>\d+) to (?P<target>\d+)",
        "a function calls itself",
        "With CAP_BPF loops are allowed; what jumps backwards then is a call that comes back to its own function.",
        "Replace the recursion by a loop with a constant bound, for (int i = 0; i < 8; i++) …, or inline: static "
        "__always_inline.",
        also=(r"^fact: has every capability$",),
    ),
    Rule(
        "unbounded_loop",
        r"back-edge from insn (?P<instruction>\d+) to (?P<target>\d+)",
        "the program jumps backwards, which is not allowed here",
        "Loops need Linux 5.3 and CAP_BPF; without them any jump backwards is refused.",
        "Load with CAP_BPF, or unroll: #pragma unroll before for (int i = 0; i < 64; i++) …",
    ),
    Rule(
        "too_many_instructions",
        r"BPF program is too large\. Processed (?P<processed>\d+) insn",
        "the verifier gave up after {processed} instructions",
        "It walks every path and every turn of a loop; the limit is one million (4096 without CAP_BPF). A loop whose "
        "end is "
        "not a small constant ends here as well.",
        "Bound the loop by a constant, for (int i = 0; i < 64; i++), or let it be checked once: "
        "bpf_loop(count, body, &state, 0) (Linux 5.17).",
    ),
    Rule(
        "too_complex",
        r"The sequence of (?P<jumps>\d+) jumps is too complex|exceeded complexity limit|too many iterations",
        "too many undecided branches wait at once",
        "A branch in a long loop leaves one path per turn to check later; older kernels accepted more or fewer, errno "
        "varies with it.",
        "Take the branch out of the loop, or let the body be checked once: bpf_loop(count, body, &state, 0) (Linux "
        "5.17).",
    ),
    Rule(
        "too_many_instructions",
        r"(?:BPF )?program (?:is )?too (?:large|big)|too many (?:instructions|states)",
        "the program is larger than the verifier walks",
        "The limit is one million instructions walked, and the same for the program's length (4096 without CAP_BPF).",
        "Split it: tail calls, global functions, or bpf_loop(count, body, &state, 0) instead of unrolled loops.",
    ),
    Rule(
        "recursion",
        r"recursive call from|the call stack of (?P<frames>\d+) frames is too deep",
        "functions call each other too deep, or themselves",
        "At most eight frames are allowed, and a function that calls itself has no known depth.",
        "Replace the recursion by a loop with a constant bound, for (int i = 0; i < 8; i++) …, or inline: static "
        "__always_inline.",
        blame=START,
    ),
    # ---- stack
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
    # ---- NULL
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
    # ---- packet
    Rule(
        "option_out_of_bounds",
        r"invalid access to packet|offset is outside of the packet",
        "the option's value is used without a comparison with optval_end",
        "optval to optval_end is all there is of the value; it may be shorter than its type, or empty.",
        "Compare before use: if ((void *)(value + 1) > ctx->optval_end) return 1;",
        also=(r"^fact: section \??cgroup/[gs]etsockopt",),
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
    # ---- map values and other memory
    Rule(
        "map_value_out_of_bounds",
        r"invalid access to map value, value_size=(?P<have>\d+) off=(?P<offset>-?\d+) size=(?P<size>\d+)",
        "{call} takes {bytes}, from offset {offset} of a map value whose size is {have}",
        "The helper reads or writes as much as the size given, or as the key or value of its map has.",
        "Give memory of that size: sizeof(value->field) as the size, or a key of the map's own type.",
        also=(r"^fact: at call (?P<call>\w+)$",),
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
    # ---- context
    Rule(
        "argument_mismatch",
        r"func '(?P<function>[^']+)' doesn't have (?P<number>\d+)-th argument",
        "{function} has no argument number {number} on this kernel",
        "What the program declares has more arguments than the function or tracepoint; of some the list changed from "
        "one kernel to the other. A function's result comes after all of them, and at fexit alone.",
        "Declare the arguments of the prototype and no more; where kernels differ, write a program for each prototype "
        "and load the one that fits (programs).",
    ),
    Rule(
        "context_access",
        r"func '(?P<function>[^']+)' doesn't have (?P<number>\d+)-th argument",
        "{function} has no argument number {number}",
        "The program reads further into the context than the function or tracepoint has arguments on this kernel.",
        "Take those that it has: bpftool btf dump file /sys/kernel/btf/vmlinux | grep {function}; the result of fexit "
        "stands behind the last argument.",
    ),
    Rule(
        "context_access",
        r"invalid sock_common access",
        "a field is read that only a full socket has",
        "What skb->sk and lookups give may be a request or a time-wait socket, with the common fields alone.",
        "Ask for the full one: sk = bpf_sk_fullsock(sk); if (!sk) return 1;",
    ),
    Rule(
        "context_access",
        r"invalid bpf_context access off=(?P<offset>-?\d+) size=(?P<size>\d+)|invalid (?:sock\w*|xdp_sock"
        r"|tcp_sock) access",
        "this field cannot be used at the hook of section {section}",
        "At offset {offset}, {bytes}: which fields are there, and which may be written, differs from one attach type "
        "to "
        "the other, also within one program type.",
        "Use another hook (attach type) that has the field: of struct bpf_sock src_ip4 and src_port at "
        "cgroup/post_bind4, "
        "src_ip6 at cgroup/post_bind6; of bpf_sock_addr user_ip4 at the hooks whose names end in 4, user_ip6 in 6, "
        "msg_src_ip4 at cgroup/sendmsg4; or leave the field out, and use each in its declared width.",
        also=(r"^fact: section \??(?:cgroup|sockops|sk_)",),
    ),
    Rule(
        "context_access",
        r"invalid bpf_context access off=(?P<offset>-?\d+)(?: size=(?P<size>\d+))?",
        "this field of the context cannot be used by a program of this type",
        "At offset {offset}, {bytes}: the field is not there for this program type or hook, is read-only, needs its "
        "whole "
        "width, or is not in this kernel.",
        "Use the fields that the program type has (ctx->rx_queue_index for XDP), in their declared width, or another "
        "section (program type or hook).",
    ),
    Rule(
        "context_access",
        r"dereference of modified ctx ptr|variable ctx access|variable offset ctx|invalid variable offset[^\n]* ctx",
        "the context is read at an offset that varies, as text of a tracepoint is found by __data_loc",
        "The text lies behind the event's fields; the verifier takes direct reads of the context at constant offsets "
        "only.",
        "Copy it: bpf_probe_read_kernel_str(text, sizeof(text), (void *)ctx + (ctx->__data_loc_filename & 0xffff)); "
        "with the field that the event has, then look at the copy; one value alone by bpf_probe_read_kernel(&first, "
        "sizeof(first), …).",
        also=(r"^fact: section \??(?:tp|tracepoint)/",),
    ),
    Rule(
        "context_access",
        r"dereference of modified ctx ptr|variable ctx access|variable offset ctx"
        r"|func '[^']*' (?:arg\d+ (?:has btf_id|type|'?\S+'? has type)|offset \d+ is not|size \d+ must be)"
        r"|func '[^']*' arg\d+[^\n]* Only pointer access|invalid ctx access|negative offset ctx ptr"
        r"|invalid (?:access to (?:flow keys|context)|sock\w* access|xdp_sock access)|R\d+ invalid (?:sock|tcp_sock"
        r"|xdp_sock)\w* access"
        r"|invalid btf_id for context argument|variable offset to flow keys",
        "the context is not used as the verifier demands",
        "Its fields are read at constant offsets from the pointer that the program got, and only those that exist.",
        "Read ctx->field directly, without arithmetic on ctx; of a traced function only the arguments that it has.",
    ),
    Rule(
        "modified_pointer",
        r"dereference of modified \w+ ptr|variable \w+ access var_off"
        r"|negative offset \w+ ptr"
        r"|must have zero offset|pointer offset -?\d+ is not allowed",
        "a pointer is used that was moved away from where it pointed when the program got it",
        "Such a pointer counts only as it was given: unmoved, or with a constant offset that is not negative.",
        "Keep the pointer as you got it for the call, bpf_sk_release(sk) and not &sk->field, and reach fields by name.",
    ),
    # ---- registers
    Rule(
        "kfunc_missing",
        r"R0 !read_ok",
        "a kernel function is called that this kernel does not have",
        "It is declared weak, so libbpf leaves a call of nothing, which gives no result, where no check keeps it out.",
        "Ask before the call, and keep the other way: if (bpf_ksym_exists(bpf_foo)) value = bpf_foo(); else value = 0;",
        also=(r"^fact: unresolved call$",),
        blame="call #0",
    ),
    Rule(
        "uninitialised_register",
        r"R0 !read_ok",
        "the function ends without a return value on this path",
        "R0, the return value, was never set.",
        "End every path with a value: return 0;",
        also=(r"^fact: at exit$",),
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
        also=(r"^fact: lacks CAP_PERFMON$",),
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
        also=(r"^fact: released by (?P<release>\w+)$",),
    ),
    Rule(
        "packet_pointer_stale",
        r"R(?P<register>\d+) (?:invalid mem access '|type=)(?:scalar|inv)\b",
        "the pointer into the packet is no longer valid: {mover} may have moved the packet",
        "After a call that can change the packet all pointers into it are gone, and so are the comparisons with "
        "data_end.",
        "Use it before {mover}, or read data and data_end again after {mover}: data = (void *)(long)ctx->data; "
        "data_end = (void *)(long)ctx->data_end; and compare again before use.",
        also=(r"^fact: packet moved by (?P<mover>.+)$",),
    ),
    Rule(
        "packet_pointer_stale",
        r"R\d+ ",
        "the slice is no longer valid: {mover} may have moved what it points into",
        "A slice of a dynptr points into the packet (or the record) and ends with every call that may change that.",
        "Use it before {mover}, or ask for the slice again after {mover}: data = bpf_dynptr_slice(&ptr, 0, buffer, "
        "sizeof(buffer)); if (!data) return 0;",
        also=(r"^fact: slice ended by (?P<mover>.+)$",),
    ),
    Rule(
        "use_after_unlock",
        r"R\d+ ",
        "the node is used after {unlocker}, and it belongs to its list or tree since it was added",
        "What was added is only lent (a non-owning reference), and only while the lock is held.",
        "Use it under the lock, before {unlocker}, or copy what you need before adding it: __u64 when = node->when; to "
        "keep it longer, give it a struct bpf_refcount and take bpf_refcount_acquire(node) first.",
        also=(r"^fact: lent until (?P<unlocker>\w+)$",),
    ),
    Rule(
        "use_after_unlock",
        r"R\d+ ",
        "the object is used after {unlocker}, and only RCU kept it",
        "Outside of the RCU read section it may be gone at any time.",
        "Use it before {unlocker}(), or own it before that: task = bpf_task_acquire(task); if (!task) …; "
        "bpf_rcu_read_unlock(); … bpf_task_release(task);",
        also=(r"^fact: RCU left by (?P<unlocker>\w+)$",),
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
        also=(r"^fact: read out of a table$",),
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
        also=(
            r"^fact: argument (?P<argument>\d+) read by (?P<instruction>\d+)$",
            r"^fact: section \??(?P<kind>tp_btf|fentry|fexit|fmod_ret|lsm|lsm_cgroup)(?:\.s)?/(?:[^/:]+:)?"
            r"(?P<function>\w+)",
        ),
    ),
    Rule(
        "not_a_pointer",
        r"R(?P<register>\d+) invalid mem access '(?:scalar|inv)\b",
        "an address of user space is dereferenced as if it were a pointer that the verifier knows",
        "What a uprobe's function got lies in the process; only a helper may read it.",
        "Copy through a helper: bpf_probe_read_user(&value, sizeof(value), &object->field), text with "
        "bpf_probe_read_user_str(…), or BPF_PROBE_READ_USER(object, field).",
        also=(r"^fact: argument \d+ read by", r"^fact: section \??(?:u(?:ret)?probe|usdt|ksyscall)"),
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
        also=(
            r"^fact: argument \d+ read by",
            r"^fact: section \??(?:k|u|raw_t|tp/|tracepoint|perf_event|usdt)",
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
        also=(r"^fact: section \??(?:k(?:ret)?probe|raw_t|t(?:race)?p(?:oint)?/|perf_event)",),
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
    # ---- helpers and kernel functions
    Rule(
        "lockdown",
        r"Lockdown: .*use of bpf to (?P<what>read kernel RAM|write user RAM)|^fact: lockdown confidentiality$",
        "the kernel is locked down and keeps programs from kernel memory",
        "Lockdown takes the helpers that {what}read kernel memory or write user memory away, and the trampolines with "
        "it on some kernels.",
        "Boot with lockdown=integrity or none, or write without bpf_probe_read_kernel and its like: raw fields of the "
        "context only.",
        also=(r"bpf_probe_(?:read|write)\w*|bpf_\w*printk|bpf_seq_printf|bpf_copy_from|Lockdown: ",),
    ),
    Rule(
        "missing_capability",
        r"(?:program of this type cannot use helper|unknown func) (?P<helper>bpf_(?:probe_read|probe_write|trace_"
        r"|snprintf)\w*)",
        "helper {helper} takes CAP_PERFMON, which the loader lacks",
        "It reads kernel memory; without the capability the kernel acts as if the helper did not exist.",
        "Give the loader CAP_BPF and CAP_PERFMON, or load as root outside a container that drops them.",
        also=(r"^fact: lacks CAP_PERFMON$",),
    ),
    Rule(
        "helper_not_allowed",
        r"helper call is not allowed in probe",
        "helper {helper} may be called from some functions only, and this is none of them",
        "Elsewhere it could deadlock, or the object it works on may be gone.",
        "Attach to a function on the helper's list (bpf_d_path: fentry/security_file_open, fentry/vfs_truncate, "
        'fentry/filp_close …), or use SEC("lsm.s/…") or an iterator.',
        also=(r"^fact: at call (?P<helper>\w+)$",),
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
        r"^(?!fact: )[^\n]*\b(?:kptr|uptr)\b(?! cannot be accessed directly)",
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
        also=(r"^fact: maps as declared$",),
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
    Rule(
        "lock_missing",
        r"expected an RCU CS when using|requires RCU critical section",
        "RCU must be held here, and is not",
        "What is walked or given here lives only while RCU is held; programs that may sleep do not hold it by "
        "themselves.",
        "Hold it from before the first use to after the last: bpf_rcu_read_lock(); … bpf_rcu_read_unlock(); with both "
        "declared extern void … (void) __ksym;",
    ),
    Rule(
        "lock_missing",
        r"must be held for|w/o active lock",
        "a lock must be held here, and is not",
        "Lists and trees belong to the bpf_spin_lock beside them.",
        "Take it around the call: bpf_spin_lock(&value->lock); … bpf_spin_unlock(&value->lock);",
    ),
    Rule(
        "lock_held",
        r"function calls are not allowed while holding a lock|[Ll]ocking two|AA deadlock",
        "a second lock is taken while one is held{taken}",
        "A program may hold one bpf_spin_lock at a time, since the order of two could deadlock.",
        "One after the other: copy what you need under the first, bpf_spin_unlock(&first->lock); then "
        "bpf_spin_lock(&second->lock); or put both values under one lock.",
        also=(r"^fact: at call bpf_\w*spin_lock\w*$",),
    ),
    Rule(
        "lock_held",
        r"_unlock (?:without|of different|cannot be out)|unmatched (?:rcu|attempt)|cannot be restored",
        "a lock is released that this path does not hold",
        "It was taken on other paths only, is another lock, or was released before.",
        "Take and release it on the same path, once: bpf_spin_lock(&value->lock); … bpf_spin_unlock(&value->lock); "
        "with "
        "the same value.",
    ),
    Rule(
        "lock_held",
        r"function calls are not allowed while holding a lock|(?:helper|function) call[^\n]*(?:spin_lock|lock)-ed",
        "a function is called while a lock is held{taken}",
        "Between bpf_spin_lock and bpf_spin_unlock no call is allowed, of helpers neither.",
        "Move the call before the lock: __u64 now = bpf_ktime_get_ns(); bpf_spin_lock(&value->lock); value->last = "
        "now; "
        "bpf_spin_unlock(&value->lock);",
        also=(r"^fact: at call (?!bpf_spin_lock)",),
    ),
    Rule(
        "lock_held",
        r"global function calls are not allowed (?:while|with)|use static function instead",
        "a global function is called where a lock is held or preemption is off{taken}",
        "A function without static is verified by itself, so what it does under the lock is not known.",
        "Make the function static (static __noinline), or call it after bpf_spin_unlock(&value->lock).",
    ),
    Rule(
        "lock_held",
        r"cannot be used inside (?P<acquirer>bpf_\w+)-ed region|(?P<acquirer__2>bpf_\w+?)(?:-ed)? is missing"
        r"|(?P<acquirer__3>bpf_\w+) is still inside|while holding a lock",
        "the program leaves here while a lock is still held{taken}",
        "Between bpf_spin_lock and bpf_spin_unlock no exit is allowed, on any path; the same holds for RCU, "
        "preemption and "
        "interrupts.",
        "Release before you leave, on this path, too: {give_back}; return 0;",
        also=(r"^fact: at exit$",),
        blame=LEFT,
    ),
    Rule(
        "irq_flag",
        r"irq flag|irq state",
        "the saved state of interrupts is not restored as it was saved",
        "Each bpf_local_irq_save needs its own variable on the stack and its own restore, the last saved first.",
        "Pair them: unsigned long flags; bpf_local_irq_save(&flags); … bpf_local_irq_restore(&flags);",
    ),
    Rule(
        "lock_held",
        r"(?:inside|while holding|in) (?:a )?(?:bpf_)?(?P<what>spin_lock|lock|rcu_read_lock|preempt_disable"
        r"|(?:local_)?irq\w*)(?:-ed|ed)?(?: region)?\b"
        r"|bpf_spin_unlock is missing|(?:bpf_)?(?P<other>rcu_read_lock|preempt_disable|local_irq_save"
        r"|spin_lock) is missing"
        r"|_unlock (?:without|of different|cannot be out)|[Ll]ocking two"
        r"|function calls are not allowed while holding a lock"
        r"|is still inside|(?:unmatched|nested) (?:rcu|attempt)|AA deadlock|preempt_enable\w* (?:is )?missing"
        r"|spin_[{]lock,unlock[}] in rbtree cb|in unnecessary rbtree callback",
        "a lock is still held here, or is not held where it must be",
        "Between bpf_spin_lock and bpf_spin_unlock no call, no exit and no second lock is allowed, on any path.",
        "Release before you leave: bpf_spin_unlock(&value->lock); return 0; and call nothing in between.",
    ),
    Rule(
        "reference_leak",
        r"Unreleased reference id=\d+ alloc_insn=(?P<instruction>\d+)"
        r"|Owned resource \(id=\d+\) was acquired at instruction (?P<instruction__since_7_3>\d+)",
        "what {acquirer} gives here is not released on every path",
        "On the path that the log ends with, the program leaves while it still owns it.",
        "Release it on every path: {give_back}.",
        also=(r"^fact: acquired by (?P<acquirer>\w+)$",),
    ),
    Rule(
        "reference_leak",
        r"Unreleased reference id=\d+ alloc_insn=(?P<instruction>\d+)"
        r"|Owned resource \(id=\d+\) was acquired at instruction (?P<instruction__since_7_3>\d+)",
        "what is acquired here is not released on every path",
        "On the path that the log ends with, the program leaves while it still owns it.",
        "Release it on every path: bpf_ringbuf_submit(event, 0) or bpf_ringbuf_discard(event, 0), bpf_sk_release(sk), "
        "and so on.",
    ),
    Rule(
        "reference_leak",
        r"would lead to reference leak|Resource Lifetime Safety: Unreleased resource|reference leak|Leaking reference",
        "the program leaves, or makes a tail call, while it owns something",
        "A record, a socket or another object was acquired and not released on this path.",
        "Release it on every path: bpf_ringbuf_submit(event, 0) or bpf_ringbuf_discard(event, 0), bpf_sk_release(sk), "
        "and so on.",
    ),
    Rule(
        "reference_not_held",
        r"reference has not been acquired before|must be referenced when passed to release"
        r"|unacquired reference|cannot release unowned|CONST_PTR_TO_DYNPTR cannot be released",
        "something is released that this path does not own",
        "It was released before, or never acquired on this path.",
        "Release once, and only what was acquired: if (sk) bpf_sk_release(sk);",
    ),
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
        also=(r"^fact: at call bpf_dynptr_slice\w*$",),
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
        r"^(?!fact: )[^\n]*dynptr",
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
        r"^(?!fact: )[^\n]*[Aa]rena|addr_space_cast",
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
        also=(r"^fact: at call (?P<call>bpf_(?:\w*printf|strncmp|trace_vprintk))$",),
    ),
    Rule(
        "field_of_map_missed",
        r"R\d+ type=(?P<type>\S+) expected=map_value\b",
        "{call} is given memory of kind {type}, and works on a field of a map's value only",
        "Locks, timers and kernel pointers live in maps, where the kernel finds them by the value's type.",
        "Declare it in the value's struct, look the value up, value = bpf_map_lookup_elem(&map, &key); and give "
        "&value->field.",
        also=(r"^fact: at call (?P<call>bpf_(?:spin|timer|kptr|wq)\w*)$",),
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
    # ---- structure and end of the program
    Rule(
        "return_value_range",
        r"register R0 has smin=(?P<value>-?\d+) smax=(?P=value) "
        r"should have been in (?P<range>[\[(](?P<low>-?\w+)[^\])\n]*[\])])",
        "the value returned is {value}, and only those in {range} are allowed here",
        "What a value means is fixed by the program type, or by the function that calls back; others are refused "
        "before the program ever runs.",
        "Return one of them by name or constant, on every path: return {low};",
        blame=RETURNED,
    ),
    Rule(
        "return_value_range",
        r"(?:At (?P<where>program exit|callback return|async callback return"
        r"|subprogram exit)[^\n]* )?(?:the )?register R0 [^\n]*"
        r"should have been in (?P<range>[\[(](?:0x(?=\d;))?(?P<low>-?\w+)[^\])\n]*[\])])",  # 6.1: (0x0; 0x3)
        "the value returned is not in {range}, the only ones allowed here",
        "What a value means is fixed by the program type; others are refused before the program ever runs.",
        "Return one of them by name or constant, on every path: return {low};",
        blame=RETURNED,
    ),
    Rule(
        "return_value_range",
        r"R0 is not a known value|R0 has (?:unknown scalar )?value|should have been in|can't modify return value",
        "the value returned is not one that this program type allows",
        "What a value means is fixed by the program type; others are refused before the program ever runs.",
        "Return a constant that the type defines, on every path: return 1; or compare before: if (verdict > 1) verdict "
        "= 1;",
        blame=RETURNED,
    ),
    Rule(
        "unreachable_code",
        r"unreachable insn (?P<instruction>\d+)",
        "there is code that no path reaches",
        "The verifier refuses dead code in what is given to it; inline assembly or another compiler left it.",
        "Remove the code behind the jump or the return, in inline assembly the goto that skips it.",
    ),
    Rule(
        "no_exit",
        r"last insn is not an exit or jmp|jump out of range from insn (?P<instruction>\d+)|falls? through"
        r"|subprog\S* doesn't end|call to invalid destination",
        "a function runs past its end",
        "A path has no return; clang leaves that out where the C has none, or where it saw undefined behaviour.",
        "End every path with a return: return 0; and read the compiler's warnings.",
    ),
    Rule(
        "atomic_not_allowed",
        r"(?:BPF_)?(?:ATOMIC|XADD)\w* (?:stores into|loads from) R\d+ ctx",
        "an atomic operation is done on a field of the context, which takes none",
        "The kernel rewrites each access to the context, and only plain reads and writes.",
        "Write it without an atomic operation, skb->mark += 1; (no other program runs on this context meanwhile).",
    ),
    Rule(
        "atomic_not_allowed",
        r"(?:BPF_)?(?:ATOMIC|XADD)\w* (?:stores into|loads from) R\d+ (?P<memory>\S+)",
        "an atomic operation is done on memory of kind {memory}, which takes none",
        "Atomic operations work on map values, globals, the stack and the like; not on the packet, the context or what "
        "belongs to the kernel.",
        "Write it without: *word = *word + 1; where only this program run has the memory; or count in a map's value.",
    ),
    Rule(
        "context_access",
        r"BPF_ST stores into R\d+ ctx",
        "a constant is written into the context, which older kernels do not take",
        "The instruction that stores a constant (BPF_ST) is not allowed on the context before Linux 6.4.",
        "Let the value come from a register: compile with clang -mcpu=v3, or barrier_var(value); ctx->field = value;",
    ),
    Rule(
        "function_pointer",
        r"unknown opcode 8d",
        "a function is called through a pointer",
        "The kernel takes calls of known functions only; the compiler could not tell which one this is.",
        "Call by name: if (kind == 1) one(x); else two(x); or make the pointer constant and the functions "
        "static __always_inline; or use a tail call.",
        blame=START,
    ),
    Rule(
        "division_by_zero",
        r"div by zero|invalid shift -?(?P<bits>\d+)",
        "a number is divided by a constant 0, or shifted by more than its bits",
        "In C this is undefined; the verifier refuses it where the constant stands in the instruction.",
        "Divide by a constant that is not 0, and shift by less than 32 or 64 bits: value >> 31.",
    ),
    Rule(
        "packet_load",
        r"BPF_LD_\[ABS\|IND\]|LD_ABS",
        "the old instruction for packet loads cannot be used here",
        "It takes a socket filter or tc program, the context in R6, and no lock, reference or callback around it.",
        "Load with a helper: bpf_skb_load_bytes(skb, offset, &value, sizeof(value));",
    ),
    Rule(
        "callback_misused",
        r"^(?!fact: )[^\n]*(?:callback|exception cb|bpf_throw)",
        "a function is not called back as the verifier demands: {verdict}",
        "A callback is a static function of the same object, of the type its caller declares; tail calls, exceptions "
        "and "
        "packet loads are not for it.",
        "Give a static function of its own: static int each(__u32 i, void *data) {{ return 0; }} … bpf_loop(10, each, "
        "&data, 0);",
    ),
    Rule(
        "debug_info_broken",
        r"func[_ ]info|line_info|core_relo\[|BTF of func|missing btf|requires prog BTF|id for main subprog",
        "the object's debug information does not fit its code: {verdict}",
        "The kernel compares functions and lines in BTF with the instructions; another tool changed one of them.",
        "Compile anew with clang -g, and link with bpftool gen object instead of changing the object by hand.",
        blame=START,
    ),
    Rule(
        "too_many_parts",
        r"too many (?:different|subprograms)|total number of (?P<what>\w+) per program|only one cgroup storage"
        r"|fd_array has too many",
        "the program uses more functions, maps or modules than the kernel takes",
        "64 maps, 256 functions, 256 kernel functions, and one cgroup storage of each kind are the limits.",
        "Split the program, by tail calls or over several hooks, or merge maps.",
        blame=START,
    ),
    Rule(
        "loader_fault",
        r"^fd -?\d+ is not|fd_idx|fd_array|[Mm]odule BTF|kfunc offset"
        r"|ldimm64 insn specifies|kernel (?:function )?btf_id|kernel func_id|pseudo btf_id|struct_ops map cannot"
        r"|BTF fd for"
        r"|negative offset disallowed|insn_array|jump table|signed program|signature verification|signing keyring"
        r"|excl_prog_hash"
        r"|signed (?:metadata|payload)",
        "the loader gave the kernel something that does not belong to the program: {verdict}",
        "File numbers of maps and BTF, or the signature, do not fit what the instructions name.",
        "Load with a current libbpf; a signed program as its signer made it.",
        blame=START,
    ),
    Rule(
        "unknown_instruction",
        r"unknown (?:opcode|insn class)|uses (?:reserved fields|invalid atomic)|invalid (?:atomic operand|BPF_\S+ "
        r"|bpf_ld_imm64"
        r"|insn idx|may_goto)|R\d+ is invalid|middle of ldimm64|load-acquires|store-releases|patched due to 16-bit"
        r"|r11 load"
        r"|stack arg"
        r"|unrecognized (?:bpf_ld_imm64|insn)"
        r"|BPF_(?:ATOMIC|XADD) stores? into|BPF_\w+ (?:stores|atomics?)[^\n]* not (?:allowed|supported)"
        r"|insn code .* unsupported",
        "the program has an instruction that this kernel does not take here",
        "The compiler wrote for a newer instruction set, or the atomic operation is not for this kind of memory.",
        "Compile for an older set (clang -mcpu=v2, or v3 for atomics), and use atomics on map values only.",
    ),
    Rule(
        "mixed_pointers",
        r"same insn cannot be used with|different maps, paths or scalars",
        "one instruction works on two kinds of pointer, by path",
        "The compiler merged two branches that access different memory.",
        "Keep the branches apart: access in each branch, with a barrier between: barrier_var(pointer);",
    ),
    Rule(
        "bad_replacement",
        r"(?P<name>\w+)\(\) (?:is not a global function|has \d+ args while)|Return type \S+ of \S+ doesn't match"
        r"|arg\d+ in \S+ "
        r"|arg\d+ \w+\(struct|Extension program (?:changes|may|requires)|Program extension|freplace programs with",
        "the program does not fit the function that it is to replace: {verdict}",
        "A freplace program takes the place of a global function with the same arguments and result, and must not do "
        "what "
        "that one may not.",
        "Write it with the very signature of the function, which is neither static nor inlined: "
        'SEC("freplace/handle") int handle_v2(struct xdp_md *ctx).',
        blame=START,
    ),
    Rule(
        "struct_ops_mismatch",
        r"attach to (?:invalid|unsupported) member (?P<name>[\w-]+)|is not a supported struct|struct_ops module"
        r"|struct_ops init(?:_kern)?[ :][^\n]*|struct_ops reloc[^\n]*",
        "the struct_ops do not fit this kernel's: {verdict}",
        "The kernel takes programs for the members only that it declares, by the types it has.",
        "Compare with the kernel's struct (bpftool btf dump file /sys/kernel/btf/vmlinux format c), and leave out "
        "members "
        "that programs may not implement.",
        blame=START,
    ),
    Rule(
        "bad_attach_target",
        r"attach_btf_id \d+ is not|The address of function (?P<name>\S+) cannot be found|is not modifiable"
        r"|can't modify return code"
        r"|Cannot (?:recursively attach|replace|extend)|Subprog \S+ doesn't exist|is not (?:a )?traceable"
        r"|must provide btf_id"
        r"|Attach(?:ing)? [^\n]*(?:denied|rejected|not supported)|Only (?:fentry|FENTRY)|is not (?:static"
        r"|global) function"
        r"|points to (?:disabled|wrong)|attach_btf_id \d+ |The function \S+ (?:has|return|with|arg)"
        r"|not allowed for fmod_ret"
        r"|program can only be attached|Cannot (?:nest|attach)|programs cannot attach|context arguments",
        "the program cannot be attached to its target: {verdict}",
        "The kernel knows the function but does not let this kind of program attach to it.",
        "Choose another function, or another hook (a tracepoint, fexit instead of fmod_ret).",
        blame=START,
    ),
    # ---- libbpf's own words: before the verifier was asked
    Rule(
        "old_libbpf_btf",
        r"Unsupported BTF_KIND[: ]*(?P<kind>\d+)|unrecognized kind (?P<kind__2>\d+)|unsupported BTF_KIND",
        "libbpf on this host is too old to read this kernel's BTF (kind {kind})",
        "The kernel writes a kind of type that this libbpf does not know; it then says that BTF is missing, which is "
        "not so.",
        "Install a newer libbpf on the host.",
        blame=START,
    ),
    Rule(
        "no_kernel_btf",
        r"failed to find valid kernel BTF|[Ee]rror loading vmlinux BTF|kernel BTF is missing at|kernel is missing BTF"
        r"|not supported without CONFIG_DEBUG_INFO_BTF|failed to find BTF for kernel function"
        r"|vmlinux BTF is not (?:found|present)",
        "this kernel shows no BTF, and the program needs it",
        "CO-RE, fentry and LSM programs need the kernel's types, from /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF).",
        "Use a kernel with BTF; for CO-RE alone a BTF file of this very kernel (BTFHub) will do.",
        blame=START,
    ),
    Rule(
        "attach_target_missing",
        r"failed to find kernel BTF type ID of '(?P<name>[^']+)'|BPF program .* BTF ID for '(?P<name__2>[^']+)'",
        "this kernel has no function or hook {name} to attach to",
        "It is not in the kernel's BTF: renamed, inlined, in a module that is not loaded, or of another version.",
        "Give a name that this kernel has: grep it in /sys/kernel/tracing/available_filter_functions, as in "
        "fentry/vfs_read; or, where the object has other programs for other kernels, load those alone (programs).",
        blame=START,
    ),
    Rule(
        "object_without_btf",
        r"BTF is required, but is missing or corrupted",
        "the object has no BTF of its own",
        "Maps in .maps, globals and CO-RE are described in BTF, which the compiler writes only with debug information.",
        "Compile with clang -g, and strip with llvm-strip -g only.",
        blame=START,
    ),
    Rule(
        "kernel_refuses_btf",
        r"BTF is mandatory, can't proceed",
        "this kernel does not take the object's BTF, which the program needs",
        "The compiler wrote a kind of type that is newer than the kernel, or the kernel has no BTF support.",
        "Compile with an older clang or pahole, or use a newer kernel.",
        blame=START,
    ),
    Rule(
        "unknown_section",
        r"missing BPF prog type, check ELF section name '(?P<name>[^']*)'"
        r"|failed to guess program type from ELF section '(?P<name__2>[^']*)'"
        r"|invalid section (?:name )?'(?P<name__3>[^']*)'",
        "libbpf does not know the section {name}",
        "The section's name says what kind of program it is; a typing error, or a name that a newer libbpf knows.",
        'Write a known name, such as SEC("xdp"), SEC("tc") or SEC("fentry/function"), or give the program\'s type.',
        blame=START,
    ),
    Rule(
        "unknown_section",
        r"section '(?P<name>[^']*)' missing|invalid format of section definition '(?P<name__2>[^']*)'",
        "section {name} lacks a part",
        "This kind of section names what it is for after a slash.",
        'Complete it: SEC("uprobe//usr/bin/app:function"), SEC("tp/category/event").',
        blame=START,
    ),
    Rule(
        "program_is_static",
        r"program '(?P<name>[^']+)' is static and not supported",
        "program {name} is static, so nobody can load it",
        "What stands in a section of programs must be visible outside of its file.",
        'Leave out static: SEC("xdp") int {name}(struct xdp_md *ctx). Functions that it calls may be static.',
        blame=START,
    ),
    Rule(
        "struct_ops_mismatch",
        r"struct_ops\"\) program isn't referenced",
        "a struct_ops program stands in no struct of operations",
        "libbpf learns from the struct in .struct_ops which member a program implements.",
        'Name it there: SEC(".struct_ops") struct tcp_congestion_ops ops = {{ .ssthresh = (void *)ssthresh }};',
        blame=START,
    ),
    Rule(
        "map_definition",
        r"map '(?P<map>[^']+)': (?P<why>unsupported map linkage|map type isn't|unknown field|conflicting|attr|invalid"
        r"|should be"
        r"|unexpected|can't determine|multi-level|'\w+' member|key|value|\w+ def|inner def|only single)[^\n]*"
        r"|map '(?P<map__2>[^']+)' BTF data|(?:bad map relo|map relo failed)",
        "libbpf does not take the definition of a map: {verdict}",
        "A map is a variable in section .maps that is not static, described by __uint, __type and __array.",
        "Write it so: struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u32); "
        '__type(value, __u64); }} hits SEC(".maps"); without static.',
        blame=START,
    ),
    Rule(
        "legacy_map",
        r"legacy map definitions in '(?P<section>[^']*)' section are not supported",
        "the object defines its maps in the old way, which libbpf 1.0 and newer refuse",
        'A struct bpf_map_def in SEC("maps") carries no types.',
        "Define it by BTF: struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); "
        '__type(value, __u64); }} hits SEC(".maps");',
        blame=START,
    ),
    Rule(
        "map_mismatch",
        r"couldn't reuse pinned map at '(?P<path>[^']*)': parameter mismatch"
        r"|map '(?P<map>[^']*)': error reusing pinned map",
        "the map that is pinned already differs from the one in the object",
        "Type, sizes, entries or flags differ, so its contents cannot be kept as they are.",
        "Move the contents (on_change: copy or merge), start anew (on_change: reset), or keep the old definition.",
        blame=START,
    ),
    Rule(
        "memlock",
        r"failed to create: (?:Operation not permitted|-1\b|-?EPERM)|RLIMIT_MEMLOCK|ulimit -l",
        "the limit for locked memory is too small for this map or program",
        "Before Linux 5.11 maps and programs count against RLIMIT_MEMLOCK.",
        "Raise it for the loader: LimitMEMLOCK=infinity in its unit, or ulimit -l unlimited.",
        also=(r"^fact: kernel before 5\.11$", r"^fact: errno EPERM$"),
        blame=START,
    ),
    Rule(
        "map_too_big",
        r"map '(?P<map>[^']*)': failed to create[^\n]*: (?:Argument list too long|-?E2BIG|-7\b)",
        "map {map} is larger than the kernel allows",
        "Its key or value is over the kernel's size limit (a few MiB; 32 KiB where per CPU), or entries times "
        "size overflow.",
        "Make the value smaller: split it over several entries; or set a smaller max_entries.",
        blame=START,
    ),
    Rule(
        "map_no_memory",
        r"map '(?P<map>[^']*)': failed to create[^\n]*: (?:Cannot allocate memory|-?ENOMEM|-12\b)",
        "there is not enough memory for map {map}",
        "Entries times size, times possible CPUs for per-CPU maps, is more than the host or its memory cgroup has.",
        "Set a smaller max_entries, or BPF_F_NO_PREALLOC for a hash that stays nearly empty; or give the host more "
        "memory.",
        blame=START,
    ),
    Rule(
        "missing_capability",
        r"map '(?P<map>[^']*)': failed to create[^\n]*: (?:Operation not permitted|-?EPERM|-1\b)",
        "the process may not create map {map}: {capabilities} needed",
        "Maps need CAP_BPF (some kinds CAP_NET_ADMIN or CAP_SYS_ADMIN). libbpf's advice about ulimit -l is wrong since "
        "Linux 5.11.",
        "Give the loader {capabilities}, or load as root outside a container that drops them.",
        blame=START,
    ),
    Rule(
        "map_shape",
        CREATE_EINVAL,
        "map {map} is not defined as its type {type} demands: {demand}",
        "Each type of map has rules of its own; of a breach the kernel says only that the request is invalid.",
        "Define it so: {write}",
        also=(
            r"^fact: demanded: (?P<demand>[^|\n]+) \| (?P<write>[^\n]+)$",
            r"^fact: map type (?!refused)(?P<type>\w+)$",
        ),
        blame=START,
    ),
    Rule(
        "map_unsized",
        CREATE_EINVAL,
        "map {map} has no max_entries: the object leaves it to the loader",
        "Whoever wrote the program sizes this map before the load, by the number of CPUs, tasks or rules on the host.",
        "Size it: maps: {{ {map}: {{ max_entries: 10240 }} }}; or write __uint(max_entries, 10240) in its definition.",
        also=(r"^fact: max_entries 0$",),
        blame=START,
    ),
    Rule(
        "map_unsized",
        CREATE_EINVAL,
        "map {map} has no {size}: the object leaves it to the loader",
        "Whoever wrote the program sets it before the load, such as the depth of the stacks that the map keeps.",
        "Write it into the map's definition: __uint({size}, 127 * sizeof(__u64)) for stack traces, or __type(…).",
        also=(r"^fact: (?P<size>(?:key|value)_size) 0$",),
        blame=START,
    ),
    Rule(
        "inner_map_undefined",
        CREATE_EINVAL,
        "map {map} holds maps, and nothing says of what kind",
        "A map of maps is created with one inner map as the pattern of all; its definition lacks the inner one.",
        "Define it in the outer: __array(values, struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); "
        "__type(key, __u32); __type(value, __u64); }});",
        also=(r"^fact: map type \w+_of_maps$",),
        blame=START,
    ),
    Rule(
        "unsupported_map_type",
        CREATE_EINVAL,
        "this kernel has no maps of type {type}, which map {map} is",
        "A small map of this type was tried as well and refused: the type is newer than the kernel or not configured.",
        "Use a type that this kernel has, such as BPF_MAP_TYPE_HASH, or another kernel.",
        also=(r"^fact: map type (?!refused)(?P<type>\w+)$", r"^fact: map type refused$"),
        blame=START,
    ),
    Rule(
        "unsupported_map_type",
        CREATE_EINVAL,
        "this kernel does not create map {map}: its type is unknown here, or a size or flag does not suit the type",
        "The kernel says no more than that the request is invalid. A map of maps also needs its inner map defined.",
        "Use a type that this kernel has, such as BPF_MAP_TYPE_HASH, with max_entries above 0 (a ring buffer's: pages, "
        "a power of two).",
        blame=START,
    ),
    # ---- a bare errno
    Rule(
        "lockdown",
        r"^fact: errno EPERM$",
        "this host refuses every program of this kind, even the smallest; it is locked down ({level})",
        "Under lockdown some kernels refuse programs that attach by trampoline (fentry, fexit, LSM); libbpf's advice "
        "about ulimit is wrong.",
        "Use a tracepoint, tp_btf/… or raw_tp/…, for the same event, or boot with lockdown=none.",
        also=(
            r"^fact: no verdict$",
            r"^fact: has every capability$",
            r"^fact: program type refused$",
            r"^fact: lockdown (?P<level>integrity|confidentiality)$",
        ),
        blame=START,
    ),
    Rule(
        "lockdown",
        r"^fact: errno EPERM$",
        "the kernel refused without a word; it is locked down ({level}), and the process has what it needs",
        "Under lockdown some kernels refuse programs that attach by trampoline (fentry, fexit, LSM); libbpf's advice "
        "about ulimit is wrong.",
        "Use a tracepoint, tp_btf/… or raw_tp/…, for the same event, or boot with lockdown=none.",
        also=(
            r"^fact: no verdict$",
            r"^fact: has every capability$",
            r"^fact: lockdown (?P<level>integrity|confidentiality)$",
        ),
        blame=START,
    ),
    Rule(
        "denied_by_policy",
        r"^fact: errno EPERM$",
        "the kernel refused without a word, though the process has what it needs",
        "A security module, a seccomp filter, a BPF token or lockdown said no; libbpf's advice about ulimit is wrong "
        "since Linux 5.11.",
        "Look at dmesg and the audit log, at /sys/kernel/security/lockdown, and at the policy of the container or "
        "unit.",
        also=(r"^fact: no verdict$", r"^fact: has every capability$"),
        blame=START,
    ),
    Rule(
        "missing_capability",
        r"^fact: errno EPERM$|Couldn't load trivial BPF program|permission error while running as root",
        "the process may not load this program: it needs {capabilities}",
        "The kernel refused before it looked at the program. libbpf's advice about ulimit -l is wrong since Linux "
        "5.11.",
        "Give the loader {capabilities} (AmbientCapabilities= in its unit, --cap-add for a container), or load as "
        "root.",
        also=(r"^fact: no verdict$",),
        blame=START,
    ),
    Rule(
        "tail_call_incompatible",
        r"^fact: errno EINVAL$",
        "the verifier accepted the program, but the kernel did not: a prog array that it uses belongs to programs of "
        "another type",
        "All programs that use one prog array must have the same type, and JIT, XDP fragments and attach type alike.",
        "Give each program type a prog array of its own, and put only programs of that type into it.",
        also=(r"^fact: verified$",),
        blame=START,
    ),
    Rule(
        "jit_failed",
        r"^fact: errno (?:ENOTSUPP|EOPNOTSUPP|ENOMEM)$",
        "the verifier accepted the program, but it could not be translated to machine code",
        "The JIT of this architecture lacks what the program uses, or had no memory left (net.core.bpf_jit_limit).",
        "Compile for an older instruction set (clang -mcpu=v2), or raise net.core.bpf_jit_limit.",
        also=(r"^fact: verified$",),
        blame=START,
    ),
    Rule(
        "log_too_small",
        r"^fact: errno ENOSPC$",
        "the log did not fit its buffer, so the verdict is not known",
        "Kernels before 6.4 stop writing, and say so by this error.",
        "Load again with a larger log buffer, or without a log.",
        blame=START,
    ),
    Rule(
        "too_many_instructions",
        r"^fact: errno E2BIG$",
        "the program, or what is passed with it, is larger than this kernel takes",
        "One million instructions at most (4096 without CAP_BPF), or an attribute newer than the kernel.",
        "Split it by tail calls, or use bpf_loop(count, body, &state, 0) instead of unrolled loops.",
        also=(r"^fact: no verdict$",),
        blame=START,
    ),
    Rule(
        "no_memory",
        r"^fact: errno ENOMEM$",
        "there is not enough memory to load the program",
        "The host's memory, its cgroup, or net.core.bpf_jit_limit is used up.",
        "Free memory, or raise the cgroup's limit or net.core.bpf_jit_limit.",
        also=(r"^fact: no verdict$",),
        blame=START,
    ),
    Rule(
        "replaced_program_missing",
        r"^fact: errno E(?:INVAL|BADF|NOENT|SRCH)$",
        "a freplace program was loaded without the program whose function it replaces",
        "The kernel asks for a loaded program and for the name of a global function in it.",
        'Give the target before the load, as bpf_program__set_attach_target(prog, fd, "function") does; '
        'SEC("xdp") for a '
        "program that stands alone.",
        also=(r"^fact: no verdict$", r"^fact: section freplace"),
        blame=START,
    ),
    Rule(
        "unsupported_attach_type",
        r"^fact: errno (?:EINVAL|EOPNOTSUPP|ENOTSUPP)$",
        "this kernel does not load programs of section {section}, though it has the program type",
        "It gave no reason: the attach type that the section stands for, or a flag such as sleepable, is newer than "
        "this kernel, or was refused together with what it attaches to.",
        'Use an older section of the same type, such as SEC("tc") for SEC("tcx/ingress"), or a newer kernel.',
        also=(r"^fact: no verdict$", r"^fact: program type loads$"),
        blame=START,
    ),
    Rule(
        "unsupported_program_type",
        r"^fact: errno (?:EINVAL|EOPNOTSUPP|ENOTSUPP)$",
        "this kernel does not load programs of section {section}",
        "It gave no reason: the program type or attach type is not in this kernel's version or configuration.",
        'Use a section that this kernel has, such as SEC("socket") or SEC("xdp"); bpftool feature probe lists them.',
        also=(r"^fact: no verdict$",),
        blame=START,
    ),
)

FALLBACK = Rule(
    "verifier_refused",
    "",
    "the kernel refused the program: {verdict}",
    "This refusal is not in our table; the line quoted is the kernel's own.",
    "Look at this line of the source and at what the registers held; the kernel's words name what it could not prove.",
)

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

# What the kernel demands of each type's definition (map_alloc_check and map_alloc in kernel/bpf, net/core/sock_map.c)
# and refuses with a bare EINVAL: types, how a breach shows, what is demanded, what to write. Sizes of 0 are not among
# them: whoever leaves a size out most often means the loader to set it.
NO_PREALLOC, NO_COMMON_LRU, MMAPABLE = 1 << 0, 1 << 1, 1 << 10  # map_flags
STORAGE = "(?:sk|inode|task|cgrp)_storage"
INDEXED = (
    r"(?:percpu_)?array|(?:prog|perf_event|cgroup)_array|array_of_maps|devmap\w*|cpumap|xskmap|sockmap"
    r"|reuseport_sockarray|stack_trace"
)
DEMANDS = (
    (
        STORAGE,
        lambda shape: not shape.flags & NO_PREALLOC,
        "it needs the flag BPF_F_NO_PREALLOC",
        "__uint(map_flags, BPF_F_NO_PREALLOC);",
    ),
    (STORAGE, lambda shape: shape.key_size not in (0, 4), "its key is an int", "__type(key, int);"),
    (
        STORAGE + "|(?:percpu_)?cgroup_storage",
        lambda shape: shape.max_entries,
        "it has no max_entries, because it grows with what it belongs to",
        "it without max_entries",
    ),
    (
        "(?:percpu_)?cgroup_storage",
        lambda shape: shape.key_size not in (0, 8, 16),
        "its key is the cgroup",
        "__type(key, struct bpf_cgroup_storage_key);",
    ),
    (
        "lpm_trie",
        lambda shape: not shape.flags & NO_PREALLOC,
        "it needs the flag BPF_F_NO_PREALLOC",
        "__uint(map_flags, BPF_F_NO_PREALLOC);",
    ),
    (
        "lpm_trie",
        lambda shape: shape.key_size and not 5 <= shape.key_size <= 260,
        "its key is a __u32 with the prefix's length, then 1 to 256 bytes",
        "__type(key, struct { __u32 prefixlen; __u8 address[4]; });",
    ),
    (
        r"lru_\w+|(?!arena)\w*array\w*|queue|stack|stack_trace|(?:user_)?ringbuf|devmap\w*|cpumap|xskmap|sock\w+",
        lambda shape: shape.flags & NO_PREALLOC,
        "it cannot have the flag BPF_F_NO_PREALLOC",
        "it without that flag",
    ),
    (
        r"(?!lru_)\w+",
        lambda shape: shape.flags & NO_COMMON_LRU,
        "only LRU hashes can have the flag BPF_F_NO_COMMON_LRU",
        "it without that flag",
    ),
    (
        r"(?!array$|arena$|struct_ops$)\w+",
        lambda shape: shape.flags & MMAPABLE,
        "only a plain array can have the flag BPF_F_MMAPABLE",
        "it without that flag, or with type BPF_MAP_TYPE_ARRAY",
    ),
    ("queue|stack|bloom_filter", lambda shape: shape.key_size, "it has no key", "__type(value, …); alone"),
    (
        "(?:user_)?ringbuf",
        lambda shape: shape.key_size or shape.value_size,
        "it has neither key nor value",
        "type and max_entries alone",
    ),
    (
        "(?:user_)?ringbuf",
        lambda shape: shape.max_entries & (shape.max_entries - 1) or shape.max_entries % mmap.PAGESIZE,
        "its max_entries are bytes: pages, in a power of two",
        "__uint(max_entries, 256 * 1024);",
    ),
    (INDEXED, lambda shape: shape.key_size not in (0, 4), "its key is an index of 4 bytes", "__type(key, __u32);"),
    (
        r"(?:prog|perf_event|cgroup)_array|\w+_of_maps|xskmap",
        lambda shape: shape.value_size not in (0, 4),
        "its value is a __u32",
        "__type(value, __u32);",
    ),
    (
        r"devmap\w*|cpumap|sockmap|sockhash|reuseport_sockarray",
        lambda shape: shape.value_size not in (0, 4, 8),
        "its value has 4 or 8 bytes",
        "__type(value, __u32);",
    ),
    (
        "stack_trace",
        lambda shape: shape.value_size % 8,
        "its value is an array of addresses",
        "__uint(value_size, 127 * sizeof(__u64));",
    ),
)
