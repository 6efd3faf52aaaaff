# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""How much memory this process can still have: the host's, and what its cgroups leave it.

What it is wanted for is not this room's business.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

UNLIMITED = 1 << 62  # cgroup v1 writes a number a little below 2^63 where there is no limit

# The files of one hierarchy: its limit, what is taken of it, and the rows of memory.stat that could be reclaimed.
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))
V2 = ("memory.max", "memory.current", ("active_file", "inactive_file"))


class Limit(NamedTuple):
    """A cgroup with a limit, by its path, and what it still leaves: what could be reclaimed counts as free."""

    cgroup: str
    limit: int
    available: int


def memory():
    """Bytes that the host can give without swapping (/proc/meminfo, MemAvailable)."""
    rows = (line.split() for line in _read("/proc/meminfo").splitlines())
    return next(int(row[1]) * 1024 for row in rows if row[0] == "MemAvailable:")


def limit():
    """The narrowest Limit of this process's cgroup and those above it, None where none is limited."""
    found = []
    for folder, top, names in _cgroups():
        while True:
            with contextlib.suppress(OSError, ValueError):  # no limit: a root has no such file, "max" is no number
                found.append(_limit_of(folder, top, *names))
            if folder == top:
                break
            folder = os.path.dirname(folder)
    return min((each for each in found if each.limit < UNLIMITED), key=lambda each: each.available, default=None)


def _limit_of(folder, top, allowed, taken, reclaimed):
    size = int(_read(folder, allowed))
    rows = dict(line.split() for line in _read(folder, "memory.stat").splitlines())
    used = int(_read(folder, taken)) - sum(int(rows[name]) for name in reclaimed)
    return Limit(folder[len(top) :] or "/", size, max(0, size - used))


def _cgroups():
    """(this process's folder, the hierarchy's mount, its files) where memory is accounted for: in v1 if it is there."""
    rows = (line.split(":", 2) for line in _read("/proc/self/cgroup").splitlines())
    paths = {controllers: path for dummy, controllers, path in rows}
    old = next((path for controllers, path in paths.items() if "memory" in controllers.split(",")), None)
    for line in _read("/proc/self/mountinfo").splitlines():
        left, dummy, right = line.partition(" - ")
        root, top = left.split()[3:5]
        kind, options = right.split()[0], right.split()[-1].split(",")
        if (kind, old) == ("cgroup2", None):
            path, names = paths.get("", "/"), V2
        elif kind == "cgroup" and "memory" in options and old is not None:
            path, names = old, V1
        else:
            continue
        folder = os.path.normpath(os.path.join(top, os.path.relpath(path, root)))
        if folder == top or folder.startswith(top + "/"):
            yield folder, top, names


def _read(*path):
    with open(os.path.join(*path), encoding="utf-8", errors="surrogateescape") as stream:
        return stream.read()
