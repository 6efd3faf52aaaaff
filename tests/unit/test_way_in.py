# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which interfaces carry a connection's packets, given how they are stacked. tests/kernel/test_way_in.py stacks real
ones."""

from __future__ import annotations

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import contract
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import netlink, way_in

# name: (what it was made on, its master); none of these kinds but the bridge is in every kernel that runs the tests
STACK = {
    "eth0": ("", "bond0"),
    "eth1": ("", "bond0"),
    "bond0": ("", ""),
    "bond0.10": ("bond0", "br0"),
    "bond0.20": ("bond0", ""),
    "br0": ("", ""),
    "tap0": ("", "br0"),
    "eth2": ("", "vrf1"),
    "eth2.5": ("eth2", ""),
    "vrf1": ("", ""),
    "eth3": ("", ""),
}
NAMES = list(STACK)


def links():
    def index(name):
        return NAMES.index(name) + 1 if name else 0

    return [
        netlink.Link(index(name), name, index(lower), index(master), False) for name, (lower, master) in STACK.items()
    ]


@pytest.mark.parametrize(
    ("connection", "carried_by"),
    [
        ("eth3", "eth3"),
        ("bond0", "bond0 eth0 eth1 bond0.10 bond0.20 br0"),
        ("bond0.20", "bond0.20 bond0 eth0 eth1"),  # not bond0.10
        ("br0", "br0 bond0.10 bond0 eth0 eth1 tap0"),  # not bond0.20
        ("tap0", "tap0 br0"),  # no other port of its bridge
        ("eth2", "eth2 vrf1 eth2.5"),
        ("eth2.5", "eth2.5 eth2"),  # not vrf1: frames for the vlan never reach it
    ],
)
def test_carriers_are_below_and_above_and_not_beside(connection, carried_by):
    found = way_in.carriers(links(), {NAMES.index(connection) + 1})

    assert {NAMES[index - 1] for index in found} == set(carried_by.split())


def test_hook_that_says_nothing_may_cut_the_way_in():
    attachment = contract.Attachment("new", "program")

    assert contract.Hook().cuts_off(way_in.WayIn({}, frozenset()), attachment)
