# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody with a login on the host (uid 4777) tries to have root run, read or lose what is his doing."""

from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
import sys
import time

import private_host
import programs
import pytest
from private_host import NAME, attachment

from ansible_collections.ebpf.deploy.plugins.module_utils._core import command
from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import code, guard, store
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files, tools
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import bcc, source

STRANGER = 4777
ROLE = pathlib.Path(__file__).parents[2] / "roles" / "host" / "files"
MODULES = ("json", "os", "signal", "shlex", "zipfile", "bcc", "sitecustomize", "usercustomize", "ebpf_deploy")
TOOLS = ("clang", "ssh-keygen", "systemd-run", "systemctl", "ip", "grep", "id", "sh", "python3")


@pytest.fixture
def planted(host, tmp_path, monkeypatch):
    """What root has run of the stranger's, as a function.

    His modules and tools lie in the current folder, in PYTHONPATH, in PATH, and among the packages of the home folder
    that root has kept from him (sudo).
    """
    ran = tmp_path / "ran"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    places = {
        "cwd": tmp_path / "cwd",
        "PYTHONPATH": tmp_path / "path",
        "PATH": tmp_path / "bin",
        "HOME": tmp_path / "home" / ".local" / "lib" / version / "site-packages",
    }
    for way, folder in places.items():
        folder.mkdir(parents=True)
        for name in MODULES:
            (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write('{way} {name}\\n')\n")
        for name in TOOLS:
            (folder / name).write_text(f"#!/bin/sh\necho {way} {name} >>{ran}\nexit 1\n")
            (folder / name).chmod(0o755)
    monkeypatch.chdir(places["cwd"])
    monkeypatch.setenv("PYTHONPATH", str(places["PYTHONPATH"]))
    monkeypatch.setenv("PATH", f"{places['PATH']}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return lambda: ran.read_text().splitlines() if ran.exists() else []


def real(name):
    """The host's own program, whatever PATH says."""
    return tools.find(name)


def started(*words):
    """Nothing but Python's own ways in is left to `words`: root calls the shell by its path."""
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_command_runs_nothing_of_a_strangers(planted):
    command.install()
    script = (ROLE / "ebpf-deploy").read_text()

    ended = started(real("sh"), "-c", script, "ebpf-deploy", "status")
    started(real("sh"), code.SCRIPT, "back", "other0")

    assert (ended.returncode, ended.stderr, planted()) == (0, "", [])
    files.remove_tree(code.FOLDER)


def test_guard_and_its_questions_run_nothing_of_a_strangers(host, planted):
    host.stage(1)
    outcome = host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE), confirm_within=4)

    assert private_host.in_child(lambda: guard.arm(NAME)).value["how"] == "process"
    answers = [started(*shlex.split(line)) for line in guard.questions(NAME, outcome.generation.number).values()]
    while store.pointed(store.home(NAME), "trial"):
        time.sleep(0.1)

    assert [(each.returncode, each.stderr) for each in answers] == [(0, "")] * 2
    assert store.ended(store.home(NAME), outcome.generation.number).outcome == store.ROLLED_BACK
    assert planted() == []
    files.remove_tree(code.FOLDER)


def test_compilers_run_nothing_of_a_strangers(planted):
    text = b'#include <linux/bpf.h>\nchar _license[] __attribute__((section("license"))) = "GPL";\n'

    assert source.compile_source(source.Source("planted.bpf.c", text)).object
    if os.path.isdir("/usr/lib/python3/dist-packages/bcc"):
        bcc.inspect(source.Source("planted.c", b"int counts(void *ctx) { return 0; }\n"))

    assert planted() == []
