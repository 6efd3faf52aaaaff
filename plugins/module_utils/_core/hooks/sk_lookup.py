# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""sk_lookup: a program that chooses the socket of a new connection in a network namespace (Linux 5.9)."""

from __future__ import annotations

from ..kernel import bpf
from .interface import NETNS
from .network_namespace import AtNamespace


class SkLookup(AtNamespace):
    kind = "sk_lookup"
    sections = (r"sk_lookup(?:/.*)?",)
    description = (
        "chooses the socket that a new connection to a network namespace is for, or none, beside the programs of "
        "others (Linux 5.9)."
    )
    program_types = (bpf.PROG_SK_LOOKUP,)
    attach_type = bpf.ATTACH_SK_LOOKUP
    since = "5.9"
    options = {"netns": NETNS}
    type_advice = 'Give the program SEC("sk_lookup"), or choose another hook'
