# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Children that are forked and start no other program: what they inherit, and how long they live.

Such a child has every descriptor of its parent, a deployment's lock among them: a flock lasts until the last of them is
closed, so a child that hangs would hold it when its parent is gone. One alone shall: it outlives its parent to finish
what that began.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal

from . import libbpf

PR_SET_PDEATHSIG = 1
STANDARD = (0, 1, 2)


def die_with(parent: int) -> None:
    """This process is killed when its parent ends, whose pid the parent read before it forked."""
    libbpf.call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(0)


def close_inherited(*kept: int) -> None:
    """No descriptor of this process is open but the standard ones and those that are kept."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in (*STANDARD, *kept):
            with contextlib.suppress(OSError):  # that of the listing itself is closed already
                os.close(int(name))


@contextlib.contextmanager
def standing_by(work, seconds):
    """`work` is done by a child if this process dies before the block ends.

    The child is of its own session and has all that this process has open, a lock too, until it ends. Where the block
    takes longer than `seconds` this process is killed, since it may be stopped.
    """
    run = os.pidfd_open(os.getpid())
    reading, writing = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            os.close(writing)
            _stand_by(work, run, reading, seconds)
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):  # somebody killed it
                os.write(writing, b"done")
            os.waitpid(child, 0)
    finally:
        for descriptor in (run, reading, writing):
            os.close(descriptor)


def _stand_by(work, run, reading, seconds):
    try:
        os.setsid()
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        ready = select.select([reading, run], [], [], seconds)[0]
        if reading not in ready or not os.read(reading, 1):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(run, signal.SIGKILL)
            select.select([run], [], [])  # a call into the kernel that it was in has ended then
            work()
    finally:
        os._exit(0)
