# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's view of the lab, as a file: groups `vms` and `fleet`.

Variables of every host: how to log in, and what may be lost without losing the host: data_interface and data_address
here, data_peer_interface and peer_address behind it in the network namespace data_peer_netns. Machines have lab_kernel,
and a NIC besides: wire_interface, wire_address, wire_peer_address (qemu answers pings there).
"""

from __future__ import annotations

import json
import os

import fleet
import machine
from base import HOME, KEY, SSH_OPTIONS

FILE = HOME / "inventory.yml"

LOGIN = {
    "ansible_connection": "ssh",
    "ansible_user": "root",
    "ansible_ssh_private_key_file": str(KEY),
    "ansible_ssh_common_args": SSH_OPTIONS,
    "ansible_python_interpreter": "/usr/bin/python3",
}


def write():
    """The file says what is up now; it is replaced in one go, so a run that reads it never sees half."""
    aside = FILE.with_suffix(".new")
    aside.write_text("\n".join(_lines()) + "\n")
    os.replace(aside, FILE)
    return FILE


def _lines():
    yield "# Written by `lab`, again with every change."
    yield "all:"
    yield "  vars:"
    yield from _pairs(LOGIN, 4)
    yield "  children:"
    machines = {each.name: _of_machine(each) for each in machine.everyone()}
    yield from _group("vms", machine.VARIABLES, machines)
    hosts = {each.name: {"ansible_host": each.address, "ansible_port": 22} for each in fleet.everyone()}
    yield from _group("fleet", fleet.VARIABLES, hosts)


def _of_machine(each):
    return {"ansible_host": "127.0.0.1", "ansible_port": each.port, "lab_kernel": each.kernel}


def _group(name, variables, hosts):
    yield "    %s:" % name
    yield "      vars:"
    yield from _pairs(variables, 8)
    yield "      hosts:" if hosts else "      hosts: {}"
    for host, facts in hosts.items():
        yield "        %s:" % host
        yield from _pairs(facts, 10)


def _pairs(values, indent):
    for name, value in values.items():
        yield "%s%s: %s" % (" " * indent, name, json.dumps(value))
