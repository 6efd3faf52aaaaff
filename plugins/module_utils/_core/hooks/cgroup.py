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

from ..errors import BadRequest, NotFound, Unsupported
from ..kernel import bpf, files
from .contract import Attachment, Hook, Place

DIRECTIONS = {"ingress": bpf.ATTACH_CGROUP_INGRESS, "egress": bpf.ATTACH_CGROUP_EGRESS}
SERVICE = re.compile(r"(?:/[^/]+\.slice)*/([^/]+\.service)")


class Cgroup(Hook):
    kind = "cgroup"
    # cgroup_skb, cgroup_sock, sock_ops, cgroup_device, cgroup_sock_addr, cgroup_sysctl, cgroup_sockopt
    program_types = (8, 9, 13, 15, 18, 23, 25)
    since = "5.7"
    option_names = ("cgroup", "direction")
    type_advice = 'Give the program a section like SEC("cgroup_skb/egress") or SEC("cgroup/connect4")'

    def named(self, target):
        """The path below the cgroup v2 mount, with one slash before it."""
        with contextlib.suppress(Unsupported):  # place() says so
            root = files.cgroup2_root()
            if (target + "/").startswith(root + "/"):
                target = target[len(root) :]
        return os.path.normpath("/" + target.lstrip("/"))

    def unit(self, attachment):
        """The service whose cgroup it is, below slices alone: not one of a user or a container."""
        found = SERVICE.fullmatch(attachment.target)
        return found[1] if found else ""

    def place(self, attachment, program_type):
        path = _folder(attachment)
        return Place(os.stat(path).st_ino, _attach_type(attachment, program_type), path=path)

    def is_on(self, way_in, attachment):
        """A cgroup that an sshd is in, or one above it."""
        if way_in.is_everything or not way_in.cgroups:
            return True
        path = _folder(attachment)[len(files.cgroup2_root()) :] + "/"
        return any((each.rstrip("/") + "/").startswith(path) for each in way_in.cgroups)

    def candidates(self, link, program):
        """Users may give a direction or none."""
        path = files.cgroup_paths().get(link.cgroup_id)
        directions = ("", *DIRECTIONS) if path else ()
        return [Attachment(self.kind, program, path, direction=direction) for direction in directions]

    @contextlib.contextmanager
    def target(self, place):
        folder = os.open(place.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield folder
        finally:
            os.close(folder)


def _folder(attachment):
    """The cgroup's folder: a path below the cgroup v2 mount, with or without the mount point before it."""
    root = files.cgroup2_root()
    path = os.path.normpath(attachment.target)
    if path != root and not path.startswith(root + "/"):
        path = os.path.normpath(root + "/" + path)
    if not os.path.isfile(os.path.join(path, "cgroup.procs")) and path != root:
        raise NotFound(
            f"There is no cgroup {attachment.target} on this host",
            f"Give a path below {root}, such as /system.slice/nginx.service",
            cgroup=attachment.target,
            root=root,
        )
    return path


def _attach_type(attachment, program_type):
    """The program's own attach type; SEC("cgroup/skb") has none, and takes the direction that the user gives."""
    number, expected = program_type
    if number != bpf.PROG_CGROUP_SKB or not attachment.direction:
        return expected
    if DIRECTIONS.get(attachment.direction) is None:
        raise BadRequest(f"direction {attachment.direction} is none of ingress, egress", "")
    return DIRECTIONS[attachment.direction]
