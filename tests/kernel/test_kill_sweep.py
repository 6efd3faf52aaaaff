# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL before and after each step of every transition: each hook goes on with the old program or the new one, and
the same operation run again finishes it.

The steps enumerate themselves: a first child carries the transition out and records what apply.trace sees; then, for
each recorded moment, a fresh child kills itself there. The finer sweep does the same for each change of the file system
or the kernel inside the steps.
"""

from __future__ import annotations

import os
import signal
import time

import hook_rows
import private_host
import programs
import pytest
from every_transition import (
    TRANSITIONS,
    assert_finished,
    attached,
    generic,
    inside_steps,
    moments,
    reset,
    running,
    shape,
    steps_alone,
)
from hook_rows import ROWS
from private_host import NAME

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import apply, lock, steps
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import children


def test_every_step_that_there_is_was_killed_at(host):
    """The transitions here reach each kind of step."""
    reached = set()
    for each in TRANSITIONS.values():
        reached |= {moment.split(": ")[1] for moment in moments(host, each, steps_alone)}
        reset(host)
    in_between = {"Settle"}  # a plan has it only after a kill inside a step: see the finer sweep
    assert reached == {kind.__name__ for kind in apply.DEEDS} - in_between


@pytest.mark.parametrize("name", TRANSITIONS)
def test_kill_before_and_after_each_step(host, name, figures):
    sweep(host, name, steps_alone, figures)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_kill_inside_each_step(host, name, figures):
    sweep(host, name, inside_steps, figures)


def sweep(host, name, watched, figures):
    each = TRANSITIONS[name]
    recorded = moments(host, each, watched)
    wanted = shape()
    reset(host)
    for number, moment in enumerate(recorded):
        killed_at(host, each, watched, number, moment)
        assert_finished(host, each, f"killed {moment}", wanted)
        reset(host)
    kind = "moments between steps" if watched is steps_alone else "calls inside steps"
    figures.append(f"kill sweep: {name}: killed at {len(recorded)} {kind}, finished by the next run each time")


def killed_at(host, each, watched, number, moment):
    """A child was killed at the moment with this number, and every hook that ran something runs something."""
    each.given(host)

    def work():
        left, run = [number], os.getpid()

        def count_down(dummy):
            if left[0] == 0 and os.getpid() == run:  # not the child that finishes a change of mode for the run
                private_host.kill_self()
            left[0] -= 1

        watched(count_down)
        each.work(host)

    assert private_host.in_child(work).signal == signal.SIGKILL, moment
    with lock.locked(NAME):  # that child keeps it until it has ended
        pass
    for program, versions in running(host).items():
        allowed = [[each.ran]] if each.ran == each.runs else [[each.ran], [each.runs]]
        assert (versions or [None]) in allowed, f"killed {moment}: {program} ran {versions}"


# ---- each hook by itself ---------------------------------------------------------------------------


SWAPS = {
    "put on": (lambda case: None, lambda case: case.attach(case.wanted), 1),
    "replace": (lambda case: (case.attach(case.wanted), case.host.stage(2)), lambda case: case.attach(), 2),
    "take off": (lambda case: case.attach(case.wanted), lambda case: case.attach(case.wanted, detach=True), None),
}


# One row of each file: the others differ in where they are, not in how they are put on, replaced and taken off.
OF_EACH_FILE = {type(catalogue.HOOKS[ROWS[name].hook]).__module__: name for name in sorted(ROWS)}


@pytest.mark.parametrize("name", sorted(OF_EACH_FILE.values()))
@pytest.mark.parametrize("swap", SWAPS)
def test_kill_inside_each_way_that_a_hook_is_changed(host, name, swap, figures):
    """What ran goes on, or what comes runs, or both where they overlap; the same run again finishes it."""
    given, work, after = SWAPS[swap]
    case = hook_rows.made(name, host)

    def begun():
        hook_rows.made(name, host)
        given(case)

    def recorded():
        seen = []
        inside_steps(seen.append)
        work(case)
        return seen

    begun()
    before = counted_now(case)
    passed = private_host.in_child(recorded)
    assert not passed.failure
    reset(host)
    for number, moment in enumerate(passed.value):
        begun()

        def killed(number=number):
            left = [number]

            def count_down(dummy):
                if left[0] == 0:
                    private_host.kill_self()
                left[0] -= 1

            inside_steps(count_down)
            work(case)

        assert private_host.in_child(killed).signal == signal.SIGKILL, moment
        assert counted_now(case) <= before | {after} - {None}, moment
        assert counted_now(case) or None in (after, *(before or {None})), moment
        ended = private_host.in_child(lambda: work(case) and None)
        assert not ended.failure, f"{moment}: {ended.failure}"
        assert counted_now(case) == {after} - {None}, moment
        reset(host)
    figures.append(f"kill sweep: {name}, {swap}: killed at {len(passed.value)} calls")


def counted_now(case):
    """The versions that count an event now, each of them once; of several parts, a kill may leave some without."""
    before = case.counts()
    case.row.traffic(case.host, 2)
    now = {version: count - before.get(version, 0) for version, count in case.counts().items()}
    parts = getattr(catalogue.HOOKS[case.row.hook], "parts", ("",))
    assert set(now.values()) <= ({0, 2} if len(parts) == 1 else {0, 1, 2}), now
    return {version for version, count in now.items() if count}


# ---- the child that stands by --------------------------------------------------------------------


def in_between(act):
    """A trace that does `act` while the hook is empty."""

    def trace(moment, step):
        if moment == "after" and isinstance(step, steps.TakeOff):
            act()

    return trace


def test_run_that_is_stopped_while_the_hook_is_empty_is_ended_by_the_child_that_stands_by(host):
    attached(host)

    def work():
        apply.HANGS_AFTER = 0.5
        apply.trace = in_between(lambda: os.kill(os.getpid(), signal.SIGSTOP))
        host.attach(generic(host))

    assert private_host.in_child(work).signal == signal.SIGKILL

    with lock.locked(NAME):
        assert running(host)[programs.XDP] == [1]
    assert "xdpgeneric" in shown()


def test_run_goes_on_where_the_child_that_stands_by_is_killed(host):
    attached(host)
    stand_by = children._stand_by

    def work():
        children._stand_by = lambda *arguments: private_host.kill_self()
        apply.trace = in_between(lambda: time.sleep(0.2))
        host.attach(generic(host))

    assert not private_host.in_child(work).signal
    assert children._stand_by is stand_by
    assert running(host)[programs.XDP] == [1]
    assert "xdpgeneric" in shown()


def test_hook_that_refuses_the_new_mode_runs_the_old_one_again_although_the_run_was_killed(host):
    """The veth's peer has a larger MTU now: no native XDP."""
    attached(host)
    host.attach(generic(host))
    refuse_native(host)
    native = generic(host).with_options(mode="native")

    def work():
        apply.trace = in_between(private_host.kill_self)
        host.attach(native)

    assert private_host.in_child(work).signal == signal.SIGKILL

    with lock.locked(NAME):
        assert running(host)[programs.XDP] == [1]
    assert "xdpgeneric" in shown()


def refuse_native(host):
    with host.at_peer():
        private_host.run("ip", "link", "set", private_host.PEER_DEVICE, "mtu", "9000")
    private_host.run("ip", "link", "set", private_host.DEVICE, "mtu", "9000")


def shown():
    return private_host.run("ip", "-details", "link", "show", private_host.DEVICE)
