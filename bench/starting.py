# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a task takes that has nothing to do, as Ansible's user waits for it: modules of ours beside
ansible.builtin.ping.

All in one playbook, in turn, over a local connection: what is left is the module's packing, transfer, start and work.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile

TITLE = "A task that changes nothing: median of all rounds"
HEAD = ("task", "ms", "ratio")
ROUNDS = 15
TASKS = {
    "ansible.builtin.ping": {},
    "ebpf.deploy.bpf_info": {"gather": ["deployments"]},
    "ebpf.deploy.bpf_release": {"name": "bench", "state": "absent"},
}
# Ansible has no callback of its own that gives durations as data.
CALLBACK = """
import json
import os
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = "{name: durations, type: aggregate, short_description: durations of tasks, description: [durations]}"


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "durations"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_start(self, host, task):
        self.began = time.perf_counter()

    def v2_runner_on_ok(self, result):
        with open(os.environ["DURATIONS"], "a") as out:
            out.write(json.dumps([result.task.name, time.perf_counter() - self.began]) + chr(10))
"""


def rows():
    with tempfile.TemporaryDirectory() as folder:
        seconds = durations(folder)
    for name in TASKS:
        median = statistics.median(seconds[name])
        yield name, median * 1000, median / statistics.median(seconds["ansible.builtin.ping"])


def durations(folder):
    """{task: seconds, one per round}."""
    playbook, found = os.path.join(folder, "play.json"), os.path.join(folder, "durations")
    tasks = [{"name": name, name: options} for dummy in range(ROUNDS) for name, options in TASKS.items()]
    with open(playbook, "w", encoding="utf-8") as stream:
        json.dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}], stream)
    with open(os.path.join(folder, "durations.py"), "w", encoding="utf-8") as stream:
        stream.write(CALLBACK)
    more = {
        "ANSIBLE_CALLBACK_PLUGINS": folder,
        "ANSIBLE_CALLBACKS_ENABLED": "durations",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "DURATIONS": found,
    }
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "-c", "local", playbook],
        env={**environment, **more},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise SystemExit(run.stdout + run.stderr)
    seconds = {name: [] for name in TASKS}
    with open(found, encoding="utf-8") as lines:
        for name, each in map(json.loads, lines):
            seconds[name].append(each)
    return seconds
