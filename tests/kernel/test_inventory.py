# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What bpf_info says is on the host, with the kernel's fdinfo as the second witness."""

from __future__ import annotations

import os
import socket

import private_host
import programs
from private_host import NAME, attachment

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import inventory, store
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files


def test_one_program_at_two_interfaces_has_the_link_of_each(host):
    private_host.run("ip", "link", "add", "k2", "type", "veth", "peer", "name", "k3")
    host.stage(1)
    host.attach(*(attachment("xdp", programs.XDP, interface=name) for name in (private_host.DEVICE, "k2")))

    rows, dummy = inventory.attachments()

    found = {row["interface"]: row["link_id"] for row in rows if row["hook"] == "xdp"}
    assert len(found) == 2
    assert found == links_by_interface()


def links_by_interface():
    """{interface: link id} as the fdinfo of each pinned link has them."""
    folder, found = store.home(NAME).links, {}
    for name in os.listdir(folder):
        with (
            bpf.get_pinned(os.path.join(folder, name)) as fd,
            open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as text,
        ):
            fields = dict(line.split(":", 1) for line in text.read().splitlines())
        found[socket.if_indextoname(int(fields["ifindex"]))] = int(fields["link_id"])
    return found


def test_drift_is_listed_whole_where_one_hook_is_held_and_one_place_is_gone(host):
    private_host.run("ip", "link", "add", "k2", "type", "veth", "peer", "name", "k3")
    host.stage(1)
    tcx = attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="ingress")
    host.attach(*(attachment("xdp", programs.XDP, interface=name) for name in (private_host.DEVICE, "k2")), tcx)
    private_host.run("ip", "link", "del", "k2")
    files.remove_tree(store.home(NAME).links)

    with private_host.stranger_at_xdp():
        lines = inventory.deployment(NAME)["drift"]

    for words in ("is held by", "There is no interface k2", f"attach {programs.TCX}"):
        assert len([line for line in lines if words in line]) == 1, lines
    assert len(lines) == 3
