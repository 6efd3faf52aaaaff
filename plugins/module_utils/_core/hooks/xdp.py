# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""XDP: a program at an interface's receive path, one per interface (link since Linux 5.9)."""

from __future__ import annotations

import contextlib
import errno
import os

from ..errors import Failure, HookHeld, Unsupported
from ..kernel import bpf, namespaces, netlink
from ..objects import owners
from .contract import OWNER_ADVICE, Attachment, Holder, Option, Place, ProgramType, Row
from .interface import INTERFACE, NETNS, AtInterface, interface_names, interface_place

FLAGS = {"native": 1 << 2, "generic": 1 << 1}  # XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE
MODE = Option(
    (
        "V(native), the default, runs in the driver and fails where the driver cannot. V(generic) runs later, on every "
        "driver. V(auto) is V(native) where the driver can, else V(generic); the result has which, as C(runs_in).",
        "There is no silent fallback. Changing the mode detaches and attaches, with a gap.",
    ),
    choices=(*FLAGS, "auto"),
    is_live=True,
    default="native",
)


class Xdp(AtInterface):
    kind = "xdp"
    sections = (r"xdp(?:\.frags)?",)
    description = "is an interface's receive path, one program per interface (Linux 5.9)."
    program_types = (bpf.PROG_XDP,)
    is_exclusive = True
    since = "5.9"
    options = {"interface": INTERFACE, "netns": NETNS, "mode": MODE}
    type_advice = 'Give the program SEC("xdp"), or choose another hook'

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        """With the mode that is wanted where it is auto, for `live_options`."""
        return interface_place(attachment, bpf.ATTACH_XDP, ("auto",) if attachment.option("mode") == "auto" else ())

    def holders(self, place: Place) -> tuple:
        with namespaces.network(place.netns):
            return tuple(Holder(number, mode=mode) for mode, number in bpf.xdp_query(place.number).items())

    def live_options(self, place: Place, kept: bpf.Link) -> tuple:
        """The mode: links do not tell it, the interface does."""
        modes = {holder.prog_id: holder.mode for holder in self.holders(place)}
        mode = modes.get(kept.prog_id)
        return (("mode", "auto" if place.more else mode),) if mode else ()

    def told(self, attachment: Attachment, link: bpf.Link) -> dict:
        """The mode in which it runs, where the kernel chose it."""
        if attachment.option("mode") != "auto":
            return {}
        with contextlib.suppress(Failure, OSError), namespaces.network(attachment.option("netns")):
            modes = {number: mode for mode, number in bpf.xdp_query(link.ifindex).items()}
            return {"runs_in": modes.get(link.prog_id, "")}
        return {}

    def expect_possible(self, attachment: Attachment, place: Place) -> None:
        """Of an interface that is no device of a driver's and says that it has no native XDP. What a driver says may be
        older than what it can."""
        if attachment.option("mode") != "native":
            return
        with namespaces.network(place.netns):
            link = next((each for each in netlink.links() if each.index == place.number), None)
            is_drivers = link is None or not (link.kind or place.number == netlink.LOOPBACK)
            if not is_drivers and netlink.xdp_features(place.number) == 0:
                raise self._no_native(attachment, link, os.strerror(errno.EOPNOTSUPP), errno.EOPNOTSUPP)

    def _no_native(self, attachment, link, said, number):
        name = attachment.option("interface")
        advice = "Set mode: generic (slower, works on every driver)"
        if link is not None and link.lower:
            with namespaces.network(attachment.option("netns")):
                lower = namespaces.interface_name(link.lower)
            advice = f"Attach at {lower}, which {name} is made on, or set mode: generic (slower, works on every driver)"
        elif link is not None and not link.kind and link.index != netlink.LOOPBACK:
            advice += ", or lower the MTU and look at queues and offloads (ethtool -l, -k)"
        return Unsupported(f"The driver of {name} refused native XDP: {said}", advice, errno=number, interface=name)

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
            with namespaces.network(attachment.option("netns")):
                link = next((each for each in netlink.links() if each.index == place.number), None)
            return self._no_native(attachment, link, error.strerror, error.errno)
        return super().refusal(attachment, place, error)
