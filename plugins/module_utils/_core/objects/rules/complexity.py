# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The verifier's words on loops, recursion and length: the program is too much to walk."""

from __future__ import annotations

from . import facts
from .form import START, Rule

RULES = (
    Rule(
        "unbounded_loop",
        r"infinite loop detected(?: at insn (?P<where>\d+))?|Program Structure: .*[Ii]nfinite loop",
        "the loop has no end that the verifier can see",
        "The verifier came back to the same place with nothing changed that would end the loop.",
        "Bound it by a constant: for (int i = 0; i < 64; i++) {{ if (done) break; … }}",
    ),
    Rule(
        "recursion",
        r"back-edge from insn (?P<instruction>\d+) to (?P<target>\d+)",
        "a function calls itself",
        "With CAP_BPF loops are allowed; what jumps backwards then is a call that comes back to its own function.",
        "Replace the recursion by a loop with a constant bound, for (int i = 0; i < 8; i++) …, or inline: static "
        "__always_inline.",
        when=(facts.HAS_EVERY_CAPABILITY,),
    ),
    Rule(
        "unbounded_loop",
        r"back-edge from insn (?P<instruction>\d+) to (?P<target>\d+)",
        "the program jumps backwards, which is not allowed here",
        "Loops need Linux 5.3 and CAP_BPF; without them any jump backwards is refused.",
        "Load with CAP_BPF, or unroll: #pragma unroll before for (int i = 0; i < 64; i++) …",
    ),
    Rule(
        "too_many_instructions",
        r"BPF program is too large\. Processed (?P<processed>\d+) insn",
        "the verifier gave up after {processed} instructions",
        "It walks every path and every turn of a loop; the limit is one million (4096 without CAP_BPF). A loop whose "
        "end is "
        "not a small constant ends here as well.",
        "Bound the loop by a constant, for (int i = 0; i < 64; i++), or let it be checked once: "
        "bpf_loop(count, body, &state, 0) (Linux 5.17).",
    ),
    Rule(
        "too_complex",
        r"The sequence of (?P<jumps>\d+) jumps is too complex|exceeded complexity limit|too many iterations",
        "too many undecided branches wait at once",
        "A branch in a long loop leaves one path per turn to check later; older kernels accepted more or fewer, errno "
        "varies with it.",
        "Take the branch out of the loop, or let the body be checked once: bpf_loop(count, body, &state, 0) (Linux "
        "5.17).",
    ),
    Rule(
        "recursion",
        r"recursive call from|the call stack of (?P<frames>\d+) frames is too deep",
        "functions call each other too deep, or themselves",
        "At most eight frames are allowed, and a function that calls itself has no known depth.",
        "Replace the recursion by a loop with a constant bound, for (int i = 0; i < 8; i++) …, or inline: static "
        "__always_inline.",
        blame=START,
    ),
)
