# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Which generations are proven here, and which strikes the one that runs has.

    /var/lib/ebpf_deploy/NAME/ran.json    how long each attachment ran its release, and the strikes of what runs now

A generation is proven once each of its attachments ran its release for `proven_after` seconds. Time that no reckoning
saw before a crash is not counted: what is not known to be proven is not. A strike is a boot that ended out of order
while an unproven one ran (ends.py); what follows from it is boot.py's business.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from typing import NamedTuple, Optional

from ..errors import Damaged, TooNew
from ..kernel import namespaces
from . import records, store

LEFT = ("generation", "release", "why", "when", "strikes", "to")  # what `Ran.left` says
STRIKES = 2  # that many in a row, and the boot goes without


class Ran(NamedTuple):
    """What runs: a generation, its attachments' digests `what`, since when (CLOCK_MONOTONIC, so without suspend) in
    which boot; and what is known of what ran.

    `strikes` are rows {boot_id, cause, when} about `what`. `left`: what was left for them, {generation, release, why,
    when, strikes, to}, where `to` is the generation that was confirmed instead.
    """

    generation: int = 0
    what: tuple = ()
    boot_id: str = ""
    since: float = 0.0
    seconds: dict = {}  # by digest
    strikes: tuple = ()
    left: Optional[dict] = None

    @classmethod
    def from_record(cls, record: dict) -> Ran:
        """The Ran of a file; ValueError or TypeError where it is none."""
        found = cls(**{field: record[field] for field in cls._fields if field in record})
        if not all(isinstance(row, dict) and {"boot_id", "cause", "when"} <= {*row} for row in found.strikes):
            raise ValueError("strikes are rows")
        if found.left is not None and not {*LEFT} <= {*found.left}:
            raise ValueError("what was left has no such fields")
        seconds = {str(each): float(value) for each, value in dict(found.seconds).items()}
        what, strikes = tuple(found.what), tuple(found.strikes)
        return found._replace(what=what, since=float(found.since), seconds=seconds, strikes=strikes)


# ---- pure ----------------------------------------------------------------------------------------


def digests(generation: records.Generation) -> tuple:
    """One for each attachment, of it and the release that it runs: the same again after a rollback."""
    rows = ([generation.release, each.as_record()] for each in generation.attachments.values())
    return tuple(sorted(hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:32] for row in rows))


def credited(ran: Ran, boot_id: str, now: float, running: int) -> Ran:
    """`ran` with the time until now counted, if it is this boot's and generation `running` is what it speaks of."""
    if (ran.boot_id, ran.generation) != (boot_id, running):
        return ran
    more = max(0.0, now - ran.since)
    return ran._replace(
        since=now, seconds={**ran.seconds, **{each: ran.seconds.get(each, 0.0) + more for each in ran.what}}
    )


def turned(ran: Ran, generation: records.Generation, boot_id: str, now: float) -> Ran:
    """`ran` once `generation` runs instead; strikes are about what stays the same."""
    what = digests(generation)
    strikes = ran.strikes if what == tuple(ran.what) else ()
    return ran._replace(generation=generation.number, what=what, boot_id=boot_id, since=now, strikes=strikes)


def seconds(ran: Ran, generation: records.Generation) -> float:
    """How long the generation ran: as its attachment that ran least."""
    return min((ran.seconds.get(each, 0.0) for each in digests(generation)), default=0.0)


def is_proven(ran: Ran, generation: records.Generation) -> bool:
    """Whether it ran `proven_after` seconds; one without attachments has nothing to prove."""
    return not generation.attachments or seconds(ran, generation) >= generation.proven_after


def newest_proven(
    ran: Ran, generations: dict, but: Optional[records.Generation] = None
) -> Optional[records.Generation]:
    """The newest of the generations that attaches something and is proven, but for those that do the same as `but`."""
    left = digests(but) if but else None
    for dummy, each in sorted(generations.items(), reverse=True):
        if each.attachments and digests(each) != left and is_proven(ran, each):
            return each
    return None


def sentence(ran: Ran, confirmed: records.Generation) -> str:
    """Why the confirmed generation must not come back, empty where it may."""
    if len(ran.strikes) < STRIKES or tuple(ran.what) != digests(confirmed) or is_proven(ran, confirmed):
        return ""
    return (
        f"{len(ran.strikes)} boots in a row ended out of order while it ran unproven, the last one by "
        f"{ran.strikes[-1]['cause']}"
    )


# ---- the record of a deployment --------------------------------------------------------------------


def read(place: records.Home) -> Ran:
    """The Ran of the deployment; an empty one where it cannot be read: then nothing is proven."""
    try:
        return store.ran(place, Ran) or Ran()
    except (Damaged, TooNew):
        return Ran()


def reckoned(place: records.Home, confirmed: Optional[records.Generation], boot_id: str) -> Ran:
    """The Ran of the deployment with the time until now; nothing is written."""
    return credited(read(place), boot_id, _now(), confirmed.number if confirmed else 0)


def note(home: records.Home, was: Optional[int]) -> None:
    """What is confirmed runs from now on, generation `was` did until now.

    A disk that takes no record costs the time alone: what is not known to be proven is not.
    """
    with contextlib.suppress(OSError, Damaged):
        boot_id, now = namespaces.boot_id(), _now()
        confirmed = store.pointed(home, "confirmed")
        before = read(home)
        ran = credited(before, boot_id, now, was or 0)
        ran = turned(ran, confirmed, boot_id, now) if confirmed else ran._replace(generation=0, what=(), strikes=())
        ran = _pruned(home, ran)
        if ran != before:
            store.write_ran(home, ran)


def note_boot(home: records.Home, confirmed: records.Generation) -> None:
    """The confirmed generation is about to run in this boot: written before a hook moves, lest a crash forgets it."""
    boot_id = namespaces.boot_id()
    ran = read(home)
    if (ran.boot_id, ran.generation) != (boot_id, confirmed.number):
        with contextlib.suppress(OSError):
            store.write_ran(home, turned(ran, confirmed, boot_id, _now()))


def note_left(home: records.Home, confirmed: records.Generation, why: str, to: int) -> None:
    """What is left for its strikes is on the disk, before `to`, the generation that is confirmed instead."""
    ran = read(home)
    left = {"generation": confirmed.number, "release": confirmed.release, "why": why, "when": records.now(), "to": to}
    store.write_ran(home, ran._replace(left={**left, "strikes": [dict(row) for row in ran.strikes]}))


def left(place: records.Home, confirmed: Optional[records.Generation]) -> Optional[dict]:
    """What was left for its strikes, as `Ran.left`, while that is how the deployment stands; else None."""
    found = read(place).left
    return found if found and confirmed and found["to"] == confirmed.number else None


def _pruned(home, ran):
    """Without the time of what no generation names any more."""
    numbers = store.generation_numbers(home)
    known = {each for number in numbers for each in digests(store.generation(home, number) or _NONE)}
    return ran._replace(seconds={each: value for each, value in ran.seconds.items() if each in known})


_NONE = records.Generation(0, "", "", {})


def _now():
    return time.clock_gettime(time.CLOCK_MONOTONIC)
