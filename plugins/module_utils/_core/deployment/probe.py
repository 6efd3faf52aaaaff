# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A user's own question whether the host is well: tcp:HOST:PORT, or a command.

It is asked in a child with a session of its own, names looked up there too: a resolver that does not answer holds up
nobody but the child. When the time is over, the child and all that it started are ended by SIGKILL. What they started
carries a mark in its environment, so that a new session hides no process.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import time
from typing import Callable

from ..errors import BadRequest
from ..kernel import children, tools

SECONDS = 5  # for one time of asking
TICK = 0.05
REAP_SECONDS = 1  # a process in D state outlives SIGKILL until its device answers: nobody waits for that
MARK = "EBPF_DEPLOY_PROBE"


def expect(probe: str) -> None:
    """BadRequest where the probe could never pass because it cannot be read."""
    try:
        if probe.startswith("tcp:"):
            _address(probe)
        elif probe and not shlex.split(probe):
            raise ValueError("it names no command")
    except ValueError as error:
        raise BadRequest(
            f"confirm_probe {probe!r} cannot be read: {error}", "Give tcp:HOST:PORT, or a command as a shell quotes it"
        ) from error


def passes(probe: str, seconds: float, is_over: Callable = lambda: False) -> bool:
    """Whether tcp:HOST:PORT answers, or the command ends with 0, within `seconds`, and SECONDS at the most.

    False as soon as is_over() says that nobody wants to know any more. Nothing of the probe runs afterwards.
    """
    seconds = max(TICK, min(seconds, SECONDS))
    end = time.monotonic() + seconds
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    try:
        child = _begun(_ask, probe, seconds, mark)
    except OSError:  # no process more: the next look asks again
        return False
    try:
        while not is_over() and time.monotonic() < end:
            if _has_ended(child, TICK):
                break
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has no session yet
            os.killpg(child, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        code = _reaped(child)
        if not probe.startswith("tcp:"):  # looking at a process that hangs may hang: so that is a child's work, too
            with contextlib.suppress(OSError):
                _reaped(_begun(_end_marked, mark))
    return code == 0


def _address(probe):
    """(HOST, PORT) of tcp:HOST:PORT; ValueError where there is none such."""
    host, dummy, port = probe[4:].rpartition(":")
    host = host.strip("[]")
    if not host or not 0 < int(port) < 65536:
        raise ValueError("it has no host, or no port from 1 to 65535")
    host.encode("idna")  # as the resolver will: a UnicodeError is a ValueError
    return host, int(port)


# ---- children ------------------------------------------------------------------------------------


def _begun(work, *arguments):
    """The pid of a child in a session of its own that does the work and ends, with 1 unless that says otherwise."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        children.die_with(parent)
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(each, signal.SIG_DFL)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        children.close_inherited()
        work(*arguments)
    finally:
        os._exit(1)


def _has_ended(child, seconds):
    """Whether it has, waited for so long; it stays a zombie, so that its number is nobody else's."""
    end = time.monotonic() + seconds
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= end:
            return False
        time.sleep(TICK / 4)
    return True


def _reaped(child):
    """The child's exit code, as subprocess has it; None where it cannot be ended, and is left behind."""
    if not _has_ended(child, REAP_SECONDS):
        return None
    status = os.waitpid(child, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)


def _ask(probe, seconds, mark):
    """Ends this process, with 0 where the probe passed. Whatever else comes of asking is a probe that failed."""
    signal.setitimer(signal.ITIMER_REAL, seconds)  # outlives exec
    if probe.startswith("tcp:"):
        with socket.create_connection(_address(probe), SECONDS):
            os._exit(0)
    words = shlex.split(probe)
    os.execve(tools.find(words[0]) or words[0], words, {**tools.ENVIRONMENT, MARK: mark})


def _end_marked(mark):
    """What the probe started in other sessions is ended, until a look finds none of it, for so long at the most."""
    signal.setitimer(signal.ITIMER_REAL, REAP_SECONDS)
    wanted = f"{MARK}={mark}".encode()
    while True:
        found = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and wanted in _environment(pid)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def _environment(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            return stream.read().split(b"\0")
    except OSError:
        return ()
