# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The way that the controller comes in by: the interfaces and the cgroup that a wrong program there would cut off.

Found, not guessed by name: ancestors of this process up to sshd, its socket's addresses, the interface they are on,
and all devices above and below it. sudo takes SSH_CONNECTION away, so the environment is not asked. Where no sshd is
above us, the device of the default route stands in.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

from . import netlink

SSHD = {"sshd", "sshd-session", "dropbear"}  # OpenSSH 9.8 split the session into a program of its own
ESTABLISHED = "01"
RTF_UP, ANYWHERE = 0x1, "00000000"


class WayIn(NamedTuple):
    """Names of interfaces, and the path of sshd's cgroup below the cgroup v2 mount (empty: unknown)."""

    interfaces: frozenset
    cgroup: str


def find():
    """The WayIn of this process; no interfaces where there is neither an sshd above us nor a default route."""
    sshd = _ancestor(os.getpid(), SSHD)
    near = _of_connection(sshd) if sshd else set()
    if not near:
        near = _of_default_route()
    return WayIn(frozenset(_with_neighbours(near)), _cgroup(sshd or os.getpid()))


# ---- processes -----------------------------------------------------------------------------------


def _ancestor(pid, names):
    """The nearest process above `pid` that has one of the names, None where there is none."""
    while pid > 1:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
                text = stream.read()
        except OSError:
            return None
        name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :]
        if name in names:
            return pid
        pid = int(rest.split()[1])
    return None


def _cgroup(pid):
    """The process's cgroup v2 path (cgroups(7))."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as lines:
            return next((line[3:].strip() for line in lines if line.startswith("0::")), "")
    except OSError:
        return ""


# ---- addresses -----------------------------------------------------------------------------------


def _of_connection(pid):
    """Names of the interfaces that hold the local address of the process's connections, or route to its peers."""
    addresses = [pair for family in ("tcp", "tcp6") for pair in _connections(pid, family)]
    return netlink.interfaces_between(addresses) if addresses else set()


def _connections(pid, family):
    """(local, remote) addresses of the process's established TCP connections (/proc/net/tcp, inode in field 9)."""
    inodes = _sockets(pid)
    try:
        with open(f"/proc/{pid}/net/{family}", encoding="ascii") as lines:
            rows = [line.split() for line in lines][1:]
    except OSError:
        return []
    return [(_address(row[1]), _address(row[2])) for row in rows if row[3] == ESTABLISHED and row[9] in inodes]


def _sockets(pid):
    folder = f"/proc/{pid}/fd"
    found = set()
    try:
        for name in os.listdir(folder):
            target = os.readlink(os.path.join(folder, name))
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found


def _address(text):
    """`0100007F:0016` as 127.0.0.1; IPv6 is four words in host order; a mapped IPv4 address is that one."""
    digits = text.partition(":")[0]
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    data = struct.pack(f"={len(words)}I", *words)
    if len(data) == 4:
        return socket.inet_ntop(socket.AF_INET, data)
    if data[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, data[12:])
    return socket.inet_ntop(socket.AF_INET6, data)


def _of_default_route():
    """The device of the IPv4 default route (/proc/net/route), else of the IPv6 one."""
    found = set()
    with open("/proc/self/net/route", encoding="ascii") as lines:
        for row in [line.split() for line in lines][1:]:
            if row[1] == ANYWHERE and row[7] == ANYWHERE and int(row[3], 16) & RTF_UP:
                found.add(row[0])
    if not found and os.path.exists("/proc/self/net/ipv6_route"):
        with open("/proc/self/net/ipv6_route", encoding="ascii") as lines:
            rows = [line.split() for line in lines]
        found = {row[9] for row in rows if set(row[0]) == {"0"} and row[1] == "00" and row[9] != "lo"}
    return found


# ---- devices above and below ---------------------------------------------------------------------


def _with_neighbours(names):
    """The interfaces and all their lower and upper devices: bond members, a bridge and its ports, a vlan's parent."""
    found, waiting = set(), set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        folder = f"/sys/class/net/{name}"
        links = os.listdir(folder) if os.path.isdir(folder) else []
        near = {link.split("_", 1)[1] for link in links if link.startswith(("lower_", "upper_"))}
        waiting |= near - found
    return found
