# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What this kernel can, and what this host lets us do: types, helpers, lockdown, known faults.

A probe has three answers: True, False, and None where it could not be told. A refusal means False only for a process
that has every capability, and for a type that libbpf knows. Nothing is kept: who asks in vain asks once, and what a
module or a mount brings later is seen. What an object needs is not this room's business; what there is for probes to
attach to is targets.py's.
"""

from __future__ import annotations

import os
import re
import struct
from typing import NamedTuple

from . import bpf, libbpf

CAPABILITY_BITS = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}  # linux/capability.h
PROG_TYPES = range(1, 33)  # enum bpf_prog_type up to netfilter (6.4), the last one so far
LOCKDOWN = "/sys/kernel/security/lockdown"
BPF_PROG_LOAD = 5  # enum bpf_cmd
# cgroup_sock_addr, cgroup_sockopt, sk_lookup: types that load with one of their attach types only
NEEDED_ATTACH_TYPES = {18: 10, 25: 21, 30: 36}
CALLED = "(85) call"  # how the verifier's log begins that it looks at a call
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
MORE_THAN_ANY_SIGNED = 1 << 31


class KnownBad(NamedTuple):
    """A fault of certain kernels that hits objects with a certain trait; versions are inclusive.

    traits: `masked loop` (a jump backwards, and a condition turned into a mask), `uprobe`, `huge per-CPU array` (of
    2^31 entries and more).
    """

    first: tuple
    last: tuple
    trait: str
    symptom: str
    source: str
    action: str


KNOWN_BAD = (
    KnownBad(
        (6, 18, 44),
        (6, 18, 44),
        "huge per-CPU array",
        "creating a per-CPU array of 2^31 entries and more ends in an oops (array_map_alloc) and loses memory",
        "measured by ebpf.deploy on 6.18.44; other releases of 6.18 were not tried",
        "refuse",
    ),
    KnownBad(
        (6, 18, 44),
        (6, 18, 44),
        "masked loop",
        "the verifier crashes (maybe_fork_scalars, NULL dereference) on a long loop around a condition that the "
        "compiler turned into a mask; the loader is killed, and the kernel stays damaged until it is rebooted",
        "measured by ebpf.deploy on 6.18.44; other releases of 6.18 were not tried",
        "warn",
    ),
    KnownBad(
        (7, 0, 0),
        (7, 0, 0),
        "uprobe",
        "Ubuntu's 7.0.0 was seen to crash while it ran programs at uprobes that its verifier had accepted",
        "https://github.com/BetterStackHQ/collector/pull/143",
        "warn",
    ),
)


def known_bad(release, traits):
    """The rows of KNOWN_BAD for a kernel of this release (uname -r) and an object with these traits."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    version = tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    return [row for row in KNOWN_BAD if row.first <= version <= row.last and row.trait in traits]


# ---- types and helpers ---------------------------------------------------------------------------


def has_program_type(number):
    """Whether the smallest program of this type loads. None for the types that libbpf does not know."""
    return _answer("libbpf_probe_bpf_prog_type", number)


def has_map_type(number):
    """Whether a small map of this type can be created."""
    return _answer("libbpf_probe_bpf_map_type", number)


def _answer(symbol, number):
    if not libbpf.has(symbol):  # before 0.7
        return None
    try:
        could = libbpf.call(symbol, number, None) == 1
    except OSError:
        return None
    return True if could else (False if has_every_capability() else None)


def program_types_with(helper):
    """The names of the program types that may call this helper here, most of them: tracing and LSM cannot be asked.

    None where it could not be told. The kernel itself is asked: libbpf's own probe took until after 1.1 to know the
    words that 6.6 and newer refuse a helper with.
    """
    answers = {number: accepts_helper(number, helper) for number in PROG_TYPES}
    if True not in answers.values():
        return None
    return [bpf.prog_type_name(number) for number, could in answers.items() if could]


def accepts_helper(program_type, helper):
    """Whether programs of this type may call this helper here; None where the kernel said neither.

    A program that calls it without arguments is given to the verifier, which looks first whether the type has such a
    helper: any complaint after that means yes. Some types (tracing, LSM) it does not get as far with.
    """
    words = _refusal_of_call(program_type, helper)
    if words is None:
        return True
    return not re.search(r"(?:unknown|invalid) func |cannot use helper", words) if CALLED in words else None


def has_helper(number):
    """Whether this kernel knows the helper, for whatever type of program; None where it did not get so far."""
    words = _refusal_of_call(bpf.PROG_XDP, number)
    if words is None:
        return True
    return "invalid func " not in words if CALLED in words else None  # "unknown func": not for this type


def _refusal_of_call(program_type, helper):
    """The verifier's log of a program that does nothing but call a helper; None where it loads."""
    call_and_leave = ((0x85, helper), (0xB7, 0), (0x95, 0))  # call helper; r0 = 0; exit
    instructions = b"".join(struct.pack("=BBhi", code, 0, 0, number) for code, number in call_and_leave)
    code, licence, log = libbpf.buffer(instructions), libbpf.buffer(b"GPL\0"), libbpf.buffer(1 << 14)
    attributes = libbpf.ProgLoadAttr(
        prog_type=program_type,
        insn_cnt=len(call_and_leave),
        insns=libbpf.address(code),
        license=libbpf.address(licence),
        log_level=1,
        log_size=len(log),
        log_buf=libbpf.address(log),
        expected_attach_type=NEEDED_ATTACH_TYPES.get(program_type, 0),
    )
    try:
        bpf.Fd(libbpf.bpf_syscall(BPF_PROG_LOAD, attributes)).close()
        return None
    except OSError:
        return log.value.decode(errors="replace")


# ---- this process and this host ------------------------------------------------------------------


def capabilities():
    """This process's effective capabilities as a number (proc(5), CapEff)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))


def has_capability(name, effective=None):
    """Whether this process has it, or who has the `effective` ones: before 5.8 CAP_SYS_ADMIN was all there was, and it
    still is as good."""
    effective = capabilities() if effective is None else effective
    return any(effective >> CAPABILITY_BITS[each] & 1 for each in (name, "CAP_SYS_ADMIN"))


def has_every_capability():
    """Whether this process has all that any program type asks for."""
    effective = capabilities()
    return all(effective >> CAPABILITY_BITS[name] & 1 for name in CAPABILITY_BITS)


def lockdown():
    """The text of securityfs's lockdown file, as `none [integrity] confidentiality`; empty where it cannot be read.

    Where securityfs is not mounted, it is for a moment: in a mount namespace that this process enters for good. Only
    for a process that is about to end.
    """
    try:
        if not os.path.exists(LOCKDOWN):
            libbpf.call("unshare", CLONE_NEWNS)
            libbpf.call("mount", b"none", b"/", b"", MS_REC | MS_PRIVATE, None)
            libbpf.call("mount", b"securityfs", os.path.dirname(LOCKDOWN).encode(), b"securityfs", 0, None)
        with open(LOCKDOWN, encoding="ascii") as stream:
            return stream.read()
    except OSError:
        return ""
