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
from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    boot,
    code,
    guard,
    inventory,
    store,
    transitions,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import NotRootsAlone
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


# ---- folders of ours -----------------------------------------------------------------------------


def as_stranger(work):
    """What `work` ended with in a process of the stranger's."""

    def became():
        os.setgroups([])
        os.setresgid(STRANGER, STRANGER, STRANGER)
        os.setresuid(STRANGER, STRANGER, STRANGER)
        return work()

    return private_host.in_child(became)


def squat(path):
    """The stranger makes a folder with something in it at `path`, wherever he may. Whether he could."""

    def made():
        try:
            os.makedirs(os.path.join(path, "counted", "links"))
        except OSError:
            return False
        return True

    return as_stranger(made).value


def attached_xdp(host):
    return host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))


@pytest.fixture(params=[0o1777, 0o777])
def open_bpffs(host, request):
    """A host whose BPF file system everybody may write to."""
    os.chmod(files.BPFFS, request.param)
    yield host
    for name in files.names_in(files.BPFFS):
        if "-of-" in name:
            files.remove_tree(os.path.join(files.BPFFS, name))


def test_strangers_folder_in_the_place_of_ours_is_moved_aside_and_told(open_bpffs):
    assert squat(store.PINS)

    told = open_bpffs.stage(1).warnings
    attached_xdp(open_bpffs)

    assert os.lstat(store.PINS).st_uid == 0
    assert os.lstat(store.PINS).st_mode & 0o777 == 0o700
    assert any(f"was owned by uid {STRANGER} and is root's now" in text for text in told)
    open_bpffs.receive(3)
    assert private_host.counted(programs.XDP) == {1: 3}
    assert not as_stranger(lambda: renamed(store.PINS)).value
    assert not squat(store.PINS + "/x")


def renamed(path):
    try:
        os.rename(path, path + "-his")
    except OSError:
        return False
    return True


def test_boot_goes_on_where_a_stranger_was_first(open_bpffs, reboot):
    open_bpffs.stage(1)
    attached_xdp(open_bpffs)
    reboot()
    assert squat(store.PINS)

    assert boot.restore_all() == [(NAME, None)]

    open_bpffs.receive(2)
    assert private_host.counted(programs.XDP) == {1: 2}
    assert "moved_aside" in (pathlib.Path(store.STATE) / NAME / "journal.jsonl").read_text()


def test_what_is_in_a_strangers_folder_is_none_of_ours(open_bpffs):
    squat(store.PINS)

    assert store.deployments() == []
    assert not open_bpffs.facts().exists
    files.remove_tree(store.PINS)


@pytest.mark.parametrize("place", ["STATE", "RUN", "PINS"])
def test_folder_of_ours_that_others_can_write_is_refused_by_name(host, place):
    host.stage(1)
    attached_xdp(host)
    path = getattr(store, place)
    os.chmod(path, 0o777)

    with pytest.raises(NotRootsAlone) as refusal:
        host.stage(2)

    assert str(refusal.value).startswith(f"{path} is not root's alone: it is not root's alone to write (mode 0777)")
    transitions.roll_back(NAME, everything_off=True, why="the way back asks nobody")
    os.chmod(path, 0o700)


def test_bpffs_that_others_can_write_is_said(open_bpffs):
    assert inventory.host()["bpffs_is_roots"] is False
    assert "chmod 0700 /sys/fs/bpf" in inventory.bpffs_warnings()[0]
    os.chmod(files.BPFFS, 0o700)
    assert inventory.host()["bpffs_is_roots"] is True
    assert inventory.bpffs_warnings() == []


def test_bpffs_of_somebody_elses_is_refused_by_name(host):
    os.chown(files.BPFFS, STRANGER, STRANGER)

    with pytest.raises(NotRootsAlone, match=f"/sys/fs/bpf is owned by uid {STRANGER}"):
        host.stage(1)

    os.chown(files.BPFFS, 0, 0)
