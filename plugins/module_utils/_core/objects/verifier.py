# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A log to a diagnosis: which line, what the registers held, which rule. Text in, record out; no kernel is asked.

Logs grow to 55 MB, and the verdict stands at the end: the tail is read line by line, what lies before it only searched.
Both forms are read, that of Linux 5.8 to 7.2 and that with headings of 7.3. The rules themselves are in rules/.
"""

from __future__ import annotations

import errno as errno_names
import re
from collections import defaultdict
from typing import NamedTuple

from ..kernel import bpf
from ..kernel.features import CAPABILITY_BITS, has_capability
from .rules import facts
from .rules.form import DEEPEST, LAST, LEFT, RETURNED, START
from .rules.order import FALLBACK, RULES
from .rules.word_tables import CAPABILITIES, MAPS_FOR, RELEASES

TAIL = 1 << 18
EXCERPT_LINES, EXCERPT_BYTES = 40, 8192
INSTRUCTION = re.compile(r"^(?P<number>\d+): (?:\((?P<opcode>[0-9a-f]{2})\) |<invalid )")
SOURCE = re.compile(r"^(?:; |(?P<number>\d+): )(?P<text>[^\n]*?) ?@ (?P<file>[^\s:]+):(?P<line>\d+)$")
ONE_REGISTER = re.compile(
    r"(?:^|\s)(?P<name>R\d+|fp-\d+)(?:_[a-zA-Z]+)?=(?P<state>.*?)(?=\s(?:R\d+|fp-\d+)\w*=|\s(?:refs|cb)=|$)"
)
CALL, EXIT = "85", "95"
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
STEP = re.compile(r"^(?P<number>\d+): \((?P<opcode>[0-9a-f]{2})\) (?P<text>[^;\n]*)", re.M)
COPY = re.compile(r"[rw](?P<to>\d+) = [rw](?P<of>\d+)\s*$")
FILL = re.compile(r"r(?P<to>\d+) = \*\(u64 \*\)\(r10 (?P<of>-\d+)\)")
SPILL = re.compile(r"\*\(u64 \*\)\(r10 (?P<to>-\d+)\) = r(?P<of>\d+)")
SUM = re.compile(r"r\d+ [+-]= ")
WRITE = re.compile(r"[rw](?P<to>\d+) \S*= ")
CONSTANT = re.compile(r"[rw]0 = -?(?:0x)?[0-9a-f]+\s*$")
STACK_SLOT = re.compile(r"\(r10 -(?P<written>\d+)\)|\+= -(?P<pointed>\d+)\s*$")
FUNCTION = re.compile(r"^func#\d+ @(\d+)$", re.M)
SHOWN = re.compile(r"^; .*:[1-9]\d*\n(?=\d+: )", re.M)
LOCK = re.compile(r"call bpf_(?:\w*spin_lock|rcu_read_lock|preempt_disable|\w*irq_save)\w*#")
ACQUIRED = re.compile(r"Unreleased reference id=\d+ alloc_insn=(\d+)|acquired at instruction (\d+)")
CALLED = re.compile(r"^\d+: \(85\) call (?P<name>[a-z]\w+)#", re.M)
GLOBAL = re.compile(r"^Func#\d+ (?:\('(?P<name>\w+)'\) )?is global and (?:assumed )?valid", re.M)
MOVED = (facts.packet_moved_by, facts.slice_ended_by)
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
AT = re.compile(r"^  (?:\S+ @ )?(?P<file>[^\s:]+):(?P<line>\d+):\d+$")
NOISE = re.compile(
    r"Retrying without BTF|BTF is optional, ignoring|skipping (?:unrecognized|relo) |Failed to bump RLIMIT_MEMLOCK"
)


class Diagnosis(NamedTuple):
    """Why a program was refused.

    `source` is {file, line, text} or None, `registers` what each last held, `named` what the log called by name or
    number (a rule's groups).
    """

    code: str
    summary: str
    cause: str
    fix: str
    source: dict | None
    instruction: int | None
    registers: dict
    log_excerpt: list
    stats: dict | None
    named: dict


class _Verdict(NamedTuple):
    """What the tail of a log says: the lines after the last instruction, where that is, and how it stood then."""

    lines: list
    position: int | None
    instruction: int | None
    is_exit: bool
    call: str
    registers: dict


def diagnose(
    log,
    *,
    errno=None,
    program="",
    section="",
    libbpf_log=(),
    kernel="",
    line_at=None,
    use_of=None,
    capabilities=None,
    lockdown="",
    told=(),
    start=0,
):
    """The Diagnosis of a refusal, out of the verifier's log and what libbpf printed.

    `line_at` is a function of an instruction's number that gives (file, line, text) or None, for logs without lines,
    `use_of` one of a symbol's name, for what libbpf refuses by name.
    `capabilities` is the loader's effective set as a number, `lockdown` the text of /sys/kernel/security/lockdown; both
    only sharpen what an EPERM without a word means. `told` are further facts;
    `start` is the instruction to blame where the log shows none.
    """
    log, libbpf_lines = _apart(log, libbpf_log)
    verdict = _verdict(log)
    figures = stats(log)
    known = [*_ended(log, verdict), *_argument(log, verdict), *_acquired(log, verdict)]
    known += [*_unresolved(log, verdict), *_out_of_table(log, verdict)]
    known += _facts(verdict, figures, errno, section, kernel, capabilities, lockdown)
    words = _annotated(verdict) if verdict.lines else libbpf_lines
    of_kernels_log = [line for line in libbpf_lines if "Lockdown: " in line or "RIP: " in line]
    rule, groups = first_match("\n".join([*words, *of_kernels_log]), [*known, *told])
    named = dict(groups)
    groups.update(
        program=program,
        section=section or "of this type",
        capabilities=" and ".join(needed_capabilities(section)),
        taken=_taken(log, verdict),
        give_back=_known(RELEASES, groups["acquirer"]),
        wanted_map=_known(MAPS_FOR, groups["helper"]),
        verdict=_deciding(words).split("\t")[0]
        or "it gave no reason" + (f", only {_errno_name(abs(errno))}" if errno else ""),
    )
    instruction, source = _blame(log, verdict, rule, groups, figures, line_at, start)
    if not source and use_of and groups["name"]:
        source = _as_source(use_of(groups["name"]))
    sentence = rule.summary.format_map(groups)
    return Diagnosis(
        code=rule.code,
        summary=f"{_place(source, program)}{sentence}",
        cause=rule.cause.format_map(groups),
        fix=rule.fix.format_map(groups),
        source=source,
        instruction=instruction,
        registers=verdict.registers,
        log_excerpt=_excerpt(log, libbpf_lines),
        stats=figures or None,
        named=named,
    )


def stats(log):
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


def has_steps(log):
    """Whether a log shows instructions, and not the verifier's last words alone."""
    return bool(STEP.search(log))


def needed_capabilities(section):
    """The names of the capabilities that loading a program of this section takes."""
    for pattern, beside in CAPABILITIES:
        if re.match(pattern, section.lstrip("?")):
            return ("CAP_BPF", *beside)
    return ("CAP_BPF",)


# ---- the log


def _apart(log, libbpf_log):
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


def _verdict(log):
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
    return _Verdict(said, position, instruction, opcode == EXIT, called["name"] if called else "", registers)


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


def _annotated(verdict):
    """The verdict's lines, each followed by what the registers that it names last held."""
    lines = []
    for line in verdict.lines:
        held = [verdict.registers[name] for name in re.findall(r"\bR\d+\b", line) if name in verdict.registers]
        lines.append(line + "\t" * bool(held) + "".join(f"[{state}]" for state in held))
    return lines


def _deciding(words):
    """The line to quote: the kernel's first, libbpf's that names a cause."""
    plain = [line for line in words if not re.search(r"failed to load(?: object)?\b|BPF program load failed", line)]
    return (plain or words or [""])[0].partition("\t")[0]


# ---- rules


def _facts(verdict, figures, errno, section, kernel, capabilities, lockdown):
    known = []
    if section:
        known.append(facts.section(section.removeprefix("?")))
    if errno:
        known.append(facts.errno(_errno_name(abs(errno))))
    if not verdict.lines:
        known.append(facts.VERIFIED if figures else facts.NO_VERDICT)
    if verdict.is_exit:
        known.append(facts.AT_EXIT)
    if verdict.call:
        known.append(facts.at_call(verdict.call))
    version = re.match(r"(\d+)\.(\d+)", kernel)
    if version and (int(version[1]), int(version[2])) < (5, 11):
        known.append(facts.BEFORE_5_11)
    level = re.search(r"\[(\w+)\]", lockdown)
    if level and level[1] in facts.LOCKDOWN_LEVELS:
        known.append(facts.lockdown(level[1]))
    return known + _capability_facts(section, capabilities)


def _ended(log, verdict):
    """The fact which call ended the pointer that the verdict's register held.

    The log does not say what a global function does, so helpers come first.
    """
    register = _accused(verdict)
    if not register or verdict.position is None:
        return []
    return _ended_by(CALLED, log, verdict, register) or _ended_by(GLOBAL, log, verdict, register)


def _ended_by(kind, log, verdict, register):
    for call in reversed(list(kind.finditer(log, max(0, verdict.position - TAIL), verdict.position))):
        name = call["name"] or "the global function"
        ends = [
            (state, fact)
            for state, calls, fact in ENDINGS
            if (fact in MOVED if kind is GLOBAL else re.fullmatch(calls, name))
        ]
        if not ends:
            continue
        made, holder = _traced_back(_steps(log, verdict.position, call.end()), register, is_pointer=True)
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


def _argument(log, verdict):
    """The fact which of the program's arguments the verdict's register holds, and where it was read."""
    accused = NUMBER.match((verdict.lines or [""])[0])
    if not accused or verdict.position is None:
        return []
    made, dummy = _traced_back(_steps(log, verdict.position), accused[1])
    load = made and LOAD.match(made["text"])
    if not load or not _shown_before(log, made.start(), load["base"]).startswith("ctx"):
        return []
    return [facts.argument(int(load["offset"]) // 8, read_by=made["number"])]


def _out_of_table(log, verdict):
    """The fact that the verdict's register holds what was read out of a global variable or table."""
    register = _accused(verdict)
    if not register or verdict.position is None:
        return []
    made, dummy = _traced_back(_steps(log, verdict.position), register, is_pointer=True)
    load = made and LOAD.match(made["text"])
    held = _shown_before(log, made.start(), load["base"]) if load else ""
    return [facts.OUT_OF_TABLE] if TABLE.match(held) else []


def _shown_before(log, position, holder):
    """What the log shows last before this place that a register, or a slot of the stack, holds; a number if nothing."""
    name = f"fp{holder}" if holder.startswith("-") else f"R{holder}"
    start = max(0, position - TAIL)
    states = re.findall(rf"\b{name}(?:_[a-zA-Z]+)?=([a-z]\w*(?:\([^)\n]*\))?)", log[start:position])
    return states[-1] if states else "scalar"


def _acquired(log, verdict):
    """The fact which call gave what was not released."""
    found = ACQUIRED.search("\n".join(verdict.lines))
    position = _position(log, int(found[1] or found[2])) if found else None
    call = position is not None and CALLED.match(log, position)
    return [facts.acquired_by(call["name"])] if call else []


def _known(table, name):
    """The text of the table's first pattern that is the whole name; the last of each table takes any."""
    found = ((re.fullmatch(pattern, name), text) for pattern, text in table)
    return next(match.expand(text) for match, text in found if match)


def _unresolved(log, verdict):
    """The fact that R0, which the verdict misses, was to come from a weak kfunc that this kernel lacks."""
    if not (verdict.lines or [""])[0].startswith("R0 !read_ok"):
        return []
    calls = [step["text"].strip() for step in _steps(log, verdict.position) if step["opcode"] == CALL]
    return [facts.UNRESOLVED_CALL] if calls[-1:] == ["call #0"] else []


def _capability_facts(section, capabilities):
    if capabilities is None:
        return []

    known = [facts.lacks(name) for name in CAPABILITY_BITS if not has_capability(name, capabilities)]
    if all(has_capability(name, capabilities) for name in needed_capabilities(section)):
        known.append(facts.HAS_EVERY_CAPABILITY)
    return known


def _errno_name(number):
    return "ENOTSUPP" if number == 524 else errno_names.errorcode.get(number, str(number))


def first_match(words: str, known: list) -> tuple:
    """(the first rule whose words are found and whose facts are known, the named groups of both)."""
    for rule in RULES:
        found = [re.search(rule.pattern, words, re.M), *(fact.found_in(known) for fact in rule.when)]
        if all(found):
            groups = defaultdict(str)
            for match in found:
                groups.update({name: value for name, value in match.groupdict().items() if value})
            return rule, _one_name_each(groups)
    return FALLBACK, defaultdict(str)


def _one_name_each(groups):
    """The groups with every wording's value under one name, and the size of an access in words."""
    for name, value in list(groups.items()):
        groups[name.partition("__")[0]] = value
    if groups["map_type"].isdigit():
        groups["map_type"] = bpf.map_type_name(int(groups["map_type"]))
    if groups["size"].isdigit():
        groups["bytes"] = "1 byte" if groups["size"] == "1" else f"{groups['size']} bytes"
    return groups


# ---- the line of the source


def _blame(log, verdict, rule, groups, figures, line_at, start):
    """(instruction, source) that the rule holds responsible."""
    source = _headed_source(log)
    if groups["instruction"]:
        instruction = int(groups["instruction"])
        position = _position(log, instruction)
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


def _steps(log, position, start=0):
    """What the program did on the path that ends there, first to last."""
    end = len(log) if position is None else position
    return list(STEP.finditer(log, max(start, end - TAIL), end))


def _traced_back(steps, wanted, is_pointer=False):
    """(the step that made what this register holds after the steps, or None; the register or slot that held it then).

    What only moved it does not count: copies, spills, functions that were called in between, and a pointer's sums.
    """
    calls = 0  # called functions that we are behind
    for step in reversed(steps):
        text = step["text"]
        if step["opcode"] == EXIT and wanted != "0":
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
    if step["opcode"] == CALL:
        return frozenset("012345")
    found = WRITE.match(step["text"])
    return {found["to"]} if found else frozenset()


def _returned(log, position):
    """The step that made the value which R0 holds at this place; without a line of its own the return after it."""
    given = _traced_back(_steps(log, position), "0")[0]
    if not given or _has_own_line(log, given):
        return given
    shown = re.compile(r"^; return\b.*\n(?=\d+: )", re.M).search(log, given.end(), position)
    if shown:
        return STEP.match(log, shown.end())
    return _head(_steps(log, given.start())) or given if CONSTANT.match(given["text"]) else given


def _head(steps):
    """The first step of the function that was called, or begun as a callback, and has not returned; else None.

    For a constant that follows a call on its line: the compiler gave it no line, and that of the call is another's.
    """
    if not steps or steps[-1]["opcode"] != CALL:
        return None
    returned = 0
    for before, step in zip(steps[-2::-1], steps[:0:-1]):
        returned += before["opcode"] == EXIT
        if before["opcode"] == CALL and int(step["number"]) != int(before["number"]) + 1:
            if not returned:
                return step
            returned -= 1
    return None


def _has_own_line(log, step):
    """Whether the log shows a line of the source right above; else the compiler gave the step none."""
    above = log[: step.start()].rpartition("\n")[0].rpartition("\n")[2]
    found = SOURCE.match(above)
    return bool(found and int(found["line"]))


def _taken(log, verdict):
    """Where the lock was taken that was taken last, in words; empty where that is not known."""
    locks = [step for step in _steps(log, verdict.position) if LOCK.search(step["text"])]
    place = _source_before(log, locks[-1].start()) if locks else None
    return f", taken in line {place['line']}" if place and place["line"] else ""


def _way_out(log, position):
    """The last step after a lock was taken that chose to leave, by a branch or the value to return; else the lock."""
    steps = _steps(log, position)
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
    for step in STEP.finditer(log):
        slot = STACK_SLOT.search(step["text"]) if int(step["number"]) in inside else None
        depth = int(slot["written"] or slot["pointed"]) if slot else 0
        if furthest < depth <= depths[largest]:
            found, furthest = step, depth
    place = found and _source_before(log, found.start(), compilers_own=True)
    shown = place and place["line"] == 0 and SHOWN.search(log, found.end())
    return STEP.match(log, shown.end()) or found if shown else found


def _shown_last(log, words):
    """(number, place) of the last instruction that the log shows with these words."""
    start = log.rfind("\n", 0, log.rfind(words)) + 1
    instruction = INSTRUCTION.match(log[start : start + 200])
    return (int(instruction["number"]), start) if instruction else (None, None)


def _looked_up(line_at, instruction, shown):
    """The source out of the object: of the instruction below the text that the log shows, else of this instruction."""
    given = shown and shown.get("instruction") is not None and line_at(shown["instruction"])
    if not given or given[2].strip() != shown["text"]:
        given = line_at(instruction)
    return _as_source(given) or shown


def _as_source(place):
    return {"file": place[0], "line": place[1], "text": place[2].strip()} if place else None


def _position(log, instruction):
    """Where the log last shows this instruction."""
    found = max(log.rfind(f"\n{instruction}: ("), log.rfind(f"\n{instruction}: <"))
    if found >= 0:
        return found + 1
    return 0 if log.startswith(f"{instruction}: (") else None


def _source_before(log, position, compilers_own=False):
    """The source line that the log shows last before this place; line 0 is the compiler's own, mostly passed over."""
    end = position
    for dummy in range(1000):
        start = log.rfind("\n; ", 0, end)
        if start < 0 and not log.startswith("; "):
            break
        line = log[start + 1 : log.find("\n", start + 1)]
        found = SOURCE.match(line)
        if found and (compilers_own or int(found["line"])):
            return {"file": found["file"], "line": int(found["line"]), "text": found["text"].strip()}
        if not found and line[2:].strip():
            below = INSTRUCTION.match(log[start + len(line) + 2 :][:200])
            text = line[2:].strip()
            return {"file": None, "line": None, "text": text, "instruction": below and int(below["number"])}
        if start < 0:
            break
        end = start
    return None


def _line_in_front(log, instruction):
    """The line that stands before the verdict on a jump: "4: for (…) @ file.c:12"."""
    found = re.search(rf"^{instruction}: (?!\()(?P<text>.*?) ?@ (?P<file>[^\s:]+):(?P<line>\d+)$", log[-TAIL:], re.M)
    if not found:
        return None
    return {"file": found["file"], "line": int(found["line"]), "text": found["text"].strip()}


def _headed_source(log):
    """The place under the heading "At:" of Linux 7.3 and newer."""
    report = log[-TAIL:].partition(HEADLINE)[2].partition("\nAt:\n")[2]
    place = AT.match(report.partition("\n")[0])
    if not place:
        return None
    marked = re.search(rf"^  >>> +{place['line']} \| (.*)$", report, re.M)
    text = marked[1].strip() if marked else ""
    return {"file": place["file"], "line": int(place["line"]), "text": text}


def _place(source, program):
    if source and source["line"]:
        return f"{source['file']}:{source['line']}: "
    if source and source["text"]:
        return f"at `{source['text']}`: "
    return f"{program}: " if program else ""


def _excerpt(log, libbpf_lines):
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
