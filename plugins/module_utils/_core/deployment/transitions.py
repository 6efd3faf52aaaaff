# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The ways a deployment moves, one function each: observe, plan, carry out, and plan again, which must come out empty.

Each takes the deployment's name and answers with an Outcome. In check mode the plan is made and nothing is touched, the
lock's file included.
"""

from __future__ import annotations

import contextlib
from typing import Callable, NamedTuple, Optional

from ..errors import BadRequest, Failure, NoProof, NotBack, NotFound, NoWayBack, WayInAtRisk
from ..hooks import catalogue
from ..kernel import way_in
from . import apply, auto, held, lock, observe, off, plan, records, steps, store, trial, ways
from .facts import Facts


class Outcome(NamedTuple):
    """What a transition did, or would do. `repaired`: steps that a killed run had left to do.

    `deadline`: the trial is armed, and the hooks have not moved yet.
    """

    steps: tuple
    before: Facts
    after: Facts
    generation: Optional[records.Generation]
    repaired: tuple = ()
    deadline: Optional[records.Deadline] = None
    carried: tuple = ()  # what apply.carry_out told of the entries of maps
    cautions: tuple = ()  # what to know of programs that are new at a place: see contract.Hook.cautions
    left_off: dict = {}  # {program: Failure} of those that `attachments: auto` passed over
    gone: dict = {}  # {attachment id: NotFound} of those that are kept, although their place is not there any more

    @property
    def changed(self) -> bool:
        return bool(self.steps or self.repaired)

    @property
    def state(self) -> str:
        """What the generation is now: on trial, or confirmed, whatever came after it; absent where there is none."""
        trial_now = self.after.trial
        if trial_now and (self.generation is None or self.generation.number == trial_now.number):
            return "trial"
        return "confirmed" if self.after.confirmed else "absent"

    @property
    def left_out(self) -> list:
        """What did not fit the maps that the hooks run with now, in words: declared entries, and counts taken back."""
        return steps.left_out(steps.as_told([*self.repaired, *self.steps], self.carried))


TO_BE_STAGED = "(what bpf_program stages)-1"  # stands for a load where bpf_program ran in check mode too


class Wish(NamedTuple):
    """What a user wants of bpf_attach. `release`: an id on this host (empty: what is staged).

    `confirm_within`: seconds that the change has to be confirmed in; 0: confirmed at once. `probe` must pass for that,
    and is enough where nobody confirms it from outside (`by_controller` is false). `doubt`: why nothing could prove
    that the host is reached afterwards; no trial begins then.
    """

    attachments: tuple = ()
    everything: Optional[dict] = None  # options for all programs of the release, by their sections, see auto.py
    release: str = ""
    purge: bool = False
    detach: bool = False
    confirm_within: int = 0
    probe: str = ""
    by_controller: bool = True
    doubt: str = ""
    retry_quarantined: bool = False
    allow_management_path: bool = False
    on_boot_refusal: str = "previous"
    on_strikes: str = "previous"
    proven_after: int = 86400
    by: str = ""
    why: str = ""
    rollout_id: str = ""
    origin: dict = {}


def attach(name: str, wish: Wish, check_mode: bool = False, load_again: Optional[Callable] = None) -> Outcome:
    """The wished attachments run the wished release, and so do all others of the deployment.

    All or none: when one hook refuses, those before it run again what they ran. With confirm_within no hook has moved
    yet: the trial is armed, and the caller starts its guard (guard.arm). A live trial of the same rollout is superseded
    by one that has its attachments, too; a wish that cannot be leaves it alone. `load_again` (reload.load_again) loads
    what the trial would go back to, where it is on the disk alone; without it, NoWayBack.
    SwitchedOff where the host is, unless the wish is to take off: then only that is done.
    """
    if not wish.detach:
        off.refuse(name)
    with _home(name, check_mode) as (home, seen):
        observe.expect_known(seen)
        own = seen.trial if seen.trial_is_live and seen.trial.rollout_id == wish.rollout_id else None
        wish, left_off = _resolved(seen, wish, check_mode, own)
        if own:
            _planned(home, observe.expect_sound(seen), wish, own, check_mode)
        repaired = trial.settle(home, wish.rollout_id, seen=seen)
        seen = observe.expect_sound(observe.facts(home) if repaired else seen)
        scene, planned = _planned(home, seen, wish, own, check_mode)
        generation, told_of = scene.generation, {"gone": plan.gone(scene), "left_off": left_off}
        told_of["cautions"] = _cautions(planned)
        if wish.confirm_within and not check_mode and not generation.runs_the_same(seen.confirmed):
            seen = _with_way_back(home, seen, generation, load_again)
            generation, planned = trial.begin(
                home, seen, generation, wish.confirm_within, wish.probe, wish.by_controller
            )
            after = observe.facts(home)
            return Outcome(tuple(planned), seen, after, generation, repaired, after.deadline, **told_of)
        told = _carry_out(home, planned, "detach" if wish.detach else "attach", check_mode)
        if check_mode or not planned:  # an empty plan says that all is so
            after = seen
        else:
            is_left = wish.detach and off.switch()
            after = observe.facts(home) if is_left else _expect_settled(home, generation)
        return Outcome(tuple(planned), seen, after, generation, repaired, carried=told, **told_of)


def _cautions(planned):
    """What each PutOn will mean for others at its place, in words."""
    return tuple(
        sentence
        for step in planned
        if isinstance(step, steps.PutOn)
        for sentence in catalogue.hook_of(step.attachment).cautions(step.attachment, step.place)
    )


def _resolved(seen, wish, check_mode, own):
    """(the wish with hooks in the place of auto, {program: Failure} of what was passed over)."""
    left_off, attachments = {}, wish.attachments
    if wish.everything is not None or any(each.hook == catalogue.AUTO for each in attachments):
        confirmed = seen.confirmed or records.NOTHING
        load = confirmed.load if wish.detach else _load_for(seen, wish.release, check_mode, own)
        attachments = auto.resolved(seen, attachments, load)
        if wish.everything is not None:
            attachments, left_off = auto.everything(seen, load, wish.everything)
    known = tuple((seen.confirmed or records.NOTHING).attachments.values()) if wish.detach else None
    return wish._replace(attachments=_as_known(seen, auto.matching(attachments, known))), left_off


def _as_known(seen, attachments):
    """The attachments, those that are there already by the names that they have there."""
    known = {key: each for one in (seen.confirmed, seen.trial) if one for key, each in one.attachments.items()}
    return tuple(_known_as(known, each) for each in attachments)


def _known_as(known, attachment):
    hook = catalogue.hook_of(attachment)
    if hook.id(attachment) in known:
        return attachment
    alike = [each for each in known.values() if each.hook == attachment.hook and hook.is_same(each, attachment)]
    live = {name: attachment.option(name) for name, option in hook.options.items() if option.is_live}
    return alike[0]._replace(program=attachment.program).with_options(**live) if alike else attachment


def _with_way_back(home, seen, generation, load_again):
    """The Facts, with what the trial goes back to in the kernel; NoWayBack before anything moved."""
    before = seen.confirmed
    if before is None and seen.links:
        raise NoWayBack(
            f"Hooks of {seen.name} run what nothing confirms: a guard could not take the change back to it",
            f"bpf_release name={seen.name} state=confirmed takes what they run for confirmed",
            links=[{"id": key, "prog_id": link.prog_id} for key, link in seen.links.items()],
        )
    if not generation.back_to or plan.is_runnable(seen, before):
        return seen
    try:
        if load_again is None:
            raise held.no_way_back(seen.name, before)
        load_again(home, seen, before)
    except Failure as failure:
        raise held.no_way_back(seen.name, before) from failure
    return observe.facts(home)


def _planned(home, seen, wish, own, check_mode):
    """(Scene, steps) of the wish; raises what speaks against it."""
    generation = _signed(plan_for(seen, wish, check_mode, own), wish, seen)
    _refuse_quarantined(home, seen, generation, wish)
    plan.expect_maps_fit(seen, generation)
    scene = observe.scene(seen, generation)
    _refuse_off(seen, generation)
    _refuse_all_gone(scene)
    is_unloaded = check_mode and generation.load not in seen.loads
    planned = _without_kernel(scene) if is_unloaded else ways.change(scene)
    if wish.detach and off.switch():
        planned = [step for step in planned if not _puts_on(step)]
    _refuse_impossible(planned)
    _refuse_risk(wish, planned)
    _refuse_unproved(wish, seen, generation)
    return scene, planned


def _refuse_impossible(planned):
    """What the kernel will refuse is said before anything moves, and in check mode."""
    for step in planned:
        if isinstance(step, steps.PutOn):
            catalogue.hook_of(step.attachment).expect_possible(step.attachment, step.place)


def _refuse_all_gone(scene):
    """Where no place of the deployment is there any more, nothing can be said of the release that is wanted."""
    gone = plan.gone(scene)
    if gone and len(gone) == len(scene.generation.attachments):
        raise next(iter(gone.values()))


def _refuse_off(seen, generation):
    """SwitchedOff where the boot went without: there is nothing to take off but all of it."""
    if generation.attachments and generation.load not in seen.loads:
        off.refuse(seen.name)


def _puts_on(step):
    return isinstance(step, (steps.PutOn, steps.Replace))


def _refuse_risk(wish, planned):
    """A program that comes new onto the way in needs a guard, or the user's word."""
    if wish.confirm_within or wish.detach or wish.allow_management_path:
        return
    moved = [step.attachment for step in planned if _puts_on(step)]
    if not moved:
        return
    way = way_in.find()
    for attachment in moved:
        if catalogue.hook_of(attachment).cuts_off(way, attachment):
            told = "is on the way that this connection comes in by"
            if way.is_everything:
                told = "may be on the way that this connection comes in by, which this host cannot tell"
            raise WayInAtRisk(
                f"{catalogue.words(attachment)} {told}",
                "Add confirm_within: 60, so that the host takes the change back if it cuts itself off "
                "(or allow_management_path: true to do without)",
                interfaces=sorted(way.interfaces.values()),
                cgroups=sorted(way.cgroups),
            )


def _refuse_unproved(wish, seen, generation):
    if wish.doubt and wish.confirm_within and not generation.runs_the_same(seen.confirmed):
        raise NoProof(
            f"Nothing would prove that the host can still be reached: {wish.doubt}, and there are neither a probe nor "
            "checks",
            "Give confirm_probe, or checks of your own (rollout_checks)",
        )


def _refuse_quarantined(home, seen, generation, wish):
    """What this host threw back fails at once, until it changes or the user says to try again."""
    if wish.detach or generation.runs_the_same(seen.confirmed):
        return
    left, release = ways.source_left(seen, generation), f"Release {generation.release} of {seen.name}"
    is_confirmed = seen.confirmed and seen.confirmed.release == generation.release
    untold = () if is_confirmed else store.quarantined_under_another_key(home, left)
    for digest, what in (
        (left, release),
        *((each, f"{release}, or one that only the host's lost key could tell from it,") for each in untold),
        (ways.attachments_digest(generation), f"This set of attachments of {seen.name}"),
    ):
        trial.refuse_quarantined(home, digest, what, is_retried=wish.retry_quarantined)


def plan_for(
    seen: Facts, wish: Wish, check_mode: bool = False, own: Optional[records.Generation] = None
) -> records.Generation:
    """The Generation, not numbered yet, that the wish makes of what is confirmed, or of its rollout's live trial `own`.

    In check mode its load may be one that bpf_program would have made, had it not run in check mode too.
    """
    if wish.detach:
        if seen.confirmed is None:
            return records.NOTHING
        return ways.wanted(seen, (), seen.confirmed.load, without=wish.attachments)
    load = _load_for(seen, wish.release, check_mode, own)
    if wish.purge and not wish.attachments:
        raise BadRequest("purge with no attachments would take everything off", "Use state: detached and name them")
    generation = ways.wanted(seen, wish.attachments, load, replace=wish.purge, base=own)
    if not generation.attachments:
        raise BadRequest(
            f"Deployment {seen.name} has no attachments yet, and none were given", "Add program:, hook: and its target"
        )
    return generation


def _load_for(seen, release, check_mode, own):
    """The load of the release: staged, else on trial or confirmed, else the newest that is pinned."""
    current = [each.load for each in (seen.staged, own, seen.confirmed) if each]
    if not release:
        if current:
            return current[0]
        if check_mode:
            return TO_BE_STAGED
        raise _nothing_staged(seen)
    matching = [load for load in (*current, *sorted(seen.loads, reverse=True)) if records.release_of(load) == release]
    if matching:
        return matching[0]
    if check_mode:
        return f"{release}-1"
    raise NotFound(
        f"Release {release} of {seen.name} is not loaded on this host",
        "Run bpf_program with its source, or name one of those listed",
        releases=sorted({records.release_of(load) for load in seen.loads}),
    )


def _nothing_staged(seen):
    return NotFound(
        f"Nothing is staged for deployment {seen.name} on this host",
        "Run bpf_program first: it compiles, loads and stages",
    )


def _signed(generation, wish, seen):
    said = (seen.confirmed or records.NOTHING) if wish.detach else wish
    return generation._replace(
        boot_id=seen.boot_id,
        **{name: getattr(said, name) for name in records.BOOT_OPTIONS},
        by=wish.by,
        why=wish.why,
        rollout_id=wish.rollout_id,
        origin=wish.origin,
        when=records.now(),
        back_to=seen.confirmed.number if _runs_something(seen) else 0,
    )


def _runs_something(seen):
    """Whether what is confirmed runs here: after a reboot that nobody restored from, nothing does."""
    return bool(seen.confirmed and (seen.links or plan.is_runnable(seen, seen.confirmed)))


def _without_kernel(scene):
    """The steps as far as they are known before the programs are loaded: check mode on a host that has none of them."""
    gone = plan.gone(scene)
    for key, place in scene.places.items():
        if isinstance(place, Failure) and key not in gone:
            raise place
    return tuple(
        steps.PutOn(key, attachment, scene.places[key], scene.generation.load)
        for key, attachment in scene.generation.attachments.items()
        if key not in gone
    )


def marked(name: str, task: str) -> Optional[int]:
    """The number of the generation that the task of this mark made, once no run is at work; None: there is none."""
    with lock.locked(name) as home:
        seen = observe.facts(home)
    found = [each for each in (seen.trial, *seen.generations.values()) if each and each.origin.get("task") == task]
    return found[0].number if found else None


def roll_back(
    name: str,
    release: str = "",
    number: Optional[int] = None,
    check_mode: bool = False,
    everything_off: bool = False,
    why: str = "rolled back by a user",
) -> Outcome:
    """A trial is taken back; without one, the hooks run what was confirmed before the release last changed.

    Or `release`, or nothing at all, whether there is a trial or not. No compiler and no verifier: the programs are
    still loaded and pinned. What is left is quarantined, and what is named so is no longer. `number` names the
    generation to leave: where it is neither on trial nor confirmed, nothing changes but what a killed run had left to
    do.
    """
    with _home(name, check_mode) as (home, seen):
        is_trials = seen.trial and seen.trial.guarded and number in (None, seen.trial.number)
        if is_trials and not (release or everything_off):
            return _trial_ended(home, seen, why, check_mode)
        if not everything_off:
            observe.expect_known(seen)
        if number is not None and not is_trials and not (seen.confirmed and seen.confirmed.number == number):
            return _as_left(home, seen, number, check_mode)
        repaired = ()
        with contextlib.suppress(*([NotBack] if everything_off else [])):
            repaired = () if check_mode else trial.end(home, why, seen=seen)
        seen = observe.sound_facts(home) if repaired or seen.damage else seen
        return _return_to(home, seen, release, repaired, why, check_mode, everything_off)


def _as_left(home, seen, number, check_mode):
    """The generation with this number is not to be left: what a killed run had left to do is done, and no more."""
    repaired = () if check_mode else trial.settle(home, keep_own=True, seen=seen)
    after = observe.facts(home) if repaired else seen
    if after.confirmed and after.trial is None:
        return _as_confirmed(home, after, repaired, check_mode)
    if after.confirmed is None and after.trial is None and after.links:
        if after.damage:
            raise observe.damaged(after)
        raise NotBack(
            f"Nothing on this host says what generation {number} of {after.name} was, and {len(after.links)} of its "
            "hooks run a program",
            f"bpf_release name={after.name} state=absent takes it off; state=confirmed takes it for confirmed",
            generation=number,
            not_back=[f"{key} runs program {link.prog_id}" for key, link in after.links.items()],
        )
    return Outcome((), seen, after, after.confirmed, repaired)


def _trial_ended(home, seen, why, check_mode):
    planned = trial.end(home, why) if not check_mode else ways.back(observe.scene(seen, plan.fallback(seen)))
    after = seen if check_mode else observe.facts(home)
    return Outcome(tuple(planned), seen, after, after.confirmed)


def _return_to(home, seen, release, repaired, why, check_mode, everything_off):
    if seen.confirmed is None and everything_off:
        return Outcome((), seen, seen, None, repaired)
    if seen.confirmed is None:
        raise NotFound(f"Deployment {seen.name} has nothing confirmed on this host", "There is nothing to go back from")
    goal = None if everything_off else _goal(seen, release)
    if goal is not None:
        off.refuse(seen.name)
    if goal is not None and goal.release == seen.confirmed.release:
        return _as_confirmed(home, seen, repaired, check_mode)
    if goal is None and not seen.confirmed.attachments:
        return _as_confirmed(home, seen, repaired, check_mode)
    generation = ways.returning(seen, goal)
    lifted = _lifted(home, seen, goal) if release else None
    planned = ways.going_back(observe.scene(seen, generation), why, lifted)
    told = _carry_out(home, planned, "return", check_mode)
    after = seen if check_mode else observe.facts(home)
    return Outcome(tuple(planned), seen, after, generation, repaired, carried=told)


def _lifted(home, seen, goal):
    """The step that ends the quarantine of the release, None where it has none."""
    digest = ways.source_left(seen, goal)
    record = store.quarantined(home, digest) if digest else None
    return steps.RemoveQuarantine(digest, record["why"], record["generation"]) if record else None


def blocked(outcome: Outcome) -> list:
    """A Failure for each hook that cannot run what the Outcome says: the others went back without it."""
    if outcome.generation is None:
        return []
    return plan.blocked(observe.scene(outcome.after, outcome.generation))


def _goal(seen, release):
    """The generation whose load is to run again."""
    if release:
        matching = [each for number, each in sorted(seen.generations.items()) if each.release == release]
        if matching and matching[-1].load in seen.loads:
            return matching[-1]
        raise NotFound(
            f"Release {release} of {seen.name} is not on this host any more",
            "Roll it out again with bpf_program and bpf_attach",
            releases=sorted({each.release for each in seen.generations.values()}),
        )
    previous = seen.generations.get(seen.confirmed.previous)
    if previous is None:
        raise NotFound(
            f"Deployment {seen.name} has no earlier release to go back to",
            "Name a release, or release: none to take everything off",
            release=seen.confirmed.release,
        )
    return previous


def confirm(
    name: str,
    number: Optional[int] = None,
    check_mode: bool = False,
    expect_proof: Callable = lambda: None,
    rollout_id: Optional[str] = None,
) -> Outcome:
    """The trial is confirmed; without one, what a killed run left is finished, and the hooks run what is confirmed.

    `number` names the generation to confirm: where it is confirmed already, the trial of another change is left alone.
    RolledBack where it was taken back. `expect_proof`: as trial.confirm has it. TrialRuns where no number is named and
    the trial is another rollout's than `rollout_id` (None: whosever it is).
    """
    with _home(name, check_mode) as (home, seen):
        _refuse_ended(home, seen, number)
        if seen.trial and seen.trial.guarded and number not in (None, seen.trial.number):
            return Outcome((), seen, seen, seen.confirmed)
        if number is None and seen.trial_is_live and rollout_id not in (None, seen.trial.rollout_id):
            raise trial.other_runs(seen, is_confirming=True)
        if seen.trial and seen.trial.guarded:
            planned = trial.confirm(home, seen, expect_proof)
            return Outcome(planned, seen, seen if check_mode else observe.facts(home), seen.trial)
        observe.expect_known(seen)
        repaired = trial.settle(home, seen=seen)
        seen = observe.facts(home) if repaired else seen
        if number is None and _is_unknown(seen):
            return _adopt(home, seen, repaired, check_mode)
        if seen.confirmed is None:
            raise NotFound(
                f"Deployment {name} has nothing to confirm on this host", "Run bpf_program and bpf_attach first"
            )
        return _as_confirmed(home, seen, repaired, check_mode)


def _is_unknown(seen):
    """Whether the disk does not say what our links here are for; a link that nobody can recognise is left alone."""
    return bool(seen.damage or any(each.attachment or not seen.confirmed for each in seen.unnamed.values()))


def _adopt(home, seen, repaired, check_mode):
    """What the hooks run by links of ours is confirmed, whatever the disk says."""
    if seen.links:
        kept = {name: getattr(seen.confirmed or records.NOTHING, name) for name in records.BOOT_OPTIONS}
        wish = Wish(by="bpf_release", why="adopted what the hooks ran", **kept)
        generation = _signed(ways.adopted(seen), wish, seen)
    else:
        generation = seen.confirmed or records.NOTHING
    planned = ways.adoption(observe.scene(seen, generation))
    _carry_out(home, planned, "adopt", check_mode)
    after = seen if check_mode else observe.facts(home)
    return Outcome(tuple(planned), seen, after, generation, repaired)


def keep(name: str, number: int, check_mode: bool = False) -> tuple:
    """So many generations of the deployment stay for going back, from now on. The steps it took."""
    with _home(name, check_mode) as (home, seen):
        planned = ways.keeping(observe.expect_sound(seen), number)
        _carry_out(home, planned, "keep", check_mode)
        return tuple(planned)


def look(name: str, number: int) -> Outcome:
    """The Outcome of a guarded change as it stands, nothing moved: on trial, or confirmed, whatever came after it.

    NotSwitched, RolledBack otherwise.
    """
    place = store.home(name)
    seen = observe.facts(place)
    _refuse_ended(place, seen, number)
    is_on_trial = seen.trial is not None and seen.trial.number == number
    if is_on_trial and seen.ended:
        raise trial.too_late(seen.ended, number, seen)
    generation = seen.trial if is_on_trial else seen.confirmed
    if is_on_trial and not _runs(observe.scene(seen, generation)):
        raise trial.not_switched(number)
    return Outcome((), seen, seen, generation)


def _runs(scene):
    """Whether all hooks run its generation. Not so, too, where one is held: read without the lock, it may be our own
    link, made in between; and whoever else sits there ends the trial when the guard comes to switch."""
    try:
        return not plan.mend(scene)
    except Failure:
        return False


def _refuse_ended(home, seen, number):
    """A confirmation for a generation that is neither on trial nor confirmed is too late."""
    current = [each.number for each in (seen.trial, seen.confirmed) if each]
    if number is not None and number not in current:
        raise trial.too_late(store.ended(home, number), number, seen)


def _as_confirmed(home, seen, repaired, check_mode):
    _refuse_off(seen, seen.confirmed)
    scene = observe.scene(seen, seen.confirmed)
    planned = ways.change(scene)
    if any(_puts_on(step) for step in planned):
        off.refuse(seen.name)
    told = _carry_out(home, planned, "repair", check_mode)
    after = seen if check_mode or not planned else _expect_settled(home, seen.confirmed)
    return Outcome(tuple(planned), seen, after, seen.confirmed, repaired, carried=told, gone=plan.gone(scene))


def remove(name: str, check_mode: bool = False, *, only_unattached: bool = False) -> Outcome:
    """Nothing of the deployment is left on the host, hooks first.

    only_unattached: refused while something is attached.
    """
    store.home(name)
    with _home(name, check_mode, must_exist=False) as (home, seen):
        if not store.has_remains(home):
            return Outcome((), seen, seen, None)
        observe.expect_known(seen)
        if only_unattached and seen.links:
            raise BadRequest(
                f"Deployment {name} is still attached",
                "Use bpf_release state: absent to take everything off, or bpf_attach state: detached first",
                attachments=sorted(seen.links),
            )
        if home.is_locked:
            with contextlib.suppress(NotBack):
                trial.end(home, "the deployment was removed", is_punished=False)
            seen = observe.facts(home)
        planned = ways.removal(seen)
        if not check_mode:
            apply.carry_out(planned, home)
        return Outcome(tuple(planned), seen, seen if check_mode else observe.facts(home), None)


@contextlib.contextmanager
def _home(name, check_mode, must_exist=True):
    """(Home, Facts) of the deployment: locked, but in check mode, and where there is no deployment, only looked at."""
    place = store.home(name)
    with contextlib.nullcontext(place) if check_mode or not store.has_remains(place) else lock.locked(name) as home:
        seen = observe.facts(home)
        if must_exist and not check_mode and not seen.exists:
            raise _nothing_staged(seen)
        yield home, seen


def _carry_out(home, planned, event, check_mode):
    return () if check_mode else tuple(trial.carry_out(home, planned, event))


def _expect_settled(home, generation):
    """The Facts after the change, the plan for it empty."""
    seen = observe.facts(home)
    steps.expect_empty(plan.mend(observe.scene(seen, generation)))
    return seen
