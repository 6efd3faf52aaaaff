# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The line of the source that a rule holds responsible, out of the log or of the object."""

from __future__ import annotations

import re
from typing import Callable, Optional

from . import tracing, verifier
from .rules.form import DEEPEST, LAST, LEFT, RETURNED, START, Rule

CONSTANT = re.compile(r"[rw]0 = -?(?:0x)?[0-9a-f]+\s*$")
STACK_SLOT = re.compile(r"\(r10 -(?P<written>\d+)\)|\+= -(?P<pointed>\d+)\s*$")
FUNCTION = re.compile(r"^func#\d+ @(\d+)$", re.M)
SHOWN = re.compile(r"^; .*:[1-9]\d*\n(?=\d+: )", re.M)
LOCK = re.compile(r"call bpf_(?:\w*spin_lock|rcu_read_lock|preempt_disable|\w*irq_save)\w*#")
AT = re.compile(r"^  (?:\S+ @ )?(?P<file>[^\s:]+):(?P<line>\d+):\d+$")


def blamed(
    log: str,
    verdict: verifier.Verdict,
    rule: Rule,
    groups: dict,
    figures: dict,
    line_at: Optional[Callable],
    start: int,
) -> tuple:
    """(instruction, source) that the rule holds responsible."""
    source = _headed_source(log)
    if groups["instruction"]:
        instruction = int(groups["instruction"])
        position = verifier.position(log, instruction)
        source = _line_in_front(log, instruction)
    else:
        instruction, position = _blamed_place(log, verdict, rule.blame, figures, start)
    if not source and position is not None:
        source = _source_before(log, position)
    if line_at and instruction is not None and not (source and source["line"]):
        source = _looked_up(line_at, instruction, source)
    return instruction, source and {field: source[field] for field in ("file", "line", "text")}


def _blamed_place(log, verdict, blame, figures, start):
    """(number, place in the log) of the instruction that a rule's blame means."""
    if blame == LAST:
        return verdict.instruction, verdict.position
    if not verdict.lines:
        return None, None
    step = None
    if blame == RETURNED:
        step = _returned(log, verdict.position)
    elif blame == LEFT:
        step = _way_out(log, verdict.position)
    elif blame == DEEPEST:
        step = _deepest(log, figures)
    elif blame != START and blame in log:
        return _shown_last(log, blame)
    if step:
        return int(step["number"]), step.start()
    if blame in (RETURNED, LEFT):
        return verdict.instruction, verdict.position
    return start, None if start else log.find("\n", log.find("; "))


def _returned(log, position):
    """The step that made the value which R0 holds at this place; without a line of its own the return after it."""
    given = tracing.traced_back(verifier.steps(log, position), "0")[0]
    if not given or _has_own_line(log, given):
        return given
    shown = re.compile(r"^; return\b.*\n(?=\d+: )", re.M).search(log, given.end(), position)
    if shown:
        return verifier.STEP.match(log, shown.end())
    return _head(verifier.steps(log, given.start())) or given if CONSTANT.match(given["text"]) else given


def _head(steps):
    """The first step of the function that was called, or begun as a callback, and has not returned; else None.

    For a constant that follows a call on its line: the compiler gave it no line, and that of the call is another's.
    """
    if not steps or steps[-1]["opcode"] != verifier.CALL:
        return None
    returned = 0
    for before, step in zip(steps[-2::-1], steps[:0:-1]):
        returned += before["opcode"] == verifier.EXIT
        if before["opcode"] == verifier.CALL and int(step["number"]) != int(before["number"]) + 1:
            if not returned:
                return step
            returned -= 1
    return None


def _has_own_line(log, step):
    """Whether the log shows a line of the source right above; else the compiler gave the step none."""
    above = log[: step.start()].rpartition("\n")[0].rpartition("\n")[2]
    found = verifier.SOURCE.match(above)
    return bool(found and int(found["line"]))


def taken(log: str, verdict: verifier.Verdict) -> str:
    """Where the lock was taken that was taken last, in words; empty where that is not known."""
    locks = [step for step in verifier.steps(log, verdict.position) if LOCK.search(step["text"])]
    place = _source_before(log, locks[-1].start()) if locks else None
    return f", taken in line {place['line']}" if place and place["line"] else ""


def _way_out(log, position):
    """The last step after a lock was taken that chose to leave, by a branch or the value to return; else the lock."""
    steps = verifier.steps(log, position)
    locks = [at for at, step in enumerate(steps) if LOCK.search(step["text"])]
    if not locks:
        return None
    given = _returned(log, position)
    chosen = [step for step in steps[locks[-1] :] if step["text"].startswith("if ")]
    chosen += [given] if given and _has_own_line(log, given) else []
    return max([steps[locks[-1]], *chosen], key=lambda step: step.start())


def _deepest(log, figures):
    """The step that reaches furthest down in the largest frame: the variable that needs most of it."""
    starts, depths = [int(start) for start in FUNCTION.findall(log)], figures.get("stack_depths", ())
    if not depths or len(starts) != len(depths):
        return None
    largest = depths.index(max(depths))
    inside = range(starts[largest], [*starts, 1 << 31][largest + 1])
    found, furthest = None, 0
    for step in verifier.STEP.finditer(log):
        slot = STACK_SLOT.search(step["text"]) if int(step["number"]) in inside else None
        depth = int(slot["written"] or slot["pointed"]) if slot else 0
        if furthest < depth <= depths[largest]:
            found, furthest = step, depth
    place = found and _source_before(log, found.start(), compilers_own=True)
    shown = place and place["line"] == 0 and SHOWN.search(log, found.end())
    return verifier.STEP.match(log, shown.end()) or found if shown else found


def _shown_last(log, words):
    """(number, place) of the last instruction that the log shows with these words."""
    start = log.rfind("\n", 0, log.rfind(words)) + 1
    instruction = verifier.INSTRUCTION.match(log[start : start + 200])
    return (int(instruction["number"]), start) if instruction else (None, None)


def _looked_up(line_at, instruction, shown):
    """The source out of the object: of the instruction below the text that the log shows, else of this instruction."""
    given = shown and shown.get("instruction") is not None and line_at(shown["instruction"])
    if not given or given[2].strip() != shown["text"]:
        given = line_at(instruction)
    return as_source(given) or shown


def as_source(place: Optional[tuple]) -> Optional[dict]:
    return {"file": place[0], "line": place[1], "text": place[2].strip()} if place else None


def _source_before(log, position, compilers_own=False):
    """The source line that the log shows last before this place; line 0 is the compiler's own, mostly passed over."""
    end = position
    for dummy in range(1000):
        start = log.rfind("\n; ", 0, end)
        if start < 0 and not log.startswith("; "):
            break
        line = log[start + 1 : log.find("\n", start + 1)]
        found = verifier.SOURCE.match(line)
        if found and (compilers_own or int(found["line"])):
            return {"file": found["file"], "line": int(found["line"]), "text": found["text"].strip()}
        if not found and line[2:].strip():
            below = verifier.INSTRUCTION.match(log[start + len(line) + 2 :][:200])
            text = line[2:].strip()
            return {"file": None, "line": None, "text": text, "instruction": below and int(below["number"])}
        if start < 0:
            break
        end = start
    return None


def _line_in_front(log, instruction):
    """The line that stands before the verdict on a jump: "4: for (…) @ file.c:12"."""
    found = re.search(
        rf"^{instruction}: (?!\()(?P<text>.*?) ?@ (?P<file>[^\s:]+):(?P<line>\d+)$", log[-verifier.TAIL :], re.M
    )
    if not found:
        return None
    return {"file": found["file"], "line": int(found["line"]), "text": found["text"].strip()}


def _headed_source(log):
    """The place under the heading "At:" of Linux 7.3 and newer."""
    report = log[-verifier.TAIL :].partition(verifier.HEADLINE)[2].partition("\nAt:\n")[2]
    place = AT.match(report.partition("\n")[0])
    if not place:
        return None
    marked = re.search(rf"^  >>> +{place['line']} \| (.*)$", report, re.M)
    text = marked[1].strip() if marked else ""
    return {"file": place["file"], "line": int(place["line"]), "text": text}
