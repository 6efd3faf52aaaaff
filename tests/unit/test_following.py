# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the controller follows a guarded change: which question goes over which connection, and for how long it waits."""

from __future__ import annotations

import json
import time
import types

import pytest

from ansible_collections.ebpf.deploy.plugins.action import bpf_attach
from ansible_collections.ebpf.deploy.plugins.action.bpf_attach import ActionModule, Late, at_most

QUESTIONS = {"look": "look", "confirm": "confirm", "doubt": ""}
ON_TRIAL = {"state": "trial", "attachments": []}
CONFIRMED = {"state": "confirmed", "attachments": []}
TOO_EARLY = {"failure": {"code": "not_switched"}, "msg": "not yet"}
TAKEN_BACK = {"failure": {"code": "rolled_back"}, "msg": "rolled back"}


class Controller(ActionModule):
    """The action plugin with a host that gives the answers of the list, one after the other; `heard` is what it saw."""

    def __init__(self, transport, *answers):
        self.answers, self.heard = list(answers), []
        self._connection = types.SimpleNamespace(transport=transport, reset=lambda: self.heard.append("connect"))

    def _low_level_execute_command(self, question, sudoable):
        self.heard.append(question)
        answer = self.answers.pop(0)
        if answer == "hangs":
            time.sleep(60)
        return {"stdout": json.dumps(answer)}


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(bpf_attach, "PAUSE", 0.01)


def test_confirmation_goes_over_a_connection_opened_after_the_switch_is_known():
    host = Controller("ssh", TOO_EARLY, ON_TRIAL, CONFIRMED)

    result = host._followed({}, 20, "auto", QUESTIONS)

    assert host.heard == ["connect", "look", "connect", "look", "connect", "confirm"]
    assert result["state"] == "confirmed"


def test_own_checks_get_a_connection_opened_after_the_switch_is_known():
    host = Controller("ansible.netcommon.libssh", ON_TRIAL, ON_TRIAL)

    result = host._followed({}, 20, "manual", QUESTIONS)

    assert host.heard == ["connect", "look", "connect", "look"]
    assert result["state"] == "trial"


def test_host_that_answers_over_old_connections_alone_is_never_confirmed():
    host = Controller("ssh", ON_TRIAL, "hangs", "hangs", TAKEN_BACK)

    result = host._followed({}, 20, "auto", QUESTIONS, limit=0.05)

    assert (result["failed"], result["state"]) == (True, "rolled_back")


def test_connection_that_cannot_be_opened_anew_is_asked_once():
    host = Controller("local", ON_TRIAL)

    assert host._followed({}, 20, "manual", QUESTIONS)["state"] == "trial"
    assert host.heard == ["look"]


def test_attempt_that_was_too_short_is_followed_by_a_longer_one():
    """A host whose logins take long is not given up."""
    host = Controller("ssh", "hangs")
    now = time.monotonic()

    assert host._asked("look", 0.05, now + 60, now + 75) == (0.1, None)


def test_first_attempt_may_take_as_long_as_the_module_did(monkeypatch):
    """A login and a look take less than the module's own run, however slow the host."""
    host = Controller("ssh", {"state": "armed"})
    host._task = types.SimpleNamespace(args={"confirm_within": 60}, async_val=0)
    host._execute_module = lambda **dummy: time.sleep(0.2) or {"state": "armed", "_ask": QUESTIONS}
    monkeypatch.setattr(bpf_attach.ActionBase, "run", lambda *dummy: {})
    monkeypatch.setattr(bpf_attach, "ATTEMPT_SECONDS", 0.05)
    limits = []
    monkeypatch.setattr(host, "_followed", lambda *arguments: limits.append(arguments[-1]))

    host.run()

    assert limits[0] >= 0.2


def test_attempt_ends_at_the_deadline():
    host = Controller("ssh", "hangs", TAKEN_BACK)
    now = time.monotonic()

    assert host._asked("look", 30, now + 0.05, now + 75)[1] is None
    assert time.monotonic() < now + 30
    assert host._asked("look", 30, now + 0.05, now + 75)[1] == TAKEN_BACK


def test_time_limit_is_not_caught_as_a_failed_connection_is():
    """ansible-core's ssh tries again after any Exception where reconnection_retries says so."""
    with pytest.raises(Late), at_most(0.01):
        try:
            time.sleep(60)
        except Exception:
            time.sleep(60)
