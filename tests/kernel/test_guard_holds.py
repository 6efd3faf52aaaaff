# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard takes a trial back whatever becomes of names, mounts, pins and files meanwhile, since it holds open what it
needs; and it says that the hooks are back only where the kernel shows it.

The guard is a process as on a host without systemd (test_guard_killed). What runs at a hook is seen by bpftool and ip
alone, by link and interface: the collection's own state is what was spoilt.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import private_host
import pytest
from every_transition import HOOKS, attached, running, three
from private_host import DEVICE, NAME, eventually, run
from test_guard_killed import family, its_code, pass_the_deadline, sessions  # noqa: F401  # pylint: disable=unused-import  # a fixture

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    code,
    guard,
    held,
    keeper,
    records,
    reload,
    store,
    transitions,
    trial,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import (
    Failure,
    NotBack,
    NotSwitched,
    NoWayBack,
    RolledBack,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files, tools

START = """
import sys
import time
sys.path.insert(0, sys.argv[1])
from ebpf_deploy.deployment import guard, trial
guard.GRACE, guard.TICK, guard.LOOK_SECONDS, guard.NOT_BACK_SECONDS = 0, 0.02, 0.05, (0.1, 1)
{more}
guard.main(sys.argv[2])
"""
SLOW = 15  # seconds that a guard may take on a busy machine


def names():
    """{link id: name of its program}, by bpftool, of this test run's links."""
    programs = {each["id"]: each.get("name") for each in private_host.bpftool("prog", "show")}
    found = {number: (each["prog_id"], programs.get(each["prog_id"])) for number, each in private_host.links().items()}
    return {number: program for number, program in found.items() if program[1] in HOOKS}


class Trial:
    """Version 1 confirmed, version 2 on trial at the same links, and a guard that holds them."""

    def __init__(self, host, more="", *, attach=attached):
        self.host = host
        attach(host)
        self.before = names()
        host.stage(2)
        host.attach(confirm_within=600)
        self.how = start(more)
        assert later(self.runs_the_trial)

    def runs_the_trial(self):
        now = names()
        return set(now) == set(self.before) and all(now[each] != self.before[each] for each in now)

    def is_back(self):
        return names() == self.before

    def expire(self):
        pass_the_deadline()

    @property
    def ended(self):
        return store.ended(store.home(NAME), 2)


def start(more=""):
    words = [code.written(code.GUARD), NAME]
    return guard._as_process(NAME, tools.python(START.format(more=more), *words))


def later(condition):
    """As eventually, with more patience."""
    return any(eventually(condition) for dummy in range(SLOW // private_host.PATIENCE))


def journal():
    path = os.path.join(store.home(NAME).folder, "journal.jsonl")
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# ---- what was lost -------------------------------------------------------------------------------


def interface_renamed(host):
    run("ip", "link", "set", DEVICE, "down")
    run("ip", "link", "set", DEVICE, "name", "other")
    run("ip", "link", "set", "other", "up")


def interface_renamed_and_its_name_given_away(host):
    interface_renamed(host)
    run("ip", "link", "add", DEVICE, "type", "veth", "peer", "name", "other1")


def another_bpffs(host):
    run("mount", "-t", "bpf", "-o", "mode=0700", "bpf", files.BPFFS)


def no_bpffs_at_all(host):
    run("mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", files.BPFFS)


def confirmed_truncated(host):
    with open(os.path.join(store.home(NAME).folder, "confirmed"), "r+b") as stream:
        stream.truncate(10)


def trial_pointer_lost(host):
    os.unlink(os.path.join(store.home(NAME).folder, "trial"))


def confirmed_pointer_lost(host):
    os.unlink(os.path.join(store.home(NAME).folder, "confirmed"))


def both_records_lost(host):
    files.remove_tree(os.path.join(store.home(NAME).folder, "generations"))


def pins_renamed(host):
    os.rename(store.home(NAME).pins, os.path.join(files.BPFFS, "elsewhere"))


def links_unpinned(host):
    files.remove_tree(store.home(NAME).links)


def loads_unpinned(host):
    files.remove_tree(store.home(NAME).loads)


def pins_swapped(host):
    """Each link's pin is another's."""
    folder = store.home(NAME).links
    first, second, *dummy = sorted(os.listdir(folder))
    os.rename(os.path.join(folder, first), os.path.join(folder, "aside"))
    os.rename(os.path.join(folder, second), os.path.join(folder, first))
    os.rename(os.path.join(folder, "aside"), os.path.join(folder, second))


def everything_of_ours_lost(host):
    files.remove_tree(store.home(NAME).pins)
    files.remove_tree(store.home(NAME).folder)
    for name in ("deadline", "held"):
        files.remove(os.path.join(records.RUN, f"{NAME}.{name}"))


LOST = [
    interface_renamed,
    interface_renamed_and_its_name_given_away,
    another_bpffs,
    no_bpffs_at_all,
    confirmed_truncated,
    trial_pointer_lost,
    confirmed_pointer_lost,
    both_records_lost,
    pins_renamed,
    links_unpinned,
    loads_unpinned,
    pins_swapped,
    everything_of_ours_lost,
]


def put_back(host, lost):
    """The host as its fixture leaves it: what is mounted over is off, the interface has its name."""
    if lost in (another_bpffs, no_bpffs_at_all):
        transitions.remove(NAME)
        run("umount", files.BPFFS)
    if lost is no_bpffs_at_all and not files.has_bpffs():
        run("umount", files.BPFFS)
    if lost in (interface_renamed, interface_renamed_and_its_name_given_away):
        if lost is interface_renamed_and_its_name_given_away:
            run("ip", "link", "del", DEVICE)
        run("ip", "link", "set", "other", "down")
        run("ip", "link", "set", "other", "name", DEVICE)
        run("ip", "link", "set", DEVICE, "up")
    files.remove_tree(os.path.join(files.BPFFS, "elsewhere"))


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: lost.__name__)
def test_guard_takes_the_trial_back_whatever_was_lost_during_it(host, lost):
    on_trial = Trial(host)

    lost(host)
    if lost is not everything_of_ours_lost:
        on_trial.expire()

    try:
        assert later(lambda: not sessions()), journal()[-3:]
        assert on_trial.is_back()
        if lost is not everything_of_ours_lost:
            assert on_trial.ended.back
            with pytest.raises(RolledBack):
                transitions.look(NAME, 2)
    finally:
        end_guards()
        put_back(host, lost)


def end_guards():
    for pid in sessions():
        os.kill(pid, signal.SIGKILL)
    assert later(lambda: not sessions())


# ---- while the trial goes on ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "lost",
    [another_bpffs, pins_renamed, links_unpinned, loads_unpinned, pins_swapped, trial_pointer_lost],
    ids=lambda lost: lost.__name__,
)
def test_nothing_is_confirmed_before_what_was_lost_is_there_again(host, lost):
    on_trial = Trial(host)
    guard_of = family()[1]
    os.kill(guard_of, signal.SIGSTOP)
    lost(host)

    try:
        if lost is not trial_pointer_lost:  # the deadline names it, too
            with pytest.raises((NotSwitched, Failure)) as refusal:
                transitions.confirm(NAME, 2)
            assert refusal.value.code in ("not_switched", "not_found")
        os.kill(guard_of, signal.SIGCONT)

        assert later(lambda: not held.unpinned(store.home(NAME), 2))
        transitions.confirm(NAME, 2)

        assert later(lambda: not sessions())
        assert on_trial.runs_the_trial()
        assert (host.facts().confirmed.number, host.facts().trial, host.facts().damage) == (2, None, ())
    finally:
        end_guards()
        put_back(host, lost)


# ---- who holds it after a death ------------------------------------------------------------------


@pytest.mark.parametrize("source", ["its parent", "ids"])
def test_guard_that_is_started_again_has_what_the_earlier_one_held(host, source):
    on_trial = Trial(host)
    parent, child = family()
    another_bpffs(host)

    try:
        if source == "ids":
            os.kill(parent, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        if source == "ids":
            assert later(lambda: not sessions())
            start()
        assert later(lambda: [each["holds_by"] for each in journal() if each["event"] == "guard_resumed"] == [source])
        on_trial.expire()

        assert later(lambda: not sessions())
        assert on_trial.is_back()
    finally:
        end_guards()
        put_back(host, another_bpffs)


def test_guard_that_hangs_is_replaced(host, monkeypatch):
    monkeypatch.setattr(keeper, "WATCHDOG_SECONDS", 1)
    on_trial = Trial(host)
    child = family()[1]

    os.kill(child, signal.SIGSTOP)
    on_trial.expire()

    assert later(lambda: not sessions())
    assert on_trial.is_back()


def test_next_run_mends_what_a_guard_that_died_for_good_left(host):
    on_trial = Trial(host)
    end_guards()
    on_trial.expire()

    host.stage(3)
    host.attach()

    assert on_trial.ended.back
    assert host.facts().trial is None
    assert set(names()) == set(on_trial.before)
    assert not on_trial.runs_the_trial() or names() != on_trial.before


def test_next_run_takes_a_trial_back_by_ids_where_its_pins_are_lost(host):
    """The guard was killed for good; the programs run at the links, which somebody keeps under another name."""
    on_trial = Trial(host)
    end_guards()
    pins_renamed(host)
    on_trial.expire()

    trial.expire(NAME)

    assert on_trial.is_back()
    files.remove_tree(os.path.join(files.BPFFS, "elsewhere"))


# ---- a trial has a way back ----------------------------------------------------------------------


def test_trial_is_not_armed_without_a_way_back(host):
    """An old backup of the state folder names a load that the kernel has no more, and nobody can load it again."""
    attached(host)
    host.stage(2)
    load = host.facts().confirmed.load
    files.remove_tree(os.path.join(store.home(NAME).loads, load))
    before = (names(), host.facts())

    with pytest.raises(NoWayBack, match=load):
        host.attach(confirm_within=60)

    assert (names(), host.facts()) == before


def test_what_a_trial_would_go_back_to_is_loaded_again_for_it(host):
    attached(host)
    host.stage(2)
    load = host.facts().confirmed.load
    files.remove_tree(os.path.join(store.home(NAME).loads, load))

    wish = transitions.Wish(confirm_within=60)
    transitions.attach(NAME, wish, load_again=reload.load_again)
    assert trial.switch(NAME)
    transitions.roll_back(NAME, number=2)

    assert host.facts().confirmed.load == load
    assert running(host) == {program: [1] for program in HOOKS}


def test_trial_over_hooks_that_nothing_confirms_is_refused(host):
    attached(host)
    host.stage(2)
    confirmed_pointer_lost(host)
    before = names()

    with pytest.raises(NoWayBack, match="nothing confirms"):
        host.attach(*three(host), confirm_within=60)

    assert names() == before
    transitions.confirm(NAME)
    assert (names(), host.facts().confirmed is None) == (before, False)


@pytest.mark.parametrize("lost", [confirmed_pointer_lost, loads_unpinned], ids=lambda lost: lost.__name__)
def test_no_hook_is_emptied_where_something_ran_although_the_guard_is_gone_and_so_is_its_record(host, lost):
    on_trial = Trial(host)
    end_guards()
    lost(host)
    files.remove(os.path.join(records.RUN, f"{NAME}.held"))
    on_trial.expire()

    try:
        trial.expire(NAME)
        assert on_trial.is_back()
    except NotBack as failure:
        assert len(failure.detail["not_back"]) == 3
        assert on_trial.runs_the_trial()
        assert on_trial.ended.not_back
        with pytest.raises(NotBack):
            transitions.look(NAME, 2)
    assert (lost is loads_unpinned) == on_trial.runs_the_trial()

    host.stage(3)  # which loads again what the trial goes back to, from the disk

    assert (host.facts().trial, on_trial.ended.back) == (None, True)
    assert running(host) == {program: [1] for program in HOOKS}


def test_hook_that_runs_the_trial_by_a_link_that_nobody_knows_is_not_told_as_back(host):
    """The guard, its record and our pins of the links are gone, and the links go on under another name."""
    on_trial = Trial(host)
    end_guards()
    os.rename(store.home(NAME).links, os.path.join(files.BPFFS, "elsewhere"))
    files.remove(os.path.join(records.RUN, f"{NAME}.held"))
    on_trial.expire()

    with pytest.raises(NotBack, match="of the trial"):
        trial.expire(NAME)

    assert not on_trial.is_back()
    assert not on_trial.ended.back
    files.remove_tree(os.path.join(files.BPFFS, "elsewhere"))
    assert later(is_taken_back)  # the kernel frees the links a grace period later
    assert running(host) == {program: [1] for program in HOOKS}


def is_taken_back():
    try:
        trial.expire(NAME)
        return True
    except NotBack:
        return False


# ---- as systemd starts it ------------------------------------------------------------------------


class Manager:
    """The part that systemd plays for a service with Type=notify and a store for its descriptors."""

    def __init__(self, folder):
        self.address, self.store, self.said = str(folder / "notify"), {}, []
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.door.bind(self.address)
        self.door.settimeout(SLOW)

    def start(self):
        """The service, with what is in the store from 3 on, as LISTEN_FDS has it."""
        command = tools.python(START.format(more=""), code.written(code.GUARD), NAME)
        names, fds = list(self.store), list(self.store.values())
        told = {"NOTIFY_SOCKET": self.address, "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(names)}
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200) for fd in fds]
        lines = "".join(f"os.dup2({fd}, {place});" for place, fd in enumerate(moved, 3))
        exec_it = f"import os, sys; {lines} os.closerange({3 + len(fds)}, 400); os.execv(sys.argv[1], sys.argv[1:])"
        words = [sys.executable, "-c", exec_it, *command]
        process = subprocess.Popen(words, env={**tools.ENVIRONMENT, **told}, pass_fds=moved)
        for fd in moved:
            os.close(fd)
        return process

    def hear(self, word):
        """Listen until the service says it."""
        while word not in self.said:
            data, beside, *dummy = self.door.recvmsg(4096, socket.CMSG_SPACE(4))
            lines = data.decode().splitlines()
            self.said += lines
            name = next((line[len("FDNAME=") :] for line in lines if line.startswith("FDNAME=")), "")
            if ("FDSTOREREMOVE=1" in lines or "FDSTORE=1" in lines) and name in self.store:
                os.close(self.store.pop(name))
            for dummy, kind, fds in beside:
                assert kind == socket.SCM_RIGHTS
                self.store[name] = array.array("i", fds)[0]

    def end(self):
        self.door.close()
        for fd in self.store.values():
            os.close(fd)


def test_guard_as_a_service_gives_its_descriptors_to_systemds_store_and_goes_on_by_them(host, tmp_path):
    attached(host)
    before = names()
    host.stage(2)
    host.attach(confirm_within=600)
    manager = Manager(tmp_path)
    first = manager.start()
    try:
        manager.hear("READY=1")
        assert {"record", *(f"link.{key}" for key in host.facts().links)} <= set(manager.store)
        assert later(lambda: names() != before and len({number for number, dummy in names().values()}) == 3)
        manager.said.clear()
        manager.hear("WATCHDOG=1")
        first.kill()
        first.wait()
        another_bpffs(host)
        files.remove(os.path.join(records.RUN, f"{NAME}.held"))
        manager.said.clear()

        second = manager.start()
        manager.hear("READY=1")
        pass_the_deadline()

        assert second.wait(SLOW) == 0
        assert names() == before
        assert [each["holds_by"] for each in journal() if each["event"] == "guard_resumed"] == ["systemd"]
    finally:
        manager.end()
        put_back(host, another_bpffs)


def test_guard_whose_parent_was_stopped_takes_the_trial_back_all_the_same(host):
    """What it tells the parent is heard by nobody, and fills the socket between them."""
    on_trial = Trial(host, more="guard.TICK = 0.001; guard.LOOK_SECONDS = 0.001")
    parent = family()[0]

    os.kill(parent, signal.SIGSTOP)
    time.sleep(2)
    on_trial.expire()

    try:
        assert later(on_trial.is_back)
        assert later(lambda: on_trial.ended is not None and on_trial.ended.back)
    finally:
        os.kill(parent, signal.SIGCONT)
    assert later(lambda: not sessions())
