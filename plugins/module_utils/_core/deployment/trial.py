# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A change that must be confirmed in time: begun, switched, confirmed, or taken back.

Also what a killed run left of any change.

    armed      `trial` names the generation, the hooks run the confirmed one
    trial      the hooks run the trial, its deadline is not passed
    leaving    how it ended is on the disk: only forward to the confirmed generation

Who takes the deployment's lock first decides. The process that waits is guard.py's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Callable, Optional

from ..errors import Busy, Damaged, Failure, NotBack, NotSwitched, ProbeNotPassed, Quarantined, RolledBack, TrialRuns
from . import apply, held, lock, observe, plan, records, steps, store, strikes, ways
from .facts import Facts
from .records import FAILED, ROLLED_BACK, SUPERSEDED


def begin(
    home: records.Home,
    seen: Facts,
    generation: records.Generation,
    within: float,
    probe: str = "",
    by_controller: bool = True,
) -> tuple:
    """(generation, steps): the trial is armed for `within` seconds from now, and no hook has moved."""
    numbered = generation._replace(number=seen.next_number, guarded=True)
    end = records.boottime() + within
    deadline = records.Deadline(
        numbered.number, end, seen.boot_id, numbered.rollout_id, probe, by_controller=by_controller
    )
    planned = ways.begin(seen, numbered, deadline)
    carry_out(home, planned, "begin")
    return numbered, planned


def switch(name: str, holds: Optional[held.Held] = None) -> bool:
    """True: the hooks run the live trial. False: there is none, or a hook refused, and they run what is confirmed."""
    with _locked(name, holds) as home:
        seen = _facts(home)
        if not seen.trial_is_live:
            settle(home)
            return False
        try:
            carry_out(home, plan.move(observe.scene(seen, seen.trial)), "switch")
            steps.expect_empty(_missing(_facts(home), seen.trial))
        except Failure as failure:
            _go_back(home, FAILED, failure.what, is_punished=False)
            return False
        return True


def confirm(home: records.Home, seen: Facts, expect_proof: Callable = lambda: None, has_passed: bool = False) -> tuple:
    """The trial is confirmed, as far as `home` is locked. The steps. `has_passed`: its probe has, just now.

    NotSwitched before the hooks run it, and while a pin is lost that its guard will make again. ProbeNotPassed before
    its probe did, RolledBack when its time has passed. `expect_proof` raises what else speaks against it while it is
    live.
    """
    number = seen.trial.number
    if not seen.trial_is_live:
        settle(home)
        raise too_late(store.ended(home, number), number, observe.facts(home))
    if held.unpinned(home, number) or _missing(seen, seen.trial):
        raise not_switched(number)
    expect_proof()
    if seen.deadline.probe and not (seen.deadline.passed or has_passed):
        raise not_passed(seen.deadline.probe, number)
    planned = [*ways.confirm(seen, number), *ways.prune(seen, confirmed=seen.trial)]
    if home.is_locked:
        carry_out(home, planned, "confirm")
    return tuple(planned)


def probe_passed(name: str, number: int) -> None:
    """The live trial's probe passed, and the deadline says so; where nobody confirms besides, it is confirmed.

    Busy where another run holds the lock: its guard, who says so, must not wait for it beyond the deadline.
    """
    with lock.locked(name, seconds=1) as home:
        seen = observe.facts(home)
        if not seen.trial_is_live or seen.trial.number != number:
            return
        if seen.deadline.by_controller:
            store.write_deadline(home, seen.deadline._replace(passed=True))
        else:
            confirm(home, seen, has_passed=True)


def expire(name: str, holds: Optional[held.Held] = None) -> None:
    """A trial whose time has passed is taken back; a live one stays."""
    with _locked(name, holds) as home:
        if not _facts(home).trial_is_live:
            settle(home)


def mend(name: str, holds: held.Held) -> None:
    """What lost its pin, and what records were lost, are there again, while the trial goes on."""
    with _locked(name, holds) as home:
        lacking = holds.lacks(home)
        if lacking and not holds.is_over(home):
            told = [path for path, mending in lacking]
            apply.mend(lacking, home)
            store.journal(home, "mended", lost=told)


def stop(name: str, holds: Optional[held.Held] = None) -> None:
    """No trial waits without a guard: its guard was told to stop, by a user or because the host goes down."""
    with _locked(name, holds, is_due=True) as home:
        seen = _facts(home)
        if seen.trial_is_live:
            end(home, "its guard was stopped before it was confirmed", is_punished=_has_switched(seen), seen=seen)
        else:
            settle(home, seen=seen)


def abandon(name: str, number: int, why: str) -> None:
    """The trial that this run has just armed is given up, its guard having failed to start."""
    with lock.locked(name) as home:
        found = store.pointed(home, "trial")
        if found and found.number == number:
            _go_back(home, FAILED, why, is_punished=False)


def end(home: records.Home, why: str, *, is_punished: bool = True, seen: Optional[Facts] = None) -> tuple:
    """No trial is under way any more, whosever it was; a user said so. The steps it took. `seen`: as for settle."""
    seen = seen or _facts(home)
    if seen.trial is None or not seen.trial.guarded or seen.ended:
        return settle(home, seen=seen)
    return _go_back(home, ROLLED_BACK, why, is_punished=is_punished)


def settle(
    home: records.Home, rollout_id: Optional[str] = None, keep_own: bool = False, seen: Optional[Facts] = None
) -> tuple:
    """What a killed run, a passed deadline or a reboot left is finished; an own live trial is superseded (or kept).

    The steps it took; none without the lock. TrialRuns where another rollout's trial is live (None: whosever it is goes
    back). `seen`: the Facts under this very lock, where they are at hand.
    """
    seen = seen or _facts(home)
    if not home.may_change:
        return ()
    if seen.trial is None:
        with _holding(home) as holding:
            if holding.held and not holding.held.is_over(home):
                return _go_back(holding, FAILED, "its own files were lost")
        planned = [steps.RemoveDeadline()] if seen.deadline and not seen.damage else []
        carry_out(home, planned, "repair")
        return tuple(planned)
    if seen.ended:
        return _go_back(home)
    if seen.trial_is_lost:
        return _lost_gone_back(home, seen)
    if not seen.trial.guarded:
        return _finish(home, seen)
    if not seen.trial_is_live:
        rebooted = seen.trial.boot_id != seen.boot_id
        if seen.deadline and seen.deadline.over and not rebooted:
            return _go_back(home, **seen.deadline.over)
        return _go_back(home, ROLLED_BACK, _why(home, seen, rebooted), is_punished=rebooted or _has_switched(seen))
    if rollout_id is not None and rollout_id != seen.trial.rollout_id:
        raise other_runs(seen)
    if keep_own:
        return ()
    return _go_back(home, SUPERSEDED, "a newer change of the same rollout", is_punished=False)


def _lost_gone_back(home, seen):
    """A trial whose record cannot be read goes back. It is quarantined as any other that was not confirmed in time,
    where what its guard wrote down says what it was."""
    deadline = seen.deadline
    is_late = deadline and deadline.generation == seen.trial.number and deadline.end <= records.boottime()
    with _holding(home) as holding:
        if is_late and holding.held and holding.held.trial.load:
            known = _facts(holding)
            return _go_back(holding, ROLLED_BACK, _why(home, known, False), is_punished=_has_switched(known))
        return _go_back(holding, FAILED, "its own file cannot be read")


def _why(home, seen, rebooted):
    if rebooted:
        return "the host rebooted before it was confirmed"
    if seen.deadline and seen.deadline.probe and not seen.deadline.passed:
        return f"its probe {seen.deadline.probe} did not pass in time"
    asked = None
    with contextlib.suppress(Damaged):  # it is not worth a way back
        asked = store.asked(home)
    if asked and asked.generation == seen.trial.number and not asked.is_answered:
        return "the host did not answer after the switch"
    return "it was not confirmed in time"


def running(seen: Facts) -> records.Generation:
    """The Generation that the hooks run during a live trial: the trial once it was switched to, before what it goes
    back to."""
    return seen.trial if _has_switched(seen) else plan.fallback(seen)


def _has_switched(seen):
    """Whether some hook runs something else than what is confirmed, or did until its place was gone."""
    behind = _scene_behind(seen)
    planned = [step for step in plan.hooks_back(behind) if step.is_hook_step]
    return any(not plan.renews(seen, step) for step in planned) if planned else bool(plan.not_back(behind))


def _finish(home, seen):
    """An unguarded change that was killed: finished, or given up where a hook refuses it now."""
    try:
        same_boot = seen.trial.boot_id == seen.boot_id
        planned = ways.finish(observe.scene(seen, seen.trial)) if same_boot else ways.back(_scene_behind(seen))
        carry_out(home, planned, "repair")
        return tuple(planned)
    except Failure:
        if store.pointed(home, "trial") is None:  # decided; what failed is only the pruning after it
            raise
        return _go_back(home)


def _go_back(home, outcome="", why="", *, is_punished=False):
    with _holding(home) as home:
        return _gone_back(home, outcome, why, is_punished)


@contextlib.contextmanager
def _holding(home):
    """The Home with what its guard held: to others by ids, as far as the guard wrote them down and the kernel has
    them."""
    if home.held:
        yield home
        return
    found = held.by_ids(home)
    if found:
        found.is_brief = True
    number = store.pointed_number(home, "trial")
    try:
        yield home._replace(held=found) if found and (number or 0) <= found.trial.number else home
    finally:
        if found:
            found.close()


def _gone_back(home, outcome, why, is_punished):
    """The hooks run what ran before, seen by the kernel after; how the trial ended is written before any hook moves,
    unless it was already. NotBack where one does not: then the trial stays, over, and whoever comes next tries again.
    """
    seen = _facts(home)
    why = f"{why} (taken back {home.unlocked})" if home.unlocked else why
    ended = records.Ended(seen.trial.number, outcome, why, back=False) if outcome else None
    quarantine = ways.digest_left(seen, seen.trial) if is_punished else ""
    behind = _scene_behind(seen)
    planned, told, refusal = ways.hooks_first(behind, ended, quarantine), [], None
    try:
        told = carry_out(home, planned, "back", is_decided=bool(seen.ended))
    except Failure as failure:
        if not seen.ended and not held.readable(store.ended, home, seen.trial.number):
            if seen.trial.guarded:
                over = {"outcome": outcome, "why": why, "is_punished": is_punished}
                _hooks_back_at_least(home, seen, over, failure)
            raise
        refusal = failure
    planned = steps.as_told(planned, told)
    _expect_back(home, seen, planned, refusal)
    now = _facts(home)._replace(trial=seen.trial)
    rest = ways.leave(now, plan.fallback(now), seen.ended or ended)
    carry_out(home, rest, "back", is_decided=True)
    if refusal:  # said when all else is done: the trial is over, and this did not come back with it
        raise refusal
    return (*planned, *rest)


def _expect_back(home, seen, planned, refusal):
    """How the trial ended says that the hooks were seen back, and what could not come with them; NotBack otherwise."""
    behind = _scene_behind(_facts(home)._replace(trial=seen.trial))
    missing = plan.not_back(behind) or [
        *plan.still_on_trial(behind),
        *plan.still_on_trial(observe.scene(behind.facts, seen.trial)),
    ]
    ended = store.ended(home, seen.trial.number)
    counts = steps.left_out([step for step in planned if isinstance(step, steps.MergeBack)])
    told = ended._replace(left_out=tuple(dict.fromkeys((*ended.left_out, *counts)))) if ended else None
    if home.held and not missing:
        apply.mend(home.held.lacks(home), home)
    if missing:
        lines = tuple(f"{line} ({refusal.what})" if refusal else line for line in missing)
        if told and told.not_back != lines:
            store.journal(home, "not_back", hooks=list(lines))
            store.write_ended(home, told._replace(back=False, not_back=lines))
        raise not_back(lines, seen.trial.number) from refusal
    if told:
        gone = tuple(str(each.what) for each in plan.blocked(behind))
        store.write_ended(home, told._replace(back=True, not_back=(), gone=gone))
    if refusal and not isinstance(refusal, NotBack):
        store.journal(home, "back_without", why=str(refusal))


def _hooks_back_at_least(home, seen, over, failure):
    """The hooks run what is confirmed although it cannot be written down how the trial ended.

    /run remembers it, so that nobody confirms or switches the trial: whoever comes when the disk takes it finishes it.
    """
    if seen.deadline and seen.deadline.is_of(seen.trial, seen.boot_id):
        with contextlib.suppress(OSError):
            store.write_deadline(home, seen.deadline._replace(over=over))
    carry_out(home, plan.hooks_back(_scene_behind(_facts(home))), "back", is_decided=True)
    missing = plan.not_back(_scene_behind(_facts(home)))
    if missing:
        raise not_back(missing, seen.trial.number) from failure
    failure.detail["left"] = "the hooks run what is confirmed; the next run finishes it when that is mended"


def _scene_behind(seen):
    """The Scene of what the trial goes back to."""
    return observe.scene(seen, plan.fallback(seen))


@contextlib.contextmanager
def _locked(name, holds, is_due=False):
    """lock.for_guard, with what the guard holds."""
    with lock.for_guard(name, is_due) as home:
        yield home._replace(held=holds)


def _facts(home):
    """What is so, as far as names tell it; to the guard its descriptors tell more."""
    return home.held.facts(home) if home.held else observe.facts(home)


def _missing(seen, generation):
    """The steps that keep the hooks from running the generation."""
    return plan.mend(observe.scene(seen, generation))


def carry_out(home: records.Home, planned: list, event: str, is_decided: bool = False) -> list:
    """The steps are done, and the journal says so; or it says why not, since a guard has nobody else to tell.

    What apply.carry_out tells, and is told by `is_decided`.
    """
    if not planned:
        return []
    moved = [step.before for step in planned if isinstance(step, steps.Point) and step.pointer == "confirmed"]
    try:
        told = apply.carry_out(planned, home, is_decided)
    except Failure as failure:
        store.journal(home, f"{event}_failed", why=str(failure), step=failure.detail.get("step"))
        raise
    finally:
        for before in moved:
            strikes.note(home, before)
    lines = [step.describe() for step in steps.as_told(planned, told)]
    store.journal(home, event, steps=lines, **({"carried": told} if told else {}))
    return told


# ---- refusals ------------------------------------------------------------------------------------


def not_switched(number: int) -> NotSwitched:
    """What is heard before the guard has made the switch."""
    return NotSwitched(f"The hooks do not run generation {number} yet", "Ask again in a second", generation=number)


def not_passed(probe: str, number: int) -> ProbeNotPassed:
    """What is heard before the trial's probe has passed."""
    return ProbeNotPassed(
        f"The probe {probe} has not passed since the hooks run generation {number}",
        "Ask again in a second; when it does not pass in time, the host goes back",
        generation=number,
        probe=probe,
    )


def not_back(lines: Sequence, number: int) -> NotBack:
    """What is heard while a hook does not run what ran before the trial."""
    return NotBack(
        f"Generation {number} is over, and {len(lines)} of its hooks are not back: {lines[0]}",
        "Its guard, or else the next run, tries again; look at these hooks on the host",
        generation=number,
        not_back=list(lines),
    )


def too_late(ended: Optional[records.Ended], number: int, seen: Facts) -> Failure:
    """What a confirmation hears when the trial is over; `seen` are the Facts since."""
    if ended and ended.not_back:
        return not_back(ended.not_back, number)
    if ended and not ended.back:
        return Busy(f"Generation {number} is being taken back: {ended.why}", "Ask again in a second", generation=number)
    why = ended.why if ended else "its deadline had passed"
    again = _has_hooks(seen.confirmed)
    runs = "The release that ran before runs again" if again else "Nothing ran before, nor does now"
    return RolledBack(
        f"Generation {number} was rolled back: {why}",
        f"{runs}; look at why, change the program or its attachments, and roll out anew",
        generation=number,
        outcome=ended.outcome if ended else ROLLED_BACK,
        why=why,
        **({"gone": list(ended.gone)} if ended and ended.gone else {}),
        **({"left_out": list(ended.left_out)} if ended and ended.left_out else {}),
    )


def _has_hooks(generation):
    return generation is not None and bool(generation.attachments)


def other_runs(seen: Facts, *, is_confirming: bool = False) -> TrialRuns:
    """What another run hears while a trial is live: whose it is, and what can be done about it."""
    left = max(0, round(seen.deadline.end - records.boottime()))
    number, rollout = seen.trial.number, seen.trial.rollout_id or "(unnamed)"
    login, controller = (seen.trial.origin.get(each) or "somebody" for each in ("login", "controller"))
    confirm = f"confirm it, if you have looked at it: bpf_release generation={number}; " if is_confirming else ""
    return TrialRuns(
        f"Rollout {rollout} has generation {number} of {seen.name} on trial, begun by {login} on {controller} at "
        f"{seen.trial.when}, {left} s left",
        f"Wait for it; {confirm}end it: bpf_release state=rolled_back generation={number}; or, where a run of your own "
        f"that has ended began it, take it over: rollout_id: {rollout}",
        generation=number,
        rollout_id=seen.trial.rollout_id,
        login=login,
        controller=controller,
        since=seen.trial.when,
        seconds_left=left,
    )


def refuse_quarantined(home: records.Home, digest: str, what: str, *, is_retried: bool) -> None:
    """Quarantined where this host threw back what has the digest; with is_retried its quarantine ends instead."""
    record = store.quarantined(home, digest) if digest else None
    if record is None:
        return
    if is_retried:
        if home.is_locked:
            store.remove_quarantine(home, digest)
        return
    raise Quarantined(
        f"{what} is quarantined on this host: generation {record['generation']} was thrown back ({record['why']})",
        "Change the source or the attachments, or set retry_quarantined: true to try the same again",
        why=record["why"],
        generation=record["generation"],
        when=record["when"],
    )
