# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is true on the host, by bpftool, systemd and the names of files. One JSON document on stdout.

programs: {the link's id: the program's id}; counting: how many counters rose while a packet went towards the controller
and its answer came back; generation: the confirmed one; waiting: trial, deadline and guards, where there are any.
"""

from __future__ import annotations

import glob
import json
import os
import socket
import subprocess

NAME = "itest-way-back"
STATE, PINS = f"/var/lib/ebpf_deploy/{NAME}", f"/sys/fs/bpf/ebpf_deploy/{NAME}"


def main():
    before = counters()
    knock(os.environ["SSH_CONNECTION"].split()[0])
    after = counters()
    links = [asked("bpftool", "-j", "link", "show", "pinned", path) for path in sorted(glob.glob(PINS + "/links/*"))]
    guards = said("systemctl", "list-units", "--plain", "--no-legend", f"ebpf-deploy-guard-{NAME}-*").splitlines()
    files = [path for path in (f"{STATE}/trial", f"/run/ebpf_deploy/{NAME}.deadline") if os.path.lexists(path)]
    print(
        json.dumps(
            {
                "programs": {link["id"]: link["prog_id"] for link in links},
                "counting": sum(old < new for old, new in zip(before, after)),
                "generation": os.path.basename(os.readlink(f"{STATE}/confirmed")),
                "waiting": guards + files,
            }
        )
    )


def counters():
    """The release that is attached and the one that is staged have the same map: any pin of it will do."""
    path = glob.glob(PINS + "/loads/*/maps/seen")[0]
    return [entry["formatted"]["value"] for entry in asked("bpftool", "-j", "map", "dump", "pinned", path)]


def knock(address):
    """A packet to a port of the controller's where nobody listens, and the refusal that comes back."""
    with socket.socket() as stream:
        stream.settimeout(5)
        stream.connect_ex((address, 9))


def asked(*command):
    return json.loads(said(*command))


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


main()
