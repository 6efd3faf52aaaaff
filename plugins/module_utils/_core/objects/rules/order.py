# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""All rules in their order: the first that matches wins, so the particular stands above the general.

That holds over the files as well as in them.
"""

from __future__ import annotations

from . import (
    arguments,
    bare_errno,
    calls,
    complexity,
    context,
    failed_host,
    libbpf,
    locks_and_references,
    map_creation,
    memory,
    pointers,
    program,
    relocations,
)
from .form import Rule

RULES = (
    *failed_host.RULES,
    *relocations.RULES,
    *complexity.RULES,
    *memory.RULES,
    *context.RULES,
    *pointers.RULES,
    *calls.RULES,
    *locks_and_references.RULES,
    *arguments.RULES,
    *program.RULES,
    *libbpf.RULES,
    *map_creation.RULES,
    *bare_errno.RULES,
)

FALLBACK = Rule(
    "verifier_refused",
    "",
    "the kernel refused the program: {verdict}",
    "This refusal is not in our table; the line quoted is the kernel's own.",
    "Look at this line of the source and at what the registers held; the kernel's words name what it could not prove.",
)
