# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The deployment's lock: whoever changes the deployment holds it, and never while waiting.

A run waits for it, and then is refused (Busy). From its guard nobody keeps it past the trial's deadline: a run of ours
that was stopped or hangs while it holds the lock is ended then; its steps are such that a SIGKILL leaves each hook with
the old program or the new one. Where the lock is not free then either (a process in uninterruptible sleep, one of
another container, a child that inherited it), the guard goes on without it: each step is a compare-and-swap on the
program that it expects, where the kernel has that, else a look and the change.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator

from ..errors import Busy, Damaged, TooNew, Unprivileged
from ..kernel import files
from . import records, store

LOCK_SECONDS = 30
PATIENCE = 2.0  # s for a run that is about to end by itself, past the deadline, too
FREED_WITHIN = 3.0  # s from the end of a run to the end of its lock


@contextlib.contextmanager
def locked(name: str, seconds: float = LOCK_SECONDS) -> Iterator[records.Home]:
    """The deployment's Home, with the right to change it.

    It is an flock on /run/ebpf_deploy/NAME.lock, gone with this process and those of its children that inherited it.
    """
    place = store.home(name)
    with files.disk_told():
        told = store.take_places()
        descriptor = _held_lock(lock_path(place.name), place.name, time.monotonic() + seconds)
        try:
            _sign(descriptor)
            _take_own(place, told)
            yield place._replace(is_locked=True)
        finally:
            os.close(descriptor)


def lock_path(name: str) -> str:
    """The file that whoever changes the deployment has locked, its pid in it."""
    return os.path.join(records.RUN, name + ".lock")


def _held_lock(path, name, end):
    """A descriptor of the file that is at `path`, locked; one that was taken away meanwhile keeps nobody out."""
    while True:
        descriptor = _open_lock(path)
        try:
            _take_lock(descriptor, name, end)
            if files.is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open_lock(path):
    """What is no file there (a symlink, a folder) is moved aside: it would keep the guard, too, from its work."""
    try:
        files.make_private_folder(records.RUN)
        if not files.is_plain(path):
            os.rename(path, f"{path}.{os.getpid()}.aside")
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except PermissionError as error:
        raise Unprivileged("This needs root on the host", "Add become: true", errno=error.errno) from error


def _sign(descriptor):
    """The lock says whose it is, where there is room for that: a full /run shall not keep the way back shut."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _take_lock(descriptor, name, end):
    begun = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
                raise Busy(
                    f"Another run (process {holder or 'unknown'}) has been changing deployment {name} for "
                    f"{round(end - begun)} s",
                    "Run again when it has ended",
                    pid=holder,
                ) from None
            time.sleep(0.05)


def _take_own(place, told=()):
    """The deployment's places are its own; the journal tells what was moved aside for that, and what was before."""
    for text in (*told, *store.take_own(place)):
        store.journal(place, "moved_aside", what=text)


# ---- as the guard takes it -----------------------------------------------------------------------


@contextlib.contextmanager
def for_guard(name: str, is_due: bool = False) -> Iterator[records.Home]:
    """The deployment's Home, with the right to change it: by its lock, or without (`unlocked` says why).

    Busy before the deadline, or where no trial is left: the guard asks again. `is_due`: whatever the deadline says.
    """
    with contextlib.ExitStack() as stack:
        yield _home(stack, store.home(name), is_due)


def _home(stack, place, is_due):
    is_due = is_due or _is_over(place)
    try:
        return stack.enter_context(locked(place.name, PATIENCE))
    except Busy:
        if not is_due:
            raise
    ended = _end_holder(place)
    try:
        return stack.enter_context(locked(place.name, FREED_WITHIN))
    except Busy as busy:
        return _unlocked(place, ended or busy.detail["pid"], bool(ended))


def _is_over(place):
    """Whether a trial is left whose deadline has passed; so it has where no file says when that is."""
    try:
        deadline = store.deadline(place)
    except (Damaged, TooNew):
        return True
    return deadline.end <= records.boottime() if deadline else store.pointed_number(place, "trial") is not None


def _unlocked(place, holder, is_ended):
    how = "did not end when it was killed" if is_ended else "is no run of ours that could be ended"
    why = f"without the lock, which process {holder or 'unknown'} holds: it {how}"
    store.journal(place, "unlocked", why=why)
    _take_own(place)
    return place._replace(unlocked=why)


# ---- who holds it --------------------------------------------------------------------------------


def _end_holder(place):
    """The pid of the run of ours that holds the lock, killed; None where none could be proved to be ours."""
    path = lock_path(place.name)
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
