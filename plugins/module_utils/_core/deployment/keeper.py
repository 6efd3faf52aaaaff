# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Who looks after a guard: systemd, or a parent that only waits. It hears that the guard is ready and that it still
works, keeps the guard's descriptors, starts it again when it dies or hangs, and gives the descriptors back.

Both are spoken to as sd_notify(3) has it: READY=1, WATCHDOG=1, FDSTORE=1, FDSTOREREMOVE=1 and FDNAME over a socket,
descriptors beside them. systemd gives LISTEN_FDS of them back from 3 on, their names in LISTEN_FDNAMES; the parent says
which is which. What a guard does is guard.py's business.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import subprocess
import time
from typing import Callable

from ..kernel import tools

WATCHDOG_SECONDS = 30  # a guard that says nothing for so long hangs, or was stopped
READY_SECONDS = 90  # to hold what the way back needs, on an emulated machine too
RESTART_SECONDS = 1  # between a guard's death and its next life
HEARS_WITHIN = 2  # seconds; a keeper that was stopped must not hold up the guard
FIRST = 3  # SD_LISTEN_FDS_START
# in the environment: systemd's address, or descriptors of our parent's: that of a socket, then NAME=DESCRIPTOR each
ADDRESS, PARENT = "NOTIFY_SOCKET", "EBPF_DEPLOY_KEEPER"
KEPT = ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_USEC", "WATCHDOG_PID")
ROOM = 4096  # bytes of a message
MOST = 16  # descriptors in one message; we send one


class Keeper:
    """The guard's side. `how`: `systemd`, `its parent`, or empty where nobody looks after it.

    `kept` is {name: fd} that an earlier life of the guard gave it.
    """

    def __init__(self, how, door, kept):
        self.how, self.door, self.kept = how, door, kept

    def ready(self) -> None:
        """The guard holds what it needs."""
        self._tell("READY=1")

    def failed(self, why: str) -> None:
        """The guard cannot do its work, in one line."""
        self._tell("STATUS=" + " ".join(why.split()))

    def works(self) -> None:
        """The working loop has come round. It never waits for who hears that."""
        if self.door is not None:
            with contextlib.suppress(OSError):
                self.door.sendmsg([b"WATCHDOG=1"], [], socket.MSG_DONTWAIT)

    def keep(self, name: str, fd: int) -> None:
        """`fd` outlives the guard under this name."""
        self._tell(f"FDSTORE=1\nFDNAME={name}", fd)

    def forget(self, name: str) -> None:
        """Nothing is kept under this name."""
        self._tell(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def _tell(self, text, *fds):
        if self.door is not None:
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            self.door.settimeout(HEARS_WITHIN)
            with contextlib.suppress(OSError):  # one that is gone, or stopped, can be told nothing
                self.door.sendmsg([text.encode()], beside)


def found() -> Keeper:
    """The Keeper that this process was started by. Its children hear nothing of it."""
    told = {name: os.environ.pop(name, "") for name in (ADDRESS, PARENT, *KEPT)}
    if told[PARENT]:
        number, *words = told[PARENT].split()
        kept = {name: int(fd) for name, dummy, fd in (word.partition("=") for word in words)}
        return Keeper("its parent", socket.socket(fileno=_ours_alone(int(number))), _all_ours_alone(kept))
    names = told["LISTEN_FDNAMES"].split(":") if told["LISTEN_FDNAMES"] else []
    kept = _all_ours_alone({name: FIRST + place for place, name in enumerate(names)})
    if told[ADDRESS]:
        door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        door.connect("\0" + told[ADDRESS][1:] if told[ADDRESS].startswith("@") else told[ADDRESS])
        return Keeper("systemd", door, kept)
    return Keeper("", None, kept)


def _ours_alone(fd):
    os.set_inheritable(fd, False)
    return fd


def _all_ours_alone(kept):
    return {name: _ours_alone(fd) for name, fd in kept.items()}


# ---- the parent's side ---------------------------------------------------------------------------


def keep_running(command: list, lives: list, report: Callable, is_due: Callable) -> None:
    """Start the guard until it ends with 0, as a unit's Restart=on-failure does, while `is_due()`.

    `lives` is the list that its process is put into. `report(text)` is called once: empty when the guard is ready, why
    it is not where it ends before.
    """
    kept, is_ready = {}, False
    while True:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lives[:] = [_started(command, theirs, kept)]
        theirs.close()
        with ours:
            why, became_ready = _served(lives[0], ours, kept, report if not is_ready else _nothing)
        status = lives[0].wait()
        is_ready = is_ready or became_ready
        if not is_ready:
            return report(why or f"it ended with status {status}")
        if status == 0:
            return None
        time.sleep(RESTART_SECONDS)
        if not is_due():
            return None


def _nothing(*dummy):
    pass


def _started(command, door, kept):
    """The guard's next life, with what is kept."""
    told = " ".join([str(door.fileno()), *(f"{name}={fd}" for name, fd in kept.items())])
    given = [door.fileno(), *kept.values()]
    return subprocess.Popen(  # pylint: disable=ansible-bad-function
        command, env={**tools.ENVIRONMENT, PARENT: told}, pass_fds=given
    )


def _served(life, door, kept, report):
    """(why it cannot work, whether it became ready): all that it said until its end. One that hangs is killed."""
    why, is_ready = "", False
    while True:
        door.settimeout(WATCHDOG_SECONDS if is_ready else READY_SECONDS)
        try:
            text, beside, *dummy = door.recvmsg(ROOM, socket.CMSG_SPACE(MOST * 4), socket.MSG_CMSG_CLOEXEC)
        except socket.timeout:
            life.kill()
            return why or "it hangs", is_ready
        except OSError:
            return why, is_ready
        if not text:
            return why, is_ready
        said = dict(line.partition("=")[::2] for line in text.decode(errors="replace").splitlines())
        _keep(kept, said, _descriptors(beside))
        why = said.get("STATUS", why)
        if "READY" in said and not is_ready:
            is_ready = True
            report("")


def _descriptors(beside):
    found = array.array("i")
    for dummy, kind, data in beside:
        if kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _keep(kept, said, fds):
    name = said.get("FDNAME", "")
    if ("FDSTORE" in said or "FDSTOREREMOVE" in said) and name in kept:
        os.close(kept.pop(name))
    for fd in fds:
        if "FDSTORE" in said and name and name not in kept:
            kept[name] = fd
        else:
            os.close(fd)
