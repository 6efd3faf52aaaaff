# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The confirmed release on whatever kernel came up: loaded again (reload.py), then applied like any change.

Also what comes back by itself while the host runs: an interface or a cgroup that was made anew gets its programs again.
"""

from __future__ import annotations

import os

from ..errors import (
    Damaged,
    Failure,
    HookHeld,
    MapChanged,
    NoSuchHook,
    NotRootsAlone,
    Struck,
    Unsupported,
    VerifierRefused,
)
from ..hooks import catalogue
from ..kernel import files
from ..objects.rules.form import NO_VERDICT
from . import guard, lock, observe, off, plan, reload, steps, store, strikes, trial, ways


def restore_all() -> list:
    """Every deployment here runs what it confirmed, as far as this kernel lets it: [(name, what went wrong or None)].

    A trial that is still live, as after a soft reboot, has a guard again. When all hooks run, the release before is
    loaded, too, where that is possible: going back needs no verifier. What was left for its strikes is told as wrong at
    every boot until somebody changes the deployment.
    """
    names = store.deployments()
    results = [(name, _restored(name)) for name in names]
    for name in [] if off.switch() else names:
        _load_previous(name)
    return results


def _restored(name):
    """What went wrong, or None."""
    try:
        try:
            restore(name)
        finally:
            if os.path.exists(store.deadline_path(name)):
                guard.arm(name, at_boot=True)
        return _left_for_strikes(store.home(name))
    except Exception as error:  # whatever it is, the other deployments have theirs nevertheless
        return error


def _left_for_strikes(home):
    """A Struck as long as the deployment stands as its strikes left it, or None."""
    confirmed = store.pointed(home, "confirmed")
    left = strikes.left(home, confirmed)
    if left is None:
        return None
    now = f"release {confirmed.release} runs instead" if confirmed.attachments else "nothing of it is attached"
    return Struck(
        f"Release {left['release']} (generation {left['generation']}) was left at boot: {left['why']}; {now}",
        "Change it and roll out anew, or, if it was not to blame, attach it with retry_quarantined: true",
        **left,
    )


def _load_previous(name):
    """The release before is loaded, or the journal says why not: nothing that runs depends on it."""
    home = store.home(name)
    try:
        with lock.locked(name) as home:
            seen = observe.facts(home)
            previous = seen.generations.get(seen.confirmed.previous) if seen.confirmed else None
            if previous and seen.confirmed.load in seen.loads:  # first, because it has the maps to share
                reload.load_again(home, seen, previous)
    except Exception as error:
        store.journal(home, "previous_not_loaded", why=str(error))


def restore(name: str) -> tuple:
    """The deployment's hooks run the confirmed generation, its load made again where a reboot took it.

    The steps that the hooks took. Declared entries are in the maps before. HookHeld where somebody else was there
    first: all other hooks run theirs. MapChanged where not all declared entries fit. Where this kernel refuses the
    release: the one before, or nothing, as the generation's on_boot_refusal says; that is no quarantine, since another
    kernel may take it. The same where its files are damaged or lost, and Damaged says so. Unsupported where this kernel
    has not all hooks, nor those of the release before: the others run theirs. A live trial goes on, and nothing but its
    hooks that are back is touched. A generation with strikes is left for the newest proven one, or for nothing, as its
    on_strikes says. SwitchedOff where the host is.
    """
    files.mount_bpffs()
    with lock.locked(name) as home:
        seen = observe.facts(home)
        if seen.trial_is_live:
            off.refuse(name)
            return _back_on_trial(home, seen)
        _expect_private(home, seen)
        seen = reload.load_way_back(home, seen)
        if trial.settle(home, seen=seen):
            seen = observe.facts(home)
        if seen.confirmed is None and seen.damage:
            raise observe.damaged(seen)
        if seen.confirmed is None:
            observe.expect_known(seen)
        if seen.confirmed is None or not seen.confirmed.attachments:
            return ()
        off.refuse(name)
        ran = strikes.read(home)
        why = strikes.sentence(ran, seen.confirmed)
        if why and seen.confirmed.on_strikes != "keep":
            return _without_struck(home, seen, ran, why)
        strikes.note_boot(home, seen.confirmed)
        try:
            reload.load_again(home, seen, seen.confirmed)
        except Damaged as failure:
            _refused(home, seen, failure)
            raise Damaged(f"{failure.what}: the release before runs", failure.do, **failure.detail) from failure
        except Failure as failure:
            if not _is_verdict(failure):
                raise  # the release stays confirmed, for when that is mended
            return _refused(home, seen, failure)
        seen = seen if plan.is_runnable(seen, seen.confirmed) else observe.facts(home)
        missing = _missing_hooks(observe.scene(seen, seen.confirmed))
        return _without(home, seen, missing[0]) if missing else _applied(home, seen)


def _expect_private(home, seen):
    """As store.expect_private; a trial that is over goes back first, as far as that loads nothing."""
    try:
        store.expect_private()
    except NotRootsAlone:
        trial.settle(home, seen=seen)
        raise


def _back_on_trial(home, seen):
    """Hooks whose place was made anew run what the set runs now, and the guard takes them back with the others.

    Maps and drop-ins are as the trial's own steps left them.
    """
    generation = trial.running(seen)
    scene = observe.scene(seen, generation)
    planned = plan.switch(scene, skip_blocked=True)
    trial.carry_out(home, planned, "boot", is_decided=True)
    _expect_own(scene)
    return tuple(planned)


def _is_verdict(failure):
    """Whether this kernel refused the release: no disk, memory, package or damage, nor what tells nothing of it."""
    if isinstance(failure, VerifierRefused):
        return failure.detail.get("diagnosis") not in NO_VERDICT
    return isinstance(failure, Unsupported)


def _refused(home, seen, failure):
    """This kernel does not take the confirmed release, or its files are damaged: back to the previous one, or nothing
    runs.

    In the latter case it stays confirmed: another kernel, at the next boot, may take it.
    """
    previous = _instead(home, seen, failure)
    if previous is None:
        raise failure
    try:
        reload.load_again(home, seen, previous)
    except Failure as second:
        if _is_verdict(second):
            store.journal(home, "boot_refused", release=previous.release, why=str(second))
        raise
    return _return(home, previous, str(failure))


def _instead(home, seen, failure):
    """The generation to run instead of the one that this kernel refused, or whose files are damaged, as the journal
    tells; None: the user wants none, or there is none."""
    event = "boot_damaged" if isinstance(failure, Damaged) else "boot_refused"
    store.journal(home, event, release=seen.confirmed.release, why=str(failure))
    return seen.generations.get(seen.confirmed.previous) if seen.confirmed.on_boot_refusal == "previous" else None


def _missing_hooks(scene):
    """A NoSuchHook for each attachment whose hook this kernel does not have."""
    return [each for each in plan.blocked(scene) if isinstance(each, NoSuchHook)]


def _without(home, seen, failure):
    """This kernel has not all hooks of the confirmed release: back to the previous one, if it has all of that one's.

    Else Unsupported, and all other hooks run theirs.
    """
    previous = _instead(home, seen, failure)
    if previous is None or _missing_hooks(observe.scene(seen, previous)):
        return _applied(home, seen)
    try:
        reload.load_again(home, seen, previous)
    except (Failure, OSError) as second:
        store.journal(home, "boot_refused", release=previous.release, why=str(second))
        return _applied(home, seen)
    return _return(home, previous, str(failure))


def _return(home, target, why):
    """As a rollback, but nothing is quarantined, and what this kernel or the target cannot run is off."""
    seen = observe.facts(home)
    kept = _runnable(seen, target)
    left_off = [catalogue.words(each) for key, each in seen.confirmed.attachments.items() if key not in kept]
    if left_off:
        store.journal(home, "boot_left_off", release=target.release, attachments=left_off)
    scene = observe.scene(seen, ways.returning(seen, target, kept))
    planned = ways.going_back(scene, why, is_punished=False)
    trial.carry_out(home, planned, "boot")
    _expect_own(scene)
    return tuple(planned)


def _without_struck(home, seen, ran, why):
    """The confirmed generation is quarantined, and the newest proven one runs as it was, or nothing does.

    Unlike a rollback its attachments go back, too: one of them may be what the boots ended of.
    """
    target = _proven(home, seen, ran)
    seen = observe.facts(home)
    struck = seen.confirmed
    scene = observe.scene(seen, ways.returning(seen, target, target.attachments if target else {}))
    planned = ways.going_back(scene, why)
    if target and target.release == struck.release:
        planned.insert(0, steps.WriteQuarantine(ways.attachments_digest(struck), why, struck.number))
    strikes.note_left(home, struck, why, scene.generation.number)
    trial.carry_out(home, planned, "struck")
    _expect_own(scene)
    return tuple(planned)


def _proven(home, seen, ran):
    """The newest proven generation, loaded; None where the user wants none, there is none, or it cannot be loaded."""
    wants = seen.confirmed.on_strikes == "previous"
    target = strikes.newest_proven(ran, seen.generations, but=seen.confirmed) if wants else None
    try:
        if target:
            reload.load_again(home, seen, target)
    except (Failure, OSError) as failure:
        store.journal(home, "boot_refused", release=target.release, why=str(failure))
        return None
    return target


def _runnable(seen, target):
    """Today's attachments as far as the target has their program and this kernel their hook; where that is none, the
    target's own."""
    places = observe.scene(seen, seen.confirmed).places
    kept = {
        key: each
        for key, each in seen.confirmed.attachments.items()
        if each.program in seen.loads[target.load].programs and not isinstance(places[key], Unsupported)
    }
    return kept or target.attachments


def _applied(home, seen):
    scene = observe.scene(seen, seen.confirmed)
    planned = plan.mend(scene, skip_blocked=True)
    trial.carry_out(home, planned, "boot", is_decided=True)
    _expect_own(scene)
    if steps.left_out(planned):
        raise MapChanged(
            f"{home.name} runs without all declared entries: {steps.left_out(planned)[0]}",
            "Look at bpf_info, and run bpf_map again",
            left_out=steps.left_out(planned),
        )
    return tuple(planned)


def _expect_own(scene):
    """HookHeld where somebody else sat at a hook that had nothing of ours, Unsupported where there is no such hook.

    An interface or cgroup that is not there brings its hook back when it comes.
    """
    for failure in plan.blocked(scene):
        if isinstance(failure, (HookHeld, Unsupported)):
            raise failure


def come_back(target: str) -> list:
    """Every deployment with an attachment at this interface or cgroup runs it again: as restore_all answers.

    One whose programs are not loaded yet is left to the boot unit, which will find the place there: maps that were made
    on a service's start would be charged to the service.
    """
    results = []
    for name in store.deployments():
        try:
            home = store.home(name)
            if _is_attached(home, "confirmed", target) or _is_attached(home, "trial", target):
                restore(name)
                results.append((name, None))
        except Exception as error:
            results.append((name, error))
    return results


def _is_attached(home, pointer, target):
    generation = store.pointed(home, pointer)
    is_loaded = generation and os.path.isdir(os.path.join(home.loads, generation.load))
    return is_loaded and any(each.target == target for each in generation.attachments.values())
