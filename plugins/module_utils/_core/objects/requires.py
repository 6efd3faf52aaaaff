# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What an object needs of the kernel that is to load it, read from the object alone: the same on every host.

A need is a text, its kind and a name: "program_type xdp", "map_type ringbuf", "helper bpf_loop", "kfunc
bpf_rdonly_cast", "function vfs_read", "lsm_hook file_open", "tracepoint sched_switch", "iterator task", "struct_ops
tcp_congestion_ops", "capability CAP_NET_ADMIN". Whether a host has it is preflight.py's question.

Of weak kfuncs nothing is said: whoever declares them so asks for them at run time.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Optional

from ..kernel import bpf, btf, since
from . import bytecode, child, elf

# Who may load a type beside CAP_BPF: is_net_admin_prog_type and is_perfmon_prog_type in kernel/bpf/syscall.c; without
# any capability socket filters and cgroup_skb, where the host lets everybody. Each was tried on 6.18.
OF_NETWORK = {3, 4, 6, *range(9, 17), 18, 19, 22, 23, 25, 28, 32}
OF_TRACING = {2, 5, 7, 17, 24, 26, 27, 28, 29}
FOR_EVERYBODY = {1, 8}
ATTACH_RAW_TP, ATTACH_ITERATOR = 23, 28  # enum bpf_attach_type

TARGET = re.compile(r"\??(?P<kind>fentry|fexit|fmod_ret|lsm|lsm_cgroup|tp_btf|iter)(?:\.s)?/(?:[^/:]+:)?(?P<name>\w+)")
KINDS = {"lsm": "lsm_hook", "lsm_cgroup": "lsm_hook", "tp_btf": "tracepoint", "iter": "iterator"}  # else a function
STRUCT_OPS = (".struct_ops", ".struct_ops.link")
EXIT, JUMP, JUMP_FAR = 0x95, 0x05, 0x06
JUMP_CLASSES = (5, 6)
JUMP_BY_REGISTER = 0x0D  # where it leads the bytecode does not show


def names(
    data: bytes, spec: elf.ObjectSpec, chosen: Optional[Collection] = None, tuned: elf.Tuning = elf.UNTUNED
) -> dict:
    """{need: the programs and maps that have it}, sorted, of an object or, where there is no data, of its spec alone.

    `spec` is elf.ObjectSpec once tuned, `chosen` the programs to load. What damaged bytes do not tell is left out.
    """
    programs = [program for program in spec.programs if chosen is None or program.name in chosen]
    rows = [row for program in programs for row in _of_program(program, tuned)]
    rows += [(f"map_type {shape.type_name}", shape.name) for shape in spec.maps]
    if data:
        rows += child.answer_of(lambda: _of_bytes(data, [program.name for program in programs]), "open")
    found = {}
    for need, user in rows:
        found.setdefault(need, set()).add(user)
    return {need: sorted(found[need] - {""}) for need in sorted(found)}


def unconditional_call(data: bytes, program: str, helper: int) -> Optional[dict]:
    """{"source": file, line, text, or None} of a call of this helper that every run of the program makes; else None.

    The verifier follows no branch that it knows will not be taken, so a call behind one may be there for other kernels.
    """
    return child.answer_of(lambda: _unconditional(data, program, helper), "open")


def _of_program(program, tuned):
    yield f"program_type {bpf.prog_type_name(program.type)}", program.name
    if program.type not in FOR_EVERYBODY:
        yield "capability CAP_BPF", program.name
    if program.type in OF_NETWORK:
        yield "capability CAP_NET_ADMIN", program.name
    if program.type in OF_TRACING:
        yield "capability CAP_PERFMON", program.name
    target = _target(program, {row[0]: row[3:] for row in tuned.programs}.get(program.name, ("", "")))
    if target:
        yield target, program.name


def _target(program, given):
    """What of the kernel a program is loaded for; empty for a function of another program, and for other types."""
    function, pinned = given
    if pinned or program.type not in (bpf.PROG_TRACING, bpf.PROG_LSM):
        return ""
    if function:
        by_attach = {ATTACH_RAW_TP: "tracepoint", ATTACH_ITERATOR: "iterator"}
        kind = "lsm_hook" if program.type == bpf.PROG_LSM else by_attach.get(program.expected_attach_type, "function")
        return f"{kind} {function}"
    found = TARGET.fullmatch(program.section)
    return f"{KINDS.get(found['kind'], 'function')} {found['name']}" if found else ""


# ---- in the child ----------------------------------------------------------------------------------


def _of_bytes(data, programs):
    try:
        image = bytecode.Image(data)
        return [*_helpers(image, programs), *_kfuncs(image), *_struct_ops(image)]
    except (ValueError, OSError):
        return []


def _helpers(image, programs):
    for program in programs:
        for function in image.functions_of(program):
            for instruction, (opcode, dummy, source, dummy, number) in _code(image, function):
                if _is_helper(image, function, instruction, opcode, source):
                    yield f"helper {since.helper_name(number)}", program


def _kfuncs(image):
    """All that the object calls: libbpf resolves those too of programs that are not to be loaded."""
    for function in image.functions():
        for instruction, (opcode, dummy, source, dummy, dummy) in _code(image, function):
            symbol = image.reference(function.section, instruction) if opcode == bytecode.CALL and source else None
            if symbol and not symbol.section and not symbol.is_weak:
                yield f"kfunc {_essential(symbol.name)}", ""


def _struct_ops(image):
    for section in image.sections:
        if section.name in STRUCT_OPS:
            types = btf.parse(image.bytes_of(".BTF"))
            for field in types.fields(types.find(section.name, "datasec") or 0):
                yield f"struct_ops {_essential(types.type(types.resolve(field.type)).name)}", ""


def _essential(name):
    """What the kernel calls it: tcp_congestion_ops___old is one of several forms of it to libbpf."""
    return name.partition("___")[0]


def _is_helper(image, function, instruction, opcode, source):
    return (opcode, source) == (bytecode.CALL, 0) and image.reference(function.section, instruction) is None


def _code(image, function):
    """(number, instruction) of a function, the second halves of those of 16 bytes left out."""
    code, at = image.code(function.section), function.start
    while at < min(function.end, len(code)):
        yield at, code[at]
        at += 2 if code[at][0] == bytecode.LOAD_ADDRESS else 1


def _unconditional(data, program, helper):
    try:
        image = bytecode.Image(data)
        functions = image.functions_of(program)
        for function in functions:
            for instruction, (opcode, dummy, source, dummy, number) in _code(image, function):
                is_it = number == helper and _is_helper(image, function, instruction, opcode, source)
                if is_it and not _ends_without(image, functions[0], (function.section, instruction), {}):
                    return {"source": _source(image.line(function.section, instruction))}
    except (ValueError, OSError):
        pass
    return None


def _source(line):
    return {"file": line.file, "line": line.line, "text": line.text} if line else None


def _ends_without(image, function, avoided, known):
    """Whether some way leads from the function's start to one of its ends past this instruction."""
    if function in known:
        return known[function]
    known[function] = True  # recursion, which no verifier takes
    waiting, seen = [function.start], set()
    ends = False
    while waiting and not ends:
        at = waiting.pop()
        if at in seen or (function.section, at) == avoided:
            continue
        seen.add(at)
        following = _following(image, function, at, avoided, known)
        ends = following is None
        waiting += following or ()
    known[function] = ends
    return ends


def _following(image, function, at, avoided, known):
    """The instructions that may come after this one; None where the function may end here."""
    code = image.code(function.section)
    if not function.start <= at < min(function.end, len(code)):
        return None
    opcode, dummy, source, offset, number = code[at]
    if opcode in (EXIT, JUMP_BY_REGISTER) or (
        opcode == bytecode.CALL and source and _may_not_return(image, function, at)
    ):
        return None
    if opcode == bytecode.CALL:
        called = image.called(function.section, at)
        return [at + 1] if called is None or _ends_without(image, called, avoided, known) else []
    if opcode in (JUMP, JUMP_FAR):
        return [at + 1 + (offset if opcode == JUMP else number)]
    after = at + (2 if opcode == bytecode.LOAD_ADDRESS else 1)
    return [after, at + 1 + offset] if opcode & 7 in JUMP_CLASSES else [after]


def _may_not_return(image, function, at):
    """A kfunc: bpf_throw does not."""
    symbol = image.reference(function.section, at)
    return symbol is not None and not symbol.section
