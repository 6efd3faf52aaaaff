# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What hooks at network interfaces, and in network namespaces, have in common."""

from __future__ import annotations

import contextlib
import fnmatch
import re
from typing import Optional

from ..errors import Failure, NotFound
from ..kernel import namespaces, netlink
from .contract import Attachment, Hook, Option, Place

IFNAMSIZ = 16

NETNS = Option(
    (
        "The network namespace, by a name of C(ip netns), a process's id, or a path such as C(/proc/4711/ns/net).",
        "The host's own by default.",
    )
)
INTERFACE = Option(
    (
        "The interface, by its name or an altname.",
        "A pattern such as C(eth*) stands for all interfaces whose names match at that run. A later run attaches what "
        "has come since, and takes nothing off.",
    ),
    is_required=True,
)
PATTERN = re.compile(r"[*?\[]")
DIRECTION = Option("Which of the interface's packets.", choices=("ingress", "egress"), is_required=True)


class AtInterface(Hook):
    """A hook whose place is an interface, by its index in its network namespace."""

    key_options = ("netns", "interface", "direction")

    def matching(self, attachment: Attachment, known: Optional[tuple] = None) -> list:
        """By name; NotFound where none matches. An interface that has the very name is no pattern."""
        pattern, netns = attachment.option("interface"), attachment.option("netns")
        if not PATTERN.search(pattern):
            return [attachment]
        if known is None:
            with namespaces.network(netns):
                names = namespaces.interfaces()
        else:
            names = {each.option("interface") for each in known if each.with_options(interface=pattern) == attachment}
        found = [pattern] if pattern in names else fnmatch.filter(sorted(names), pattern)
        if not found:
            what = "attachment of the deployment" if known is not None else "interface on this host"
            raise NotFound(f"No {what} matches {pattern}", f"There are: {', '.join(sorted(names)) or 'none'}")
        return [attachment.with_options(interface=name) for name in found]

    def is_same(self, one: Attachment, other: Attachment) -> bool:
        """At the same interface of the same namespace, however both are spelt, and alike in all else that makes an
        id."""
        if not self._is_alike(one, other):
            return False
        with contextlib.suppress(Failure, OSError):
            where = [(namespaces.inode(each.option("netns")), self._number(each)) for each in (one, other)]
            return where[0] == where[1] and None not in where[0]
        return False

    def _is_alike(self, one, other):
        given = [
            {name: each.option(name) for name, option in self.options.items() if not option.is_live}
            for each in (one, other)
        ]
        for each in given:
            each.update(interface="", netns="")
        return given[0] == given[1] and (self.is_exclusive or one.program == other.program)

    def _number(self, attachment):
        with namespaces.network(attachment.option("netns")):
            return _index(attachment.option("interface"))

    def cuts_off(self, way_in, attachment: Attachment) -> bool:
        """Not at an interface that is none of those that carry the way in."""
        if not cuts_off_in_namespace(way_in, attachment):
            return False
        if way_in.is_everything or not namespaces.is_own(attachment.option("netns")):
            return True
        number = _index(attachment.option("interface"))
        return number is None or number in way_in.interfaces

    def is_there(self, place: Place) -> bool:
        with contextlib.suppress(Failure, OSError), namespaces.network(place.netns):
            return namespaces.interface_name(place.number) is not None
        return False


def cuts_off_in_namespace(way_in, attachment: Attachment) -> bool:
    """False in a network namespace that is not the host's own and that nothing on the way in leads to."""
    is_elsewhere = namespaces.is_own(attachment.option("netns")) is False
    return way_in.is_everything or not is_elsewhere or way_in.leads_elsewhere


def interface_place(attachment: Attachment, attach_type: int, more: tuple = ()) -> Place:
    """The Place on the attachment's interface in its network namespace."""
    name, netns = attachment.option("interface"), attachment.option("netns")
    with namespaces.network(netns):
        number = _index(name)
        others = namespaces.interfaces() if number is None else ()
    if number is None:
        inside = f" in network namespace {netns}" if netns else ""
        raise NotFound(
            f"There is no interface {name}{inside} on this host",
            namespaces.did_you_mean(name, others),
            interface=name,
            interfaces=sorted(others),
        )
    return Place(number, attach_type, netns=netns, more=more)


def _index(name):
    """By name or altname, whose length only netlink has room for."""
    return namespaces.ifindex(name) if len(name.encode()) < IFNAMSIZ else netlink.index_by_altname(name)


def interface_names(number: int) -> list:
    """The names of the interface with this index in the process's own network namespace: one, or none."""
    return [name for name, index in namespaces.interfaces().items() if index == number]
