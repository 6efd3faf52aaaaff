# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""flow_dissector: the program that reads packets' flows for a network namespace (link since Linux 5.8)."""

from __future__ import annotations

from ..kernel import bpf
from .interface import NETNS
from .network_namespace import AtNamespace


class FlowDissector(AtNamespace):
    kind = "flow_dissector"
    sections = (r"flow_dissector",)
    description = (
        "reads what flow a packet belongs to, for a network namespace: one program, and where the host's own has one, "
        "none in any other (Linux 5.8)."
    )
    program_types = (bpf.PROG_FLOW_DISSECTOR,)
    attach_type = bpf.ATTACH_FLOW_DISSECTOR
    is_exclusive = True
    since = "5.8"
    options = {"netns": NETNS}
    type_advice = 'Give the program SEC("flow_dissector"), or choose another hook'
