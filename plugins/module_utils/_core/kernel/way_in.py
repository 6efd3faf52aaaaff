# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The way that the controller comes in by: the interfaces and the cgroups where a wrong program would cut it off.

Found, not guessed by name: ancestors of this process that are sshd, their sockets' addresses, the interface they are
on, all devices below it and all above it. sudo takes SSH_CONNECTION away, so the environment is not asked. A task with
`async` has no sshd above it: then every sshd of this host counts. Without any connection the device of the default
route stands in.

Where nothing here can tell which interface carries a connection, everything is on the way: it came over lo (a tunnel,
a jump by this host), by a VPN or another tunnel, or the kernel has no route for its replies.

What is above a device below is not on the way: another vlan of the same bond, another port of a bridge that our own
interface is a port of. All ports of a bridge that has our address are, because which of them leads to the controller
changes when a cable is pulled. Both ends of a veth are, and an ifb, which gets what tc sends there.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple, Optional

from . import netlink

SSHD = {"sshd", "sshd-session", "dropbear"}  # OpenSSH 9.8 split the session into a program of its own
ESTABLISHED = "01"
PAIRS = {"veth", "netkit"}  # two devices, each with the other as what it was made on
RTF_UP, ANYWHERE = 0x1, "00000000"


class WayIn(NamedTuple):
    """{index: name} of interfaces, and paths of cgroups below the cgroup v2 mount.

    is_everything: what carries the connection cannot be told, so all is on the way. leads_elsewhere: an interface of
    these has its other side in another network namespace.
    """

    interfaces: dict
    cgroups: frozenset
    is_everything: bool = False
    leads_elsewhere: bool = False


def find():
    """The WayIn of this process; no interfaces where there is neither an sshd with a connection nor a default route."""
    servers, ancestors = _servers(), list(_ancestors(os.getpid()))
    above = [pid for pid in ancestors if pid in servers]
    connections = _connections(above or servers)
    links = netlink.links()
    near, is_known = _near(links, connections)
    is_known = is_known and bool(connections or not above)  # a socket that is not TCP's, such as vsock
    near = _with_peers(links, near)
    carrying = carriers(links, near)
    sources = [link for link in links if link.index in _along(_stacked(links)[0], near)]
    # a connection's packets belong to the cgroup of the sshd that listens, its session is in another; and a cgroup asks
    # for no network namespace
    every = {*servers, *(pid for pid in ancestors if _stat(pid)[0] in SSHD)}
    return WayIn(
        {link.index: link.name for link in links if link.index in carrying},
        frozenset(_cgroup(pid) for pid in every or [os.getpid()]) - {""},
        not is_known or any(_is_opaque(link, near) for link in sources),
        any(link.leads_elsewhere for link in sources),
    )


def _near(links, connections):
    """(indexes of the interfaces that the connections' packets come in and leave by, whether these are all)."""
    if not connections:
        return {_index(links, name) for name in _default_routes()} - {0, netlink.LOOPBACK}, True
    near, is_known, masters = set(), True, {link.index: link.master for link in links}
    vrfs = {link.index for link in links if link.kind == "vrf"}
    for connection in connections:
        holding = netlink.holding(connection.local)
        within = vrfs & {*holding, *(masters.get(index) for index in holding)}
        plain, marked = netlink.routes_of(connection, within)
        is_known = is_known and bool(plain) and netlink.LOOPBACK not in plain
        near |= holding | plain | marked
    return near - {netlink.LOOPBACK}, is_known


def _is_opaque(link, near):
    """Whether the link's packets may travel by an interface that nothing names. A virtual machine's tap is a port."""
    return link.is_tunnel and (link.kind != "tun" or link.index in near)


def carriers(links, near):
    """Indexes of the interfaces `near`, of all that are below them and of all that are above them.

    What comes out of a veth went into its peer before, and into a port of the peer's bridge.
    """
    below, above = _stacked(links)
    near = _with_peers(links, near)
    mirrors = {link.index for link in links if link.kind == "ifb"} if near else set()
    return _along(below, near) | _along(above, near) | mirrors


def _stacked(links):
    """({index: those right below it}, {index: those right above it}); the ends of a pair are beside each other."""
    below = {link.index: set() for link in links}
    above = {link.index: set() for link in links}
    for link in links:
        lower = 0 if link.kind in PAIRS else link.lower
        for low, up in ((lower, link.index), (link.index, link.master)):
            if low in below and up in below:
                below[up].add(low)
                above[low].add(up)
    return below, above


def _with_peers(links, near):
    """`near`, and the other end of each pair that leads there, with the bridge that this is a port of."""
    below, found, before = _stacked(links)[0], set(near), None
    while found != before:
        before = set(found)
        peers = {link.lower for link in links if link.kind in PAIRS and link.index in _along(below, found)}
        found |= {each for link in links if link.index in peers for each in (link.index, link.master)} - {0}
    return found


def _along(steps, start):
    found, waiting = set(), set(start)
    while waiting:
        found |= waiting
        waiting = set().union(*(steps.get(each, set()) for each in waiting)) - found
    return found


def _index(links, name):
    return next((link.index for link in links if link.name == name), 0)


# ---- the far end ---------------------------------------------------------------------------------


class Peer(NamedTuple):
    """The far end of the connection that this process came in by. is_here: it is an address of this host, so that lo
    carries it, whatever a tunnel does beyond."""

    address: str
    port: int
    is_here: bool


def peer() -> Optional[Peer]:
    """The Peer of this process; None where it cannot be told: no sshd is above it, or one with several connections
    (those that it forwards) of which nobody says which is the client's."""
    below = os.getpid()
    for pid in _ancestors(os.getpid()):
        if _stat(pid)[0] in SSHD:
            found = _far_ends(pid)
            if len(found) > 1:
                found &= {_told_by(below)}
            if found:
                address, port = found.pop()
                return None if found else Peer(address, port, netlink.is_own(address))
        else:
            below = pid
    return None


def _told_by(pid):
    """(address, port) that sshd wrote into the environment of the program that it started."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            told = [each[15:].split() for each in stream.read().split(b"\0") if each.startswith(b"SSH_CONNECTION=")]
    except OSError:
        return None
    return (told[0][0].decode(errors="replace"), int(told[0][1])) if told else None


def _far_ends(pid):
    """{(address, port)} at the other end of the process's TCP connections, in the process's own network namespace."""
    inodes, found = _sockets(pid), set()
    for family in ("tcp", "tcp6") if inodes else ():
        try:
            with open(f"/proc/{pid}/net/{family}", encoding="ascii") as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:  # no IPv6
            continue
        ours = [row[2] for row in rows if row[3] == ESTABLISHED and row[9] in inodes]
        found |= {_end(end) for end in ours}
    return found


# ---- processes -----------------------------------------------------------------------------------


def _servers():
    """Processes of this network namespace that are an sshd, its sessions included."""
    here, found = _network("self"), set()
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        if _stat(pid)[0] in SSHD and _network(pid) == here:
            found.add(int(pid))
    return found


def _ancestors(pid):
    """The processes above `pid`, the nearest first."""
    while pid > 1:
        pid = _stat(pid)[1]
        yield pid


def _stat(pid):
    """(name, parent) of a process; one that has ended has none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            text = stream.read()
    except OSError:
        return "", 0
    return text[text.index("(") + 1 : text.rindex(")")], int(text[text.rindex(")") + 2 :].split()[1])


def _network(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def _cgroup(pid):
    """The process's cgroup v2 path (cgroups(7))."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as lines:
            return next((line[3:].strip() for line in lines if line.startswith("0::")), "")
    except OSError:
        return ""


# ---- addresses -----------------------------------------------------------------------------------


def _connections(pids):
    """Established TCP connections of these processes (/proc/net/tcp, inode in field 9)."""
    inodes = set().union(*(_sockets(pid) for pid in pids))
    found = []
    for family in ("tcp", "tcp6") if inodes else ():
        try:
            with open(f"/proc/self/net/{family}", encoding="ascii") as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:  # no IPv6
            continue
        ours = [row for row in rows if row[3] == ESTABLISHED and row[9] in inodes]
        found += [netlink.Connection(*_end(row[1]), *_end(row[2])) for row in ours]
    return found


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


def _end(text):
    """(address, port) of `0100007F:0016`."""
    digits, dummy, port = text.partition(":")
    return _address(digits), int(port, 16)


def _address(digits):
    """`0100007F` as 127.0.0.1; IPv6 is four words in host order; a mapped IPv4 address is that one."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    data = struct.pack(f"={len(words)}I", *words)
    if len(data) == 4:
        return socket.inet_ntop(socket.AF_INET, data)
    if data[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, data[12:])
    return socket.inet_ntop(socket.AF_INET6, data)


def _default_routes():
    """Names of the devices of the default routes (/proc/net/route, /proc/net/ipv6_route)."""
    found = set()
    with open("/proc/self/net/route", encoding="ascii") as lines:
        for row in [line.split() for line in lines][1:]:
            if row[1] == ANYWHERE and row[7] == ANYWHERE and int(row[3], 16) & RTF_UP:
                found.add(row[0])
    if os.path.exists("/proc/self/net/ipv6_route"):
        with open("/proc/self/net/ipv6_route", encoding="ascii") as lines:
            rows = [line.split() for line in lines]
        found |= {row[9] for row in rows if set(row[0]) == {"0"} and row[1] == "00" and int(row[8], 16) & RTF_UP}
    return found
