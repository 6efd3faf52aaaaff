# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A log to a diagnosis: which line, what the registers held, which rule. Text in, record out; no kernel is asked.

verifier.py reads the log, tracing.py what a register held before, blame.py finds the line; the rules are in rules/.
"""

from __future__ import annotations

import errno as errno_names
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Callable, NamedTuple, Optional

from ..kernel import bpf
from ..kernel.features import CAPABILITY_BITS, has_capability
from . import blame, tracing, verifier
from .rules import facts
from .rules.order import FALLBACK, RULES
from .rules.word_tables import CAPABILITIES, MAPS_FOR, RELEASES


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


def diagnose(
    log: str,
    *,
    errno: Optional[int] = None,
    program: str = "",
    section: str = "",
    libbpf_log: Iterable = (),
    kernel: str = "",
    line_at: Optional[Callable] = None,
    use_of: Optional[Callable] = None,
    capabilities: Optional[int] = None,
    lockdown: str = "",
    told: Iterable = (),
    start: int = 0,
) -> Diagnosis:
    """The Diagnosis of a refusal, out of the verifier's log and what libbpf printed.

    `line_at` is a function of an instruction's number that gives (file, line, text) or None, for logs without lines,
    `use_of` one of a symbol's name, for what libbpf refuses by name.
    `capabilities` is the loader's effective set as a number, `lockdown` the text of /sys/kernel/security/lockdown; both
    only sharpen what an EPERM without a word means. `told` are further facts;
    `start` is the instruction to blame where the log shows none.
    """
    log, libbpf_lines = verifier.apart(log, libbpf_log)
    verdict = verifier.verdict(log)
    figures = verifier.stats(log)
    known = [*tracing.ended(log, verdict), *tracing.argument(log, verdict), *tracing.acquired(log, verdict)]
    known += [*tracing.unresolved(log, verdict), *tracing.out_of_table(log, verdict)]
    known += _facts(verdict, figures, errno, section, kernel, capabilities, lockdown)
    words = verifier.annotated(verdict) if verdict.lines else libbpf_lines
    of_kernels_log = [line for line in libbpf_lines if "Lockdown: " in line or "RIP: " in line]
    rule, groups = first_match("\n".join([*words, *of_kernels_log]), [*known, *told])
    named = dict(groups)
    groups.update(
        program=program,
        section=section or "of this type",
        capabilities=" and ".join(needed_capabilities(section)),
        taken=blame.taken(log, verdict),
        give_back=_known(RELEASES, groups["acquirer"]),
        wanted_map=_known(MAPS_FOR, groups["helper"]),
        verdict=verifier.deciding(words).split("\t")[0]
        or "it gave no reason" + (f", only {_errno_name(abs(errno))}" if errno else ""),
    )
    instruction, source = blame.blamed(log, verdict, rule, groups, figures, line_at, start)
    if not source and use_of and groups["name"]:
        source = blame.as_source(use_of(groups["name"]))
    sentence = rule.summary.format_map(groups)
    return Diagnosis(
        code=rule.code,
        summary=f"{_place(source, program)}{sentence}",
        cause=rule.cause.format_map(groups),
        fix=rule.fix.format_map(groups),
        source=source,
        instruction=instruction,
        registers=verdict.registers,
        log_excerpt=verifier.excerpt(log, libbpf_lines),
        stats=figures or None,
        named=named,
    )


def needed_capabilities(section: str) -> tuple:
    """The names of the capabilities that loading a program of this section takes."""
    for pattern, beside in CAPABILITIES:
        if re.match(pattern, section.lstrip("?")):
            return ("CAP_BPF", *beside)
    return ("CAP_BPF",)


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


def _known(table, name):
    """The text of the table's first pattern that is the whole name; the last of each table takes any."""
    found = ((re.fullmatch(pattern, name), text) for pattern, text in table)
    return next(match.expand(text) for match, text in found if match)


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


def _place(source, program):
    if source and source["line"]:
        return f"{source['file']}:{source['line']}: "
    if source and source["text"]:
        return f"at `{source['text']}`: "
    return f"{program}: " if program else ""
