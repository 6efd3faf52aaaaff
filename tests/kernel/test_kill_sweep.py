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
from private_host import NAME

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import apply, steps, store
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
    with store.locked(NAME):  # that child keeps it until it has ended
        pass
    for program, versions in running(host).items():
        allowed = [[each.ran]] if each.ran == each.runs else [[each.ran], [each.runs]]
        assert (versions or [None]) in allowed, f"killed {moment}: {program} ran {versions}"


# ---- the child that stands by --------------------------------------------------------------------


def in_between(act):
    """A trace that does `act` while the hook is empty."""

    def trace(moment, step):
        if moment == "after" and isinstance(step, steps.Detach):
            act()

    return trace


def test_run_that_is_stopped_while_the_hook_is_empty_is_ended_by_the_child_that_stands_by(host):
    attached(host)

    def work():
        apply.HANGS_AFTER = 0.5
        apply.trace = in_between(lambda: os.kill(os.getpid(), signal.SIGSTOP))
        host.attach(generic(host))

    assert private_host.in_child(work).signal == signal.SIGKILL

    with store.locked(NAME):
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
    native = generic(host)._replace(mode="native")

    def work():
        apply.trace = in_between(private_host.kill_self)
        host.attach(native)

    assert private_host.in_child(work).signal == signal.SIGKILL

    with store.locked(NAME):
        assert running(host)[programs.XDP] == [1]
    assert "xdpgeneric" in shown()


def refuse_native(host):
    with host.at_peer():
        private_host.run("ip", "link", "set", private_host.PEER_DEVICE, "mtu", "9000")
    private_host.run("ip", "link", "set", private_host.DEVICE, "mtu", "9000")


def shown():
    return private_host.run("ip", "-details", "link", "show", private_host.DEVICE)
