# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""XDP: a program at an interface's receive path, one per interface (link since Linux 5.9)."""

from __future__ import annotations

import errno

from ..errors import Failure, HookHeld, Unsupported
from ..kernel import bpf, namespaces
from ..objects import owners
from .contract import OWNER_ADVICE, Attachment, Holder, Option, Place, Row
from .interface import INTERFACE, NETNS, AtInterface, interface_names, interface_place

FLAGS = {"native": 1 << 2, "generic": 1 << 1}  # XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE
MODE = Option(
    (
        "V(native) runs in the driver and fails where the driver cannot. V(generic) runs later, on every driver.",
        "There is no silent fallback. V(native) is the default. Changing the mode detaches and attaches, with a gap.",
    ),
    choices=tuple(FLAGS),
    is_live=True,
    default="native",
)


class Xdp(AtInterface):
    kind = "xdp"
    description = "is an interface's receive path, one program per interface (Linux 5.9)."
    program_types = (bpf.PROG_XDP,)
    is_exclusive = True
    since = "5.9"
    options = {"interface": INTERFACE, "netns": NETNS, "mode": MODE}
    type_advice = 'Give the program SEC("xdp"), or choose another hook'

    def place(self, attachment: Attachment, program_type: tuple) -> Place:
        return interface_place(attachment, bpf.ATTACH_XDP)

    def holders(self, place: Place) -> tuple:
        with namespaces.network(place.netns):
            return tuple(Holder(number, mode=mode) for mode, number in bpf.xdp_query(place.number).items())

    def live_options(self, place: Place, kept: bpf.Link) -> tuple:
        """The mode: links do not tell it, the interface does."""
        modes = {holder.prog_id: holder.mode for holder in self.holders(place)}
        return (("mode", modes[kept.prog_id]),) if kept.prog_id in modes else ()

    def candidates(self, link: bpf.Link, program: str) -> list:
        modes = {number: mode for mode, number in bpf.xdp_query(link.ifindex).items()} if link.ifindex else {}
        mode = modes.get(link.prog_id, "native")
        return [Attachment.of(self.kind, program, interface=name, mode=mode) for name in interface_names(link.ifindex)]

    def rows(self, host) -> list:
        links = {(link.ifindex, link.prog_id): link.id for link in host.links if link.type == "xdp"}
        return [
            Row({"interface": name, "mode": mode}, prog_id, links.get((ifindex, prog_id), 0))
            for ifindex, name in sorted(host.interfaces.items())
            for mode, prog_id in bpf.xdp_query(ifindex).items()
        ]

    def link_flags(self, attachment: Attachment) -> int:
        """None where the mode is not known, as on the way back to what somebody else had moved: the kernel chooses."""
        return FLAGS.get(attachment.option("mode"), 0)

    def refusal(self, attachment: Attachment, place, error: OSError) -> Failure:
        where = self.words(attachment)
        if error.errno in (errno.EBUSY, errno.EEXIST):
            holders = [owners.describe(*holder) for holder in self.holders(place)]
            who = owners.sentence(holders[0]) if holders else "another program"
            return HookHeld(f"{where} is held by {who}", OWNER_ADVICE, errno=error.errno, holders=holders)
        is_native = attachment.option("mode") == "native"
        if error.errno in (errno.EOPNOTSUPP, bpf.ENOTSUPP, errno.ERANGE) and is_native:
            return Unsupported(
                f"The driver of {attachment.option('interface')} refused native XDP: {error.strerror}",
                "Set mode: generic (slower, works on every driver), or lower the MTU and look at queues and offloads "
                "(ethtool -l, -k)",
                errno=error.errno,
                interface=attachment.option("interface"),
            )
        return super().refusal(attachment, place, error)
