# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard itself is killed at each of its steps, and nobody runs Ansible again: the set is uniform in time.

It runs as on a host without systemd: a session of its own, its code from its zip, a parent that starts it again. The
guard under test differs in one thing: apply.trace ends it with SIGKILL at one chosen moment of its life. It leaves a
mark when it does, so that its next life goes on. A first guard that is never killed tells which moments there are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import hook_rows
import private_host
import pytest
from every_transition import HOOKS, assert_kept, attached, reset, running, settled, shape
from private_host import NAME, eventually
from test_faults import LASTING

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    code,
    guard,
    keeper,
    lock,
    records,
    store,
    transitions,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Failure, Quarantined
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files

GUARD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from ebpf_deploy.deployment import apply, guard

guard.GRACE, guard.TICK, guard.DISK_SECONDS = 0, 0.02, 0.05
seen_in, kills, with_parent = sys.argv[3:]

carry_out, last = apply.carry_out, []

def carried_out(steps, *more, **options):
    last[:] = steps[-1:]
    return carry_out(steps, *more, **options)

def trace(moment, step):
    moment = "between" if moment == "after" and step is not last[0] else moment
    with open(seen_in, "a+") as seen:
        seen.seek(0)
        number = len(seen.readlines())
        seen.write(f"{moment}: {type(step).__name__}: {step.describe()}" + chr(10))
    if str(number) in kills.split(","):
        if with_parent:
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

apply.trace, apply.carry_out = trace, carried_out
guard.main(sys.argv[2])
"""
LIVES = {
    "confirmed by its probe": ("true", 2),
    "taken back at the deadline": ("", 1),
}  # the probe, what runs at the end


@pytest.fixture(autouse=True)
def its_code(host, monkeypatch):
    """The guard's zip goes with the test, and no second is slept between its lives."""
    monkeypatch.setattr(keeper, "RESTART_SECONDS", 0.05)
    yield
    files.remove_tree(code.FOLDER)


@pytest.fixture
def moments(tmp_path):
    """The file that a guard writes its moments into, over all its lives."""
    return tmp_path / "moments"


@pytest.mark.parametrize("life", LIVES)
def test_guard_killed_at_each_of_its_steps_is_started_again_and_ends_its_work(host, moments, life, figures):
    probe, runs = LIVES[life]
    recorded, wanted = without_a_kill(host, moments, life)
    for number, moment in apart(recorded):
        guarded(host, moments, probe, kills=number)
        run_to_its_end(moments, probe)
        assert len(moments.read_text().splitlines()) > number, f"never came to {moment}"
        assert running(host) == {program: [runs] for program in HOOKS}, moment
        assert settled(host) == [], moment
        assert_kept(shape(), dict(wanted), moment)
        assert private_host.tree(records.RUN) == [os.path.join(records.RUN, NAME + ".lock")], moment
        reset(host)
    figures.append(
        f"guard, {life}: killed at {len(apart(recorded))} moments, ended its work without another run each time"
    )


@pytest.mark.parametrize("life", LIVES)
def test_guard_and_parent_killed_at_each_step_leave_the_rest_to_the_next_run(host, moments, life, figures):
    probe, dummy = LIVES[life]
    recorded, dummy = without_a_kill(host, moments, life)
    for number, moment in apart(recorded):
        guarded(host, moments, probe, kills=number, with_parent=True)
        if number >= switched_at(recorded):
            run_to_its_end(moments, probe)
        assert eventually(lambda: not sessions()), moment
        for program, versions in running(host).items():
            assert versions in ([1], [2]), f"killed {moment}: {program} ran {versions}"
        pass_the_deadline()

        ended = private_host.in_child(lambda: host.attach() and None)

        assert not ended.failure, f"killed {moment}: {ended.failure}"
        now = running(host)
        assert now in [{program: [version] for program in HOOKS} for version in (1, 2)], f"killed {moment}: {now}"
        assert (settled(host), host.facts().trial, host.facts().deadline) == ([], None, None), moment
        reset(host)
    figures.append(
        f"guard and parent, {life}: killed at {len(apart(recorded))} moments, settled by the next run each time"
    )


def test_guard_that_dies_again_and_again_is_started_as_long_as_its_trial_waits(host, moments):
    guarded(host, moments, "", kills="0,1,2,3,4,5,6,7,8,9")

    run_to_its_end(moments, "")

    assert running(host) == {program: [1] for program in HOOKS}


@pytest.mark.parametrize("then", ["confirm", "take back"])
@pytest.mark.parametrize("name", ["netfilter", "sk_lookup", "tc ingress", "tracepoint"])
def test_guard_lets_go_of_what_ran_at_hooks_of_other_kinds(host, name, then, tmp_path):
    """Its parent, which keeps its descriptors, does too: a link that cannot be detached ends with the last of them."""
    case = hook_rows.made(name, host)
    case.attach(case.wanted)
    case.host.stage(2)
    case.attach(confirm_within=60)
    zipped, seen = code.written(code.GUARD), str(tmp_path / "seen")
    guard._as_process(NAME, [sys.executable, "-c", GUARD, zipped, NAME, seen, "none", ""])
    assert eventually(is_switched)
    case.row.traffic(case.host, 2)

    transitions.confirm(NAME, 2) if then == "confirm" else transitions.roll_back(NAME, number=2)

    case.row.traffic(case.host, 3)
    assert case.counts() == ({2: 5} if then == "confirm" else {2: 2, 1: 3})
    assert eventually(lambda: not sessions())


def is_switched():
    with contextlib.suppress(Failure):
        return bool(transitions.look(NAME, 2))
    return False


def test_guard_that_cannot_start_is_told_and_has_no_parent_left(host, moments):
    with pytest.raises(Failure, match="The guard could not be started: it ended with status 1"):
        guarded(host, moments, "", kills="none", command="import no_such_module")

    assert eventually(lambda: not sessions())


@pytest.mark.parametrize("told", ["the guard", "its parent", "both, as by a shutdown"])
def test_guard_that_is_told_to_stop_goes_back_first(host, moments, told):
    guarded(host, moments, "")
    assert eventually(lambda: has_switched(moments))
    parent, child = family()

    for pid in {"the guard": [child], "its parent": [parent]}.get(told, [parent, child]):
        os.kill(pid, signal.SIGTERM)

    assert eventually(lambda: not sessions())
    assert running(host) == {program: [1] for program in HOOKS}
    assert (host.facts().trial, host.facts().deadline) == (None, None)
    assert store.ended(store.home(NAME), 2).why == "its guard was stopped before it was confirmed"
    with pytest.raises(Quarantined):
        host.stage(2)


def test_guard_that_is_told_to_stop_before_it_switched_moves_no_hook(host, moments):
    """It waits for the end of the module, whose part this process plays."""
    guarded(host, moments, "", command=GUARD.replace("sys.argv[2])", f"sys.argv[2], {os.getpid()})"))
    assert eventually(lambda: len(sessions()) == 2 and catches_sigterm(family()[1]))

    os.kill(family()[1], signal.SIGTERM)

    assert eventually(lambda: not sessions())
    assert "Replace" not in moments.read_text()
    assert host.facts().trial is None
    host.stage(2)


@pytest.mark.parametrize("fault", ["disk full", "disk read-only"])
def test_guard_takes_the_hooks_back_although_the_disk_takes_nothing_and_tells_it_later(host, moments, fault):
    disk = LASTING[fault]
    guarded(host, moments, "")
    assert eventually(lambda: has_switched(moments))
    disk.begin(disk.folder)

    try:
        pass_the_deadline()
        assert eventually(lambda: running(host) == {program: [1] for program in HOOKS})
        assert sessions(), "it waits for the disk"
    finally:
        disk.end(disk.folder)

    assert eventually(lambda: not sessions())
    assert (host.facts().trial, host.facts().deadline) == (None, None)
    assert store.ended(store.home(NAME), 2).why == "it was not confirmed in time"
    with pytest.raises(Quarantined):
        host.stage(2)


# ---- a guard's life --------------------------------------------------------------------------------


def guarded(host, moments, probe, kills="none", *, with_parent=False, command=GUARD):
    """Version 1 is confirmed, version 2 armed, its guard at work, to be killed at the moments with these numbers."""
    attached(host)
    host.stage(2)
    host.attach(confirm_within=60, probe=probe, by_controller=not probe)
    moments.write_text("")
    zipped = code.written(code.GUARD)
    words = [sys.executable, "-c", command, zipped, NAME, str(moments), str(kills), "yes" if with_parent else ""]
    with contextlib.suppress(*([Failure] if with_parent else [])):  # the parent may die before it could say "ready"
        guard._as_process(NAME, words)


def without_a_kill(host, moments, life):
    """(moments in words, shape at the end) of a guard that nobody kills; the host is as at first then."""
    probe, runs = LIVES[life]
    guarded(host, moments, probe)
    run_to_its_end(moments, probe)
    assert running(host) == {program: [runs] for program in HOOKS}
    recorded, kept = moments.read_text().splitlines(), shape()
    reset(host)
    return recorded, kept


def run_to_its_end(moments, probe):
    """The guard has ended; where no probe confirms, the trial's time was over once the hooks had been switched."""
    if not probe:
        assert any(eventually(lambda: has_switched(moments)) for dummy in range(3))  # lives may be many
        pass_the_deadline()
    assert eventually(lambda: not sessions()), moments.read_text()


def apart(recorded):
    """Each moment and its number, but for those between two steps of a plan: they are as before the second."""
    return [(number, moment) for number, moment in enumerate(recorded) if not moment.startswith("between")]


def has_switched(moments):
    return len(swaps_done(moments.read_text().splitlines())) >= len(HOOKS)


def switched_at(recorded):
    """The number of the moment from which on all hooks have been switched."""
    return swaps_done(recorded)[len(HOOKS) - 1]


def swaps_done(recorded):
    """The numbers of the moments after a hook has been switched."""
    return [
        number for number, moment in enumerate(recorded) if moment.startswith(("after: Replace", "between: Replace"))
    ]


def pass_the_deadline():
    """No time is left for the trial, where there is one."""
    with lock.locked(NAME) as home:
        deadline = store.deadline(home)
        if deadline:
            store.write_deadline(home, deadline._replace(end=records.boottime()))


def sessions():
    """The processes on this host whose session is not the tests' own: a guard, and the parent that waits for it."""
    found = []
    for pid in (int(each) for each in os.listdir("/proc") if each.isdigit()):
        with contextlib.suppress(OSError):
            same_host = os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
            if same_host and os.getsid(pid) != os.getsid(0) and not _is_dead(pid):
                found.append(pid)
    return found


def family():
    """[the parent that waits, the guard]."""
    found = sessions()
    return sorted(found, key=lambda pid: int(_state(pid)[1]) in found)


def catches_sigterm(pid):
    """By a handler of its own: until its exec a child seems to have that of its parent."""
    with open(f"/proc/{pid}/cmdline", "rb") as stream:
        if NAME.encode() not in stream.read().split(b"\0"):
            return False
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as stream:
        caught = next(line for line in stream if line.startswith("SigCgt")).split()[1]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _is_dead(pid):
    """A zombie: in a container whose init reaps late, or never."""
    return _state(pid)[0] == "Z"


def _state(pid):
    """The fields after the name in /proc/PID/stat: state, parent, and so on."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
        return stream.read().rpartition(")")[2].split()
