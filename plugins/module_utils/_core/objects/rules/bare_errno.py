# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The kernel gave an errno and no word."""

from __future__ import annotations

from . import facts
from .form import START, Rule

MISSING_CAPABILITY = Rule(
    "missing_capability",
    "Couldn't load trivial BPF program|permission error while running as root",
    "the process may not load this program: it needs {capabilities}",
    "The kernel refused before it looked at the program. libbpf's advice about ulimit -l is wrong since Linux 5.11.",
    "Give the loader {capabilities} (AmbientCapabilities= in its unit, --cap-add for a container), or load as root.",
    when=(facts.NO_VERDICT,),
    blame=START,
)

RULES = (
    Rule(
        "lockdown",
        "",
        "this host refuses every program of this kind, even the smallest; it is locked down ({level})",
        "Under lockdown some kernels refuse programs that attach by trampoline (fentry, fexit, LSM); libbpf's advice "
        "about ulimit is wrong.",
        "Use a tracepoint, tp_btf/… or raw_tp/…, for the same event, or boot with lockdown=none.",
        when=(
            facts.errno("EPERM"),
            facts.NO_VERDICT,
            facts.HAS_EVERY_CAPABILITY,
            facts.PROGRAM_TYPE_REFUSED,
            facts.lockdown("integrity", "confidentiality"),
        ),
        blame=START,
    ),
    Rule(
        "lockdown",
        "",
        "the kernel refused without a word; it is locked down ({level}), and the process has what it needs",
        "Under lockdown some kernels refuse programs that attach by trampoline (fentry, fexit, LSM); libbpf's advice "
        "about ulimit is wrong.",
        "Use a tracepoint, tp_btf/… or raw_tp/…, for the same event, or boot with lockdown=none.",
        when=(
            facts.errno("EPERM"),
            facts.NO_VERDICT,
            facts.HAS_EVERY_CAPABILITY,
            facts.lockdown("integrity", "confidentiality"),
        ),
        blame=START,
    ),
    Rule(
        "denied_by_policy",
        "",
        "the kernel refused without a word, though the process has what it needs",
        "A security module, a seccomp filter, a BPF token or lockdown said no; libbpf's advice about ulimit is wrong "
        "since Linux 5.11.",
        "Look at dmesg and the audit log, at /sys/kernel/security/lockdown, and at the policy of the container or "
        "unit.",
        when=(facts.errno("EPERM"), facts.NO_VERDICT, facts.HAS_EVERY_CAPABILITY),
        blame=START,
    ),
    MISSING_CAPABILITY,
    MISSING_CAPABILITY._replace(pattern="", when=(facts.errno("EPERM"), facts.NO_VERDICT)),
    Rule(
        "tail_call_incompatible",
        "",
        "the verifier accepted the program, but the kernel did not: a prog array that it uses belongs to programs of "
        "another type",
        "All programs that use one prog array must have the same type, and JIT, XDP fragments and attach type alike.",
        "Give each program type a prog array of its own, and put only programs of that type into it.",
        when=(facts.errno("EINVAL"), facts.VERIFIED),
        blame=START,
    ),
    Rule(
        "jit_failed",
        "",
        "the verifier accepted the program, but it could not be translated to machine code",
        "The JIT of this architecture lacks what the program uses, or had no memory left (net.core.bpf_jit_limit).",
        "Compile for an older instruction set (clang -mcpu=v2), or raise net.core.bpf_jit_limit.",
        when=(facts.errno("ENOTSUPP", "EOPNOTSUPP", "ENOMEM"), facts.VERIFIED),
        blame=START,
    ),
    Rule(
        "log_too_small",
        "",
        "the log did not fit its buffer, so the verdict is not known",
        "Kernels before 6.4 stop writing, and say so by this error.",
        "Load again with a larger log buffer, or without a log.",
        when=(facts.errno("ENOSPC"),),
        blame=START,
    ),
    Rule(
        "too_many_instructions",
        "",
        "the program, or what is passed with it, is larger than this kernel takes",
        "One million instructions at most (4096 without CAP_BPF), or an attribute newer than the kernel.",
        "Split it by tail calls, or use bpf_loop(count, body, &state, 0) instead of unrolled loops.",
        when=(facts.errno("E2BIG"), facts.NO_VERDICT),
        blame=START,
    ),
    Rule(
        "no_memory",
        "",
        "there is not enough memory to load the program",
        "The host's memory, its cgroup, or net.core.bpf_jit_limit is used up.",
        "Free memory, or raise the cgroup's limit or net.core.bpf_jit_limit.",
        when=(facts.errno("ENOMEM"), facts.NO_VERDICT),
        blame=START,
    ),
    Rule(
        "replaced_program_missing",
        "",
        "a freplace program was loaded without the program whose function it replaces",
        "The kernel asks for a loaded program and for the name of a global function in it.",
        'Give the target before the load, as bpf_program__set_attach_target(prog, fd, "function") does; '
        'SEC("xdp") for a '
        "program that stands alone.",
        when=(facts.errno("EINVAL", "EBADF", "ENOENT", "ESRCH"), facts.NO_VERDICT, facts.section("freplace.*")),
        blame=START,
    ),
    Rule(
        "unsupported_attach_type",
        "",
        "this kernel does not load programs of section {section}, though it has the program type",
        "It gave no reason: the attach type that the section stands for, or a flag such as sleepable, is newer than "
        "this kernel, or was refused together with what it attaches to.",
        'Use an older section of the same type, such as SEC("tc") for SEC("tcx/ingress"), or a newer kernel.',
        when=(facts.errno("EINVAL", "EOPNOTSUPP", "ENOTSUPP"), facts.NO_VERDICT, facts.PROGRAM_TYPE_LOADS),
        blame=START,
    ),
    Rule(
        "unsupported_program_type",
        "",
        "this kernel does not load programs of section {section}",
        "It gave no reason: the program type or attach type is not in this kernel's version or configuration.",
        'Use a section that this kernel has, such as SEC("socket") or SEC("xdp"); bpftool feature probe lists them.',
        when=(facts.errno("EINVAL", "EOPNOTSUPP", "ENOTSUPP"), facts.NO_VERDICT),
        blame=START,
    ),
)
