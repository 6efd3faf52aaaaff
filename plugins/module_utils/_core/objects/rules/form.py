# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""One rule per refusal: how it shows, what it means, what to write instead.

How a log becomes the words and facts that are matched here is diagnosis.py's, which line is to blame blame.py's. The
texts are those of kernel/bpf/verifier.c, btf.c and the struct_ops' own in 6.1, 6.12, 7.2 and 7.3, and libbpf's up
to 1.7. Where 6.x says arg#2, 7.x says R2.

The words are lines:
- the verdict, that is what the verifier said after its last instruction. A line that names registers has behind it,
  after a tab, what these last held: "R0 unbounded memory access, …<tab>[map_value(map=rows,ks=4,vs=64)]";
- of Linux 7.3 and newer also the headline ("Verification failed: …") and "Reason: …", one line each;
- where the verifier said nothing, what libbpf printed instead;
- of libbpf's lines what the kernel's own log says of lockdown and of a crash.
"""

from __future__ import annotations

from typing import NamedTuple

# whose line is to blame: of the last instruction that was looked at; of the program's first; of the one that made the
# value returned; of the one by which a locked region was left; of the one that reaches furthest down the largest stack
# frame; or any other words: of the last instruction that shows so
LAST, START, RETURNED, LEFT, DEEPEST = ("last", "start", "returned", "left", "deepest")

# codes that say nothing of the release on this kernel: the host had too little just then, withheld what the loader
# needs, or the verdict was lost. Not kfunc_missing: a kernel that lacks it looks like one whose module comes later
NO_VERDICT = (
    "loader_killed",
    "log_too_small",
    "map_no_memory",
    "no_memory",
    "memlock",
    "jit_failed",
    "missing_capability",
    "denied_by_policy",
)


class Rule(NamedTuple):
    """How a refusal shows, and the three sentences.

    `pattern` is a regular expression to be found in the words, empty where they do not count; every fact of `when` must
    be told. Their named groups fill the sentences; what stands in several wordings is NAME in one and NAME__2 or the
    like in the others. program, section, verdict and capabilities are always there, `bytes` is group size in words,
    `give_back` and `wanted_map` what word_tables.py has for groups acquirer and helper, `taken` where the lock that is
    held was taken (", taken in line 29"). Group `instruction` moves the blame to that instruction of the program.
    """

    code: str
    pattern: str
    summary: str
    cause: str
    fix: str
    when: tuple = ()
    blame: str = LAST
