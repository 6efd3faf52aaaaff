# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Which run of Ansible this is, and whose: two runs on one controller are two rollouts."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess


def rollout_id(given, task_vars) -> str:
    """What the user gave, else one run's own: AWX's job, else host, pid and start of the process that ansible is.

    Plugins run in its children, so all tasks of a run have the same. ansible-console is one run.
    """
    job = _of_awx(task_vars, "job_id")
    return str(given or (f"awx-{job}" if job else f"{socket.gethostname()}-{os.getppid()}-{_started(os.getppid())}"))


def origin(task_vars) -> dict:
    """{login, controller}: who runs it and where, as far as the controller says it itself."""
    user = pwd.getpwuid(os.getuid()).pw_name if _is_known(os.getuid()) else str(os.getuid())
    login = _of_awx(task_vars, "user_name") or os.environ.get("SUDO_USER") or user
    return {"login": str(login), "controller": socket.gethostname()}


def _of_awx(task_vars, name):
    found = [(task_vars or {}).get(prefix + name) for prefix in ("awx_", "tower_")]
    return next((each for each in found if each), "")


def _is_known(uid):
    try:
        return bool(pwd.getpwuid(uid))
    except KeyError:  # a container's user of the day
        return False


def _started(pid):
    """When the process began, in the words of this system; the same each time it is asked."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()[19]
    except OSError:  # no /proc, as on macOS and the BSDs
        pass
    try:
        words = ["ps", "-o", "lstart=", "-p", str(pid)]
        said = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    return "".join(each if each.isalnum() else "-" for each in said.strip())
