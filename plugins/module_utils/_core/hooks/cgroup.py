# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""cgroup: programs that judge what a cgroup's processes do on the network, beside those of others (Linux 5.7).

The program's own attach type (SEC("cgroup_skb/egress"), SEC("cgroup/connect4") …) says what it judges.
"""

from __future__ import annotations

import contextlib
import os
import re

from ..errors import NotFound, Unsupported
from ..kernel import bpf, files
from .contract import Attachment, Holder, Hook, Option, Place, ProgramType, Row

DIRECTIONS = {"ingress": bpf.ATTACH_CGROUP_INGRESS, "egress": bpf.ATTACH_CGROUP_EGRESS}
SERVICE = re.compile(r"(?:/[^/]+\.slice)*/([^/]+\.service)")


class Cgroup(Hook):
    kind = "cgroup"
    sections = (
        r"cgroup/.+",
        r"cgroup_skb/(?:ingress|egress)",
        r"sockops",
    )
    description = "judges what a cgroup's processes do on the network, beside the programs of others (Linux 5.7)."
    # cgroup_skb, cgroup_sock, sock_ops, cgroup_device, cgroup_sock_addr, cgroup_sysctl, cgroup_sockopt
    program_types = (8, 9, 13, 15, 18, 23, 25)
    since = "5.7"
    options = {
        "direction": Option("Where the program's section does not say it.", choices=tuple(DIRECTIONS)),
        "cgroup": Option(
            (
                "The cgroup's path below the cgroup v2 mount.",
                "A systemd service's cgroup is made anew with each start. The service gets a drop-in that brings its "
                "programs back before its first process, and that goes when nothing is attached there any more.",
            ),
            is_required=True,
        ),
    }
    key_options = ("netns", "cgroup", "direction")  # netns is always empty, and was part of the ids that hosts have
    type_advice = 'Give the program a section like SEC("cgroup_skb/egress") or SEC("cgroup/connect4")'

    def named(self, attachment: Attachment) -> Attachment:
        """The path below the cgroup v2 mount, with one slash before it."""
        path = attachment.option("cgroup")
        with contextlib.suppress(Unsupported):  # place() says so
            root = files.cgroup2_root()
            if (path + "/").startswith(root + "/"):
                path = path[len(root) :]
        return attachment.with_options(cgroup=os.path.normpath("/" + path.lstrip("/")))

    def unit(self, attachment: Attachment) -> str:
        """The service whose cgroup it is, below slices alone: not one of a user or a container."""
        found = SERVICE.fullmatch(attachment.option("cgroup"))
        return found[1] if found else ""

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        path = _folder(attachment)
        return Place(os.stat(path).st_ino, _attach_type(attachment, program_type), path=path)

    def is_there(self, place: Place) -> bool:
        with contextlib.suppress(OSError):
            return os.stat(place.path).st_ino == place.number
        return False

    def cuts_off(self, way_in, attachment: Attachment) -> bool:
        """Not at a cgroup that no sshd is in or below."""
        if way_in.is_everything or not way_in.cgroups:
            return True
        path = _folder(attachment)[len(files.cgroup2_root()) :] + "/"
        return any((each.rstrip("/") + "/").startswith(path) for each in way_in.cgroups)

    def holders(self, place: Place) -> tuple:
        with self.target(place) as folder:
            return tuple(Holder(*row) for row in bpf.prog_query(folder, place.attach_type))

    def candidates(self, link: bpf.Link, program: str) -> list:
        """Users may give a direction or none."""
        path = files.cgroup_paths().get(link.cgroup_id)
        given = ("", *DIRECTIONS) if path else ()
        return [Attachment.of(self.kind, program, cgroup=path, direction=direction) for direction in given]

    def rows(self, host) -> list:
        """By links alone: asking every cgroup for every attach type would take seconds on a large host."""
        paths = files.cgroup_paths()
        return [
            Row(
                {"cgroup": paths.get(link.cgroup_id, ""), "attach_type": bpf.attach_type_name(link.attach_type)},
                link.prog_id,
                link.id,
            )
            for link in host.links
            if link.cgroup_id is not None
        ]

    @contextlib.contextmanager
    def target(self, place: Place):
        folder = os.open(place.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield folder
        finally:
            os.close(folder)


def _folder(attachment):
    """The cgroup's folder: a path below the cgroup v2 mount, with or without the mount point before it."""
    root, named = files.cgroup2_root(), attachment.option("cgroup")
    path = os.path.normpath(named)
    if path != root and not path.startswith(root + "/"):
        path = os.path.normpath(root + "/" + path)
    if not os.path.isfile(os.path.join(path, "cgroup.procs")) and path != root:
        raise NotFound(
            f"There is no cgroup {named} on this host",
            f"Give a path below {root}, such as /system.slice/nginx.service",
            cgroup=named,
            root=root,
        )
    return path


def _attach_type(attachment, program_type):
    """The program's own attach type; SEC("cgroup/skb") has none, and takes the direction that the user gives."""
    direction = attachment.option("direction")
    is_chosen = program_type.number == bpf.PROG_CGROUP_SKB and direction
    return DIRECTIONS[direction] if is_chosen else program_type.attach_type
