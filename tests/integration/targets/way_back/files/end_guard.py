# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End the next guard once it has switched, and wait until the trial is over, or three seconds beyond its deadline.

python3 end_guard.py RESULT kill --signal=KILL     as systemctl takes it; the unit's name comes after

RESULT is then one JSON document. restarts: how often systemd started the guard again; left: trial and deadline, where
they are there still; late: the seconds between the deadline and that look.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

NAME = "itest-way-back"
STATE = f"/var/lib/ebpf_deploy/{NAME}"
FILES = (f"{STATE}/trial", f"/run/ebpf_deploy/{NAME}.deadline")


def main(result, *command):
    before = switches()
    wait(lambda: switches() > before, time.monotonic() + 120)
    unit = systemctl("list-units", "--plain", "--no-legend", f"ebpf-deploy-guard-{NAME}-*").split()[0]
    with open(FILES[1], encoding="utf-8") as stream:
        deadline = json.load(stream)["end"] - time.clock_gettime(time.CLOCK_BOOTTIME) + time.monotonic()
    systemctl(*command, unit)
    restarts = [0]
    wait(lambda: restarts.append(restarts_of(unit)) or not left(), deadline + 3)
    found = {"restarts": max(restarts), "left": left(), "late": round(time.monotonic() - deadline, 1)}
    with open(result, "w", encoding="utf-8") as stream:
        json.dump(found, stream)


def wait(done, end):
    while not done() and time.monotonic() < end:
        time.sleep(0.1)


def switches():
    """How many switches the deployment's journal tells of."""
    with open(f"{STATE}/journal.jsonl", encoding="utf-8") as lines:
        return sum('"event": "switch"' in line for line in lines)


def left():
    return [path for path in FILES if os.path.lexists(path)]


def restarts_of(unit):
    """0 for a unit that is gone, too."""
    return int(systemctl("show", "--property=NRestarts", "--value", unit))


def systemctl(*words):
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=True).stdout


main(*sys.argv[1:])
