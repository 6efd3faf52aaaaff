# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nobody keeps a deployment's lock from its guard past the deadline: not a run that was stopped or hangs, not what it
left behind, not what lies where the lock should."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import private_host
import pytest
from every_transition import HOOKS, attached, on_trial, running
from private_host import NAME, eventually

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    code,
    guard,
    lock,
    records,
    store,
    trial,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Busy
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import child

GONE_BACK = {program: [1] for program in HOOKS}
GUARD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from ebpf_deploy.deployment import guard; "
    "guard.GRACE = 0; guard.main(sys.argv[2])"
)


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    """The tests' own guard waits less."""
    monkeypatch.setattr(lock, "PATIENCE", 0.3)
    monkeypatch.setattr(lock, "FREED_WITHIN", 0.5)


@contextlib.contextmanager
def holder(work):
    """The pid of a process that holds the deployment's lock and does `work` with it; ended afterwards."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with lock.locked(NAME) as home:
                os.write(writing, b"x")
                work(home)
        finally:
            os._exit(0)
    os.read(reading, 1)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def stop_self(home):
    os.kill(os.getpid(), signal.SIGSTOP)


def hang(home):
    time.sleep(60)


def leave_a_child(home):
    """It inherits the lock, and the run that is written in the lock's file ends."""
    if os.fork():
        os._exit(0)
    time.sleep(60)


def overdue(host):
    """A trial runs whose deadline has passed."""
    on_trial(host)
    with lock.locked(NAME) as home:
        store.write_deadline(home, store.deadline(home)._replace(end=records.boottime()))


def journal():
    with open(os.path.join(store.home(NAME).folder, "journal.jsonl"), encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def is_alive(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
        return stream.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("work", [stop_self, hang])
def test_run_that_holds_the_lock_past_the_deadline_is_ended(host, work, figures):
    overdue(host)
    with holder(work) as pid:
        begun = time.monotonic()

        trial.expire(NAME)

        took = time.monotonic() - begun
        assert running(host) == GONE_BACK
        assert not is_alive(pid)
    assert took < lock.PATIENCE + 3
    (line,) = [line for line in journal() if line["event"] == "run_ended"]
    assert line["pid"] == pid
    assert store.ended(store.home(NAME), 2).why == "it was not confirmed in time"
    figures.append(
        f"lock: a run that {work.__name__} was ended, and the hooks were back {took:.1f} s after the deadline"
    )


def test_guard_itself_ends_the_run_that_was_stopped(host):
    """As on a host without systemd: from its zip, in a process of its own."""
    attached(host)
    host.stage(2)
    host.attach(confirm_within=3)
    guard._as_process(NAME, [sys.executable, "-c", GUARD, code.written(code.GUARD), NAME])
    assert eventually(lambda: running(host) == {program: [2] for program in HOOKS})

    with holder(stop_self) as pid:
        end = time.monotonic() + 15
        while running(host) != GONE_BACK and time.monotonic() < end:
            time.sleep(0.1)
        assert running(host) == GONE_BACK
        assert not is_alive(pid)
    assert eventually(lambda: host.facts().deadline is None)
    files.remove_tree(code.FOLDER)


def test_run_is_not_ended_before_the_deadline(host):
    on_trial(host)
    with holder(hang) as pid:
        with pytest.raises(Busy):
            trial.expire(NAME)

        assert is_alive(pid)
        assert running(host) == {program: [2] for program in HOOKS}


def test_guard_that_is_told_to_stop_waits_for_no_deadline(host):
    on_trial(host)
    with holder(stop_self) as pid:
        trial.stop(NAME)

        assert running(host) == GONE_BACK
        assert not is_alive(pid)


def test_guard_goes_on_without_the_lock_where_a_child_of_a_run_keeps_it_and_says_so(host):
    overdue(host)
    with holder(leave_a_child):
        trial.expire(NAME)

        assert running(host) == GONE_BACK
        assert "without the lock" in store.ended(store.home(NAME), 2).why
        (line,) = [line for line in journal() if line["event"] == "unlocked"]
        assert "no run of ours" in line["why"]
        with pytest.raises(Busy), lock.locked(NAME, 0):
            pass
        for pid in children_of_nobody():
            os.kill(pid, signal.SIGKILL)
    assert host.facts().trial is None


def children_of_nobody():
    """Who has the lock's file open although it is not this process."""
    wanted = os.stat(lock.lock_path(NAME))
    found = []
    for pid in (each for each in os.listdir("/proc") if each.isdigit() and int(each) != os.getpid()):
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), wanted):
                        found.append(int(pid))
    return found


def test_stranger_that_locks_the_file_is_not_ended(host):
    """An administrator's flock(1): the pid in the file is that of the last run of ours."""
    overdue(host)
    with subprocess.Popen(["flock", lock.lock_path(NAME), "sleep", "60"]) as stranger:
        assert eventually(lambda: len(children_of_nobody()) == 2)

        trial.expire(NAME)

        assert stranger.poll() is None
        assert running(host) == GONE_BACK
        for pid in children_of_nobody():
            os.kill(pid, signal.SIGKILL)


def test_run_that_waits_for_the_lock_is_not_taken_for_its_holder(host):
    attached(host)
    with open(lock.lock_path(NAME), "r+", encoding="ascii"):
        assert not lock._holds(os.getpid(), lock.lock_path(NAME))
        with lock.locked(NAME):
            assert lock._holds(os.getpid(), lock.lock_path(NAME))
    assert not lock._holds(os.getpid(), lock.lock_path(NAME))


# ---- children ------------------------------------------------------------------------------------


def test_child_that_loads_keeps_no_lock_and_dies_with_its_parent(host, tmp_path):
    attached(host)
    told = tmp_path / "pid"

    def load(home):
        def never_ends():
            told.write_text(str(os.getpid()))
            time.sleep(60)

        child.answer_of(never_ends, "load")

    with holder(load) as pid:
        assert eventually(lambda: told.exists() and told.read_text())
        assert children_of_nobody() == [pid]

        os.kill(pid, signal.SIGKILL)

        assert eventually(lambda: not os.path.exists(f"/proc/{told.read_text()}") or not is_alive(told.read_text()))
        with lock.locked(NAME, 2):
            pass


# ---- the lock's file -----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["symlink", "folder", "symlink to nothing"])
def test_what_lies_where_the_lock_should_keeps_nobody_out(host, tmp_path, what):
    overdue(host)
    path = lock.lock_path(NAME)
    os.unlink(path)
    if what == "folder":
        os.mkdir(path)
    else:
        os.symlink(str(tmp_path) if what == "symlink" else "/nowhere/at/all", path)

    trial.expire(NAME)

    assert running(host) == GONE_BACK
    assert os.path.isfile(path)
    for name in files.names_in(records.RUN):
        if name.endswith(".aside"):
            aside = os.path.join(records.RUN, name)
            os.rmdir(aside) if os.path.isdir(aside) and not os.path.islink(aside) else os.unlink(aside)


def test_lock_whose_file_was_taken_away_while_one_waited_is_not_believed(host):
    """It keeps nobody out: whoever comes next would make a new file."""
    attached(host)
    path = lock.lock_path(NAME)
    with holder(lambda home: time.sleep(0.5)) as pid:
        held = os.stat(path)
        waiting = private_host.begin_child(_inode_locked)
        time.sleep(0.2)
        os.unlink(path)
        with lock.locked(NAME):
            now = os.stat(path)
            assert not os.path.samestat(held, now)
            assert is_alive(pid)
            time.sleep(0.8)
        assert waiting().value == now.st_ino


def _inode_locked():
    with lock.locked(NAME):
        return os.stat(lock.lock_path(NAME)).st_ino
