# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Attempts with a time limit, for tasks that may meet a host which a change cut off.

A ControlPersist connection to such a host hangs for minutes, and what ends as unreachable is seen by no rescue: so each
attempt here is bounded, a connection that hung is opened anew, and a host that gives no answer is a failed task.
"""

from __future__ import annotations

import contextlib
import signal
import time

from ansible.errors import AnsibleConnectionFailure, AnsibleError

REOPENABLE = {"ssh", "paramiko_ssh", "paramiko", "libssh"}  # a reset really makes these connect anew
LIMITS = (30, 60, 90)  # s for the first attempt of a module, and for those after it
ONCE = 300  # s for what must not be done twice
KNOCK = 10  # s for an empty command
PAUSE = 0.5  # s between attempts
CLEANUP = 10  # s to remove what the module left in remote_tmp


class Late(BaseException):
    """An attempt took longer than it may. Not an Exception: `reconnection_retries` would catch it and try again."""


@contextlib.contextmanager
def at_most(seconds):
    """Raises Late in its body when the time is over.

    The task keyword `timeout` uses the same alarm: where that one is due first, it stays as it is, else it is put back
    after.
    """

    def late(*dummy):
        raise Late

    due = signal.getitimer(signal.ITIMER_REAL)[0]
    if 0 < due <= seconds:
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    began = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if due:
            signal.setitimer(signal.ITIMER_REAL, max(0.01, due - (time.monotonic() - began)))


class Attempting:
    """For action plugins, before ActionBase."""

    _is_cut_off = False  # the host gave no answer: nothing more is asked of it

    def cleanup(self, force=False):
        """What the module left in remote_tmp is gone, unless the host gives no answer: no result is lost to that."""
        if self._is_cut_off:
            return
        with contextlib.suppress(Late, AnsibleError), at_most(CLEANUP):
            super().cleanup(force)

    def can_reopen(self):
        """ansible.netcommon names its transports by their full names."""
        return self._connection.transport.rpartition(".")[2] in REOPENABLE

    def reopen(self):
        if self.can_reopen():
            self._connection.reset()

    def run_module(self, arguments, task_vars, *, anew=False, is_repeatable=True):
        """The module's result; failed, with our sentence, where the host gives no answer.

        anew: over a new connection. Any other is taken as it is, and opened anew where it gave no answer. What is not
        repeatable is begun only over a connection that answers, and once.
        """
        why = "" if is_repeatable else self._knock(anew)
        for number, limit in enumerate(LIMITS if is_repeatable else (ONCE,)):
            if why and not is_repeatable:
                break
            try:
                with at_most(limit):
                    if number or (anew and is_repeatable):
                        self.reopen()
                    return self._execute_module(module_args=arguments, task_vars=task_vars)
            except Late:
                why = f"no answer within {limit} s"
            except AnsibleConnectionFailure as error:
                why = str(error)
            time.sleep(PAUSE)
        return self.cut_off(why)

    def _knock(self, anew):
        """Why the host does not answer an empty command; empty where it does."""
        why = ""
        for number in range(len(LIMITS)):
            try:
                with at_most(KNOCK):
                    if number or anew:
                        self.reopen()
                    self._low_level_execute_command(":", sudoable=False)
                    return ""
            except Late:
                why = f"no answer within {KNOCK} s"
            except AnsibleConnectionFailure as error:
                why = str(error)
            time.sleep(PAUSE)
        return why

    def cut_off(self, why, **more):
        """The result of a task whose host gives no answer."""
        self._is_cut_off = True
        what = f"The host did not answer: {' '.join(why.split())}"
        do = (
            "A change that is on trial there is taken back by the host itself at its deadline. Look at the host's "
            "console, then run again."
        )
        failure = {"code": "no_answer", "what": what, "do": do}
        what = what if what.endswith(".") else what + "."
        return {"failed": True, "msg": f"{what} {do}", "failure": failure, **more}
