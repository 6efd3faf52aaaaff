# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""libbpf's own words, before the verifier was asked."""

from __future__ import annotations

from .form import START, Rule

RULES = (
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
)
