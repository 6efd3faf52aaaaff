# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The verifier's words on the program as a whole: what it returns, its instructions and parts, its target."""

from __future__ import annotations

from .form import RETURNED, START, Rule

RULES = (
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
        r"callback|exception cb|bpf_throw",
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
)
