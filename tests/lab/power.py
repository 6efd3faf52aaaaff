# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a machine whose power will be cut: changes of one deployment, stopped at a moment, and what is the case.

power.py prepare              the command's code, the boot unit, and a service with a cgroup
power.py deploy VERSION       it is confirmed at an interface and at the service; with +OFF: on_boot_refusal off;
                              with +PROVEN it is so at once
power.py trial VERSION SECONDS the change to it is on trial, with its guard; {"guard": ...} when its hooks run it
power.py ended                how the last trial ended, and the journal's events since
power.py stop VERSION WORDS   the change to it stops at the moment that the words (a regex) describe, says so, and waits
power.py look                 {state, drift, generation, receive, leave, quarantined, kernel, events, causes of
                              strikes, boot: what its unit is}, then ebpf-deploy status and the units' journal
power.py remove               nothing is left of it

VERSION is a number; one from 100 on needs Linux 6.2. It runs with PYTHONPATH at the collection's parent folder.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

from ansible_collections.ebpf.deploy.plugins.module_utils._core import command
from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    apply,
    edit,
    guard,
    inventory,
    stage,
    store,
    transitions,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import source

NAME = "comes-back"
TARGET = os.path.join(os.path.dirname(__file__), "../integration/targets/comes_back/files")
ROLE = os.path.join(os.path.dirname(__file__), "../../roles/host/files")
BOOT, SERVICE = "ebpf-deploy-boot.service", "comes-back.service"  # of role host, and of the target
END = "ebpf-deploy-end.service"
SYSTEM = "/etc/systemd/system"
ATTACHMENTS = (
    {"hook": "xdp", "program": "receive", "interface": "data0"},
    {"hook": "cgroup", "program": "leave", "cgroup": "/system.slice/comes-back.service"},
)


def prepare():
    command.install()
    for folder, unit in ((ROLE, BOOT), (ROLE, END), (TARGET, SERVICE)):
        with open(os.path.join(folder, unit), "rb") as stream:
            files.write_durably(os.path.join(SYSTEM, unit), stream.read(), 0o644)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "enable", BOOT], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["systemctl", "enable", "--now", END, SERVICE], check=True, stderr=subprocess.DEVNULL)


def deploy(version, **more):
    number = int(version.partition("+")[0])
    flags = (f"-DVERSION={number % 100}", *(["-DSINCE_6_2"] if number >= 100 else []))
    with open(os.path.join(TARGET, "comes_back.bpf.c"), "rb") as stream:
        made = source.Source("comes_back.bpf.c", stream.read(), cflags=flags)
    stage.stage(NAME, stage.Given(source=made, file="comes_back.bpf.c"))
    attachments = tuple(catalogue.attachment_from(each) for each in ATTACHMENTS)
    wish = transitions.Wish(attachments=attachments, on_boot_refusal="off" if "+OFF" in version else "previous")
    transitions.attach(NAME, wish._replace(**more, **({"proven_after": 0} if "+PROVEN" in version else {})))
    if more:
        told(json.dumps(guard.arm(NAME)))
        return
    networks = [{"key": f"10.{each // 250}.{each % 250}.0/24", "value": 1} for each in range(1000)]
    edit.deployed(NAME, "blocked", edit.Asked(networks, persist=True))
    told(f"version {number}")


def stop(version, words):
    def trace(moment, step):
        if re.search(words, f"{moment}: {step.describe()}"):
            told(f"stopped {moment}: {step.describe()}")
            time.sleep(3600)

    apply.trace = trace
    deploy(version)
    raise SystemExit(f"the change has no moment like {words}")


def trial(version, seconds):
    deploy(version, confirm_within=int(seconds))


def ended():
    home = store.home(NAME)
    number = max(int(name[:-5]) for name in files.names_in(os.path.join(home.folder, "outcomes")))
    with open(os.path.join(home.folder, "journal.jsonl"), encoding="utf-8") as lines:
        events = [json.loads(line)["event"] for line in lines]
    told(json.dumps({**store.ended(home, number)._asdict(), "events": events[-8:]}))


def look():
    row = inventory.deployment(NAME)
    with open(os.path.join(store.home(NAME).folder, "journal.jsonl"), encoding="utf-8") as lines:
        events = [json.loads(line)["event"] for line in lines]
    witness = subprocess.run(
        [sys.executable, os.path.join(TARGET, "host.py"), "count"], check=True, capture_output=True, text=True
    )
    found = {field: row[field] for field in ("state", "drift", "generation")}
    quarantined = len(files.names_in(os.path.join(store.home(NAME).folder, "quarantine")))
    causes = [each["cause"] for each in row["proof"]["strikes"]]
    unit = {"causes": causes, "boot": said("systemctl", "is-active", BOOT).strip()}
    kernel = {"kernel": os.uname().release, "events": events[-3:]}
    told(json.dumps({**found, **json.loads(witness.stdout), "quarantined": quarantined, **kernel, **unit}))
    command.main(["status"])
    told(
        "\n".join(
            f"journal: {line}" for line in said("journalctl", "-b", "-u", BOOT, "-u", END, "-o", "cat").splitlines()
        )
    )


def said(*words):
    """What the command printed, whatever its exit code says."""
    return subprocess.run(words, check=False, capture_output=True, text=True).stdout


def remove():
    transitions.remove(NAME)
    subprocess.run(["systemctl", "disable", BOOT], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["systemctl", "disable", "--now", END, SERVICE], check=True, stderr=subprocess.DEVNULL)
    for unit in (BOOT, END, SERVICE):
        files.remove(os.path.join(SYSTEM, unit))


def told(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


globals()[sys.argv[1]](*sys.argv[2:])
