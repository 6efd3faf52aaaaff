# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of Ansible is one rollout: what its plugins call it, in the processes that ansible forks for them."""

from __future__ import annotations

import builtins
import os
import socket
import subprocess
import sys

import pytest

from ansible_collections.ebpf.deploy.plugins.plugin_utils import whose

ASKS = """
import os, sys
from ansible_collections.ebpf.deploy.plugins.plugin_utils import whose
for worker in range(2):
    if os.fork() == 0:
        os.write(1, whose.rollout_id("", {}).encode() + b"\\n")
        os._exit(0)
    os.wait()
"""


def run():
    """The ids that two workers of one run have."""
    environment = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}
    words = [sys.executable, "-c", ASKS]
    return subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout.split()


def test_workers_of_a_run_agree_and_two_runs_do_not():
    first, second = run(), run()

    assert first[0] == first[1]
    assert second[0] == second[1]
    assert first[0] != second[0]
    assert first[0].startswith(socket.gethostname())


@pytest.mark.parametrize("variables", [{"awx_job_id": 17}, {"tower_job_id": "17"}])
def test_job_of_awx_is_one_rollout(variables):
    assert whose.rollout_id("", variables) == "awx-17"


def test_what_the_user_gives_is_the_id():
    assert whose.rollout_id("mine", {"awx_job_id": 17}) == "mine"


def test_start_is_known_without_proc(monkeypatch):
    """As on macOS."""
    opened = builtins.open

    def without_proc(path, *more, **options):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(path)
        return opened(path, *more, **options)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", without_proc)
        patched.setattr(subprocess, "run", lambda *dummy, **dummies: subprocess.CompletedProcess((), 0, "Mon 9:15\n"))
        assert whose._started(os.getpid()) == "Mon-9-15"


def test_origin_is_the_login_and_the_host_of_whoever_runs_it(monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    own = whose.origin({})
    assert own["controller"] == socket.gethostname()
    assert own["login"]

    monkeypatch.setenv("SUDO_USER", "ada")
    assert whose.origin({})["login"] == "ada"
    assert whose.origin({"awx_user_name": "grace"})["login"] == "grace"
