# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Work on bytes that are not trusted, done in a child process of ours.

What crashes libbpf, or the verifier, ends the child alone and becomes a Failure. What the child says comes back by a
pipe, as JSON; a Failure or an OSError is raised here again.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
from typing import Any, Callable

from .. import errors
from ..errors import BadObject, Failure, VerifierRefused
from ..kernel import children

CHILD_SECONDS = 120  # a refusal for more than a million instructions takes 6 s here


def answer_of(work: Callable, phase: str) -> Any:
    """What `work` returns, as JSON carries it, from a forked child that shares nothing back: for untrusted bytes.

    `phase` is "open" or "load": how the child's death is told.
    """
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _answer(work, writing, parent)
    os.close(writing)
    try:
        answer = _read_until(reading, time.monotonic() + CHILD_SECONDS)
        if answer is None:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(reading)
        status = os.waitpid(child, 0)[1]
    if not answer:
        raise _died(status, phase, is_late=answer is None)
    return _understood(json.loads(answer))


def _answer(work, writing, parent):
    """Write what came of `work` and end; nothing of the parent's (its exit handlers, its output) runs here."""
    try:
        try:
            children.die_with(parent)
            children.close_inherited(writing)  # a deployment's lock, too
            answer = {"result": work()}
        except Failure as failure:
            answer = {"failure": [type(failure).__name__, failure.what, failure.do, failure.detail]}
        except OSError as error:
            answer = {"oserror": [error.errno, error.strerror, error.filename, getattr(error, "log", [])]}
        except Exception:  # a fault of ours: told as one, with its traceback, and not as a death of the child
            answer = {"fault": traceback.format_exc()}
        data = json.dumps(answer).encode()
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)


def _read_until(descriptor, deadline):
    """All bytes up to the end of the pipe, or None where the deadline (time.monotonic) comes first."""
    data = b""
    while True:
        ready = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0]
        if not ready:
            return None
        block = os.read(descriptor, 1 << 16)
        if not block:
            return data
        data += block


def _died(status, phase, is_late):
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    how = f"did not end within {CHILD_SECONDS} s" if is_late else f"was ended by signal {number}"
    if phase == "open":
        return BadObject(
            f"libbpf {how} while opening the object", "The file is damaged; compile it again", signal=number
        )
    return VerifierRefused(
        f"The process that loads the program {how}",
        "Read the end of dmesg on this host before trying again: a fault in the verifier looks like this",
        diagnosis="loader_killed",
        signal=number,
        kernel=os.uname().release,
    )


def _understood(answer):
    if "fault" in answer:
        raise RuntimeError(f"In the process that opens objects:\n{answer['fault']}")
    if "failure" in answer:
        kind, what, do, detail = answer["failure"]
        raise getattr(errors, kind)(what, do, **detail)
    if "oserror" in answer:
        number, text, call, log = answer["oserror"]
        error = OSError(number, text, call)
        error.log = log
        raise error
    return answer["result"]
