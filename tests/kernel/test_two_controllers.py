# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two controllers at one deployment, as two processes: one works, the other is told who holds it and leaves nothing."""

from __future__ import annotations

import os

import private_host
import programs
import pytest
from every_transition import HOOKS, attached, running
from private_host import NAME

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import apply, lock, steps, transitions, trial
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import TrialRuns

IMPATIENT = 0.2  # seconds that the second one waits for the lock


@pytest.fixture
def second_staged(host):
    """Version 1 confirmed, version 2 staged by the first controller; version 3 is compiled already."""
    attached(host)
    host.stage(2, rollout_id="first")
    programs.object_of(3)
    return host


def impatiently(work):
    """The Ended of `work` in a process that waits for the lock but a moment."""
    locked = lock.locked

    def at_once():
        lock.locked = lambda name: locked(name, IMPATIENT)
        work()

    return private_host.in_child(at_once)


WORKS = {
    "stage": lambda host: host.stage(3, rollout_id="second"),
    "attach": lambda host: host.attach(rollout_id="second"),
    "roll back": lambda host: transitions.roll_back(NAME),
    "confirm": lambda host: transitions.confirm(NAME),
    "remove": lambda host: transitions.remove(NAME),
}


@pytest.mark.parametrize("work", WORKS)
def test_second_controller_hears_which_process_is_at_work_and_the_first_one_ends_well(second_staged, work):
    at_a_hook, go_on = os.pipe(), os.pipe()

    def wait_at_a_hook(moment, step):
        if moment == "after" and isinstance(step, steps.Replace):
            os.write(at_a_hook[1], b"x")
            os.read(go_on[0], 1)

    def first():
        apply.trace = wait_at_a_hook
        second_staged.attach(rollout_id="first")
        return os.getpid()

    begun = private_host.begin_child(first)
    os.read(at_a_hook[0], 1)
    ended = impatiently(lambda: WORKS[work](second_staged))
    os.write(go_on[1], b"xxx")
    pid = begun().value
    for end in (*at_a_hook, *go_on):
        os.close(end)

    assert (ended.code, ended.can_retry) == ("busy", True)
    assert f"process {pid}" in ended.failure
    assert NAME in ended.failure
    assert running(second_staged) == {program: [2] for program in HOOKS}
    assert second_staged.facts().debris == ()


@pytest.mark.parametrize("work", ["stage", "attach"])
def test_second_controller_hears_whose_trial_is_live_and_the_first_one_confirms_it(second_staged, work):
    origin = {"login": "ada", "controller": "bastion"}
    armed = private_host.in_child(
        lambda: second_staged.attach(rollout_id="first", confirm_within=60, origin=origin) and None
    )
    assert not armed.failure
    assert trial.switch(NAME)
    before = second_staged.facts()

    ended = impatiently(lambda: WORKS[work](second_staged))

    assert (ended.code, ended.can_retry) == ("trial_runs", True)
    assert "Rollout first has generation 2" in ended.failure
    assert "begun by ada on bastion at " in ended.failure
    assert "bpf_release state=rolled_back generation=2" in ended.failure
    assert "rollout_id: first" in ended.failure
    assert second_staged.facts() == before
    assert running(second_staged) == {program: [2] for program in HOOKS}
    confirmed = private_host.in_child(lambda: transitions.confirm(NAME, 2) and None)
    assert not confirmed.failure
    assert not impatiently(lambda: WORKS[work](second_staged)).failure


@pytest.fixture
def anothers_trial(second_staged):
    """The first controller has version 2 on trial."""
    second_staged.attach(rollout_id="first", confirm_within=60)
    assert trial.switch(NAME)
    return second_staged


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("rollout_id", ["second", ""])
def test_nobody_confirms_anothers_trial_by_the_deployments_name_alone(anothers_trial, rollout_id, check_mode):
    before = anothers_trial.facts()

    with pytest.raises(TrialRuns, match=r"Rollout first .* bpf_release generation=2"):
        transitions.confirm(NAME, check_mode=check_mode, rollout_id=rollout_id)

    assert anothers_trial.facts() == before


@pytest.mark.parametrize("word", [{"rollout_id": "first"}, {"rollout_id": "second", "number": 2}])
def test_own_trial_or_one_that_is_named_is_confirmed(anothers_trial, word):
    assert transitions.confirm(NAME, **word).after.confirmed.number == 2


def test_trial_of_a_run_that_was_interrupted_is_taken_over_by_its_id(anothers_trial):
    anothers_trial.attach(rollout_id="first", confirm_within=60)

    assert anothers_trial.facts().trial.number == 3


def test_change_whose_answer_was_lost_is_found_by_its_mark(second_staged):
    second_staged.attach(confirm_within=60, origin={"task": "mine"})

    assert transitions.marked(NAME, "mine") == 2
    assert transitions.marked(NAME, "another") is None
