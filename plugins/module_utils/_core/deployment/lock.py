# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The deployment's lock as its guard takes it: nobody keeps it past the trial's deadline.

Until then the guard waits as every run does. Past it, a run of ours that was stopped or hangs while it holds the lock
is ended; its steps are such that a SIGKILL leaves each hook with the old program or the new one. Where the lock is not
free then either (a process in uninterruptible sleep, one of another container, a child that inherited it), the guard
goes on without it: each step is a compare-and-swap on the program that it expects.
"""

from __future__ import annotations

import contextlib
import os
import signal

from ..errors import Busy, Damaged, TooNew
from . import store

PATIENCE = 2.0  # s for a run that is about to end by itself, past the deadline, too
FREED_WITHIN = 3.0  # s from the end of a run to the end of its lock


@contextlib.contextmanager
def for_guard(name, is_due=False):
    """The deployment's Home, with the right to change it: by its lock, or without (`unlocked` says why).

    Busy before the deadline, or where no trial is left: the guard asks again. `is_due`: whatever the deadline says.
    """
    with contextlib.ExitStack() as stack:
        yield _home(stack, store.home(name), is_due)


def _home(stack, place, is_due):
    is_due = is_due or _is_over(place)
    try:
        return stack.enter_context(store.locked(place.name, PATIENCE))
    except Busy:
        if not is_due:
            raise
    ended = _end_holder(place)
    try:
        return stack.enter_context(store.locked(place.name, FREED_WITHIN))
    except Busy as busy:
        return _unlocked(place, ended or busy.detail["pid"], bool(ended))


def _is_over(place):
    """Whether a trial is left whose deadline has passed; so it has where no file says when that is."""
    try:
        deadline = store.deadline(place)
    except (Damaged, TooNew):
        return True
    return deadline.end <= store.boottime() if deadline else store.pointed_number(place, "trial") is not None


def _unlocked(place, holder, is_ended):
    how = "did not end when it was killed" if is_ended else "is no run of ours that could be ended"
    why = f"without the lock, which process {holder or 'unknown'} holds: it {how}"
    store.journal(place, "unlocked", why=why)
    for text in store.take_own(place):
        store.journal(place, "moved_aside", what=text)
    return place._replace(unlocked=why)


# ---- who holds it --------------------------------------------------------------------------------


def _end_holder(place):
    """The pid of the run of ours that holds the lock, killed; None where none could be proved to be ours."""
    path = store.lock_path(place.name)
    pid = _signed(path)
    if pid is None or pid in (1, os.getpid()):
        return None
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        if not _holds(pid, path):  # looked at once the pidfd is open: from then on the pid means no other process
            return None
        store.journal(place, "run_ended", pid=pid, why="it held the lock past the deadline of the trial")
        signal.pidfd_send_signal(process, signal.SIGKILL)
        return pid
    except ProcessLookupError:
        return None
    finally:
        os.close(process)


def _signed(path):
    """The pid that whoever locked the file wrote into it, None where there is none."""
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as stream:
        return int(stream.read(32)) or None
    return None


def _holds(pid, path):
    """Whether the process runs as root and has the file open with a lock on it, as fdinfo shows: one that waits for the
    lock has the file open, too."""
    try:
        wanted = os.stat(path)
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
            users = next(line for line in lines if line.startswith("Uid:")).split()[1:3]
        return users == ["0", "0"] and any(
            os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), wanted) and _is_locked(pid, number)
            for number in os.listdir(f"/proc/{pid}/fd")
        )
    except (OSError, StopIteration):  # it ended
        return False


def _is_locked(pid, number):
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as lines:
        return any(line.startswith("lock:") and "FLOCK" in line and "WRITE" in line for line in lines)
