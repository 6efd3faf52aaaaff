# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The ways in which a deployment moves: what was read and what is wanted to steps. Pure, as plan.py is.

Each function that gives steps is one way: to change what is confirmed, to begin, confirm, finish and give up a trial,
to go back to an earlier release, to stage one, to declare entries, to take over links, to remove all. How hooks, maps
and services come to run a generation is the business of plan.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Optional

from ..errors import NotFound
from ..hooks import catalogue
from . import plan, records
from .facts import Facts, Scene
from .steps import (
    DropMerge,
    EditMap,
    HideGlobals,
    MendRelease,
    PinLoad,
    Point,
    RemoveDamaged,
    RemoveDeadline,
    RemoveFolders,
    RemoveGeneration,
    RemoveLoad,
    RemoveQuarantine,
    RemoveRelease,
    RemoveStaged,
    WriteDeadline,
    WriteDeclared,
    WriteEnded,
    WriteGeneration,
    WriteKeep,
    WriteQuarantine,
    WriteRelease,
    WriteStaged,
    left_out,
)


def wanted(
    seen: Facts,
    attachments: Iterable,
    load: str,
    *,
    replace: bool = False,
    without: Iterable = (),
    base: Optional[records.Generation] = None,
) -> records.Generation:
    """The Generation, not numbered yet, in which `attachments` are added to those of `base` and all run `load`.

    `base` is what is confirmed, unless another is given. replace: exactly these. `without`: attachments to take off,
    where it is their program that is there.
    """
    base = base or seen.confirmed
    merged = {**(base.attachments if base and not replace else {}), **by_id(attachments)}
    for key, named in by_id(without).items():
        if key in merged and merged[key].program == named.program:
            del merged[key]
    release = records.release_of(load)
    policies, onto = _taken_over(seen, load)
    return records.Generation(
        number=0,
        load=load,
        release=release,
        attachments=merged,
        previous=_previous(seen, release),
        policies=policies,
        onto=onto,
    )


def _taken_over(seen, load):
    """(policies, the load that they are about): those of the staged load, and once it runs, those that it came with."""
    if seen.confirmed and seen.confirmed.load == load:
        return seen.confirmed.policies, seen.confirmed.onto
    if seen.staged and seen.staged.load == load and seen.confirmed and seen.staged.onto == seen.confirmed.load:
        return seen.staged.policies, seen.staged.onto
    return {}, ""


def by_id(attachments: Iterable) -> dict:
    """{id: Attachment}, the ids that links are pinned under."""
    return {catalogue.hook_of(attachment).id(attachment): attachment for attachment in attachments}


def _previous(seen, release):
    """The generation that was confirmed before the release last changed."""
    if seen.confirmed is None:
        return None
    if seen.confirmed.release == release:
        return seen.confirmed.previous
    return seen.confirmed.number


def change(scene: Scene) -> list:
    """Steps from the confirmed generation to the scene's, confirmed at the end.

    Where nothing but the hooks differs, these alone.
    """
    seen, generation = scene.facts, scene.generation
    hook_steps = plan.move(scene)
    before = seen.confirmed or records.NOTHING
    if generation.runs_the_same(before) and generation.has_options_of(before):
        return [*hook_steps, *prune(seen)]
    numbered = generation._replace(number=seen.next_number)
    prepared = plan.prepared(seen, generation)
    return [
        WriteGeneration(numbered),
        *prepared,
        Point("trial", numbered.number, None),
        *hook_steps,
        *(plan.counts(seen, generation, is_prepared=True) if prepared else []),
        *confirm(seen, numbered.number),
        *prune(seen, confirmed=numbered),
    ]


def begin(seen: Facts, generation: records.Generation, deadline: records.Deadline) -> list:
    """Steps that arm a guarded change and move no hook: the guard does that.

    Only the trial's pointer says so from then on.
    """
    return [
        WriteGeneration(generation),
        *plan.units_missing(seen, generation),
        *plan.prepared(seen, generation),
        WriteDeadline(deadline),
        Point("trial", generation.number, None),
    ]


def confirm(seen: Facts, number: int) -> list:
    """Steps that make generation `number` the confirmed one, and no trial of it."""
    before = seen.confirmed.number if seen.confirmed else None
    disarm = [RemoveDeadline()] if seen.deadline else []
    return [Point("confirmed", number, before), Point("trial", None, number), *disarm]


def finish(scene: Scene) -> list:
    """Steps that end what a killed run began: its trial, the scene's generation, switched and confirmed."""
    seen = scene.facts
    return [*plan.move(scene), *confirm(seen, seen.trial.number), *prune(seen, confirmed=seen.trial)]


def back(scene: Scene, ended: Optional[records.Ended] = None, quarantine: str = "") -> list:
    """Steps that give up the trial: the hooks run the scene's generation again, which is plan.fallback(facts).

    `ended` is how a guarded one ended (None where that is on the disk already), `quarantine` the digest that it costs.
    """
    return [*hooks_first(scene, ended, quarantine), *leave(scene.facts, scene.generation, ended)]


def hooks_first(scene: Scene, ended: Optional[records.Ended] = None, quarantine: str = "") -> list:
    """The steps of `back` up to the hooks, and to the counts, which follow them."""
    seen, generation = scene.facts, scene.generation
    hook_steps = plan.hooks_back(scene)
    ended = ended and ended._replace(left_out=tuple(left_out(hook_steps)))
    return [
        *([WriteQuarantine(quarantine, ended.why, seen.trial.number)] if quarantine else []),
        *([WriteEnded(ended)] if ended else []),
        *hook_steps,
        *(plan.counts_back(seen, seen.trial.load) if seen.trial.load != generation.load else []),
    ]


def leave(seen: Facts, generation: records.Generation, ended: Optional[records.Ended] = None) -> list:
    """The steps of `back` once the hooks run the generation that it went back to: no trial is left. A lost `confirmed`
    names that again."""
    is_rejected = seen.staged and seen.staged.load == seen.trial.load != generation.load and _was_judged(seen, ended)
    is_unpointed = seen.confirmed is None and generation.number in seen.generations
    return [
        *plan.units_left(seen, seen.confirmed or generation),
        *([RemoveStaged(seen.staged)] if is_rejected else []),
        *(_trial_damage(seen) if seen.trial_is_lost else []),
        *([Point("confirmed", generation.number, None)] if is_unpointed and not (seen.damage or seen.newer) else []),
        Point("trial", None, seen.trial.number),
        *([RemoveDeadline()] if seen.deadline else []),
    ]


def _trial_damage(seen):
    """The lost trial's file goes before its pointer, lest a run killed between them leaves a damaged deployment."""
    return [RemoveDamaged(path) for path in seen.damage if path.endswith(f"/generations/{seen.trial.number}.json")]


def _was_judged(seen, ended):
    """Whether the trial's load was found wanting.

    One that was killed half-way, superseded, or refused by a hook may be tried again: a bare bpf_attach must not
    answer that all is well with the old release.
    """
    ended = ended or seen.ended
    return seen.trial.guarded and not (ended and ended.outcome in (records.SUPERSEDED, records.FAILED))


def digest_left(seen: Facts, generation: records.Generation) -> str:
    """What is quarantined when `generation` is thrown back: its source, or where only the attachments differ, these.

    Empty where it equals what is confirmed: that never is.
    """
    if generation.runs_the_same(seen.confirmed):
        return ""
    if seen.confirmed is None or generation.release != seen.confirmed.release:
        return source_left(seen, generation)
    return attachments_digest(generation)


def source_left(seen: Facts, generation: records.Generation) -> str:
    """What quarantine knows of the generation's release: its source_id, with secrets its private_id; empty where its
    manifest is gone."""
    release = seen.releases.get(generation.release)
    return (release.private_id or release.source_id) if release else ""


def attachments_digest(generation: records.Generation) -> str:
    """The digest of a set of attachments, whatever release they run."""
    text = json.dumps([each.as_record() for key, each in sorted(generation.attachments.items())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def going_back(
    scene: Scene, why: str = "", lifted: Optional[RemoveQuarantine] = None, is_punished: bool = True
) -> list:
    """Steps to run the scene's generation, which `returning` gave; `confirmed` is moved first.

    The release that it leaves is quarantined, but not with is_punished=False. `lifted` is the RemoveQuarantine of a
    release that a user named.
    """
    seen, generation = scene.facts, scene.generation
    is_other = generation.release != seen.confirmed.release or not generation.attachments
    left = source_left(seen, seen.confirmed) if is_other and is_punished else ""
    stays_staged = seen.staged is None or seen.staged.load == generation.load
    return [
        WriteGeneration(generation),
        *([WriteQuarantine(left, why, seen.confirmed.number)] if left else []),
        *([lifted] if lifted else []),
        *([] if stays_staged else [RemoveStaged(seen.staged)]),
        Point("confirmed", generation.number, seen.confirmed.number),
        *plan.mend(scene, skip_blocked=True),
        *prune(seen, confirmed=generation, is_unstaged=not stays_staged),
    ]


def returning(
    seen: Facts, target: Optional[records.Generation], attachments: Optional[dict] = None
) -> records.Generation:
    """The Generation of a rollback: today's attachments (or these) on the target's load, its `previous` inherited; what
    was proven of the target stays so. No target: nothing is attached any more."""
    if attachments is None:
        attachments = seen.confirmed.attachments
    return seen.confirmed._replace(
        number=seen.next_number,
        load=target.load if target else seen.confirmed.load,
        release=target.release if target else seen.confirmed.release,
        attachments=attachments if target else {},
        previous=target.previous if target else seen.confirmed.previous,
        policies=target.policies if target else seen.confirmed.policies,
        onto=target.onto if target else seen.confirmed.onto,
        leaves=seen.confirmed.load if target and target.load != seen.confirmed.load else "",
        proven_after=(target or seen.confirmed).proven_after,
    )


def stage(seen: Facts, release, aside: Optional[str], staged: records.Staged, files: dict, hidden: tuple = ()) -> list:
    """Steps that make `staged` (records.Staged) the staged load.

    `aside` names the pins to take over, None where the load is there already; `files` are the release's own, `hidden`
    the releases on the disk whose manifests show what is secret now, without that.
    """
    load, steps = staged.load, [HideGlobals(each) for each in hidden]
    if not seen.releases.get(release.id):
        steps.append(WriteRelease(release, files))
    elif release.id in seen.spoiled:
        kept = {each.id: each for each in (seen.releases[release.id], *hidden)}
        steps.append(MendRelease(kept[release.id], files))
    if aside is None and seen.staged and seen.staged.load == load:
        return [*steps, *prune(seen)]
    if aside is not None:
        steps.append(PinLoad(aside, load))
    if seen.staged is None and seen.confirmed and seen.confirmed.load == load:
        return [*steps, *prune(seen)]  # what runs is what would be staged
    return [*steps, WriteStaged(staged), *prune(seen, staged=staged)]


def declare(load: str, name: str, edit, before: Optional[records.Declared], after: Optional[records.Declared]) -> list:
    """Steps that make a map's contents, and what is declared of it, as bpf_map was asked; first on the disk."""
    return [
        *([WriteDeclared(name, after, before)] if after != before else []),
        *([EditMap(load, name, edit)] if not edit.is_empty else []),
    ]


def prune(
    seen: Facts,
    *,
    staged: Optional[records.Staged] = None,
    confirmed: Optional[records.Generation] = None,
    is_unstaged: bool = False,
    keep: Optional[int] = None,
) -> list:
    """Steps that drop what nobody needs: generations, loads and releases that are neither staged, nor on trial, nor
    confirmed or its previous, nor the newest proven one, nor among the newest `keep`, and drop-ins that neither the
    trial nor the confirmed one needs.

    `staged`, `is_unstaged`, `confirmed` and `keep` say what will be so when these steps are reached, where it is not so
    yet. Nothing where a newer version's records may need more than is known here.
    """
    if seen.newer:
        return []
    staged, confirmed = None if is_unstaged else staged or seen.staged, confirmed or seen.confirmed
    generations = {**seen.generations, **({confirmed.number: confirmed} if confirmed else {})}
    needed = set(sorted(generations)[-(keep or seen.keep) :])
    needed |= {number for each in (confirmed, seen.trial) if each for number in (each.number, each.previous)}
    needed |= {seen.proven}
    needed |= {number for number, each in generations.items() if confirmed and _waits(seen, confirmed, each)}
    kept = [generations[number] for number in needed if number in generations]
    loads = {each.load for each in kept} | ({staged.load} if staged else set())
    releases = {records.release_of(load) for load in loads}
    onto = {each.load: each.onto for each in generations.values()}
    return [
        *plan.units_left(seen, *(each for each in (confirmed, seen.trial) if each)),
        *(RemoveGeneration(each) for number, each in sorted(seen.generations.items()) if number not in needed),
        *(DropMerge(load) for load in sorted(seen.carries) if not {load, onto.get(load)} <= loads),
        *(RemoveLoad(load) for load in sorted({*seen.loads} - loads)),
        *(RemoveLoad(name) for name in seen.debris),
        *(RemoveRelease(number) for number in sorted({*seen.releases} - releases)),
    ]


def _waits(seen, confirmed, generation):
    """Whether counts that came with the generation still have to go back to those of the confirmed one."""
    return generation.load == confirmed.leaves and generation.load in seen.carries


def adopted(seen: Facts) -> records.Generation:
    """The Generation, not numbered yet, in which links that no generation names are added to what is confirmed.

    NotFound where nothing is confirmed and the links do not say which load they run.
    """
    ours = {key: each for key, each in seen.unnamed.items() if each.attachment}
    loads = {seen.confirmed.load} if seen.confirmed else {each.load for each in ours.values()}
    if len(loads) != 1:
        raise NotFound(
            f"The links of {seen.name} do not say which release it runs",
            f"Remove them (bpf_release name={seen.name} state=absent) and roll out again",
            loads=sorted(loads),
            links=[{"id": key, "prog_id": seen.links[key].prog_id} for key in seen.unnamed],
        )
    load = loads.pop()
    base = seen.confirmed or records.Generation(0, load, records.release_of(load), {})
    attachments = {**base.attachments, **{key: each.attachment for key, each in ours.items()}}
    return base._replace(load=load, release=records.release_of(load), attachments=attachments)


def adoption(scene: Scene) -> list:
    """Steps that confirm the scene's generation, which `adopted` made of the links, and drop what could not be read."""
    seen, generation = scene.facts, scene.generation
    clearance = [RemoveDamaged(path) for path in seen.damage]
    if generation.runs_the_same(seen.confirmed or records.NOTHING):
        return [*clearance, *plan.mend(scene), *prune(seen)]
    numbered = generation._replace(number=seen.next_number)
    return [
        WriteGeneration(numbered),
        Point("confirmed", numbered.number, seen.confirmed.number if seen.confirmed else None),
        *clearance,
        *plan.mend(scene),
        *prune(seen, confirmed=numbered),
    ]


def keeping(seen: Facts, keep: int) -> list:
    """Steps after which `keep` generations stay, and no more."""
    return [*([WriteKeep(keep)] if keep != seen.keep else []), *prune(seen, keep=keep)]


def removal(seen: Facts) -> list:
    """Steps after which nothing of the deployment is left but its serial."""
    empty = (
        records.Generation(seen.next_number, seen.confirmed.load, seen.confirmed.release, {})
        if seen.confirmed
        else None
    )
    steps = [WriteGeneration(empty), Point("confirmed", empty.number, seen.confirmed.number)] if empty else []
    steps += plan.switch(Scene(seen, empty or records.NOTHING))
    steps += plan.unnamed_off(seen, steps)
    steps += plan.units_left(seen)
    steps += [DropMerge(load) for load in sorted(seen.carries)]
    steps += [RemoveLoad(name) for name in (*sorted(seen.loads), *seen.debris)]
    steps += [RemoveStaged(seen.staged)] if seen.staged else []
    steps += [Point("confirmed", None, empty.number)] if empty else []
    steps += [RemoveGeneration(each) for each in (*seen.generations.values(), *([empty] if empty else []))]
    steps += [RemoveRelease(number) for number in sorted(seen.releases)]
    steps += [RemoveDamaged(path) for path in seen.damage]
    steps += [RemoveDeadline()] if seen.deadline else []
    return [*steps, RemoveFolders(seen.name)]
