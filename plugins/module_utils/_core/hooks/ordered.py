# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What hooks have in common where the programs of many stand in an order of their own (the kernel's bpf_mprog)."""

from __future__ import annotations

import contextlib
import errno
import re

from ..errors import BadRequest
from ..kernel import bpf, namespaces
from .contract import Attachment, Holder, Option, Place, ProgramType
from .interface import AtInterface, interface_place

ORDER = Option(
    (
        "Where the program stands among those of others: V(first), V(last), C(before NAME) or C(after NAME), with the "
        "name of a program. Without, it is put on last, and stays where it is.",
        "One that stands elsewhere at a later run is taken off and put on again, with a gap. A NAME that nobody has "
        "asks for nothing.",
    ),
    is_live=True,
)
FORM = re.compile(r"first|last|(before|after) (\S+)")


class Ordered(AtInterface):
    program_types = (bpf.PROG_SCHED_CLS,)

    def attachment(self, given: dict) -> Attachment:
        if not FORM.fullmatch(given.get("order", "last")):
            raise BadRequest(
                f"order {given['order']!r} says no place among others", "Write first, last, before NAME or after NAME"
            )
        return super().attachment(given)

    def attach_type(self, attachment: Attachment) -> int:
        raise NotImplementedError

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        """With the order that is wanted, for `live_options`."""
        order = attachment.option("order")
        return interface_place(attachment, self.attach_type(attachment), (order,) if order else ())

    def holders(self, place: Place) -> tuple:
        with namespaces.network(place.netns):
            return tuple(Holder(*row) for row in bpf.prog_query(place.number, place.attach_type))

    def live_options(self, place: Place, kept: bpf.Link) -> tuple:
        """The order as it is wanted, while the program stands so."""
        if not place.more:
            return ()
        others = self.holders(place)
        ours = next((at for at, holder in enumerate(others) if holder.link_id == kept.id), None)
        order = place.more[0]
        return (("order", order if ours is None or self._stands_so(order, ours, others) else ""),)

    def _stands_so(self, order, ours, others):
        if order in ("first", "last"):
            return ours == (0 if order == "first" else len(others) - 1)
        word, name = FORM.fullmatch(order).groups()
        named = [at for at, holder in enumerate(others) if at != ours and bpf.is_named(holder.prog_id, name)]
        return all(ours < at if word == "before" else ours > at for at in named)

    def attach(self, attachment: Attachment, place: Place, program) -> bpf.Fd:
        flags, neighbour = self._asked(attachment.option("order"), self.holders(place))
        try:
            with self.target(place) as ifindex:
                return bpf.ordered_link(program, ifindex, place.attach_type, flags, neighbour)
        except OSError as error:
            if error.errno == errno.ENOENT and neighbour:  # it went meanwhile
                return self.attach(attachment, place, program)
            raise self.refusal(attachment, place, error) from error

    def _asked(self, order, others):
        """(flags, id of the neighbour) of BPF_LINK_CREATE. Of several programs of the name, the outermost."""
        if order == "first":
            return bpf.F_BEFORE, 0
        if order in ("", "last"):
            return bpf.F_AFTER, 0
        word, name = FORM.fullmatch(order).groups()
        named = [holder.prog_id for holder in others if bpf.is_named(holder.prog_id, name)]
        if not named:
            return bpf.F_AFTER, 0
        return (bpf.F_BEFORE, named[0]) if word == "before" else (bpf.F_AFTER, named[-1])

    def ahead(self, place: Place, attachment: Attachment) -> list:
        """The Holders that will stand before the program, as far as the order tells."""
        others, order = list(self.holders(place)), attachment.option("order")
        if order == "first":
            return []
        if order in ("", "last"):
            return others
        word, name = FORM.fullmatch(order).groups()
        named = [at for at, holder in enumerate(others) if bpf.is_named(holder.prog_id, name)]
        if not named:
            return others
        return others[: named[0]] if word == "before" else others[: named[-1] + 1]

    def ordered_rows(self, host, attach_types: dict) -> list:
        """(interface, name of the attach type, its place in the order, prog_id, link_id) of all that sit at these."""
        found = []
        for ifindex, interface in sorted(host.interfaces.items()):
            for name, number in attach_types.items():
                with contextlib.suppress(OSError):  # no such hook in this kernel, or not at this kind of interface
                    rows = bpf.prog_query(ifindex, number)
                    found += [(interface, name, at, *row) for at, row in enumerate(rows, 1)]
        return found
