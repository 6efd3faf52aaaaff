# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user can ask of a deployment while a guarded change is on trial: look, confirm, another release, everything
off."""

from __future__ import annotations

import json

import private_host
import programs
import pytest
from private_host import NAME, attachment

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    guard,
    lock,
    observe,
    records,
    steps,
    store,
    transitions,
    trial,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import (
    Failure,
    NoProof,
    NotFound,
    NotSwitched,
    Quarantined,
    RolledBack,
)


@pytest.fixture
def on_trial(host):
    return with_a_trial(host)


def with_a_trial(host):
    """Generation 2 on trial, switched as its guard does it; generation 1 is confirmed."""
    host.stage(1)
    host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))
    host.stage(2)
    host.attach(confirm_within=60)
    assert trial.switch(NAME)
    return host


def test_confirming_in_check_mode_says_what_confirming_would_do_and_does_nothing(on_trial):
    before = on_trial.facts()

    outcome = transitions.confirm(NAME, 2, check_mode=True)

    assert [step for step in outcome.steps if step.is_hook_step] == []
    assert steps.Point("confirmed", 2, 1) in outcome.steps
    assert outcome.generation.number == 2
    assert on_trial.facts() == before


@pytest.mark.parametrize("ask", [guard.look, guard.confirm])
def test_asking_again_about_what_is_confirmed_leaves_the_next_trial_alone(on_trial, capsys, ask):
    """As when the answer to a confirmation was lost, and another controller began its change meanwhile."""
    transitions.confirm(NAME, 2)
    on_trial.stage(3)
    on_trial.attach(confirm_within=60, rollout_id="another")
    assert trial.switch(NAME)
    before = on_trial.facts()

    ask(NAME, 2)

    assert json.loads(capsys.readouterr().out)["state"] == "confirmed"
    assert on_trial.facts() == before


@pytest.mark.parametrize("number", [None, 2])
def test_everything_off_ends_the_trial_and_what_it_came_from(on_trial, number):
    transitions.roll_back(NAME, number=number, everything_off=True)

    seen = on_trial.facts()
    assert (seen.trial, seen.links, seen.confirmed.attachments) == (None, {}, {})


def test_look_that_meets_the_guard_at_its_switch_is_told_to_ask_again(host, monkeypatch):
    """The links were read before it, the hooks after it: what sits there is ours, and looked like somebody else's."""
    host.stage(1)
    host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE), confirm_within=60)
    read_scene = observe.scene

    def scene(*arguments):
        with monkeypatch.context() as switching:
            switching.setattr(observe, "scene", read_scene)
            trial.switch(NAME)
        return read_scene(*arguments)

    with monkeypatch.context() as meeting:
        meeting.setattr(observe, "scene", scene)
        with pytest.raises(NotSwitched):
            transitions.look(NAME, 1)

    assert transitions.look(NAME, 1).state == "trial"


def test_everything_off_serves_a_first_trial_too(host):
    host.stage(1)
    host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE), confirm_within=60)
    assert trial.switch(NAME)

    transitions.roll_back(NAME, everything_off=True)

    assert (host.facts().trial, host.facts().links) == (None, {})


@pytest.mark.parametrize("number", [None, 3])
def test_rollback_to_a_release_during_a_trial_ends_at_that_release(on_trial, number):
    first = on_trial.facts().confirmed.release
    transitions.confirm(NAME, 2)
    on_trial.stage(3)
    on_trial.attach(confirm_within=60)
    assert trial.switch(NAME)

    transitions.roll_back(NAME, first, number)

    seen = on_trial.facts()
    assert (seen.trial, seen.confirmed.release) == (None, first)


def test_release_that_was_thrown_back_may_be_staged_again_once_a_user_named_it(on_trial):
    transitions.confirm(NAME, 2)
    first, second = on_trial.facts().generations[1].release, on_trial.facts().confirmed.release
    transitions.roll_back(NAME)
    transitions.roll_back(NAME, second)
    transitions.roll_back(NAME, first)
    transitions.roll_back(NAME, second)

    with pytest.raises(Quarantined):
        on_trial.stage(1)
    on_trial.stage(3)
    on_trial.attach()
    on_trial.stage(2)


def test_guard_that_could_not_be_started_costs_no_trial_but_its_own(on_trial):
    trial.abandon(NAME, 1, "no guard for generation 1")
    assert on_trial.facts().trial_is_live

    trial.abandon(NAME, 2, "no guard for generation 2")
    with pytest.raises(Failure, match="no guard for generation 2"):
        transitions.look(NAME, 2)


def test_same_change_again_during_its_own_trial_is_on_trial_again(on_trial):
    """As when the controller died meanwhile: what was staged still is, and not the old release without a word."""
    again = on_trial.attach(confirm_within=60)

    assert again.generation.number == 3
    assert trial.switch(NAME)
    assert transitions.confirm(NAME, 3).generation.load == on_trial.facts().staged.load


def test_attachments_of_a_later_task_join_those_on_trial(host):
    host.stage(1)
    host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE), confirm_within=60)
    assert trial.switch(NAME)

    host.attach(attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="ingress"), confirm_within=60)

    assert trial.switch(NAME)
    transitions.confirm(NAME, 2)
    host.receive(1)
    assert [private_host.counted(program) for program in (programs.XDP, programs.TCX)] == [{1: 1}, {1: 1}]


@pytest.mark.parametrize("wrong", [{"interface": "nosuch0"}, {"program": "no_such"}])
def test_task_that_cannot_be_leaves_the_trial_of_its_rollout_alone(on_trial, wrong):
    before = on_trial.facts()
    wish = {"hook": "tcx", "program": programs.TCX, "interface": private_host.DEVICE, "direction": "ingress"}

    with pytest.raises(NotFound):
        on_trial.attach(private_host.catalogue.attachment_from({**wish, **wrong}), confirm_within=60)

    assert on_trial.facts() == before


@pytest.mark.parametrize("check_mode", [True, False])
def test_no_trial_begins_that_nothing_could_prove(on_trial, check_mode):
    transitions.confirm(NAME, 2)
    on_trial.stage(3)
    before = on_trial.facts()
    wish = transitions.Wish(confirm_within=60, doubt="a local connection cannot be opened anew")

    with pytest.raises(NoProof, match=r"would prove .*: a local connection cannot be opened anew, .*confirm_probe"):
        transitions.attach(NAME, wish, check_mode)

    assert on_trial.facts() == before


def test_doubt_costs_nothing_where_nothing_changes(on_trial):
    transitions.confirm(NAME, 2)

    assert not on_trial.attach(confirm_within=60, doubt="a local connection cannot be opened anew").changed


def test_confirmation_that_came_in_by_no_new_way_is_refused_while_the_trial_is_live(on_trial, capsys):
    """This process came in by none that can be told; the time, too, is judged on the host."""
    for told in ({"seen": [], "before": records.boottime() + 60}, {"before": records.boottime() - 1}):
        guard.confirm(NAME, 2, json.dumps(told))
        assert json.loads(capsys.readouterr().out)["failure"]["code"] == "way_not_proved"
    assert on_trial.facts().trial_is_live

    guard.confirm(NAME, 2, json.dumps({"before": records.boottime() + 60}))

    assert json.loads(capsys.readouterr().out)["state"] == "confirmed"


def test_removal_during_a_trial_says_nothing_against_its_source(on_trial):
    transitions.remove(NAME)

    on_trial.stage(2)


def test_guard_that_waits_does_not_read_the_whole_deployment_again_and_again(on_trial, monkeypatch):
    reads, facts = [], observe.facts
    monkeypatch.setattr(observe, "facts", lambda place: reads.append(place) or facts(place))

    guarded_for_a_second(monkeypatch)

    assert on_trial.facts().trial is None
    assert len(reads) < 20


@pytest.mark.parametrize(
    ("questions", "why"),
    [
        ([], "it was not confirmed in time"),
        ([guard.questions], "the host did not answer after the switch"),
        ([guard.questions, guard.look], "it was not confirmed in time"),
    ],
)
def test_trial_that_nobody_reached_ends_as_one_whose_host_did_not_answer(on_trial, monkeypatch, questions, why):
    monkeypatch.setattr(guard.code, "written", lambda roots: "code")  # nothing of it is run, and it would stay
    for ask in questions:
        ask(NAME, 2)

    guarded_for_a_second(monkeypatch)

    assert store.ended(store.home(NAME), 2).why == why
    with pytest.raises(Quarantined, match=why):
        on_trial.stage(2)


def test_question_of_an_earlier_trial_says_nothing_of_this_one(on_trial, monkeypatch):
    monkeypatch.setattr(guard.code, "written", lambda roots: "code")
    guard.questions(NAME, 2)
    on_trial.attach(confirm_within=60)
    assert trial.switch(NAME)

    guarded_for_a_second(monkeypatch)

    assert store.ended(store.home(NAME), 3).why == "it was not confirmed in time"


def test_nothing_is_said_to_run_again_where_nothing_ran_before(host, monkeypatch):
    host.stage(1)
    host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE), confirm_within=60)
    assert trial.switch(NAME)
    guarded_for_a_second(monkeypatch)

    for ask in (transitions.look, transitions.confirm):
        with pytest.raises(RolledBack, match="Nothing ran before, nor does now") as refused:
            ask(NAME, 1)
        assert "again" not in str(refused.value)


def test_release_that_ran_before_is_said_to_run_again(on_trial, monkeypatch):
    guarded_for_a_second(monkeypatch)

    with pytest.raises(RolledBack, match="The release that ran before runs again"):
        transitions.look(NAME, 2)


def guarded_for_a_second(monkeypatch, seconds=1):
    """A guard has served the trial, whose time was over after a second."""
    monkeypatch.setattr(guard, "GRACE", 0)
    monkeypatch.setattr(guard, "TICK", 0.01)
    with lock.locked(NAME) as home:
        store.write_deadline(home, store.deadline(home)._replace(end=records.boottime() + seconds))
    guard.main(NAME)
