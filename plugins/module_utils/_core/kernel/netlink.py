# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What only netlink tells: classic tc filters, which have no links; and interfaces, their addresses, and routes.

The filters by pyroute2, where the host has it. Its faults are mended here, and importing it takes 0.1 s, so that is
done by whoever asks. The rest needs no package: whether a change could cut the host off must not depend on one.
"""

from __future__ import annotations

import os
import socket
import struct
import warnings
from typing import NamedTuple

PARENTS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}  # TC_H_MAJ(TC_H_CLSACT) | TC_H_MIN_INGRESS, _EGRESS


class Filter(NamedTuple):
    """A BPF program at a clsact qdisc: `tc filter show dev … ingress`."""

    ifindex: int
    direction: str
    priority: int
    name: str
    prog_id: int


def tc_filters(ifindexes):
    """All BPF filters at the clsact qdiscs of these interfaces, or None where pyroute2 is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 0.7 warns of its own future
            from pyroute2 import IPRoute
            from pyroute2.netlink.rtnl.tcmsg import sched_bpf
    except ImportError:
        return None
    _teach_program_id(sched_bpf.options)
    found = []
    with IPRoute() as route:
        for ifindex in ifindexes:
            for direction, parent in PARENTS.items():
                found += [_filter(ifindex, direction, each) for each in route.get_filters(index=ifindex, parent=parent)]
    return [each for each in found if each is not None]


def _teach_program_id(options):
    """pyroute2's table of TCA_BPF_* ends before the program's id, which the kernel sends since 4.13."""
    table = options.nla_map.values() if isinstance(options.nla_map, dict) else options.nla_map
    if not any("TCA_BPF_ID" in row for row in table):
        further = (("TCA_BPF_FLAGS_GEN", "uint32"), ("TCA_BPF_TAG", "hex"), ("TCA_BPF_ID", "uint32"))
        options.nla_map = (*table, *further)


def _filter(ifindex, direction, message):
    options = message.get_attr("TCA_OPTIONS")
    number = options.get_attr("TCA_BPF_ID") if options is not None and hasattr(options, "get_attr") else None
    if message.get_attr("TCA_KIND") != "bpf" or not number:
        return None
    return Filter(ifindex, direction, message["info"] >> 16, options.get_attr("TCA_BPF_NAME") or "", number)


# ---- links, addresses, routes: without pyroute2 --------------------------------------------------


class Link(NamedTuple):
    """An interface as the kernel has it: `lower` is what it was made on (a vlan's parent), `master` its bond or bridge.

    0 for none. is_tunnel: it has no Ethernet header, so its packets travel inside those of another interface.
    """

    index: int
    name: str
    lower: int
    master: int
    is_tunnel: bool


def links():
    """A Link for each interface of this thread's network namespace."""
    return [_link(body) for body in _asked(RTM_GETLINK, NLM_F_DUMP, struct.pack("=BxHiII", 0, 0, 0, 0, 0))]


def _link(body):
    dummy, hardware, index = struct.unpack_from("=BxHi", body)
    found = _attributes(body[16:])
    lower = 0 if IFLA_LINK_NETNSID in found else _number(found.get(IFLA_LINK))  # else an index of another namespace
    name = found[IFLA_IFNAME].rstrip(b"\0").decode(errors="surrogateescape")
    return Link(index, name, lower, _number(found.get(IFLA_MASTER)), hardware not in WITH_ETHERNET)


def indexes_between(connections):
    """Indexes of the interfaces that hold one of the local addresses, or by which one of the remote ones is reached.

    `connections` are (local, remote) texts. All next hops of a route count.
    """
    ours = {_packed(local)[1] for local, dummy in connections}
    found = set()
    for body in _asked(RTM_GETADDR, NLM_F_DUMP, struct.pack("=BBBBi", 0, 0, 0, 0, 0)):
        attributes = _attributes(body[8:])
        if attributes.get(IFA_LOCAL, attributes.get(IFA_ADDRESS)) in ours:
            found.add(struct.unpack_from("=i", body, 4)[0])
    return found.union(*(_routed(remote) for dummy, remote in connections))


def is_own(address):
    """Whether packets to it stay on this host: it is lo's, or an interface has it."""
    family, wanted = _packed(address)
    if wanted[:1] == b"\x7f" if family == socket.AF_INET else wanted == socket.inet_pton(family, "::1"):
        return True
    rows = _asked(RTM_GETADDR, NLM_F_DUMP, struct.pack("=BBBBi", family, 0, 0, 0, 0))
    found = [_attributes(body[8:]) for body in rows]
    return wanted in [attributes.get(IFA_LOCAL, attributes.get(IFA_ADDRESS)) for attributes in found]


def _routed(remote):
    family, address = _packed(remote)
    head = struct.pack("=BBBBBBBBI", family, 8 * len(address), 0, 0, 0, 0, 0, 0, RTM_F_FIB_MATCH)
    try:
        answers = _asked(RTM_GETROUTE, 0, head + struct.pack("=HH", 4 + len(address), RTA_DST) + address)
    except OSError:  # no route there any more
        return set()
    found = set()
    for body in answers:
        attributes = _attributes(body[12:])
        hops = attributes.get(RTA_MULTIPATH, b"")
        while len(hops) >= 8:  # struct rtnexthop, its attributes within its length
            length, index = struct.unpack_from("=HxxI", hops)
            found.add(index)
            hops = hops[max(8, length + 3 & ~3) :]
        found.add(_number(attributes.get(RTA_OIF)))
    return found - {0}


def _packed(address):
    """(family, bytes) of an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _number(data):
    return struct.unpack("=I", data)[0] if data else 0


def _asked(kind, flags, body):
    """The bodies of what the kernel answers; OSError with its errno."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as door:
        door.send(struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, 1, 0) + body)
        found, is_over = [], False
        while not is_over:
            data = door.recv(1 << 18)
            is_over = not flags
            while len(data) >= 16:
                length, answer = struct.unpack_from("=IH", data)
                if answer == NLMSG_ERROR and struct.unpack_from("=i", data, 16)[0]:
                    number = -struct.unpack_from("=i", data, 16)[0]
                    raise OSError(number, os.strerror(number), "rtnetlink")
                is_over = is_over or answer == NLMSG_DONE
                found += [data[16:length]] if answer > NLMSG_DONE else []
                data = data[length + 3 & ~3 :]
    return found


def _attributes(data):
    """{type: bytes} of a row of struct nlattr."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[max(4, length + 3 & ~3) :]
    return found


# linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h, if_arp.h
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE = 18, 22, 26
RTM_F_FIB_MATCH = 0x2000  # the route itself and not one of its hops (Linux 4.13, IPv6 4.15)
IFLA_IFNAME, IFLA_LINK, IFLA_MASTER, IFLA_LINK_NETNSID = 3, 5, 10, 37
IFA_ADDRESS, IFA_LOCAL = 1, 2  # on a link with one peer, IFA_ADDRESS is the peer's
RTA_DST, RTA_OIF, RTA_MULTIPATH = 1, 4, 9
WITH_ETHERNET = {1, 32, 772}  # ARPHRD_ETHER, INFINIBAND, LOOPBACK
