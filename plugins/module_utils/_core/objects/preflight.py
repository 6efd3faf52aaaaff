# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What is told before the kernel is asked, because its own answer would come too late: at attach, or as a crash.

A kprobe on a missing function loads, and only attaching fails; a kernel with a known fault gives no answer at all; and
of several things that it lacks the kernel names the first. All else that it refuses at load is asked of it first, and
explained by refusals.py.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection
from typing import Optional

from ..errors import Unprivileged, Unsupported
from ..kernel import bpf, features, libbpf, since, targets
from . import elf, requires

PERCPU_ARRAY = 6

# Never asked for: every kernel from 5.8 on has them, or (tracing, ext, lsm, struct_ops) no probe tells under lockdown.
# Numbers of enum bpf_prog_type and bpf_map_type.
PROGRAM_TYPES_NOT_ASKED = {*range(1, 9), 17, 26, 27, 28, 29}
MAP_TYPES_NOT_ASKED = {*range(1, 14), 22, 23, 26, 27}
TYPES = {  # kind of need -> numbers by name, those not asked for, the probe, the release that brought a number
    "program_type": (bpf.prog_types, PROGRAM_TYPES_NOT_ASKED, features.has_program_type, since.program_type),
    "map_type": (bpf.map_types, MAP_TYPES_NOT_ASKED, features.has_map_type, since.map_type),
}
IN_BTF = {  # kind of need -> how its name begins in the kernel's BTF
    "kfunc": "",
    "function": "",
    "lsm_hook": "bpf_lsm_",
    "tracepoint": "btf_trace_",
    "iterator": "bpf_iter_",
    "struct_ops": "bpf_struct_ops_",
}
TARGET_ADVICE = "Give a name that this kernel has, or load the object's other programs alone (programs)"
MISSING = {  # kind of need -> the diagnosis that the kernel's own refusal has, what helps
    "program_type": (
        "unsupported_program_type",
        "Use a section that this kernel has, or load the object's other programs alone (programs)",
    ),
    "map_type": ("unsupported_map_type", "Use a type that this kernel has, such as BPF_MAP_TYPE_HASH"),
    "helper": (
        "unknown_helper",
        "Ask before the call: if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_name)) …; else use an older "
        "helper",
    ),
    "kfunc": (
        "kfunc_missing",
        "Declare the kfunc weak and ask before the call: extern … __ksym __weak; if (!bpf_foo) return 0",
    ),
    "function": ("attach_target_missing", TARGET_ADVICE),
    "lsm_hook": ("attach_target_missing", TARGET_ADVICE),
    "tracepoint": ("attach_target_missing", TARGET_ADVICE),
    "iterator": ("attach_target_missing", TARGET_ADVICE),
    "struct_ops": ("attach_target_missing", "Leave the struct out, or take a kernel that has it"),
    "capability": ("missing_capability", "Give the loader what it lacks, or load as root outside a container"),
}
JUMPS, LEAVING = (5, 6), (0x80, 0x90)  # instruction classes JMP and JMP32; operations call and exit
MASKING = (0x84, 0x87, 0xC4, 0xC7)  # -x, and x >> n with sign: how clang writes a condition as a mask of ones or zeros
PROBE = re.compile(
    r"\??(?P<kind>k(?:ret)?probe(?:\.multi|\.session)?|u(?:ret)?probe(?:\.multi|\.session)?(?:\.s)?|tp|tracepoint"
    r"|raw_tp|raw_tracepoint)(?:\.w)?/(?P<target>.+)"
)


def warnings(
    data: bytes, name: str = "object", programs: Optional[Collection] = None, tuned: elf.Tuning = elf.UNTUNED
) -> list:
    """Sentences on what would fail later on this host; `programs` and `tuned` as for elf.load.

    Unsupported where the kernel has a fault that this object would hit.
    """
    return elf.ask(data, name, lambda opened: _warnings(opened, programs), tuned)


def expect_offered(needs: dict, data: bytes = b"") -> None:
    """This host has what an object needs (requires.names); Unsupported names all that it lacks, and nothing is loaded.

    Unprivileged where it is capabilities alone. Where a probe cannot tell, nothing is said, and the kernel itself is
    asked next.
    """
    lacking = [_lacking(need, needs[need], data) for need in _unoffered(needs)]
    lacking = [row for row in lacking if row]
    if not lacking:
        return
    codes = {row["diagnosis"] for row in lacking}
    kind = Unprivileged if codes == {"missing_capability"} else Unsupported
    raise kind(
        f"This host lacks what the object needs: {'; '.join(map(_sentence, lacking))}",
        ". ".join(dict.fromkeys(MISSING[row["kind"]][1] for row in lacking)),
        diagnosis=codes.pop() if len(codes) == 1 else "features_missing",
        missing=lacking,
        program=next((user for row in lacking for user in row["needed_by"] if row["kind"] != "map_type"), ""),
        source=next((row["source"] for row in lacking if row["source"]), None),
        kernel=os.uname().release,
    )


def _unoffered(needs):
    """The needs that this host was found not to have."""
    named = {need: IN_BTF[kind] + name for need, kind, name in _split(needs) if kind in IN_BTF}
    unknown = targets.types_unknown_to_btf(set(named.values()))
    asked = {
        "program_type": lambda name: _has_type("program_type", name),
        "map_type": lambda name: _has_type("map_type", name),
        "helper": _has_helper,
        "capability": features.has_capability,
    }
    return [
        need
        for need, kind, name in _split(needs)
        if (named[need] in unknown if need in named else asked[kind](name) is False)
    ]


def _split(needs):
    return [(need, *need.split(" ", 1)) for need in needs]


def _has_type(kind, name):
    dummy, not_asked, has, dummy = TYPES[kind]
    number = _type_number(kind, name)
    return None if number is None or number in not_asked else has(number)


def _type_number(kind, name):
    return int(name[len("type ") :]) if name.startswith("type ") else TYPES[kind][0]().get(name)


def _has_helper(name):
    number = since.helper_number(name)
    return None if number <= since.LAST_OF_5_8 else features.has_helper(number)


def _lacking(need, users, data):
    """What is said of a need that this host does not have; None where the object may do without it."""
    kind, name = need.split(" ", 1)
    call = None
    if kind == "helper":
        calls = ((user, requires.unconditional_call(data, user, since.helper_number(name))) for user in users)
        users, call = next((([user], found) for user, found in calls if found), ([], None))
        if call is None:
            return None
    near = targets.nearest(name, targets.functions()) if kind == "function" else []
    row = {"kind": kind, "name": name, "since": _since(kind, name), "needed_by": users, "near": near}
    return {**row, "source": call and call["source"], "diagnosis": MISSING[kind][0]}


def _since(kind, name):
    if kind in TYPES:
        return TYPES[kind][-1](_type_number(kind, name) or 0)
    if kind == "helper":
        return since.helper(since.helper_number(name))
    return since.kfunc(name) if kind == "kfunc" else ""


def _sentence(row):
    source = row["source"]
    details = [
        f"came with Linux {row['since']}" if row["since"] else "",
        f"for {', '.join(row['needed_by'])}" if row["needed_by"] else "",
        f"{source['file']}:{source['line']}" if source else "",
        f"near it are {', '.join(row['near'])}" if row["near"] else "",
    ]
    about = ", ".join(filter(None, details))
    return f"{row['kind'].replace('_', ' ')} {row['name']}" + (f" ({about})" if about else "")


# ---- in the child ----------------------------------------------------------------------------------


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
    functions = targets.functions() if any(kind.startswith("k") for kind, dummy in probes.values()) else set()
    if functions and not targets.has_probes("kprobe"):
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
        return f"this kernel has no tracepoint {target}" if targets.has_raw_tracepoint(target) is False else ""
    category, dummy, event = target.partition("/")
    return f"this kernel has no event {target}" if targets.has_tracepoint(category, event) is False else ""


def _missing_function(name, functions):
    if targets.matching(name, functions):
        return ""
    near = targets.nearest(name, functions)
    return f"this kernel has no function {name}" + (f"; near it are {', '.join(near)}" if near else "")
