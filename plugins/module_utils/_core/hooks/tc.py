# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""tc: a direct-action filter at an interface's clsact qdisc, beside those of others, for kernels without tcx.

It has no link: the pin holds the program, and says that it is wanted there. What runs there the kernel is asked.
Nothing compares and swaps a filter: what somebody puts into ours between our look and our change is replaced.
"""

from __future__ import annotations

import contextlib
import errno

from ..errors import HookHeld, NotFound, Unsupported
from ..kernel import bpf, namespaces, netlink
from .contract import OWNER_ADVICE, Attachment, Holder, Option, Place, ProgramType, Row, Seat
from .interface import DIRECTION, INTERFACE, NETNS, AtInterface, interface_names, interface_place

PRIORITY = 49152  # what tc takes where none is given (0xC000)


class Tc(AtInterface):
    kind = "tc"
    description = (
        "is an interface's clsact qdisc, for kernels before 6.6, beside the filters of others. The qdisc is made where "
        "there is none, and stays. A filter with a lower O(priority) that ends the search hides it."
    )
    link_type = ""
    is_moved_by_link = False
    program_types = (bpf.PROG_SCHED_CLS,)
    is_exclusive = True  # its filter, by priority and handle
    since = "4.5"
    options = {
        "direction": DIRECTION,
        "interface": INTERFACE,
        "priority": Option(
            "The filter's place among others; lower numbers come first.",
            type="int",
            default=PRIORITY,
            range=(1, 0xFFFF),
        ),
        "netns": NETNS,
    }
    key_options = ()  # all of them
    type_advice = 'Give the program SEC("tc"), or choose another hook'

    def key(self, attachment: Attachment) -> list:
        """Each program has a filter of its own."""
        return [*super().key(attachment), attachment.program]

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        return interface_place(attachment, 0, self._filter(attachment))

    def seat(self, place: Place, kept: bpf.Link, ours: frozenset) -> Seat:
        """Where a kill came between filter and pin, both programs are told, and the next run makes them one."""
        runs = self._runs(place)
        if runs is None:
            return Seat(frozenset(), is_here=False, is_gone=True)
        return Seat(frozenset((runs, kept.prog_id))) if runs in ours else Seat(frozenset(), is_here=False)

    def runs_nowhere(self, attachment: Attachment, kept: bpf.Link) -> bool:
        """No link tells it: its filter is looked for at all interfaces."""
        try:
            return not list(self._found(attachment))
        except NotFound:  # the network namespace is gone, and its filters with it
            return True

    def holders(self, place: Place) -> tuple:
        runs = self._runs(place)
        return (Holder(runs),) if runs is not None else ()

    def candidates(self, link: bpf.Link, program: str) -> list:
        """Of a program that is pinned in the place of a link."""
        filters = netlink.tc_filters(namespaces.interfaces().values()) or ()
        return [
            Attachment.of(self.kind, program, direction=each.direction, interface=name, priority=each.priority)
            for each in filters
            if each.prog_id == link.prog_id
            for name in interface_names(each.ifindex)
        ]

    def rows(self, host) -> list:
        filters = netlink.tc_filters(host.interfaces)
        if filters is None:
            host.warnings.append(
                "pyroute2 is not installed on this host: classic tc filters are not listed (python3-pyroute2)"
            )
        return [
            Row(
                {"interface": host.interfaces[each.ifindex], "direction": each.direction, "priority": each.priority},
                each.prog_id,
            )
            for each in filters or ()
        ]

    # ---- how it moves ----------------------------------------------------------------------------

    def put_on(self, attachment: Attachment, place: Place, program, hold) -> None:
        """Pinned first: of a filter that no pin tells nobody would know whose it is."""
        hold.put(program)
        try:
            self._put(attachment, place, program, is_new=True)
            self._end_others(attachment, place.number)
        except Exception:
            hold.drop()
            raise

    def replace(self, attachment: Attachment, place, new, expected, hold) -> None:
        runs = self._runs(place)
        if runs not in (bpf.prog_info(expected).id, bpf.prog_info(new).id):
            raise self.moved(attachment)
        if runs != bpf.prog_info(new).id:
            self._put(attachment, place, new, is_new=False)
        hold.put(new)

    def take_off(self, attachment: Attachment, place, hold) -> None:
        """Wherever the interface's name went: the filter is known by its handle and priority, and by the program's
        name."""
        with contextlib.suppress(NotFound):  # the network namespace is gone, and its filters with it
            self._end_others(attachment, 0)
        hold.drop()

    def _end_others(self, attachment, but):
        """No interface but the one with this index has the attachment's filter."""
        for ifindex in self._found(attachment):
            if ifindex != but:
                bpf.tc_detach(ifindex, *self._filter(attachment))

    def _found(self, attachment):
        """The indexes of interfaces that have the attachment's filter; its namespace is entered while they come."""
        with namespaces.network(attachment.option("netns")):
            for ifindex in namespaces.interfaces().values():
                runs = bpf.tc_query(ifindex, *self._filter(attachment))
                if runs and bpf.is_named(runs, attachment.program):
                    yield ifindex

    def _filter(self, attachment):
        return attachment.option("direction"), 1 + int(self.id(attachment)[:6], 16), attachment.option("priority")

    def _runs(self, place):
        with namespaces.network(place.netns):
            return bpf.tc_query(place.number, *place.more)

    def _put(self, attachment, place, program, is_new):
        try:
            with namespaces.network(place.netns):
                bpf.tc_attach(place.number, *place.more, program, is_new=is_new)
        except OSError as error:
            if error.errno == errno.EEXIST:
                raise HookHeld(
                    f"{self.words(attachment)} has a filter already, which ebpf.deploy did not put there", OWNER_ADVICE
                ) from error
            if error.errno == errno.EINVAL:
                raise Unsupported(
                    f"{self.words(attachment)} was refused: the priority may have filters of another kind or protocol, "
                    "or the interface a qdisc ingress, which has no egress",
                    "Look with tc filter show and tc qdisc show, and choose another priority",
                    errno=error.errno,
                ) from error
            raise self.refusal(attachment, place, error) from error
