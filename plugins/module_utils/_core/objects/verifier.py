# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A verifier's log, read: what it said last and where, what the registers held, its figures.

Logs grow to 55 MB, and the verdict stands at the end: the tail is read line by line, what lies before it only searched.
Both forms are read, that of Linux 5.8 to 7.2 and that with headings of 7.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, Optional

TAIL = 1 << 18
EXCERPT_LINES, EXCERPT_BYTES = 40, 8192
INSTRUCTION = re.compile(r"^(?P<number>\d+): (?:\((?P<opcode>[0-9a-f]{2})\) |<invalid )")
SOURCE = re.compile(r"^(?:; |(?P<number>\d+): )(?P<text>[^\n]*?) ?@ (?P<file>[^\s:]+):(?P<line>\d+)$")
ONE_REGISTER = re.compile(
    r"(?:^|\s)(?P<name>R\d+|fp-\d+)(?:_[a-zA-Z]+)?=(?P<state>.*?)(?=\s(?:R\d+|fp-\d+)\w*=|\s(?:refs|cb)=|$)"
)
CALL, EXIT = "85", "95"
STEP = re.compile(r"^(?P<number>\d+): \((?P<opcode>[0-9a-f]{2})\) (?P<text>[^;\n]*)", re.M)
CALLED = re.compile(r"^\d+: \(85\) call (?P<name>[a-z]\w+)#", re.M)
CLEARED_BY_CALL = frozenset(("R1", "R2", "R3", "R4", "R5"))
TALK = re.compile(  # what the verifier says on its way, and what belongs to its count
    r"^(?:; |;$|\(\d+(?:,\d+)*\) (?:frame|live) |from \d+ to|last_idx |"
    r"regs=|parent |mark_precise|propagating|caller:|callee:|returning from|to caller|"
    r"frame ?\d+: (?:propagating|regs=)|frame\d+ bpf_loop|force_precise|marking pointer|(?:cur|old) state:|"
    r"[Vv]alidating |[Ff]unc#\d+ |verification time|stack depth \d|processed \d+ insns|"
    r"\s*(?:frame\d+: ?)?(?:R\d+\w*|fp-\d+)=|\s*$)"
    r"|^\d+: (?:frame\d+: ?)?R\d+\w*=|: safe$|^(?:Live regs before insn|\s+\d+: [\d.]{10,} )"
)
FIGURES = re.compile(
    r"^processed (?P<processed_insns>\d+) insns(?: \(limit (?P<limit>\d+)\))?(?: max_states_per_insn"
    r" (?P<max_states_per_insn>\d+))?(?: total_states (?P<total_states>\d+))?(?: peak_states (?P<peak_states>\d+))?",
    re.M,
)
STACK = re.compile(r"^stack depth (?P<depths>\d+(?:\+\d+)*)", re.M)
TIME = re.compile(r"^verification time (\d+) usec", re.M)
HEADLINE = "\nVerification failed: "
HEADING = re.compile(r"^(Reason|At|Active lock|Causal path|Suggestion|[A-Z][a-z]+(?: [a-z]+)*):$")
NOISE = re.compile(
    r"Retrying without BTF|BTF is optional, ignoring|skipping (?:unrecognized|relo) |Failed to bump RLIMIT_MEMLOCK"
)


class Verdict(NamedTuple):
    """What the tail of a log says: the lines after the last instruction, where that is, and how it stood then."""

    lines: list
    position: int | None
    instruction: int | None
    is_exit: bool
    call: str
    registers: dict


def stats(log: str) -> dict:
    """The verifier's figures out of a log of a load that went well or not; empty where there are none.

    `stack_depths` has one number for each function, the program's own first, `stack_depth` is the largest of them.
    Beside them processed_insns, limit, max_states_per_insn, total_states, peak_states and verification_usec.
    """
    tail = log[-4096:]
    counts = list(FIGURES.finditer(tail))
    if not counts:
        return {}
    figures = {name: int(value) for name, value in counts[-1].groupdict().items() if value is not None}
    depths = STACK.search(tail)
    if depths:
        figures["stack_depths"] = [int(depth) for depth in depths["depths"].split("+")]
        figures["stack_depth"] = max(figures["stack_depths"])
    took = TIME.search(tail)
    if took:
        figures["verification_usec"] = int(took[1])
    return figures


def has_steps(log: str) -> bool:
    """Whether a log shows instructions, and not the verifier's last words alone."""
    return bool(STEP.search(log))


def apart(log: str, libbpf_log: Iterable) -> tuple:
    """(the verifier's log, libbpf's own lines): libbpf prints a log that nobody took among its own lines."""
    text = "\n".join(libbpf_log)
    begin = text.find("-- BEGIN PROG LOAD LOG --")
    if begin >= 0:
        end = text.find("-- END PROG LOAD LOG --", begin)
        end = len(text) if end < 0 else end
        log = log or text[begin:end].partition("\n")[2]
        text = text[: text.rfind("\n", 0, begin) + 1] + text[end:].partition("\n")[2]
    if "-- BEGIN PROG LOAD LOG --" in log[:4096]:
        log = log.partition("-- BEGIN PROG LOAD LOG --\n")[2].partition("-- END PROG LOAD LOG --")[0]
    if log.startswith("libbpf: "):  # what was given as the log is no verifier's
        log, text = "", text or log
    lines = [line.removeprefix("libbpf: ").rstrip() for line in text.splitlines()]
    return log, [line for line in lines if line and not NOISE.search(line)]


def verdict(log: str) -> Verdict:
    """What the tail of the log says. A log with headings loses them here: they follow its old lines."""
    start = max(0, len(log) - TAIL)
    start = log.find("\n", start) + 1 if start else 0
    tail, headings, report = log[start:].partition(HEADLINE)
    said, registers = [], {}
    position = instruction = opcode = None
    offset = start
    for line in tail.splitlines(keepends=True):
        text = line.rstrip("\n")
        found = INSTRUCTION.match(text)
        if found:
            if opcode == CALL:
                registers = {name: state for name, state in registers.items() if name not in CLEARED_BY_CALL}
            said, position, instruction, opcode = [], offset, int(found["number"]), found["opcode"]
        elif not TALK.search(text) and not SOURCE.match(text):
            said.append(text)
        if "=" in text:
            registers = _registers(registers, text, found)
        offset += len(line)
    if headings:
        said.extend(_headed(report))
    called = position is not None and CALLED.match(log, position)
    return Verdict(said, position, instruction, opcode == EXIT, called["name"] if called else "", registers)


def _registers(before, text, is_instruction):
    """The registers after this line. A line that shows R10 shows all that is known; others show what changed."""
    if text.startswith(("regs=", "last_idx", ";", "processed", "parent", "mark_precise", "cur state", "old state")):
        return before
    if is_instruction:
        text = text.partition(")")[2]  # the opcode's own parenthesis
        whole = re.search(r"\b\d+: (?:frame\d+: ?)?(?=R\d+\w*=)", text)
        if not whole:
            return {**before, **_shown(text.partition("; ")[2])}
        text = text[whole.end() :]
    elif not re.match(r"\s*(?:from \d+ to )?(?:\d+: |\d+ \(spec[^:]*: )?(?:frame\d+: ?)?R\d+\w*=", text):
        return before
    shown = _shown(text)
    if re.search(r"\bR10\w*=fp", text) and len(shown) > 2:
        return shown
    return {**before, **shown}


def _shown(text):
    return {found["name"]: found["state"].strip() for found in ONE_REGISTER.finditer(text)}


def _headed(report):
    """The headline and the reason of a report with headings, one line each."""
    headline, dummy, rest = report.partition("\n")
    lines, heading = [], ""
    for line in rest.splitlines():
        found = HEADING.match(line)
        if found:
            heading = found[1]
        elif heading == "Reason" and line.strip():
            lines.append(line.strip())
    return ["Verification failed: " + headline, "Reason: " + " ".join(lines)]


def annotated(verdict: Verdict) -> list:
    """The verdict's lines, each followed by what the registers that it names last held."""
    lines = []
    for line in verdict.lines:
        held = [verdict.registers[name] for name in re.findall(r"\bR\d+\b", line) if name in verdict.registers]
        lines.append(line + "\t" * bool(held) + "".join(f"[{state}]" for state in held))
    return lines


def deciding(words: list) -> str:
    """The line to quote: the kernel's first, libbpf's that names a cause."""
    plain = [line for line in words if not re.search(r"failed to load(?: object)?\b|BPF program load failed", line)]
    return (plain or words or [""])[0].partition("\t")[0]


def steps(log: str, position: Optional[int], start: int = 0) -> list:
    """What the program did on the path that ends there, first to last."""
    end = len(log) if position is None else position
    return list(STEP.finditer(log, max(start, end - TAIL), end))


def position(log: str, instruction: int) -> Optional[int]:
    """Where the log last shows this instruction."""
    found = max(log.rfind(f"\n{instruction}: ("), log.rfind(f"\n{instruction}: <"))
    if found >= 0:
        return found + 1
    return 0 if log.startswith(f"{instruction}: (") else None


def excerpt(log: str, libbpf_lines: list) -> list:
    """The end of the log, or libbpf's lines, within EXCERPT_LINES and EXCERPT_BYTES."""
    lines = log[-TAIL:].splitlines() or libbpf_lines
    kept, size = [], 0
    for line in reversed(lines[-EXCERPT_LINES:]):
        line = line[:1000]
        size += len(line.encode()) + 1
        if size > EXCERPT_BYTES:
            break
        kept.append(line)
    return kept[::-1]
