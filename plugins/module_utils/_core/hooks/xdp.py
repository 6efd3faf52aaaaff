# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""XDP: a program at an interface's receive path, one per interface (link since Linux 5.9)."""

from __future__ import annotations

import errno

from ..errors import HookHeld, Unsupported
from ..kernel import bpf, namespaces
from ..objects import owners
from .contract import OWNER_ADVICE, Attachment, Holder, Hook, interface_is_on, interface_names, interface_place

FLAGS = {"native": 1 << 2, "generic": 1 << 1}  # XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE


class Xdp(Hook):
    kind = "xdp"
    program_types = (bpf.PROG_XDP,)
    is_exclusive = True
    since = "5.9"
    option_names = ("interface", "mode")
    defaults = {"mode": "native"}
    type_advice = 'Give the program SEC("xdp"), or choose another hook'

    def place(self, attachment, program_type):
        return interface_place(attachment, bpf.ATTACH_XDP)

    def is_on(self, way_in, attachment):
        return interface_is_on(way_in, attachment)

    def holders(self, place):
        with namespaces.network(place.netns):
            return tuple(Holder(number, mode=mode) for mode, number in bpf.xdp_query(place.number).items())

    def candidates(self, link, program):
        modes = {number: mode for mode, number in bpf.xdp_query(link.ifindex).items()} if link.ifindex else {}
        return [
            Attachment(self.kind, program, name, mode=modes.get(link.prog_id, "native"))
            for name in interface_names(link.ifindex)
        ]

    def link_flags(self, attachment):
        """None where the mode is not known, as on the way back to what somebody else had moved: the kernel chooses."""
        return FLAGS.get(attachment.mode, 0)

    def refusal(self, attachment, place, error):
        where = attachment.describe()
        if error.errno in (errno.EBUSY, errno.EEXIST):
            holders = [owners.describe(*holder) for holder in self.holders(place)]
            who = owners.sentence(holders[0]) if holders else "another program"
            return HookHeld(f"{where} is held by {who}", OWNER_ADVICE, errno=error.errno, holders=holders)
        if error.errno in (errno.EOPNOTSUPP, bpf.ENOTSUPP, errno.ERANGE) and attachment.mode == "native":
            return Unsupported(
                f"The driver of {attachment.target} refused native XDP: {error.strerror}",
                "Set mode: generic (slower, works on every driver), or lower the MTU and look at queues and offloads "
                "(ethtool -l, -k)",
                errno=error.errno,
                interface=attachment.target,
            )
        return super().refusal(attachment, place, error)
