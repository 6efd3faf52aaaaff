# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What the object asks of the kernel by name is not there: fields by CO-RE, kernel functions, symbols, maps."""

from __future__ import annotations

from .form import START, Rule

RULES = (
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
)
