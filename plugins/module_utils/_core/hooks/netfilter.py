# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""netfilter: a program among the chains of iptables and nftables, one per priority (Linux 6.4).

Its links cannot be updated, and two at one priority are refused. So a successor is put on at the next higher number,
and its own successor at the priority again: both count as the attachment's place. A link does not tell its network
namespace, nor does it end with it, so this process's own is the only one that is offered.
"""

from __future__ import annotations

import errno
import time

from ..errors import Failure, HookHeld
from ..kernel import bpf
from ..objects import owners
from .contract import OWNER_ADVICE, Attachment, Option, Place, ProgramType, Row
from .overlap import Overlapping

FAMILIES = {"ipv4": 2, "ipv6": 10}  # NFPROTO_IPV4, NFPROTO_IPV6
FREED_WITHIN = 0.3  # s from the end of a link's last reference to that of its priority
HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}  # enum nf_inet_hooks


class Netfilter(Overlapping):
    kind = "netfilter"
    sections = (r"netfilter",)
    description = (
        "is a place among the chains of iptables and nftables, one program per priority (Linux 6.4). While a release "
        "is replaced, both see what comes in between, the new one at O(priority) or the next higher number."
    )
    program_types = (bpf.PROG_NETFILTER,)
    is_exclusive = True
    since = "6.4"
    options = {
        "family": Option("Which packets.", choices=tuple(FAMILIES), is_required=True),
        "netfilter_hook": Option("Where on their way.", choices=tuple(HOOKS), is_required=True),
        "priority": Option(
            (
                "Where among the chains; lower numbers come first. V(-100) is before the filter table, which has 0.",
                "The attachment needs this number and the next one, which its successor has.",
            ),
            type="int",
            is_required=True,
            range=(1 - 2**31, 2**31 - 3),
        ),
    }
    type_advice = 'Give the program SEC("netfilter"), or choose another hook'

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        named = (FAMILIES[attachment.option("family")], HOOKS[attachment.option("netfilter_hook")])
        return Place(0, bpf.ATTACH_NETFILTER, more=(*named, attachment.option("priority")))

    def is_there(self, place: Place) -> bool:
        return True

    def is_at(self, place: Place, link: bpf.Link) -> bool:
        family, hook, priority = place.more
        return link.netfilter in ((family, hook, priority), (family, hook, priority + 1))

    def attach(self, attachment: Attachment, place: Place, program, part: str = "", after=None) -> bpf.Fd:
        """At the priority that the one before does not have."""
        family, hook, priority = place.more
        if after is not None and after.netfilter == place.more:
            priority += 1
        end = time.monotonic() + FREED_WITHIN
        while True:
            try:
                return bpf.netfilter_link(program, family, hook, priority)
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > end:
                    raise self.refusal(attachment, place, error) from error
            time.sleep(0.02)

    def candidates(self, link: bpf.Link, program: str) -> list:
        if link.netfilter is None:
            return []
        family, hook, priority = _in_words(link.netfilter)
        return [
            Attachment.of(self.kind, program, family=family, netfilter_hook=hook, priority=each)
            for each in (priority, priority - 1)
        ]

    def rows(self, host) -> list:
        """Of all network namespaces: links do not tell theirs."""
        return [
            Row(dict(zip(("family", "netfilter_hook", "priority"), _in_words(link.netfilter))), link.prog_id, link.id)
            for link in host.links
            if link.netfilter is not None
        ]

    def refusal(self, attachment: Attachment, place, error: OSError) -> Failure:
        if error.errno == errno.EBUSY:
            there = [link for link in bpf.links() if link.netfilter is not None and self.is_at(place, link)]
            holders = [owners.describe(link.prog_id, link.id) for link in there]
            who = owners.sentence(holders[0]) if holders else "another program"
            return HookHeld(
                f"{self.words(attachment)} or the next priority is held by {who}",
                f"Choose another priority. {OWNER_ADVICE}",
                errno=error.errno,
                holders=holders,
            )
        return super().refusal(attachment, place, error)


def _in_words(numbers):
    family, hook, priority = numbers
    families, hooks = ({number: word for word, number in each.items()} for each in (FAMILIES, HOOKS))
    return families.get(family, str(family)), hooks.get(hook, str(hook)), priority
