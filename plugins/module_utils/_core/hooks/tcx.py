# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""tcx: programs in order at an interface's ingress or egress, beside those of others (Linux 6.6)."""

from __future__ import annotations

from ..kernel import bpf, namespaces, netlink
from ..objects import owners
from .contract import Attachment, Place, Row
from .interface import DIRECTION, INTERFACE, NETNS, interface_names
from .ordered import ORDER, Ordered

ATTACH_TYPE = {"ingress": bpf.ATTACH_TCX_INGRESS, "egress": bpf.ATTACH_TCX_EGRESS}


class Tcx(Ordered):
    kind = "tcx"
    sections = (r"tcx/(?P<direction>ingress|egress)",)
    description = "is an interface's ingress or egress, beside the programs of others (Linux 6.6)."
    since = "6.6"
    options = {"direction": DIRECTION, "interface": INTERFACE, "netns": NETNS, "order": ORDER}
    type_advice = 'Give the program SEC("tc") or SEC("tcx/ingress"), or choose another hook'

    def attach_type(self, attachment: Attachment) -> int:
        return ATTACH_TYPE[attachment.option("direction")]

    def candidates(self, link: bpf.Link, program: str) -> list:
        return [
            Attachment.of(self.kind, program, direction=direction, interface=name)
            for name in interface_names(link.ifindex)
            for direction, number in ATTACH_TYPE.items()
            if number == link.attach_type
        ]

    def rows(self, host) -> list:
        return [
            Row({"interface": interface, "direction": direction, "position": position}, *ids)
            for interface, direction, position, *ids in self.ordered_rows(host, ATTACH_TYPE)
        ]

    def cautions(self, attachment: Attachment, place: Place) -> list:
        """Whoever ends the chain before the program, and the classic filters that come behind every tcx program."""
        where, told = self.words(attachment), []
        for holder in self.ahead(place, attachment):
            who = owners.sentence(owners.describe(holder.prog_id, holder.link_id))
            told.append(
                f"{where}: {attachment.program} sees what {who} lets go on alone (TCX_NEXT, -1). "
                "To see all, set order: first"
            )
        with namespaces.network(place.netns):
            filters = netlink.tc_filters([place.number])
        if filters is None:
            return [
                *told,
                f"{where}: whether classic tc filters are behind {attachment.program}, which ends the chain where it "
                "does not return TCX_NEXT (-1), cannot be told: pyroute2 is not installed here (python3-pyroute2)",
            ]
        for each in filters:
            if each.direction == attachment.option("direction"):
                who = owners.sentence(owners.describe(each.prog_id))
                told.append(
                    f"{where}: the tc filter of priority {each.priority}, {who}, is behind {attachment.program}, and "
                    "sees nothing that it ends (TC_ACT_OK as well as TC_ACT_SHOT). To let it see all, return "
                    "TCX_NEXT (-1)"
                )
        return told
