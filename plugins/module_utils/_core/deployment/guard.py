# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The process that waits on the host: switch once the module has ended, and take it back unless it is confirmed in
time.

It serves a deployment, not a generation, and believes only the disk and the kernel: started again after its death it
goes on where it was. Told to stop (SIGTERM, as by systemctl stop or a shutdown) it goes back first, because nobody
would do it later. It needs no controller, no network, no compiler and no verifier. Its code lies in
/var/lib/ebpf_deploy/.code, because a module's own files are gone when the module has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from typing import Optional

from ..errors import DiskRefused, Failure, NotBack, WayNotProved
from ..kernel import children, files, tools, way_in
from . import code, held, keeper, observe, probe, records, store, transitions, trial, units

GRACE = 2.0  # s between the module's end and the switch: its answer must have left, on an emulated machine too
TICK = 0.2  # s between looks at the trial
DISK_SECONDS = 1  # between tries to write to a disk that is full or read-only
LOOK_SECONDS = 1  # between looks at what is held: that its pins and records are there
NOT_BACK_SECONDS = (1, 30)  # between tries to bring back a hook that does not come: at first, and at the most
CANNOT = 78  # its exit status where it cannot hold what the way back needs: starting it again would not help
STOP_SECONDS = 90  # to go back in: a run may hold the lock for a while


@files.disk_told()
def arm(name: str, at_boot: bool = False) -> dict:
    """A guard for the deployment runs, as {how, …}, and holds what the way back needs; Failure where it cannot.

    It switches when this process has ended. It is a transient unit where PID 1 sees what we see, else a process of its
    own session whose parent starts it again. at_boot: the unit is not waited for, since units that wait for us may come
    before it.
    """
    waits_for = 0 if at_boot else os.getpid()
    command = tools.python(BOOTSTRAP.format("main"), code.written(code.GUARD), name, str(waits_for))
    if units.pid1_sees_the_same() and tools.find("systemd-run"):
        return _as_unit(name, command, ["--no-block"] if at_boot else [])
    return _as_process(name, command)


BOOTSTRAP = (
    code.starting("sys.argv[1]", "*.zip") + "\n"
    f"from {code.PACKAGE}.deployment import guard; guard.{{}}(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])"
)


@files.disk_told()
def questions(name: str, number: int) -> dict:
    """{confirm, look}: shell commands that ask from outside how generation `number` fares, and print one line of JSON.

    A single command needs one round trip where a module needs six, and on a way in that is only just alive each one
    counts.
    """
    path = code.written(code.GUARD)
    store.write_asked(store.home(name), records.Asked(number))
    return {
        verb: shlex.join(tools.python(BOOTSTRAP.format(verb), path, name, str(number))) for verb in ("confirm", "look")
    }


def confirm(name: str, number: int, told: str = "{}") -> None:
    """Print what became of confirming the generation. `told`: what the controller knows (see _expect_new_way)."""
    known = json.loads(told)
    _print_answer(lambda: transitions.confirm(name, number, expect_proof=lambda: _expect_new_way(known)))


def look(name: str, number: int) -> None:
    """Print how the generation fares; no hook and no state has changed, but that the host was reached is remembered."""
    _print_answer(lambda: _reached(transitions.look(name, number), name, number))


def _reached(outcome, name, number):
    """The Outcome, after it is written down that a question came through, should the trial end unconfirmed.

    One by a second connection was opened after the switch. The first may have been before, and its answer got lost.
    """
    if outcome.state == "trial":
        place, peer = store.home(name), way_in.peer()
        came_by = [peer.address, peer.port] if peer else []
        with contextlib.suppress(OSError):
            asked = store.asked(place) or records.Asked(number)
            first = asked.came_by if asked.generation == number else None
            is_answered = not came_by or first not in (None, came_by)
            store.write_asked(place, records.Asked(number, came_by if first is None else first, is_answered))
    return outcome


def _expect_new_way(known):
    """WayNotProved where this process came in by one of the connections `seen` before, or after the time `before`."""
    peer = way_in.peer()
    if "seen" in known and (peer is None or peer.is_here or [peer.address, peer.port] in known["seen"]):
        raise WayNotProved(f"This connection is no new one: {doubt_of(peer) or f'{peer.address}, port {peer.port}'}")
    if records.boottime() > known.get("before", records.boottime()):
        raise WayNotProved("This connection took longer than three times what one took before the switch")


def doubt_of(peer: Optional[way_in.Peer]) -> str:
    """Why a new connection from this way_in.Peer proves nothing; empty where it does."""
    if peer is None:
        return "the host cannot tell which connection it is asked by (there is no sshd above the module)"
    if peer.is_here:
        return f"the connection comes from {peer.address}, the host's own (through a tunnel, or a jump by it)"
    return ""


def _print_answer(work):
    """One line of JSON: {state, attachments, …}, or {failure: {code, what, do, …}, msg, …}.

    `peer`: [address, port, is_here] of the connection, or null; `at`: when it was asked, by the host's clock.
    """
    try:
        outcome = work()
        rows = observe.attachment_rows(outcome.after, outcome.generation)
        answer = {"state": outcome.state, "attachments": rows}
    except Failure as failure:
        answer = {"failure": failure.as_fields(), "msg": str(failure)}
    peer = way_in.peer()
    answer.update(peer=peer and list(peer), at=records.boottime())
    sys.stdout.write(json.dumps(answer) + "\n")


# ---- how it runs ---------------------------------------------------------------------------------


def _as_unit(name, command, more):
    """A transient service: it outlives the module's session, and systemd starts it again when it dies."""
    unit = f"ebpf-deploy-guard-{name}-{os.getpid()}"
    settings = [
        "Type=notify",
        "NotifyAccess=main",
        f"TimeoutStartSec={keeper.READY_SECONDS}",
        "Restart=on-failure",
        f"RestartPreventExitStatus={CANNOT}",
        f"RestartSec={keeper.RESTART_SECONDS}",
        f"WatchdogSec={keeper.WATCHDOG_SECONDS}",
        "WatchdogSignal=SIGKILL",
        "FileDescriptorStoreMax=4096",
        "StartLimitIntervalSec=0",
        "OOMScoreAdjust=-900",
        f"TimeoutStopSec={STOP_SECONDS}",
    ]
    options = [f"--description=Guard of eBPF deployment {name}", *(part for each in settings for part in ("-p", each))]
    run = subprocess.run(  # pylint: disable=ansible-bad-function  # the core knows no AnsibleModule
        [tools.find("systemd-run"), "--quiet", "--collect", *more, f"--unit={unit}", *options, *command],
        stdin=subprocess.DEVNULL,
        env=tools.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise Failure(
            f"The guard could not be started: {run.stderr.strip()}", f"Run on the host: journalctl -u {unit}", unit=unit
        )
    return {"how": "systemd", "unit": unit}


def _as_process(name, command):
    """A session of its own, stdin and stdout nowhere: a child that guards and a parent that only waits for it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading, "rb") as stream:
            answer = stream.read().decode(errors="replace")  # until the parent has closed it
        if answer != READY:
            raise Failure(f"The guard could not be started: {answer or 'it ended'}", "Look at why on the host")
        return {"how": "process", "cannot_survive": CANNOT_SURVIVE}
    try:
        os.setsid()
        if os.fork() == 0:
            _forget_parent(writing)
            _keep_running(name, command, writing)
    finally:
        os._exit(0)


READY = "ready"
CANNOT_SURVIVE = (
    "a kill of this process and of its parent at once, as when their container ends: the next run goes back"
)


def _forget_parent(pipe):
    """Of the module's descriptors the pipe's alone is open here."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    children.close_inherited(pipe)
    os.chdir("/")


def _keep_running(name, command, pipe):
    """Start the guard again when it dies or hangs, as systemd would, while a trial waits.

    SIGTERM is for the guard, which ends with 0 once it went back.
    """
    lives = []

    def report(text):
        os.write(pipe, (text or READY).encode())
        os.close(pipe)

    with _on_sigterm(lambda: [each.terminate() for each in lives]):
        keeper.keep_running(command, lives, report, lambda: os.path.exists(store.deadline_path(name)))


# ---- what it does --------------------------------------------------------------------------------


def main(name: str, waits_for: int = 0) -> None:
    """Guard the deployment until no trial is left. `waits_for`: the process whose end is awaited before the switch."""
    stops = []  # looked at between two pieces of work: none is cut in two
    with _on_sigterm(lambda: stops.append(True)):
        kept_by, own = keeper.found(), code.own()
        what = _hold(name, kept_by, is_first=bool(waits_for))
        kept_by.ready()
        try:
            _await_end(waits_for, stops)
            if not stops:
                _patiently(kept_by, stops, trial.switch, name, what)
            while not stops:
                try:
                    code.keep(own)
                    what = _of_this_trial(name, kept_by, what)
                    if not _is_left(name, kept_by, what, stops):
                        return _forget(what, name)
                except Exception as error:  # whatever it is: the trial has nobody else
                    _tell(name, "look_failed", error)
                    _pause(kept_by, LOOK_SECONDS)
            _patiently(kept_by, (), trial.stop, name, what)
        finally:
            if what:
                what.close()


def _forget(what, name):
    if what:
        with contextlib.suppress(OSError):
            held.forget(name, what.trial.number)


def _hold(name, kept_by, is_first):
    """Held of the trial, None where there is none. The journal says where the descriptors came from.

    is_first: nobody relies on this guard yet, so that it ends with CANNOT where it cannot hold what it needs.
    """
    home, tell = store.home(name), (kept_by.keep, kept_by.forget)
    try:
        what = held.resumed(home, kept_by.kept, *tell)
        if what is not None and not what.is_over(home):
            store.journal(home, "guard_resumed", holds_by=kept_by.how if kept_by.kept else "ids")
            return what
        if what is not None:
            what.close()
        return held.take(home, *tell)
    except (Failure, OSError) as error:
        if is_first:
            kept_by.failed(str(error))
            sys.stderr.write(f"{error}\n")
            sys.exit(CANNOT)  # pylint: disable=ansible-bad-function
        store.journal(home, "guard_holds_nothing", why=str(error))
        return None


def _of_this_trial(name, kept_by, what):
    """Held as it is, or that of the trial that came after: a guard serves its deployment."""
    home = store.home(name)
    number = store.pointed_number(home, "trial")
    if number is None or (what and number <= what.trial.number):
        return what
    if what:
        what.close()
    with contextlib.suppress(Failure, OSError):
        return held.take(home, kept_by.keep, kept_by.forget)
    return None


def _is_left(name, kept_by, what, stops):
    """Whether a trial is left, after one more look at it and what that asks for."""
    kept_by.works()
    place = store.home(name)
    seen = what.facts(place) if what else observe.facts(place)
    if seen.trial is None or not seen.trial.guarded:
        return False
    if not seen.trial_is_live:
        if what and seen.ended:
            what.let_go(place)
        _patiently(kept_by, stops, trial.expire, name, what)
        return True
    if what and what.lacks(place):
        trial.mend(name, what)
    if not seen.deadline.probe or seen.deadline.passed:
        _await_end_of(seen.deadline, place, stops)
    else:
        _probe(name, seen, stops)
        time.sleep(TICK)
    return True


def _probe(name, seen, stops):
    """The trial's probe is asked, once begun after the switch to this very trial: before, it would tell of the old
    program. What keeps it from being noted now, the next look sees."""
    deadline, place = seen.deadline, store.home(name)
    with contextlib.suppress(Failure):
        transitions.look(name, deadline.generation)
        left = deadline.end - records.boottime()
        if probe.passes(deadline.probe, left, lambda: bool(stops) or _deadline(place) != deadline):
            trial.probe_passed(name, deadline.generation)


def _deadline(place):
    """The Deadline in its file; None where it cannot be read: the next look decides."""
    with contextlib.suppress(Failure, OSError):
        return store.deadline(place)
    return None


@contextlib.contextmanager
def _on_sigterm(work):
    """SIGTERM does this alone, in here."""
    before = signal.signal(signal.SIGTERM, lambda *dummy: work())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _await_end_of(deadline, place, stops):
    """The deadline has passed, or its file does not say so any more, or somebody ended the trial, or the guard is to
    stop, or it is time for a look.

    Those files alone are read: all the facts, five times a second, took half of an emulated processor.
    """
    end = min(deadline.end, records.boottime() + LOOK_SECONDS)
    while not stops and records.boottime() < end and _deadline(place) == deadline:
        if held.readable(store.ended, place, deadline.generation):
            return
        time.sleep(min(TICK, max(0.01, deadline.end - records.boottime())))


def _await_end(pid, stops):
    """The module has ended, or ten seconds have passed, and its answer has had time to leave."""
    end = time.monotonic() + 10
    while pid and not stops and os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(GRACE)


def _patiently(kept_by, stops, work, name, what):
    """`work` is done, however long another run holds the lock or a hook does not come back; or the guard is to stop.

    Where the disk takes no writes (the hooks are back then, see trial.py), the next look tries again.
    """
    pause, longest = NOT_BACK_SECONDS
    while not stops:
        kept_by.works()
        try:
            return work(name, what)
        except DiskRefused:
            return time.sleep(DISK_SECONDS)
        except Exception as error:
            if isinstance(error, Failure) and error.can_retry and not isinstance(error, NotBack):
                time.sleep(TICK)
                continue
            if not isinstance(error, NotBack):  # whatever it is: the trial has nobody else
                _tell(name, "guard_failed", error)
            _pause(kept_by, pause)
            pause = min(longest, 2 * pause)


def _tell(name, event, error):
    """The deployment's journal says what keeps the guard from its work; a fault of ours with its traceback."""
    known = isinstance(error, (Failure, OSError))
    shown = {} if known else {"traceback": traceback.format_exc()}
    store.journal(store.home(name), event, why=str(error) if known else repr(error), **shown)


def _pause(kept_by, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        kept_by.works()
        time.sleep(min(TICK, seconds))
