# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""tcx: programs in order at an interface's ingress or egress, beside those of others (Linux 6.6)."""

from __future__ import annotations

from ..errors import BadRequest
from ..kernel import bpf
from .contract import Attachment, Hook, interface_is_on, interface_names, interface_place

ATTACH_TYPE = {"ingress": bpf.ATTACH_TCX_INGRESS, "egress": bpf.ATTACH_TCX_EGRESS}


class Tcx(Hook):
    kind = "tcx"
    program_types = (bpf.PROG_SCHED_CLS,)
    since = "6.6"
    option_names = ("interface", "direction")
    type_advice = 'Give the program SEC("tc") or SEC("tcx/ingress"), or choose another hook'

    def place(self, attachment, program_type):
        if attachment.direction not in ATTACH_TYPE:
            raise BadRequest(
                f"Hook tcx on {attachment.target} needs a direction", "Add direction: ingress or direction: egress"
            )
        return interface_place(attachment, ATTACH_TYPE[attachment.direction])

    def is_on(self, way_in, attachment):
        return interface_is_on(way_in, attachment)

    def candidates(self, link, program):
        return [
            Attachment(self.kind, program, name, direction=direction)
            for name in interface_names(link.ifindex)
            for direction, number in ATTACH_TYPE.items()
            if number == link.attach_type
        ]
