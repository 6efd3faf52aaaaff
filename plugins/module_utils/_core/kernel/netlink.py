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

    0 for none. `kind` is what `ip -d link` calls it, empty for a device that hardware is behind. is_tunnel: its packets
    may travel inside those of another interface, and nothing here says of which. leads_elsewhere: what it was made on,
    or its peer, is in another network namespace.
    """

    index: int
    name: str
    lower: int
    master: int
    is_tunnel: bool
    kind: str = ""
    leads_elsewhere: bool = False


def links():
    """A Link for each interface of this thread's network namespace."""
    return [_link(body) for body in _asked(RTM_GETLINK, NLM_F_DUMP, struct.pack("=BxHiII", 0, 0, 0, 0, 0))]


def index_by_altname(name):
    """The index of the interface that has this name or altname of up to 127 characters in this thread's network
    namespace, None where none has it (before Linux 5.5: none has an altname)."""
    asked = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _attribute(IFLA_ALT_IFNAME, name.encode() + b"\0")
    try:
        (body,) = _asked(RTM_GETLINK, 0, asked)
    except (OSError, ValueError):
        return None
    return struct.unpack_from("=4xi", body)[0]


def xdp_features(ifindex):
    """The flags of native XDP that the interface's driver says it has (NETDEV_A_DEV_XDP_FEATURES), 0 for none; None
    where the kernel cannot tell (before 6.3)."""
    try:
        (body,) = _asked(GENL_ID_CTRL, 0, _generic(CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0"), GENERIC)
        (family,) = struct.unpack("=H", _attributes(body[4:])[CTRL_ATTR_FAMILY_ID][:2])
        asked = _generic(NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, struct.pack("=I", ifindex))
        (body,) = _asked(family, 0, asked, GENERIC)
        return struct.unpack("=Q", _attributes(body[4:])[NETDEV_A_DEV_XDP_FEATURES])[0]
    except (OSError, ValueError, KeyError, struct.error):
        return None


def _generic(command, kind, data):
    return struct.pack("=BBxx", command, 1) + _attribute(kind, data)


def _link(body):
    (index,) = struct.unpack_from("=4xi", body)
    found = _attributes(body[16:])
    leads_elsewhere = IFLA_LINK_NETNSID in found
    lower = 0 if leads_elsewhere else _number(found.get(IFLA_LINK))  # else an index of another namespace
    kind = _text(_attributes(found.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b""))
    master = _number(found.get(IFLA_MASTER))
    return Link(index, _text(found[IFLA_IFNAME]), lower, master, kind not in CARRIED, kind, leads_elsewhere)


def _text(data):
    return data.rstrip(b"\0").decode(errors="surrogateescape")


class Connection(NamedTuple):
    """The two ends of a TCP connection, addresses as texts."""

    local: str
    local_port: int
    remote: str
    remote_port: int


def holding(address):
    """The indexes of the interfaces that have the address."""
    wanted, found = _packed(address)[1], set()
    for body in _asked(RTM_GETADDR, NLM_F_DUMP, struct.pack("=BBBBi", 0, 0, 0, 0, 0)):
        attributes = _attributes(body[8:])
        if attributes.get(IFA_LOCAL, attributes.get(IFA_ADDRESS)) == wanted:
            found.add(struct.unpack_from("=i", body, 4)[0])
    return found


def is_own(address):
    """Whether packets to it stay on this host: it is lo's, or an interface has it."""
    family, wanted = _packed(address)
    if wanted[:1] == b"\x7f" if family == socket.AF_INET else wanted == socket.inet_pton(family, "::1"):
        return True
    rows = _asked(RTM_GETADDR, NLM_F_DUMP, struct.pack("=BBBBi", family, 0, 0, 0, 0))
    found = [_attributes(body[8:]) for body in rows]
    return wanted in [attributes.get(IFA_LOCAL, attributes.get(IFA_ADDRESS)) for attributes in found]


def routes_of(connection, within=()):
    """(indexes of the interfaces that its packets leave by, those that they may leave or come by besides).

    LOOPBACK where they stay on this host. All next hops of a route count. `within` are VRFs its socket may be bound
    to. Rules for marks and for types of service are tried each: netfilter may set them on the way out, which no socket
    shows. Where the address is lo's, only the route without a source says by which interface packets may come in.
    """
    plain = set().union(*(_routed(connection, oif=oif) for oif in (0, *within)))
    rules = _rules(_packed(connection.remote)[0]) - {(0, 0)}
    marked = set().union(*(_routed(connection, mark, tos, oif) for mark, tos in rules for oif in (0, *within)))
    return plain, marked | _asked_route(_packed(connection.remote), b"", 0, ())


def _rules(family):
    """The (mark, type of service) that rules of this family ask for."""
    try:
        answers = _asked(RTM_GETRULE, NLM_F_DUMP, struct.pack("=BBBBBxxBI", family, 0, 0, 0, 0, 0, 0))
    except OSError:  # a kernel without policy routing
        return set()
    return {(_number(_attributes(body[12:]).get(FRA_FWMARK)), body[3]) for body in answers}


def _routed(connection, mark=0, tos=0, oif=0):
    """As the kernel looks for the route when this connection sends; empty where it finds none."""
    asked = [(RTA_IP_PROTO, bytes([socket.IPPROTO_TCP])), (RTA_SPORT, struct.pack("!H", connection.local_port))]
    asked += [(RTA_DPORT, struct.pack("!H", connection.remote_port))]
    asked += [(kind, struct.pack("=I", number)) for kind, number in ((RTA_MARK, mark), (RTA_OIF, oif)) if number]
    return _asked_route(_packed(connection.remote), _packed(connection.local)[1], tos, asked)


def _asked_route(destination, source, tos, asked):
    family, remote = destination
    head = struct.pack("=BBBBBBBBI", family, 8 * len(remote), 8 * len(source), tos, 0, 0, 0, 0, RTM_F_FIB_MATCH)
    asked = [(RTA_DST, remote), *([(RTA_SRC, source)] if source else []), *asked]
    try:
        answers = _asked(RTM_GETROUTE, 0, head + b"".join(_attribute(*each) for each in asked))
    except OSError:  # no route there any more, or not from this address
        return set()
    found = set()
    for body in answers:
        if body[7] == RTN_LOCAL:  # the route itself names the interface that has the address
            found.add(LOOPBACK)
            continue
        attributes = _attributes(body[12:])
        hops = attributes.get(RTA_MULTIPATH, b"")
        while len(hops) >= 8:  # struct rtnexthop, its attributes within its length
            length, index = struct.unpack_from("=HxxI", hops)
            found.add(index)
            hops = hops[max(8, length + 3 & ~3) :]
        found.add(_number(attributes.get(RTA_OIF)))
    return found - {0}


def _attribute(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _packed(address):
    """(family, bytes) of an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _number(data):
    return struct.unpack("=I", data)[0] if data else 0


def _asked(kind, flags, body, protocol=socket.NETLINK_ROUTE):
    """The bodies of what the kernel answers; OSError with its errno."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as door:
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
RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETRULE = 18, 22, 26, 34
RTN_LOCAL, LOOPBACK = 2, 1  # lo has this index in every namespace (LOOPBACK_IFINDEX)
RTM_F_FIB_MATCH = 0x2000  # the route itself and not one of its hops (Linux 4.13, IPv6 4.15)
IFLA_IFNAME, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_LINK_NETNSID = 3, 5, 10, 18, 37
IFLA_INFO_KIND, IFLA_ALT_IFNAME = 1, 53
IFA_ADDRESS, IFA_LOCAL = 1, 2  # on a link with one peer, IFA_ADDRESS is the peer's
RTA_DST, RTA_SRC, RTA_OIF, RTA_MULTIPATH, RTA_MARK = 1, 2, 4, 9, 16
RTA_IP_PROTO, RTA_SPORT, RTA_DPORT = 27, 28, 29  # Linux 4.18
FRA_FWMARK = 10
# linux/genetlink.h, netdev.h
GENERIC = 16  # NETLINK_GENERIC
GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, NETDEV_A_DEV_XDP_FEATURES = 1, 1, 3
# kinds whose packets leave by the device itself or by those that it is stacked on; of any other nothing is known
CARRIED = {"", "bond", "bridge", "dsa", "dummy", "hsr", "ifb", "ipoib", "ipvlan", "ipvtap", "macsec", "macvlan"}
CARRIED |= {"macvtap", "netkit", "team", "veth", "vlan", "vrf", "wwan"}
