# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What is told before the kernel is asked, because its own answer would come too late: at attach, or as a crash.

A kprobe on a missing function loads, and only attaching fails; a kernel with a known fault gives no answer at all. What
the kernel refuses at load is asked of it first, and explained by refusals.py.
"""

from __future__ import annotations

import os
import re
import struct

from ..errors import Unsupported
from ..kernel import features, libbpf
from . import elf

PERCPU_ARRAY = 6
JUMPS, LEAVING = (5, 6), (0x80, 0x90)  # instruction classes JMP and JMP32; operations call and exit
MASKING = (0x84, 0x87, 0xC4, 0xC7)  # -x, and x >> n with sign: how clang writes a condition as a mask of ones or zeros
PROBE = re.compile(
    r"\??(?P<kind>k(?:ret)?probe(?:\.multi|\.session)?|u(?:ret)?probe(?:\.multi|\.session)?(?:\.s)?|tp|tracepoint"
    r"|raw_tp|raw_tracepoint)(?:\.w)?/(?P<target>.+)"
)


def warnings(data, name="object", programs=None, tuned=elf.UNTUNED):
    """Sentences on what would fail later on this host; `programs` and `tuned` as for elf.load.

    Unsupported where the kernel has a fault that this object would hit.
    """
    return elf.ask(data, name, lambda opened: _warnings(opened, programs), tuned)


# ---- in elf.py's child ---------------------------------------------------------------------------


def _warnings(opened, chosen):
    wanted = {
        libbpf.call("bpf_program__name", program): program
        for program in opened.programs()
        if chosen is None or libbpf.call("bpf_program__name", program) in chosen
    }
    sections = {name: libbpf.call("bpf_program__section_name", program) for name, program in wanted.items()}
    return [*_faults(_traits(opened, wanted.values(), sections.values())), *_missing_targets(sections)]


def _faults(traits):
    release = os.uname().release
    rows = features.known_bad(release, traits)
    for row in rows:
        if row.action == "refuse":
            raise Unsupported(
                f"This kernel ({release}) has a fault that the object would hit: {row.symptom}",
                "Change that, or boot another kernel",
                diagnosis="known_bad_kernel",
                known_from=row.source,
                kernel=release,
            )
    return [
        f"This kernel ({release}) has a fault that the object may hit: {row.symptom} ({row.source})" for row in rows
    ]


def _traits(opened, programs, sections):
    """The traits that features.KNOWN_BAD goes by. Of functions outside a program's own section nothing is seen."""
    huge = [
        libbpf.call("bpf_map__max_entries", pointer) >= features.MORE_THAN_ANY_SIGNED
        for pointer in opened.maps()
        if libbpf.call("bpf_map__type", pointer) == PERCPU_ARRAY
    ]
    return {
        *(["huge per-CPU array"] if any(huge) else []),
        *(["uprobe"] if any(re.match(r"\??u(?:ret)?probe|\??usdt", section) for section in sections) else []),
        *(["masked loop"] if any(map(_has_masked_loop, programs)) else []),
    }


def _has_masked_loop(program):
    if not libbpf.has("bpf_program__insns"):
        return False
    count = libbpf.call("bpf_program__insn_cnt", program)
    code = libbpf.read(libbpf.call("bpf_program__insns", program), 8 * count)
    rows = list(struct.iter_unpack("=BBhi", code))
    jumps = [offset for opcode, dummy, offset, number in rows if opcode & 7 in JUMPS and opcode & 0xF0 not in LEAVING]
    return any(offset < 0 for offset in jumps) and any(row[0] in MASKING for row in rows)


def _missing_targets(sections):
    """A sentence for each program whose probe would find nothing to attach to."""
    probes = {name: PROBE.fullmatch(section) for name, section in sections.items()}
    probes = {name: (found["kind"], found["target"]) for name, found in probes.items() if found}
    functions = features.functions() if any(kind.startswith("k") for kind, dummy in probes.values()) else set()
    if functions and not features.has_kprobes():
        return [
            "This kernel places no kprobes (CONFIG_KPROBES), so attaching would fail: "
            + ", ".join(name for name, (kind, dummy) in probes.items() if kind.startswith("k"))
        ]
    told = [(name, _missing(kind, target, functions)) for name, (kind, target) in probes.items()]
    return [f"Attaching {name} would fail: {sentence}" for name, sentence in told if sentence]


def _missing(kind, target, functions):
    if kind.startswith("k"):
        return _missing_function(target.partition("+")[0], functions)
    if kind.startswith("u"):
        path = target.partition(":")[0]
        return f"there is no file {path}" if path.startswith("/") and not os.path.exists(path) else ""
    if kind.startswith("raw"):
        return f"this kernel has no tracepoint {target}" if features.has_raw_tracepoint(target) is False else ""
    category, dummy, event = target.partition("/")
    return f"this kernel has no event {target}" if features.has_tracepoint(category, event) is False else ""


def _missing_function(name, functions):
    if features.matching(name, functions):
        return ""
    near = features.nearest(name, functions)
    return f"this kernel has no function {name}" + (f"; near it are {', '.join(near)}" if near else "")
