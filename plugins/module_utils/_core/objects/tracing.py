# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Registers, traced back through a log: facts of what the one that the verdict names held, and what ended that."""

from __future__ import annotations

import re

from . import verifier
from .rules import facts

ENDINGS = (  # what a register held, as the log shows it, the calls that end it, the fact that says so
    (r"\S+\(\S*non_own_ref", r"bpf_\w*(?:spin_unlock\w*|rbtree_remove|list_pop\w*)", facts.lent_until),
    (r"rcu_ptr_", r"bpf_rcu_read_unlock", facts.rcu_left_by),
    (
        r"pkt",  # as bpf_helper_changes_pkt_data in net/core/filter.c
        r"bpf_(?:(?:xdp|skb)_(?:adjust|pull|store|change|vlan)\w*|l\d_csum_replace|clone_redirect|msg_\w+_data|lwt_\w+"
        r"|store_hdr\w*|tail_call)",
        facts.packet_moved_by,
    ),
    (
        r"(?:rd\w+_)?mem\b",
        r"bpf_(?:(?:xdp|skb)_(?:adjust|pull|store|change|vlan)\w*|l\d_csum_replace|dynptr_write)",
        facts.slice_ended_by,
    ),
    (r"(?!pkt|scalar|inv)\w", r"bpf_\w*(?:release|submit|discard|_drop|destroy|_put)\w*", facts.released_by),
)
ENDED = re.compile(
    r"R(\d+) (?:(?:invalid mem access '|type=)(?:scalar|inv|untrusted_ptr)|must be (?:a rcu|referenced))"
)
NUMBER = re.compile(r"R(\d+) (?:invalid mem access '(?:scalar|inv)|type=(?:scalar|inv) expected=\S*ptr_)")
LOAD = re.compile(r"r\d+ = \*\(u64 \*\)\(r(?P<base>\d+) \+(?P<offset>\d+)\)")
TABLE = re.compile(r"map_value\([^)\n]*\bmap=[^,)\n]*\.(?:rodata|data)\b")
COPY = re.compile(r"[rw](?P<to>\d+) = [rw](?P<of>\d+)\s*$")
FILL = re.compile(r"r(?P<to>\d+) = \*\(u64 \*\)\(r10 (?P<of>-\d+)\)")
SPILL = re.compile(r"\*\(u64 \*\)\(r10 (?P<to>-\d+)\) = r(?P<of>\d+)")
SUM = re.compile(r"r\d+ [+-]= ")
WRITE = re.compile(r"[rw](?P<to>\d+) \S*= ")
ACQUIRED = re.compile(r"Unreleased reference id=\d+ alloc_insn=(\d+)|acquired at instruction (\d+)")
GLOBAL = re.compile(r"^Func#\d+ (?:\('(?P<name>\w+)'\) )?is global and (?:assumed )?valid", re.M)
MOVED = (facts.packet_moved_by, facts.slice_ended_by)


def ended(log: str, verdict: verifier.Verdict) -> list:
    """The fact which call ended the pointer that the verdict's register held.

    The log does not say what a global function does, so helpers come first.
    """
    register = _accused(verdict)
    if not register or verdict.position is None:
        return []
    return _ended_by(verifier.CALLED, log, verdict, register) or _ended_by(GLOBAL, log, verdict, register)


def _ended_by(kind, log, verdict, register):
    for call in reversed(list(kind.finditer(log, max(0, verdict.position - verifier.TAIL), verdict.position))):
        name = call["name"] or "the global function"
        ends = [
            (state, fact)
            for state, calls, fact in ENDINGS
            if (fact in MOVED if kind is GLOBAL else re.fullmatch(calls, name))
        ]
        if not ends:
            continue
        made, holder = traced_back(verifier.steps(log, verdict.position, call.end()), register, is_pointer=True)
        if made:
            return []
        held = _shown_before(log, call.start(), holder)
        for state, fact in ends:
            if re.match(state, held):
                return [fact(name)]
    return []


def _accused(verdict):
    """The number of the register that the verdict takes for no pointer where one should be; empty where none."""
    line = (verdict.lines or [""])[0]
    named = ENDED.match(line)
    argument = re.match(r"(?:arg#(?P<index>\d+)|R(?P<number>\d+)) pointer type", line)
    if not argument:
        return named[1] if named else ""
    number = argument["number"] or str(int(argument["index"]) + 1)
    return number if verdict.registers.get(f"R{number}", "").startswith(("scalar", "inv", "untrusted_ptr")) else ""


def argument(log: str, verdict: verifier.Verdict) -> list:
    """The fact which of the program's arguments the verdict's register holds, and where it was read."""
    accused = NUMBER.match((verdict.lines or [""])[0])
    if not accused or verdict.position is None:
        return []
    made, dummy = traced_back(verifier.steps(log, verdict.position), accused[1])
    load = made and LOAD.match(made["text"])
    if not load or not _shown_before(log, made.start(), load["base"]).startswith("ctx"):
        return []
    return [facts.argument(int(load["offset"]) // 8, read_by=made["number"])]


def out_of_table(log: str, verdict: verifier.Verdict) -> list:
    """The fact that the verdict's register holds what was read out of a global variable or table."""
    register = _accused(verdict)
    if not register or verdict.position is None:
        return []
    made, dummy = traced_back(verifier.steps(log, verdict.position), register, is_pointer=True)
    load = made and LOAD.match(made["text"])
    held = _shown_before(log, made.start(), load["base"]) if load else ""
    return [facts.OUT_OF_TABLE] if TABLE.match(held) else []


def _shown_before(log, position, holder):
    """What the log shows last before this place that a register, or a slot of the stack, holds; a number if nothing."""
    name = f"fp{holder}" if holder.startswith("-") else f"R{holder}"
    start = max(0, position - verifier.TAIL)
    states = re.findall(rf"\b{name}(?:_[a-zA-Z]+)?=([a-z]\w*(?:\([^)\n]*\))?)", log[start:position])
    return states[-1] if states else "scalar"


def acquired(log: str, verdict: verifier.Verdict) -> list:
    """The fact which call gave what was not released."""
    found = ACQUIRED.search("\n".join(verdict.lines))
    position = verifier.position(log, int(found[1] or found[2])) if found else None
    call = position is not None and verifier.CALLED.match(log, position)
    return [facts.acquired_by(call["name"])] if call else []


def unresolved(log: str, verdict: verifier.Verdict) -> list:
    """The fact that R0, which the verdict misses, was to come from a weak kfunc that this kernel lacks."""
    if not (verdict.lines or [""])[0].startswith("R0 !read_ok"):
        return []
    calls = [step["text"].strip() for step in verifier.steps(log, verdict.position) if step["opcode"] == verifier.CALL]
    return [facts.UNRESOLVED_CALL] if calls[-1:] == ["call #0"] else []


def traced_back(steps: list, wanted: str, is_pointer: bool = False) -> tuple:
    """(the step that made what this register holds after the steps, or None; the register or slot that held it then).

    What only moved it does not count: copies, spills, functions that were called in between, and a pointer's sums.
    """
    calls = 0  # called functions that we are behind
    for step in reversed(steps):
        text = step["text"]
        if step["opcode"] == verifier.EXIT and wanted != "0":
            calls += 1
        if calls:
            calls -= text.startswith("call pc")
            continue
        moved = COPY.match(text) or FILL.match(text) or SPILL.match(text)
        if is_pointer and SUM.match(text):
            continue
        if moved and moved["to"] == wanted:
            wanted = moved["of"]
        elif wanted in _written(step):
            return step, wanted
    return None, wanted


def _written(step):
    """The numbers of the registers that a step writes; a call clears those of its arguments."""
    if step["opcode"] == verifier.CALL:
        return frozenset("012345")
    found = WRITE.match(step["text"])
    return {found["to"]} if found else frozenset()
