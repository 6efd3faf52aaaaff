# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What only netlink tells: classic tc filters, which have no links, and routes. By pyroute2, where the host has it.

Its faults are mended here. Importing it takes 0.1 s, so that is done by whoever asks.
"""

from __future__ import annotations

import contextlib
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


def interfaces_between(addresses):
    """Names of the interfaces that hold one of the local addresses, or that one of the remote ones is routed to.

    Empty without pyroute2. `addresses` are (local, remote) texts. A connection to ourselves (lo) counts as none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pyroute2 import IPRoute, NetlinkError
    except ImportError:
        return set()
    with IPRoute() as route:
        names = {each["index"]: each.get_attr("IFLA_IFNAME") for each in route.get_links()}
        locals_there = {local for local, dummy in addresses}
        found = {each["index"] for each in route.get_addr() if each.get_attr("IFA_ADDRESS") in locals_there}
        for dummy, remote in addresses:
            with contextlib.suppress(NetlinkError):  # no route there any more
                found |= {each.get_attr("RTA_OIF") for each in route.route("get", dst=remote)}
    return {names[number] for number in found if number in names} - {"lo"}
