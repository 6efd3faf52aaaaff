# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stay with a guarded attachment until it is confirmed, over connections opened after the switch, or taken back.

A result waited for on a connection that was opened before the switch can hang for minutes, so none is: the module
returns before any hook moves, and every attempt here has a time limit of its own. Nor does a confirmation count that
came in that way: where only what goes out is dropped, or new connections alone, it would arrive. So one connection
brings the news that the switch is made; several in a row, each a new one by what the host sees of it and none slower
than three times what one took before, prove the way; and the confirmation comes by the last of these.
"""

from __future__ import annotations

import json
import shlex
import time
import uuid

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils import attempts, whose
from ..plugin_utils.attempts import Late, at_most

ATTEMPT_SECONDS = 8  # for the first attempt at the least: the module's own time tells how slow the host is
MODULE_SECONDS = 120  # for the module of a guarded change at the least: it may wait half a minute for the lock
PAUSE = 0.5  # s between attempts
AFTER_DEADLINE = 45  # s in which the guard must have acted: its way back, after the watchdog replaced it if it hung
ROW = 3  # new connections, one after the other, that prove the way
SLOWER = 3  # times what one took before the switch: a packet sent again hides that one was lost
JITTER = 1  # s: less is never called slow
NOT_YET = ("not_switched", "probe_not_passed", "way_not_proved", "busy", "not_back")


class ActionModule(attempts.Attempting, ActionBase):
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
        arguments["rollout_id"] = whose.rollout_id(arguments.get("rollout_id"), task_vars)
        arguments["_origin"] = {**whose.origin(task_vars), "task": uuid.uuid4().hex}
        arguments["_is_followed"] = not in_background
        if arguments.get("attachments") == "auto":
            arguments.update(attachments=[], _everything=True)
        arguments["_doubt"] = "" if self.can_reopen() else self._doubt_of_transport()
        began = time.monotonic()
        if within and not in_background:
            result.update(self._armed(arguments, task_vars, within))
        else:
            more = {"module_args": arguments, "task_vars": task_vars, "wrap_async": in_background}
            result.update(self._execute_module(**more))
        took = time.monotonic() - began
        questions = result.pop("_ask", None)
        if result.get("state") != "armed" or in_background:
            return result
        if confirm == "auto" and questions["doubt"]:
            confirm = "probe" if arguments.get("confirm_probe") else "manual"
        if confirm == "manual" and self._task.args.get("confirm", "auto") == "auto":
            Display().warning(self._why_manual(result, within, questions["doubt"]))
        is_proved = confirm == "auto" or (_is_false(arguments.get("_is_checked")) and not questions["doubt"])
        return self._followed(result, within, confirm, questions, took, is_proved=is_proved)

    @staticmethod
    def _within(arguments):
        """Seconds; 0 for what is no number, which the module then refuses by name."""
        try:
            return int(arguments.get("confirm_within") or 0)
        except (TypeError, ValueError):
            return 0

    def _doubt_of_transport(self):
        return f"a {self._connection.transport} connection cannot be opened anew"

    @staticmethod
    def _why_manual(result, within, doubt):
        return (
            f"No new connection proves that the host is reached, since {doubt}, and there is no confirm_probe: the "
            f"change is on trial for {within} s. Confirm it with bpf_release state=confirmed "
            f"generation={result['generation']}."
        )

    # ---- arming --------------------------------------------------------------------------------------

    def _armed(self, arguments, task_vars, within):
        """The module's result. Where its answer was lost, what the host tells of its change."""
        why = "no answer to the change"
        try:
            with at_most(max(MODULE_SECONDS, within + AFTER_DEADLINE)):
                return self._execute_module(module_args=arguments, task_vars=task_vars)
        except Late:
            pass
        except AnsibleConnectionFailure as error:
            why = str(error)
        end = time.monotonic() + within + AFTER_DEADLINE
        asking = {**arguments, "_asks_only": True}
        while time.monotonic() < end:
            time.sleep(PAUSE)
            try:
                with at_most(max(PAUSE, min(2 * ATTEMPT_SECONDS, end - time.monotonic()))):
                    self.reopen()
                    return self._execute_module(module_args=asking, task_vars=task_vars)
            except (Late, AnsibleConnectionFailure):
                continue
        return self.cut_off(why, state="unknown")

    # ---- following -----------------------------------------------------------------------------------

    def _followed(self, result, within, confirm, questions, took=0, *, is_proved=True):
        """The result once the host says how it went: on trial (manual), confirmed, or rolled back.

        `took`: seconds of the module's own run, which the first attempt gets at the least; one that was too short
        doubles it. is_proved: ROW attempts have to prove the way before; otherwise one that began when the switch was
        known is enough.
        """
        limit = max(ATTEMPT_SECONDS, took)
        deadline = time.monotonic() + within + 1  # the guard's own is a little earlier: it was armed before
        end = deadline + AFTER_DEADLINE
        row = Row(took)
        is_switched, last = questions["doubt"] != "", None
        while time.monotonic() < end:
            time.sleep(PAUSE)
            is_confirming = confirm == "auto" and (row.is_last or (is_switched and time.monotonic() > deadline))
            question = f"{questions['confirm']} {shlex.quote(row.told())}" if is_confirming else questions["look"]
            began = time.monotonic()
            limit, answer = self._asked(question, limit, deadline, end)
            code = (answer or {}).get("failure", {}).get("code")
            last = answer if code in ("not_back", "probe_not_passed") else last
            if answer is None or code in NOT_YET:
                row.broken(answer, code, time.monotonic() - began)
                continue
            if answer.get("state") == "trial":
                is_first, is_switched = not is_switched, True
                if is_proved:
                    row.take(answer, time.monotonic() - began, counts=not is_first)
                if confirm != "manual" or is_first or (is_proved and not row.is_whole):
                    continue
            return self._concluded(result, answer, confirm, row.doubt if is_proved else "")
        return self._given_up(result, last)

    def _asked(self, question, limit, deadline, end):
        """(limit for the next attempt, what the host answers over a new connection or None where it gives no answer).

        No attempt goes beyond the deadline: a connection opened after it finds the host as it was before.
        """
        now = time.monotonic()
        try:
            with at_most(max(PAUSE, min(limit, (deadline if now < deadline else end) - now))):
                self.reopen()
                answer = self._low_level_execute_command(question, sudoable=True)
            return limit, json.loads(answer["stdout"].strip().splitlines()[-1])
        except Late:
            return limit * 2, None
        except (AnsibleError, IndexError, ValueError):
            return limit, None

    def _concluded(self, result, answer, confirm, doubt):
        if "failure" in answer:
            failure = answer["failure"]
            state = "rolled_back" if failure["code"] == "rolled_back" else "unknown"
            msg = f"{answer['msg']} The controller did not confirm it: {doubt}." if doubt else answer["msg"]
            return {**result, "failed": True, "state": state, "msg": msg, "failure": failure}
        attachments = answer.get("attachments", result.get("attachments"))
        return {**result, "state": "trial" if confirm == "manual" else "confirmed", "attachments": attachments}

    def _given_up(self, result, last):
        """The host told nothing final in time; `last`: the last failure that it told."""
        if last and last["failure"]["code"] == "not_back":
            return {**result, "failed": True, "state": "not_back", "msg": last["msg"], "failure": last["failure"]}
        self._is_cut_off = True
        what = f"The host did not answer until {AFTER_DEADLINE} s after the deadline"
        do = (
            "Its guard needs no connection: what ran before, if anything did, should run again. "
            "Look at the host's console."
        )
        failure = {"code": "no_answer", "what": what, "do": do}
        return {**result, "failed": True, "state": "unknown", "msg": f"{what}. {do}", "failure": failure}


class Row:
    """New connections after the switch, one after the other, and why one did not count (`doubt`).

    `module_took`: seconds that stand for what a connection takes, until a look from before the switch tells.
    """

    def __init__(self, module_took):
        self.length, self.doubt, self.seen = 0, "", []
        self._before, self._module_took = [], module_took
        self._at = self._answered = None

    @property
    def is_last(self):
        """Whether the next attempt makes the row whole: it is the one that confirms, and the host judges it."""
        return self.length == ROW - 1

    @property
    def is_whole(self):
        return self.length >= ROW

    @property
    def allowed(self):
        """Seconds that an attempt may take."""
        return max(JITTER, SLOWER * (max(self._before) if self._before else self._module_took))

    def take(self, answer, took, *, counts):
        """An attempt found the trial. counts: it began when the switch was known."""
        peer = answer.get("peer")
        end = peer and peer[:2]
        if not counts:
            pass
        elif not end or peer[2]:
            self._start_anew("the host cannot tell an attempt's connection, or it came from the host itself")
        elif end in self.seen:
            self._start_anew(
                f"attempts came in by one connection, from {end[0]} port {end[1]}: it is kept open somewhere"
            )
        elif took > self.allowed:
            self._start_anew(f"an attempt took {took:.1f} s, and {self.allowed:.1f} s is the most that counts")
        else:
            self.length, self.doubt = self.length + 1, ""
        self._note(answer)

    def broken(self, answer, code, took):
        """An attempt did not find the trial, or found that it cannot be confirmed yet."""
        if code == "not_switched":
            self._before.append(took)
        elif answer is None and self.seen:
            self._start_anew("an attempt got no answer")
        elif code == "way_not_proved":
            self._start_anew(answer["failure"]["what"])
        if answer:
            self._note(answer)

    def told(self):
        """What the host needs to judge the attempt that confirms: JSON. `before`: by its own clock."""
        if not self.is_last or self._at is None:
            return json.dumps({"before": 0})
        latest = self._at + time.monotonic() - self._answered + self.allowed
        return json.dumps({"seen": self.seen, "before": latest})

    def _note(self, answer):
        self.seen += [answer["peer"][:2]] if answer.get("peer") else []
        self._at, self._answered = answer.get("at"), time.monotonic()

    def _start_anew(self, why):
        self.length, self.doubt = 0, why


def _is_false(value):
    return str(value).lower() in ("false", "no", "off", "0", "n", "f")
