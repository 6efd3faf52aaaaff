# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What hooks have in common whose place is a network namespace, by a link."""

from __future__ import annotations

import contextlib
import os

from ..errors import NotFound
from ..kernel import bpf, files, namespaces
from .contract import Attachment, Holder, Hook, Place, ProgramType, Row
from .interface import cuts_off_in_namespace

OWN = "/proc/thread-self/ns/net"


class AtNamespace(Hook):
    link_type = "netns"
    attach_type = 0  # enum bpf_attach_type

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        name = attachment.option("netns")
        path = namespaces.path_of(name) if name else OWN
        try:
            return Place(os.stat(path).st_ino, self.attach_type, path=path)
        except FileNotFoundError as error:
            raise NotFound(
                f"There is no network namespace {name} on this host", "See ip netns list", netns=name
            ) from error

    def is_there(self, place: Place) -> bool:
        with contextlib.suppress(OSError):
            return os.stat(place.path).st_ino == place.number
        return False

    def cuts_off(self, way_in, attachment: Attachment) -> bool:
        return cuts_off_in_namespace(way_in, attachment)

    def holders(self, place: Place) -> tuple:
        with self.target(place) as namespace:
            return tuple(Holder(prog_id) for prog_id, dummy in bpf.prog_query(namespace, place.attach_type))

    def candidates(self, link: bpf.Link, program: str) -> list:
        names = ["", *files.names_in(namespaces.NAMED)]
        found = [name for name in names if link.netns_ino and namespaces.inode(name) == link.netns_ino]
        return [Attachment.of(self.kind, program, netns=name) for name in found]

    def rows(self, host) -> list:
        """Of this network namespace. Links tell, where there are some: a query tells programs alone."""
        links = {link.prog_id: link.id for link in host.links if link.type == self.link_type}
        with contextlib.suppress(OSError):
            here = Place(0, self.attach_type, path=OWN)
            return [Row({}, holder.prog_id, links.get(holder.prog_id, 0)) for holder in self.holders(here)]
        return []

    @contextlib.contextmanager
    def target(self, place: Place):
        namespace = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield namespace
        finally:
            os.close(namespace)
