# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on this host, by others' eyes: bpftool, ip and find. One JSON document on stdout.

xdp: {interface: program's id}; programs, maps, links: {id: what bpftool says}; pins: below bpffs; files: ours on disk.
Pins and files are what a run may leave behind; locks in /run and the kernel's own *.debug are not.
"""

from __future__ import annotations

import json
import os
import subprocess

PINS = "/sys/fs/bpf"
STATE = ("/var/lib/ebpf_deploy", "/var/cache/ebpf_deploy")


def main():
    print(
        json.dumps(
            {
                "kernel": os.uname().release,
                "xdp": {
                    each["ifname"]: each["xdp"]["prog"]["id"] for each in asked("ip", "-j", "link") if "xdp" in each
                },
                "programs": by_id("prog"),
                "maps": by_id("map"),
                "links": by_id("link"),
                "pins": [path for path in below(PINS) if not path.endswith(".debug")],
                "files": [path for folder in STATE for path in below(folder)],
            }
        )
    )


def asked(*command):
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout or "[]")


def by_id(subject):
    return {each["id"]: each for each in asked("bpftool", "-j", subject, "show")}


def below(folder):
    return sorted(os.path.join(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files))


main()
