# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the controller follows a guarded change: which question goes over which connection, and for how long it waits."""

from __future__ import annotations

import itertools
import json
import shlex
import signal
import time
import types

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.ebpf.deploy.plugins.action import bpf_attach, bpf_info, bpf_release
from ansible_collections.ebpf.deploy.plugins.action.bpf_attach import ActionModule
from ansible_collections.ebpf.deploy.plugins.plugin_utils import attempts
from ansible_collections.ebpf.deploy.plugins.plugin_utils.attempts import Late, at_most

QUESTIONS = {"look": "look", "confirm": "confirm", "doubt": ""}
ON_TRIAL = {"state": "trial", "attachments": []}
CONFIRMED = {"state": "confirmed", "attachments": []}
TOO_EARLY = {"failure": {"code": "not_switched"}, "msg": "not yet"}
NO_PROBE = {"failure": {"code": "probe_not_passed"}, "msg": "the probe has not passed"}
TOO_SLOW = {
    "failure": {"code": "way_not_proved", "what": "This connection took long"},
    "msg": "This connection took long.",
}
TAKEN_BACK = {"failure": {"code": "rolled_back"}, "msg": "rolled back."}
NOT_BACK = {"failure": {"code": "not_back", "not_back": ["xdp eth0"]}, "msg": "xdp eth0 is not back."}
SLOWLY, HANGS, LOST = "slowly", "hangs", "lost"


class Controller(ActionModule):
    """The action plugin with a host that gives the answers of the list, one after the other; `heard` is what it saw.

    Each answer comes by a connection of its own, from the next port, unless it says its peer itself. The last answer is
    given again and again.
    """

    def __init__(self, transport, *answers):
        self.answers, self.heard, self.told, self.ports = list(answers), [], [], itertools.count(5001)
        self._connection = types.SimpleNamespace(transport=transport, reset=lambda: self.heard.append("connect"))

    def _low_level_execute_command(self, question, sudoable):
        self.heard.append(question.split()[0])
        self.told += shlex.split(question)[1:]
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        peer = ["192.0.2.1", next(self.ports), False]
        if isinstance(answer, tuple):
            time.sleep(0.1 if answer[0] == SLOWLY else 0)
            answer = answer[1]
        if answer == HANGS:
            time.sleep(60)
        if answer == LOST:
            raise AnsibleConnectionFailure("Connection timed out")
        return {"stdout": json.dumps({"peer": peer, "at": 1000.0, **answer})}


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(bpf_attach, "PAUSE", 0.01)
    monkeypatch.setattr(bpf_attach, "JITTER", 0.05)
    monkeypatch.setattr(attempts, "PAUSE", 0.01)


def asked(host):
    """The questions, each of which came over a new connection."""
    assert host.heard[::2] == ["connect"] * (len(host.heard) // 2)
    return host.heard[1::2]


def test_confirmation_is_the_third_connection_after_the_switch_is_known():
    host = Controller("ssh", TOO_EARLY, ON_TRIAL, ON_TRIAL, ON_TRIAL, CONFIRMED)

    result = host._followed({}, 20, "auto", QUESTIONS)

    assert asked(host) == ["look", "look", "look", "look", "confirm"]
    assert result["state"] == "confirmed"


def test_host_is_told_what_it_needs_to_judge_the_confirmation():
    host = Controller("ssh", TOO_EARLY, ON_TRIAL, ON_TRIAL, ON_TRIAL, CONFIRMED)

    host._followed({}, 20, "auto", QUESTIONS)

    told = json.loads(host.told[0])
    assert told["seen"] == [["192.0.2.1", port] for port in (5001, 5002, 5003, 5004)]
    assert 1000 < told["before"] < 1001


ROWS = {  # what does not count, and what is said of it
    "lost": (HANGS, "an attempt got no answer"),
    "refused": (LOST, "an attempt got no answer"),
    "slow": ((SLOWLY, ON_TRIAL), "an attempt took 0.1 s, and 0.1 s is the most that counts"),
    "of a connection that was there": ({**ON_TRIAL, "peer": ["192.0.2.1", 5001, False]}, "came in by one connection"),
    "from the host itself": ({**ON_TRIAL, "peer": ["127.0.0.1", 999, True]}, "came from the host itself"),
    "that cannot be told": ({**ON_TRIAL, "peer": None}, "the host cannot tell"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_row_begins_anew_after_an_attempt(kind, monkeypatch):
    monkeypatch.setattr(bpf_attach, "ATTEMPT_SECONDS", 0.2)
    host = Controller("ssh", ON_TRIAL, ON_TRIAL, ROWS[kind][0], ON_TRIAL, ON_TRIAL, CONFIRMED)

    result = host._followed({}, 20, "auto", QUESTIONS)

    assert asked(host) == ["look"] * 5 + ["confirm"]
    assert result["state"] == "confirmed"


@pytest.mark.parametrize("kind", ROWS)
def test_host_that_never_answers_three_times_in_a_row_is_never_confirmed(kind, monkeypatch):
    monkeypatch.setattr(bpf_attach, "ATTEMPT_SECONDS", 0.2)
    bad, why = ROWS[kind]
    host = Controller("ssh", ON_TRIAL, ON_TRIAL, bad, ON_TRIAL, bad, ON_TRIAL, bad, TAKEN_BACK)

    result = host._followed({}, 20, "auto", QUESTIONS)

    assert (result["failed"], result["state"]) == (True, "rolled_back")
    assert "confirm" not in host.heard
    assert f"The controller did not confirm it: {why}" in result["msg"] or why in result["msg"]


def test_confirmation_that_the_host_finds_slow_begins_the_row_anew():
    host = Controller("ssh", ON_TRIAL, ON_TRIAL, ON_TRIAL, TOO_SLOW, ON_TRIAL, ON_TRIAL, CONFIRMED)

    assert host._followed({}, 20, "auto", QUESTIONS)["state"] == "confirmed"
    assert asked(host) == ["look"] * 3 + ["confirm"] + ["look"] * 2 + ["confirm"]


def test_what_one_took_before_the_switch_says_what_is_slow():
    host = Controller("ssh", (SLOWLY, TOO_EARLY), *[(SLOWLY, ON_TRIAL)] * 3, CONFIRMED)

    assert host._followed({}, 20, "auto", QUESTIONS)["state"] == "confirmed"
    assert len(asked(host)) == 5


def test_module_says_what_is_slow_where_no_look_came_before_the_switch():
    host = Controller("ssh", *[(SLOWLY, ON_TRIAL)] * 3, CONFIRMED)

    assert host._followed({}, 20, "auto", QUESTIONS, 0.1)["state"] == "confirmed"
    assert len(asked(host)) == 4


def test_probe_that_has_not_passed_is_waited_for():
    host = Controller("ssh", ON_TRIAL, ON_TRIAL, ON_TRIAL, NO_PROBE, NO_PROBE, CONFIRMED)

    assert host._followed({}, 20, "auto", QUESTIONS)["state"] == "confirmed"
    assert asked(host) == ["look"] * 3 + ["confirm"] * 3


def test_own_checks_get_a_connection_opened_after_the_switch_is_known():
    host = Controller("ansible.netcommon.libssh", ON_TRIAL, ON_TRIAL)

    result = host._followed({}, 20, "manual", QUESTIONS, is_proved=False)

    assert asked(host) == ["look", "look"]
    assert result["state"] == "trial"


def test_way_is_proved_where_nobody_checks():
    host = Controller("ssh", ON_TRIAL, ON_TRIAL, HANGS, ON_TRIAL, ON_TRIAL, ON_TRIAL, TAKEN_BACK)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bpf_attach, "ATTEMPT_SECONDS", 0.05)
        result = host._followed({}, 20, "manual", QUESTIONS)

    assert asked(host) == ["look"] * 6
    assert result["state"] == "trial"


def test_host_that_answers_over_old_connections_alone_is_never_confirmed(monkeypatch):
    monkeypatch.setattr(bpf_attach, "ATTEMPT_SECONDS", 0.05)
    host = Controller("ssh", ON_TRIAL, HANGS, HANGS, TAKEN_BACK)

    result = host._followed({}, 20, "auto", QUESTIONS)

    assert (result["failed"], result["state"]) == (True, "rolled_back")


def test_connection_that_cannot_be_opened_anew_is_asked_once():
    host = Controller("local", {**ON_TRIAL, "peer": None})

    result = host._followed({}, 20, "manual", {**QUESTIONS, "doubt": "it is local"}, is_proved=False)

    assert (result["state"], host.heard) == ("trial", ["look"])


def test_attempt_that_was_too_short_is_followed_by_a_longer_one():
    """A host whose logins take long is not given up."""
    host = Controller("ssh", HANGS)
    now = time.monotonic()

    assert host._asked("look", 0.05, now + 60, now + 75) == (0.1, None)


def test_attempt_ends_at_the_deadline():
    host = Controller("ssh", HANGS, TAKEN_BACK)
    now = time.monotonic()

    assert host._asked("look", 30, now + 0.05, now + 75)[1] is None
    assert time.monotonic() < now + 30
    assert host._asked("look", 30, now + 0.05, now + 75)[1]["failure"] == TAKEN_BACK["failure"]


# ---- the end ---------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch):
    """The host has no second to act after the deadline."""
    monkeypatch.setattr(bpf_attach, "AFTER_DEADLINE", -0.5)


def test_hook_that_is_not_back_is_asked_for_until_the_end_and_named(short):
    host = Controller("ssh", ON_TRIAL, NOT_BACK)

    result = host._followed({}, 0, "auto", QUESTIONS)

    assert (result["failed"], result["state"]) == (True, "not_back")
    assert (result["msg"], result["failure"]) == (NOT_BACK["msg"], NOT_BACK["failure"])


@pytest.mark.parametrize("answer", [LOST, HANGS])
def test_host_that_stays_cut_off_is_a_failed_task_and_is_not_asked_to_clean_up(short, answer, monkeypatch):
    monkeypatch.setattr(bpf_attach, "ATTEMPT_SECONDS", 0.1)
    host = Controller("ssh", answer)

    result = host._followed({}, 0, "auto", QUESTIONS)
    asked_before = len(host.heard)
    host.cleanup()

    assert (result["failed"], result["state"], result["failure"]["code"]) == (True, "unknown", "no_answer")
    assert "unreachable" not in result
    assert len(host.heard) == asked_before


@pytest.mark.parametrize("answer", [LOST, HANGS])
def test_result_is_not_lost_to_a_host_that_is_cut_off_when_files_are_removed(answer, monkeypatch):
    """Without pipelining the module's folder is removed at the end of the task, over the same connection."""
    monkeypatch.setattr(attempts, "CLEANUP", 0.1)
    host = Controller("ssh", answer)
    host._remove_tmp_path = lambda path: host._low_level_execute_command("rm", False)
    host._connection._shell = types.SimpleNamespace(tmpdir="/tmp/x")
    host._task = types.SimpleNamespace(async_val=0)

    host.cleanup()

    assert host.heard == ["rm"]


# ---- the module's own run ----------------------------------------------------------------------------


class Run:
    """A task of this plugin, whose module gives these results, one after the other. `arguments`: what it was given."""

    def __init__(self, plugin, *results, check_mode=False, **arguments):
        self.host, self.results, self.arguments = plugin.__new__(plugin), list(results), []
        self.host._task = types.SimpleNamespace(args=arguments, async_val=0, check_mode=check_mode)
        self.heard = []
        self.host._connection = types.SimpleNamespace(transport="ssh", reset=lambda: self.heard.append("connect"))
        self.host._execute_module = self.module
        self.host._low_level_execute_command = lambda *dummy, **dummies: self.answer("knock")

    def module(self, *, module_args, **dummy):
        self.arguments.append(module_args)
        return self.answer("module")

    def answer(self, what):
        self.heard.append(what)
        result = self.results.pop(0)
        if result == HANGS:
            time.sleep(60)
        if result == LOST:
            raise AnsibleConnectionFailure("Connection timed out")
        return result

    def result(self):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(attempts, "LIMITS", (0.1, 0.1, 0.1))
            patched.setattr(attempts, "KNOCK", 0.1)
            patched.setattr(bpf_attach, "MODULE_SECONDS", 0.1)
            patched.setattr(bpf_attach, "AFTER_DEADLINE", 0.5)
            patched.setattr(bpf_attach.ActionBase, "run", lambda *dummy: {})
            return self.host.run(task_vars={})


def test_first_attempt_may_take_as_long_as_the_module_did(monkeypatch):
    """A login and a look take less than the module's own run, however slow the host."""
    run = Run(ActionModule, {"state": "armed", "_ask": QUESTIONS}, confirm_within=60)
    run.host._armed = lambda *dummy: time.sleep(0.2) or run.module(module_args={})
    took = []
    monkeypatch.setattr(run.host, "_followed", lambda *arguments, **dummy: took.append(arguments[-1]))

    run.result()

    assert took[0] >= 0.2


@pytest.mark.parametrize("how", [LOST, HANGS])
def test_lost_answer_of_the_module_is_asked_for(how, monkeypatch):
    run = Run(ActionModule, how, LOST, {"state": "armed", "generation": 2, "_ask": QUESTIONS}, confirm_within=1)
    monkeypatch.setattr(run.host, "_followed", lambda result, *dummy, **dummies: result)

    assert run.result()["generation"] == 2

    first, *others = run.arguments
    assert "_asks_only" not in first
    assert [each["_asks_only"] for each in others] == [True, True]
    assert {each["_origin"]["task"] for each in others} == {first["_origin"]["task"]}


def test_lost_answer_of_a_host_that_stays_cut_off_is_a_failed_task():
    run = Run(ActionModule, *[LOST] * 100, confirm_within=0.1)
    run.host._within = lambda arguments: 0.1

    result = run.result()

    assert (result["failed"], result["state"], result["failure"]["code"]) == (True, "unknown", "no_answer")


def test_lost_answer_of_an_unguarded_change_is_as_ansible_has_it():
    with pytest.raises(AnsibleConnectionFailure):
        Run(ActionModule, LOST).result()


# ---- other tasks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", [bpf_info.ActionModule, bpf_release.ActionModule])
def test_task_without_a_trial_opens_no_connection_anew(plugin):
    run = Run(plugin, {"changed": False})

    assert run.result()["changed"] is False
    assert run.heard == ["module"]


def test_generation_that_is_named_is_confirmed_over_a_new_connection():
    run = Run(bpf_release.ActionModule, {"changed": True}, generation=3)

    assert run.result()["changed"]
    assert run.heard == ["connect", "module"]


@pytest.mark.parametrize("plugin", [bpf_info.ActionModule, bpf_release.ActionModule])
@pytest.mark.parametrize("how", [LOST, HANGS])
def test_task_opens_a_dead_connection_anew(plugin, how):
    run = Run(plugin, how, {"changed": False})

    assert run.result()["changed"] is False
    assert run.heard == ["module", "connect", "module"]


@pytest.mark.parametrize("plugin", [bpf_info.ActionModule, bpf_release.ActionModule])
@pytest.mark.parametrize("how", [LOST, HANGS])
def test_task_fails_on_a_host_that_stays_cut_off(plugin, how):
    result = Run(plugin, how, how, how).result()

    assert (result["failed"], result["failure"]["code"]) == (True, "no_answer")
    assert "unreachable" not in result


def test_way_back_that_goes_one_release_further_each_time_is_begun_once_over_a_way_that_answers():
    run = Run(bpf_release.ActionModule, HANGS, {"rc": 0}, {"changed": True}, state="rolled_back")

    assert run.result()["changed"]
    assert run.heard == ["knock", "connect", "knock", "module"]

    run = Run(bpf_release.ActionModule, {"rc": 0}, LOST, state="rolled_back")
    assert run.result()["failed"]
    assert run.heard == ["knock", "module"]


@pytest.mark.parametrize("more", [{"generation": 2}, {"release": "none"}])
def test_way_back_to_what_is_named_may_be_asked_for_again(more):
    run = Run(bpf_release.ActionModule, HANGS, {"changed": True}, state="rolled_back", **more)

    assert run.result()["changed"]
    assert run.heard[-3:] == ["module", "connect", "module"]


# ---- time limits -------------------------------------------------------------------------------------


def test_time_limit_is_not_caught_as_a_failed_connection_is():
    """ansible-core's ssh tries again after any Exception where reconnection_retries says so."""
    with pytest.raises(Late), at_most(0.01):
        try:
            time.sleep(60)
        except Exception:
            time.sleep(60)


class TaskTimeout(BaseException):
    """As the task keyword `timeout` raises it."""


@pytest.fixture
def task_timeout():
    """Of 0.2 s."""

    def over(*dummy):
        raise TaskTimeout

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_timeout_of_the_task_is_kept_where_it_is_due_first(task_timeout):
    began = time.monotonic()

    with pytest.raises(TaskTimeout), at_most(60):
        time.sleep(60)

    assert time.monotonic() - began < 5


def test_timeout_of_the_task_is_due_after_an_attempt_as_before(task_timeout):
    with pytest.raises(Late), at_most(0.05):
        time.sleep(60)

    with pytest.raises(TaskTimeout):
        time.sleep(60)
