# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""netkit: programs in order at a netkit pair, in the place of a veth's (Linux 6.7)."""

from __future__ import annotations

import errno

from ..errors import Failure, Unsupported
from ..kernel import bpf
from .contract import Attachment, Option, Row
from .interface import INTERFACE, NETNS, interface_names
from .ordered import ORDER, Ordered

ATTACH_TYPE = {"primary": bpf.ATTACH_NETKIT_PRIMARY, "peer": bpf.ATTACH_NETKIT_PEER}


class Netkit(Ordered):
    kind = "netkit"
    sections = (r"netkit/(?P<end>primary|peer)",)
    description = (
        "is a pair of netkit interfaces, beside the programs of others: O(interface) is the primary one, whose owner "
        "decides for both (Linux 6.7)."
    )
    since = "6.7"
    options = {
        "interface": INTERFACE,
        "end": Option(
            "Whose packets: those that the V(primary) interface sends, or those of its V(peer).",
            choices=tuple(ATTACH_TYPE),
            default="primary",
        ),
        "netns": NETNS,
        "order": ORDER,
    }
    key_options = ()  # all that are not live
    type_advice = 'Give the program SEC("netkit/primary") or SEC("tc"), or choose another hook'

    def attach_type(self, attachment: Attachment) -> int:
        return ATTACH_TYPE[attachment.option("end")]

    def candidates(self, link: bpf.Link, program: str) -> list:
        return [
            Attachment.of(self.kind, program, end=end, interface=name)
            for name in interface_names(link.ifindex)
            for end, number in ATTACH_TYPE.items()
            if number == link.attach_type
        ]

    def rows(self, host) -> list:
        return [
            Row({"interface": interface, "end": end, "position": position}, *ids)
            for interface, end, position, *ids in self.ordered_rows(host, ATTACH_TYPE)
        ]

    def refusal(self, attachment: Attachment, place, error: OSError) -> Failure:
        if error.errno in (errno.ENXIO, errno.EACCES):
            what = "no netkit interface" if error.errno == errno.ENXIO else "not the primary one of its pair"
            return Unsupported(
                f"{attachment.option('interface')} is {what}",
                "Name the primary interface of a netkit pair (ip -d link), or use hook tcx",
                errno=error.errno,
                interface=attachment.option("interface"),
            )
        return super().refusal(attachment, place, error)
