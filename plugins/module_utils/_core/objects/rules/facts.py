# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What is known of a refusal beside its words, as values: the log's readers and refusals.py tell them, rules ask.

A rule asks with the same value, in which a regular expression may stand that what is told must match as a whole:
at_call("bpf_snprintf") is told, at_call(r"bpf_\\w*printf") asked for. Its named groups fill the rule's sentences.
"""

from __future__ import annotations

import errno as errno_names
import re
from collections.abc import Iterable
from typing import NamedTuple

from ...kernel.features import CAPABILITY_BITS

LOCKDOWN_LEVELS = ("none", "integrity", "confidentiality")


class Fact(NamedTuple):
    """Of a kind, with a value where the kind has one."""

    kind: str
    value: str = ""

    def found_in(self, told: Iterable[Fact]) -> re.Match | None:
        """How the first of the facts told that this one asks for matches it; None where none does."""
        matches = (re.fullmatch(self.value, each.value) for each in told if each.kind == self.kind)
        return next(filter(None, matches), None)


# ---- of the log
NO_VERDICT = Fact("the kernel gave no word")
VERIFIED = Fact("the kernel gave its figures alone")
AT_EXIT = Fact("the last instruction is an exit")
UNRESOLVED_CALL = Fact("R0 was to come from a weak kfunc")
OUT_OF_TABLE = Fact("the verdict's register holds what was read out of .rodata or .data")


def at_call(name: str) -> Fact:
    """The last instruction is a call of this helper or kfunc."""
    return Fact("at call", name)


def released_by(call: str) -> Fact:
    """The verdict's register held what this call released."""
    return Fact("released by", call)


def packet_moved_by(call: str) -> Fact:
    """It held a pointer into the packet, which this call may have moved."""
    return Fact("packet moved by", call)


def slice_ended_by(call: str) -> Fact:
    """It held a slice of a dynptr, which this call ended."""
    return Fact("slice ended by", call)


def lent_until(call: str) -> Fact:
    """It held a node that was only lent, which this call ended."""
    return Fact("lent until", call)


def rcu_left_by(call: str) -> Fact:
    """It held what RCU alone kept, which this call left."""
    return Fact("RCU left by", call)


def acquired_by(call: str) -> Fact:
    """What this call gave was not released."""
    return Fact("acquired by", call)


def argument(number: object = r"\d+", *, read_by: object = r"\d+") -> Fact:
    """The verdict's register holds this argument of the program, counted from 0, which that instruction read."""
    return Fact("argument", f"{number} read by {read_by}")


# ---- of the load
MAPS_AS_DECLARED = Fact("libbpf left no map's types out to have it created")
BEFORE_5_11 = Fact("the kernel is older than 5.11")
HAS_EVERY_CAPABILITY = Fact("the loader has every capability that the section takes")


def errno(*names: str) -> Fact:
    """The load ended with (one of) these."""
    known = {*errno_names.errorcode.values(), "ENOTSUPP", "EOPNOTSUPP"}
    if unknown := {each for each in names if not each.isdigit()} - known:
        raise ValueError(f"no errno: {', '.join(sorted(unknown))}")
    return Fact("errno", "|".join(names))


def section(name: str) -> Fact:
    """The program's section, without the question mark of one that is not loaded unasked."""
    return Fact("section", name)


def lacks(capability: str) -> Fact:
    """The loader lacks it."""
    if capability not in CAPABILITY_BITS:
        raise ValueError(f"no capability that is looked at: {capability}")
    return Fact("lacks", capability)


def lockdown(*levels: str) -> Fact:
    """The kernel is locked down so; where several are asked for, the one told fills group level."""
    if unknown := {*levels}.difference(LOCKDOWN_LEVELS):
        raise ValueError(f"no level of lockdown: {', '.join(sorted(unknown))}")
    return Fact("lockdown", levels[0] if len(levels) == 1 else f"(?P<level>{'|'.join(levels)})")


# ---- of what the host said when it was asked afterwards
PROGRAM_TYPE_REFUSED = Fact("the smallest program of the same type is refused, too")
PROGRAM_TYPE_LOADS = Fact("the smallest program of the same type loads")
MAP_TYPE_REFUSED = Fact("the smallest map of the same type is refused, too")


def map_type(name: str) -> Fact:
    """The type of the map that could not be created."""
    return Fact("map type", name)


def unsized(size: str) -> Fact:
    """The map that could not be created has 0 here: max_entries, key_size or value_size."""
    return Fact("unsized", size)


def demanded(demand: str, write: str) -> Fact:
    """What the map that could not be created breaks (of demands.py), and what to write instead."""
    return Fact("demanded", f"{demand} → {write}")
