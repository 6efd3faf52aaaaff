# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The kernel or the loader failed, not the program."""

from __future__ import annotations

from .form import START, Rule

RULES = (
    Rule(
        "loader_killed",
        r"RIP: \w+:(?:do_check|bpf_check|push_stack|check_|maybe_fork|is_state|states_equal)"
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
)
