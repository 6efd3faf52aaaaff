# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""tcx: programs in order at an interface's ingress or egress, beside those of others (Linux 6.6)."""

from __future__ import annotations

import contextlib

from ..kernel import bpf, namespaces
from .contract import Attachment, Holder, Place, Row
from .interface import DIRECTION, INTERFACE, NETNS, AtInterface, interface_names, interface_place

ATTACH_TYPE = {"ingress": bpf.ATTACH_TCX_INGRESS, "egress": bpf.ATTACH_TCX_EGRESS}


class Tcx(AtInterface):
    kind = "tcx"
    description = "is an interface's ingress or egress, beside the programs of others (Linux 6.6)."
    program_types = (bpf.PROG_SCHED_CLS,)
    since = "6.6"
    options = {"direction": DIRECTION, "interface": INTERFACE, "netns": NETNS}
    type_advice = 'Give the program SEC("tc") or SEC("tcx/ingress"), or choose another hook'

    def place(self, attachment: Attachment, program_type: tuple) -> Place:
        return interface_place(attachment, ATTACH_TYPE[attachment.option("direction")])

    def holders(self, place: Place) -> tuple:
        with namespaces.network(place.netns):
            return tuple(Holder(*row) for row in bpf.prog_query(place.number, place.attach_type))

    def candidates(self, link: bpf.Link, program: str) -> list:
        return [
            Attachment.of(self.kind, program, direction=direction, interface=name)
            for name in interface_names(link.ifindex)
            for direction, number in ATTACH_TYPE.items()
            if number == link.attach_type
        ]

    def rows(self, host) -> list:
        with contextlib.suppress(OSError):  # before 6.6 the kernel has no tcx
            return [
                Row({"interface": name, "direction": direction}, prog_id, link_id)
                for ifindex, name in sorted(host.interfaces.items())
                for direction, attach_type in ATTACH_TYPE.items()
                for prog_id, link_id in bpf.prog_query(ifindex, attach_type)
            ]
        return []
