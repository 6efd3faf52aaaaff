# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stay with a guarded attachment until it is confirmed, over a connection opened after the switch, or taken back.

A result waited for on a connection that was opened before the switch can hang for minutes, so none is: the module
returns before any hook moves, and every attempt here has a time limit of its own. Nor does a confirmation count that
came in that way: where only what goes out is dropped, or new connections alone, it would arrive. So one connection
brings the news that the switch is made, and the confirmation goes through another one, opened after that.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

REOPENABLE = {"ssh", "paramiko_ssh", "paramiko", "libssh"}  # a reset really makes these connect anew
ATTEMPT_SECONDS = 8  # for the first attempt at the least: the module's own time tells how slow the host is
PAUSE = 0.5  # s between attempts
AFTER_DEADLINE = 15  # s in which the guard must have acted: its way back, and a connection that recovers


class Late(BaseException):
    """An attempt took longer than it may. Not an Exception: `reconnection_retries` would catch it and try again."""


class ActionModule(ActionBase):
    """Runs the module; where it armed a guard, confirms."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        within, confirm = self._within(arguments), arguments.get("confirm", "auto")
        in_background = self._task.async_val
        if within and confirm == "auto" and in_background:  # returned: of what is raised, 2.16 shows a traceback
            msg = "bpf_attach with confirm: auto cannot run with async. Set confirm: manual, or leave async out."
            return {**result, "failed": True, "msg": msg}
        arguments["rollout_id"] = arguments.get("rollout_id") or socket.gethostname()
        arguments["_is_followed"] = not in_background
        arguments["_doubt"] = self._doubt_of_transport()
        began = time.monotonic()
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=in_background))
        took = time.monotonic() - began
        questions = result.pop("_ask", None)
        if result.get("state") != "armed" or in_background:
            return result
        if confirm == "auto" and questions["doubt"]:
            confirm = "probe" if arguments.get("confirm_probe") else "manual"
        if confirm == "manual" and self._task.args.get("confirm", "auto") == "auto":
            Display().warning(self._why_manual(result, within, questions["doubt"]))
        return self._followed(result, within, confirm, questions, max(ATTEMPT_SECONDS, took))

    @staticmethod
    def _within(arguments):
        """Seconds; 0 for what is no number, which the module then refuses by name."""
        try:
            return int(arguments.get("confirm_within") or 0)
        except (TypeError, ValueError):
            return 0

    def _can_reopen(self):
        """ansible.netcommon names its transports by their full names."""
        return self._connection.transport.rpartition(".")[2] in REOPENABLE

    def _doubt_of_transport(self):
        return "" if self._can_reopen() else f"a {self._connection.transport} connection cannot be opened anew"

    @staticmethod
    def _why_manual(result, within, doubt):
        return (
            f"No new connection proves that the host is reached, since {doubt}, and there is no confirm_probe: the "
            f"change is on trial for {within} s. Confirm it with bpf_release state=confirmed "
            f"generation={result['generation']}."
        )

    def _followed(self, result, within, confirm, questions, limit=ATTEMPT_SECONDS):
        """The result once the host says how it went: on trial (manual), confirmed, or rolled back.

        `limit` is for the first attempt, in seconds; one that was too short doubles it.
        """
        deadline = time.monotonic() + within + 1  # the guard's own is a little earlier: it was armed before
        end = deadline + AFTER_DEADLINE
        question, is_last = questions["look"], not self._can_reopen()
        while time.monotonic() < end:
            time.sleep(PAUSE)
            limit, answer = self._asked(question, limit, deadline, end)
            if answer is None or answer.get("failure", {}).get("code") in ("not_switched", "probe_not_passed", "busy"):
                continue
            if answer.get("state") == "trial" and not is_last:
                question, is_last = questions["confirm" if confirm == "auto" else "look"], True
                continue
            if confirm == "probe" and answer.get("state") == "trial":
                continue
            return self._concluded(result, answer, confirm)
        return {
            **result,
            "failed": True,
            "state": "unknown",
            "msg": f"The host did not answer until {AFTER_DEADLINE} s after the deadline. Its guard needs no "
            "connection: what ran before, if anything did, should run again. Look at the host's console.",
        }

    def _asked(self, question, limit, deadline, end):
        """(limit for the next attempt, what the host answers over a new connection or None where it gives no answer).

        No attempt goes beyond the deadline: a connection opened after it finds the host as it was before.
        """
        now = time.monotonic()
        try:
            with at_most(max(PAUSE, min(limit, (deadline if now < deadline else end) - now))):
                if self._can_reopen():
                    self._connection.reset()
                answer = self._low_level_execute_command(question, sudoable=True)
            return limit, json.loads(answer["stdout"].strip().splitlines()[-1])
        except Late:
            return limit * 2, None
        except (AnsibleError, IndexError, ValueError):
            return limit, None

    def _concluded(self, result, answer, confirm):
        if "failure" in answer:
            failure = answer["failure"]
            state = "rolled_back" if failure["code"] == "rolled_back" else "unknown"
            return {**result, "failed": True, "state": state, "msg": answer["msg"], "failure": failure}
        attachments = answer.get("attachments", result.get("attachments"))
        return {**result, "state": "trial" if confirm == "manual" else "confirmed", "attachments": attachments}


@contextlib.contextmanager
def at_most(seconds):
    """Raises Late in its body when the time is over.

    The task keyword `timeout` uses the same alarm: it is put back after.
    """

    def late(*dummy):
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    remaining = signal.setitimer(signal.ITIMER_REAL, seconds)[0]
    began = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if remaining:
            signal.setitimer(signal.ITIMER_REAL, max(0.01, remaining - (time.monotonic() - began)))
