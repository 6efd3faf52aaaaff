# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""How boots ended: the last one is judged when this one begins, and this one says that it ends in order.

    /var/lib/ebpf_deploy/.boots.json      the boot that runs, or ran last, and what its unit said of its end

An end counts only where ebpf-deploy-end.service (role host) was there to tell it: without the unit, or once a hand
stopped it, the end is untold, which is no strike.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

from ..errors import Damaged, Failure, TooNew
from ..kernel import crashes, files, namespaces
from . import lock, records, store, strikes, units

BOOTS = os.path.join(records.STATE, ".boots.json")
RUNS, CLEAN, UNTOLD = "", "clean", "untold"
UNKNOWN = "unknown: a power cut, a reset, or a crash that left no log"


class Boot(NamedTuple):
    """A boot whose end is told: RUNS until then; CLEAN at the system's shutdown; UNTOLD, a hand stopped the unit."""

    boot_id: str
    began: float = 0.0  # seconds since the epoch, to tell its crash from older ones
    end: str = RUNS

    @classmethod
    def from_record(cls, record: dict) -> Boot:
        """The Boot of a file; KeyError, ValueError or TypeError where it is none."""
        return cls(str(record["boot_id"]), float(record["began"]), str(record["end"]))


def begin() -> list:
    """The boot before is judged, and this one's end will be told: [(name, what is a strike, in words)].

    Killed in between it is judged by the next: a boot's id is struck once.
    """
    boot_id, before = namespaces.boot_id(), _last()
    told = []
    if before and before.boot_id != boot_id:
        cause = None if before.end == CLEAN else _cause(before)
        told = [_judge(name, before, cause) for name in store.deployments()] if before.end != UNTOLD else []
    began = before.began if before and before.boot_id == boot_id else time.time()
    _write(Boot(boot_id, began))
    return [each for each in told if each]


def _cause(boot):
    line = crashes.first_line(boot.began)
    return f"panic: {line}" if line else UNKNOWN


def _judge(name, boot, cause):
    """(name, the strike in words) or None; what cannot be judged is told, and the others are."""
    try:
        with lock.locked(name) as home:
            confirmed, ran = store.pointed(home, "confirmed"), strikes.read(home)
            if confirmed is None or not _ran_in(home, ran, confirmed, boot.boot_id):
                return None
            after = _judged(ran, confirmed, boot, cause, records.now())
            if after == ran:
                return None
            store.write_ran(home, after)
            return _told(home, confirmed, after) if cause else None
    except (Failure, OSError) as error:
        return name, f"the end of the last boot could not be judged: {error}"


def _judged(ran, confirmed, boot, cause, when):
    """`ran` after `boot`, in which the confirmed generation ran: a clean end (cause: None) ends its strikes, another
    one is a strike unless it is proven. Once for each boot."""
    if cause is None:
        return ran._replace(strikes=())
    rows = ran.strikes if tuple(ran.what) == strikes.digests(confirmed) else ()
    if strikes.is_proven(ran, confirmed) or boot.boot_id in [row["boot_id"] for row in rows]:
        return ran
    row = {"boot_id": boot.boot_id, "cause": cause, "when": when}
    return ran._replace(what=strikes.digests(confirmed), strikes=(*rows, row))


def _ran_in(home, ran, confirmed, boot_id):
    """Whether the confirmed generation was the last to run in that boot. A trial of that boot is taken back for it."""
    trial = store.pointed(home, "trial")
    if trial and trial.boot_id == boot_id:
        return False
    return (ran.boot_id, ran.generation) == (boot_id, confirmed.number) or confirmed.boot_id == boot_id


def _told(home, confirmed, ran):
    row, count = ran.strikes[-1], len(ran.strikes)
    store.journal(
        home, "strike", generation=confirmed.number, release=confirmed.release, count=count, cause=row["cause"]
    )
    text = f"the last boot ended out of order while generation {confirmed.number} ran unproven"
    return home.name, f"{text} (strike {count}; {row['cause']})"


def end() -> bool:
    """Whether it is known that this boot ended in order: the system goes down now. A hand that stops the unit has
    nothing told, and no strike."""
    before = _last()
    is_clean = units.system_goes_down()
    boot_id = namespaces.boot_id()
    began = before.began if before and before.boot_id == boot_id else time.time()
    try:
        _write(Boot(boot_id, began, CLEAN if is_clean else UNTOLD))
    except OSError:  # no room: without a record nothing is counted
        files.remove(BOOTS)
        raise
    reckon()
    return is_clean


def reckon() -> None:
    """The time until now is on the disk, for every deployment."""
    for name in store.deployments():
        with contextlib.suppress(Failure), lock.locked(name) as home:
            confirmed = store.pointed(home, "confirmed")
            if confirmed and files.names_in(home.links):  # not so where the boot went without
                strikes.note(home, confirmed.number)


def _last():
    """The Boot that was recorded last; None where there is none, or none that can be read: then nothing is counted."""
    try:
        return store.record_of(Boot, BOOTS)
    except (Damaged, TooNew):
        return None


def _write(boot):
    files.make_private_folder(records.STATE)
    files.write_json(BOOTS, {**boot._asdict(), "format": records.FORMAT})
