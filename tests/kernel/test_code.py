# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The core on the host's disk: put there whole, started from there, and nothing kept that nobody uses."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
import zipfile

import private_host
import programs
import pytest
from private_host import NAME, attachment
from test_guard_killed import pass_the_deadline

from ansible_collections.ebpf.deploy.plugins.module_utils._core import command
from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    code,
    guard,
    records,
    transitions,
    trial,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files

LONG_AGO = time.time() - 2 * code.UNUSED_SECONDS


@pytest.fixture
def installed(host):
    assert command.install(check_mode=True)
    assert not os.path.exists(code.FOLDER)
    assert command.install()
    yield host
    files.remove_tree(code.FOLDER)


def older_version():
    """A zip as a former version of the collection wrote it."""
    path = os.path.join(code.FOLDER, "0123456789abcdef.zip")
    with open(path, "wb") as stream:
        stream.write(b"a former version")
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def new_version(monkeypatch):
    """This process writes its code as if it were a newer one."""
    source = code._source
    monkeypatch.setattr(
        code, "_source", lambda name: source(name) + b"# newer\n" if name == code.COMMAND else source(name)
    )
    return code.written(code.COMMAND)


def started(*arguments, python=sys.executable):
    """What `run` ends with, by another interpreter where one is named."""
    with open(code.SCRIPT, encoding="utf-8") as stream:
        script = stream.read().replace(f"exec {sys.executable}", f"exec {python}")
    return subprocess.run(["sh", "-c", script, "run", *arguments], capture_output=True, text=True, check=False)


def test_installed_code_answers_for_itself(installed):
    installed.stage(1)
    installed.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))

    ended = started("status")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{NAME}: confirmed, release ")


def test_installed_again_it_is_as_it_was(installed):
    assert not command.install(check_mode=True)
    assert not command.install()


def test_code_that_was_started_from_its_zip_is_the_same_code(installed):
    """Whoever writes it, and whatever else that process has imported: this one all the core."""
    again = "from ebpf_deploy import command; print(command.install())"
    script = f"import sys; sys.path.insert(0, {os.path.realpath(code.CURRENT)!r}); {again}"

    assert private_host.run(sys.executable, "-c", script) == "False\n"

    assert [name for name in os.listdir(code.FOLDER) if name.endswith(".zip")] == [os.readlink(code.CURRENT)]


def test_code_has_all_that_it_imports_whatever_its_writer_had(installed):
    """A function's import, too: what only a refusal or a boot needs was not loaded when the zip was written."""
    with zipfile.ZipFile(os.path.realpath(code.CURRENT)) as archive:
        names = set(archive.namelist())
        for name in (each for each in names if each.endswith(".py")):
            package = name[: -len(".py")].split("/")
            for node in ast.walk(ast.parse(archive.read(name))):
                if isinstance(node, ast.ImportFrom) and node.level:
                    base = "/".join([*package[: -node.level], *(node.module or "").split(".")]).rstrip("/")
                    rooms = [base, *(f"{base}/{each.name}" for each in node.names)]
                    found = [f"{each}.py" in names for each in rooms]
                    assert found[0] or all(found[1:]), (name, node.lineno)
    assert "ebpf_deploy/objects/rules/order.py" in names


def test_code_starts_compiled(installed):
    script = f"import sys; sys.path.insert(0, {os.path.realpath(code.CURRENT)!r}); from ebpf_deploy import command"
    loaded = private_host.run(sys.executable, "-c", f"{script}; print(command.__spec__.origin)")
    assert loaded.endswith("/ebpf_deploy/command.pyc\n")


def test_interface_that_no_deployment_names_costs_no_python(installed):
    installed.stage(1)
    installed.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))

    assert started("back", "other0", python="/bin/false").returncode == 0
    assert started("back", private_host.DEVICE, python="/bin/false").returncode == 1
    assert started("back", r"/a.slice/a\x2db.service", python="/bin/false").returncode == 1


def test_interface_that_a_trial_alone_names_is_asked_about(installed):
    installed.stage(1)
    installed.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE), confirm_within=60)

    assert started("back", private_host.DEVICE, python="/bin/false").returncode == 1


def test_zip_that_nobody_uses_goes_when_a_newer_one_comes(installed, monkeypatch):
    old, current = older_version(), os.path.realpath(code.CURRENT)
    os.utime(current, (LONG_AGO, LONG_AGO))

    newer = new_version(monkeypatch)

    assert not os.path.exists(old)
    assert os.path.exists(current)
    assert os.path.exists(newer)


def test_zip_on_a_command_line_stays(installed, monkeypatch):
    old = older_version()
    with subprocess.Popen([sys.executable, "-c", "input()", old], stdin=subprocess.PIPE) as user:
        assert private_host.eventually(lambda: old in code._on_command_lines())
        new_version(monkeypatch)
        assert os.path.exists(old)
        user.communicate(b"\n")


def test_zip_stays_while_a_trial_is_under_way(installed, monkeypatch):
    """Its guard may have died, and be about to be started again."""
    old = older_version()
    deadline = os.path.join(records.RUN, "another.deadline")
    files.make_private_folder(records.RUN)
    files.write_durably(deadline, b"")

    new_version(monkeypatch)

    assert os.path.exists(old)
    files.remove(deadline)


def test_zip_that_was_just_written_stays(installed, monkeypatch):
    """Whoever wrote it has not started it yet."""
    fresh = older_version()
    os.utime(fresh)

    new_version(monkeypatch)

    assert os.path.exists(fresh)


# ---- bytes on the disk ---------------------------------------------------------------------------


def flip(path, at=0.5):
    """One bit of the file is another, as of a disk that says nothing of it."""
    with open(path, "r+b") as stream:
        place = int(os.path.getsize(path) * at)
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("spoil", [flip, os.unlink, lambda path: os.truncate(path, 1000)], ids=["bit", "lost", "short"])
def test_damaged_code_is_not_started_and_says_so(installed, spoil):
    zip_path = os.path.realpath(code.CURRENT)
    spoil(zip_path)

    ended = started("status")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"{zip_path} is damaged or lost. Run role ebpf.deploy.host, which writes it anew.\n"


def test_every_bit_of_the_code_counts(installed):
    """Where the zip's own checksums look and where they do not."""
    zip_path = os.path.realpath(code.CURRENT)
    with open(zip_path, "rb") as stream:
        whole = stream.read()
    for at in (0.0, 0.1, 0.3, 0.7, 0.9, 0.999):
        flip(zip_path, at)
        assert started("status").returncode == 1, at
        with open(zip_path, "wb") as stream:
            stream.write(whole)
    assert started("status").returncode == 0


def test_damaged_code_is_written_anew_by_the_next_installation(installed):
    flip(os.path.realpath(code.CURRENT))

    assert command.install(check_mode=True)
    assert command.install()

    assert started("status").returncode == 0
    assert not command.install()


def test_damaged_code_is_written_anew_by_the_next_guard(installed):
    first = code.written(code.GUARD)
    flip(first)

    again = code.written(code.GUARD)

    ended = subprocess.run(
        [sys.executable, "-I", "-c", guard.BOOTSTRAP.format("look"), again, NAME, "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_guard_whose_code_is_damaged_when_it_starts_again_takes_other_whole_code_and_goes_back(installed):
    installed.stage(1)
    installed.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))
    installed.stage(2)
    installed.attach(confirm_within=60)
    assert trial.switch(NAME)
    pass_the_deadline()
    own = code.written(code.GUARD)
    flip(own)

    main = guard.BOOTSTRAP.replace("guard.{}", "guard.GRACE = 0; guard.main")
    ended = subprocess.run(
        [sys.executable, "-I", "-c", main, own, NAME, "0"], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr.count("damaged or lost")) == (0, 1)
    assert installed.facts().trial is None
    assert installed.facts().confirmed.number == 1


def test_guard_writes_its_own_code_anew_where_the_disk_damages_it(installed, monkeypatch):
    """Its next life starts from it."""
    installed.stage(1)
    installed.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))
    installed.stage(2)
    installed.attach(confirm_within=60)
    own = code.written(code.GUARD)
    with open(own, "rb") as stream:
        whole = stream.read()
    main = guard.BOOTSTRAP.replace("guard.{}", "guard.GRACE, guard.LOOK_SECONDS = 0, 0.1; guard.main")
    with subprocess.Popen([sys.executable, "-I", "-c", main, own, NAME, "0"]) as life:
        try:
            for spoil in (flip, os.unlink):
                assert private_host.eventually(lambda: trial.running(installed.facts()).number == 2)
                spoil(own)
                assert private_host.eventually(lambda: code._content(own) == whole)
            transitions.roll_back(NAME, number=2)
            assert life.wait(10) == 0
        finally:
            life.kill()
