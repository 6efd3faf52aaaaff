# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A Scene to the steps after which hooks, maps and services run its generation.

Pure: values in, values out; an empty plan means that all is as wanted. Which generation is wanted, and what becomes of
pointers and records on the way, ways.py says.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Failure, HookHeld, MapChanged, NotFound
from ..hooks import catalogue
from ..hooks.contract import GAP, OWNER_ADVICE, Attachment
from ..kernel.namespaces import did_you_mean
from ..objects import owners
from . import records, units
from .facts import Facts, Scene
from .steps import (
    CopyMap,
    DropMerge,
    EmptyMap,
    FillMap,
    Merge,
    MergeBack,
    PrepareMerge,
    PutOn,
    RemoveUnit,
    Replace,
    Settle,
    TakeOff,
    WriteUnit,
    left_out,
)

# ---- the hooks -----------------------------------------------------------------------------------


def switch(scene: Scene, skip_blocked: bool = False, by_link: bool = False) -> list:
    """Steps that make the hooks run the generation: empty when they do. New comes on before anything goes off.

    Links that no generation names are left alone, and so is what is `gone`. skip_blocked: an interface or cgroup that
    is not there, or that somebody else holds, is passed over, as on the way back, which must not stop half-way for it.
    by_link: a link that is alive is moved where it is, whatever has the place's name by now.
    """
    seen, generation = scene.facts, scene.generation
    load = seen.loads.get(generation.load)
    if generation.attachments and load is None:
        raise NotFound(
            f"The programs of release {generation.release} are not loaded on this host",
            "Run bpf_program with the release's source: after a reboot the kernel has none of them",
            load=generation.load,
        )
    steps, missing = [Settle(key) for key in sorted(seen.unsettled)], gone(scene)
    for key, attachment in generation.attachments.items():
        program = _program(load, attachment, generation)
        try:
            steps += _towards(scene, key, attachment, program, by_link)
        except Failure:
            if not skip_blocked and key not in missing:
                raise
    return steps + _away(scene)


def blocked(scene: Scene) -> list:
    """What skip_blocked passes over, a Failure each: no such place or hook here, or somebody else's program."""
    found = []
    for key, attachment in scene.generation.attachments.items():
        try:
            _towards(scene, key, attachment, 0)
        except Failure as failure:
            found.append(failure)
    return found


def gone(scene: Scene) -> dict:
    """{attachment id: NotFound} of the confirmed attachments whose place is not there any more, and that run nowhere.

    They stay in the generation, and boot.come_back puts them on again. What was never confirmed is a mistake of the
    user's; what runs at a place that has another name now is left to the user, too.
    """
    confirmed = scene.facts.confirmed
    return {
        key: place
        for key, place in scene.places.items()
        if isinstance(place, NotFound)
        and confirmed is not None
        and key in confirmed.attachments
        and (key not in scene.seats or scene.seats[key].is_gone)
    }


def _program(load, attachment, generation):
    if attachment.program not in load.programs:
        where = catalogue.words(attachment)
        raise NotFound(
            f"Release {generation.release} has no program {attachment.program}, which {where} needs",
            f"{did_you_mean(attachment.program, load.programs)} Name another, or detach {where} first",
            program=attachment.program,
            programs=sorted(load.programs),
        )
    return load.programs[attachment.program]


def _towards(scene, key, attachment, program, by_link=False):
    """Steps for one attachment. Raises what is wrong with its place, or HookHeld."""
    place, seat, hook = scene.places[key], scene.seats.get(key), catalogue.hook_of(attachment)
    load = scene.generation.load
    if by_link and seat and not seat.is_here and not seat.is_gone and hook.is_moved_by_link:
        return [] if seat.runs == {program} else [Replace(key, attachment, load, _other(seat, program))]
    if isinstance(place, Failure):
        raise place
    put_on = PutOn(key, attachment, place, load)
    if seat is None or not seat.is_here:
        _refuse_foreign(scene, key, attachment)
        return [put_on]
    as_it_is, kept = attachment.with_options(**dict(seat.options)), scene.facts.links[key]
    take_off = TakeOff(key, as_it_is, _other(seat, program), kept.attach_type or 0, place)
    if as_it_is != attachment or (seat.runs != {program} and hook.how == GAP):
        return [take_off, put_on]
    return [] if seat.runs == {program} else [Replace(key, attachment, load, _other(seat, program), place)]


def _other(seat, program):
    """The id of the program that sits there besides this one, or instead of it."""
    return min(seat.runs - {program}, default=program)


def renews(seen: Facts, step: tuple) -> bool:
    """Whether the step brings back what its link ran until the place was gone: a severed link still says what."""
    if isinstance(step, Settle):
        return True
    link = seen.links.get(step.key) if isinstance(step, PutOn) else None
    return link is not None and link.prog_ids == {seen.loads[step.load].programs[step.attachment.program]}


def _refuse_foreign(scene, key, attachment):
    """HookHeld where somebody else's program sits alone at the attachment's place."""
    holders, name = scene.holders[key], scene.facts.name
    if holders:
        who = owners.sentence(holders[0])
        if not catalogue.hook_of(attachment).is_exclusive:
            raise HookHeld(
                f"{catalogue.words(attachment)} runs {who} already, by a link of {name} whose pin was moved away",
                f"Put the pin back, or take the link off: bpftool link detach id {holders[0].get('link_id')}",
                holders=list(holders),
            )
        raise HookHeld(
            f"{catalogue.words(attachment)} is held by {who}, which ebpf.deploy did not attach for {name}",
            OWNER_ADVICE,
            holders=list(holders),
        )


def _away(scene):
    """Take off what some generation attached and this one does not want."""
    seen, generation, known = scene.facts, scene.generation, {}
    for each in seen.generations.values():
        known.update(each.attachments)
    gone = [key for key in seen.links if key in known and key not in generation.attachments]
    return [_take_off(seen, key, known[key]) for key in gone]


def _take_off(seen, key, attachment):
    """The TakeOff of what is pinned for the attachment, wherever it is."""
    link, place = seen.links[key], seen.known.get(key)
    return TakeOff(key, attachment, link.prog_id, link.attach_type or 0, place)


def move(scene: Scene) -> list:
    """As mend, towards a load that no hook may run yet: its maps first hold what they take over."""
    return mend(scene, first=_taken_in(scene.facts, scene.generation))


def mend(scene: Scene, skip_blocked: bool = False, first: Sequence = ()) -> list:
    """As switch, and the services that need a drop-in have it before a hook moves, and maps hold what is declared of
    them. `first`: what happens to maps before they are filled; a repair empties none.

    A drop-in that is there too early is harmless, as it brings back what is confirmed; one that is missing is not.
    """
    seen, generation = scene.facts, scene.generation
    return [
        *units_missing(seen, generation),
        *first,
        *_fill(scene, skip_blocked, {step.map for step in first}),
        *switch(scene, skip_blocked),
        *counts_back(seen, *_left(seen, generation)),
        *counts(seen, generation),
    ]


# ---- the maps ------------------------------------------------------------------------------------


def expect_maps_fit(seen: Facts, generation: records.Generation) -> None:
    """Maps that go on under their name are the ones in use now, or have a policy; MapChanged otherwise."""
    old = seen.loads.get(seen.confirmed.load) if seen.confirmed else None
    new, release = seen.loads.get(generation.load), seen.releases.get(generation.release)
    if old is None or new is None or release is None:
        return
    for name in (record["name"] for record in release.maps):
        both = name in old.maps and name in new.maps
        if both and old.maps[name] != new.maps[name] and name not in generation.policies:
            raise MapChanged(
                f"Map {name} of load {generation.load} is not the one that is in use now",
                "Run bpf_program again, which takes its entries over; to go back to an earlier release use "
                "bpf_release state=rolled_back",
                map=name,
            )


def _taken_in(seen, generation):
    """What a new load's maps take over while no hook runs it: once.

    Never again for the confirmed one, whose hooks may all be off: its maps hold what was counted since, and later
    releases may share them.
    """
    is_confirmed = seen.confirmed is not None and generation.load == seen.confirmed.load
    if is_confirmed or generation.onto not in seen.loads or seen.runs(generation.load):
        return []
    steps = []
    for name, policy in generation.policies.items():
        if policy["on_change"] == "fresh":
            steps.append(EmptyMap(name, generation.load))
        elif policy["on_change"] == "copy" or policy["copied"]:
            steps.append(CopyMap(name, generation.load, generation.onto, policy["copied"]))
    return steps


def _fill(scene, can_wait, emptied=()):
    """What is declared is in the maps before a hook runs with them, in those that were emptied or copied into, too.

    MapChanged where some of it does not fit a map that has no policy, and that cannot wait.
    """
    generation = scene.generation
    steps = [
        FillMap(generation.load, name, lacks, can_wait)
        for name, lacks in sorted(scene.fillings.items())
        if name in emptied or not lacks.is_empty
    ]
    lines = left_out(step for step in steps if step.map not in generation.policies)
    if lines and not can_wait:
        raise MapChanged(
            f"Release {generation.release} cannot hold all entries that bpf_map declared: {lines[0]}",
            "Keep the map as it was, or remove those entries first (bpf_map state: absent)",
            left_out=lines,
        )
    return steps


def _merged_rows(generation):
    """{map: rows} of the maps whose counts are merged."""
    return {name: [*each["copied"], *each["counted"]] for name, each in generation.policies.items() if each["counted"]}


def prepared(seen: Facts, generation: records.Generation) -> list:
    """The way back for counts is there before anything moves."""
    rows = _merged_rows(generation)
    if not rows or generation.load in seen.carries or generation.onto not in seen.loads:
        return []
    return [PrepareMerge(generation.load, generation.onto, rows)]


def counts(seen: Facts, generation: records.Generation, is_prepared: bool = False) -> list:
    """Counts move once all hooks run the generation's load; `is_prepared` by an earlier step of the same plan."""
    rows, is_merged = _merged_rows(generation), seen.carries.get(generation.load)
    if not rows or is_merged or (is_merged is None and not is_prepared):
        return []
    return [Merge(generation.load, generation.onto, rows)]


def _left(seen, generation):
    """The loads that a rollback left, and those whose counts they went on with; one may be on its way in again."""
    left = {each.leaves for each in (generation, seen.confirmed) if each}
    came = [each for each in seen.generations.values() if each.onto == generation.load]
    return {*left, *(each.load for each in came if any(_shares_counts(seen, each, load) for load in left))} - {
        generation.load
    }


def _shares_counts(seen, generation, load):
    """Whether the load goes on with a map that counts were merged into for the generation."""
    theirs, its = (seen.loads[each].maps if each in seen.loads else {} for each in (generation.load, load))
    return any(name in its and its[name] == theirs.get(name) for name in _merged_rows(generation))


def counts_back(seen: Facts, *loads: str) -> list:
    """Counts that came to a load go back where hooks have left it, and what a killed run left of one goes."""
    steps = [DropMerge(load) for load in sorted(seen.carries) if load.endswith("-tmp")]
    for load in sorted(seen.carries.keys() & set(loads)):
        came = [each for each in seen.generations.values() if each.load == load and _merged_rows(each)]
        if came and came[0].onto in seen.loads:
            steps.append(MergeBack(load, came[0].onto, _merged_rows(came[0])))
        else:
            steps.append(DropMerge(load))
    return steps


# ---- the services --------------------------------------------------------------------------------


def units_missing(seen: Facts, generation: records.Generation) -> list:
    if seen.units is None:
        return []
    texts = {unit: (text, seen.units.get(unit, "")) for unit, text in sorted(_units(generation).items())}
    return [WriteUnit(unit, text, before) for unit, (text, before) in texts.items() if text != before]


def units_left(seen: Facts, *generations: records.Generation) -> list:
    """Take away the drop-ins that none of the generations needs."""
    needed = {unit for each in generations for unit in _units(each)}
    return [RemoveUnit(unit) for unit in sorted({*(seen.units or ())} - needed)]


def _units(generation):
    """{service: text of its drop-in} for all attachments whose place a service makes anew."""
    places = {catalogue.hook_of(each).unit(each): each.target for each in generation.attachments.values()}
    return {unit: units.drop_in(target) for unit, target in places.items() if unit}


# ---- the way back --------------------------------------------------------------------------------


def hooks_back(scene: Scene) -> list:
    """Steps that make the hooks run the scene's generation (`fallback`) again, with what is declared in its maps, as
    far as they let us.

    Of a lost trial nobody knows what it added: the links that no generation names go. None where the generation cannot
    run: the hooks stay as they are, see `not_back`.
    """
    seen = scene.facts
    if not is_runnable(seen, scene.generation):
        return []
    steps = [*_fill(scene, can_wait=True), *switch(scene, skip_blocked=True, by_link=True)]
    return [*steps, *(unnamed_off(seen, steps) if seen.trial_is_lost else [])]


def still_on_trial(scene: Scene) -> list:
    """The places of the scene's generation (the trial, or what it goes back to) where a program of the trial's load
    alone sits, by whatever link, in words."""
    seen = scene.facts
    before, trial = (seen.loads.get(each.load) for each in (fallback(seen), seen.trial))
    ids = {*(trial.programs.values() if trial else ())} - {*(before.programs.values() if before else ())}
    named = {**seen.trial.attachments, **fallback(seen).attachments}
    return [
        f"{catalogue.words(named[key])} runs program {number} of the trial"
        for key, numbers in scene.sitting.items()
        for number in numbers
        if number in ids and key in named
    ]


def is_runnable(seen: Facts, generation: records.Generation) -> bool:
    """Whether the kernel has the generation's programs."""
    programs = {each.program for each in generation.attachments.values()}
    return not programs or (generation.load in seen.loads and programs <= set(seen.loads[generation.load].programs))


def not_back(scene: Scene) -> list:
    """The hooks that do not run the scene's generation (`fallback`), in words; those that cannot (see `blocked`) only
    while they run the trial.

    Empty, too, where a reboot took all of them.
    """
    seen, generation = scene.facts, scene.generation
    if is_runnable(seen, generation) and generation != seen.trial:
        steps = [step for step in hooks_back(scene) if step.is_hook_step]
        return [step.describe() for step in steps]
    programs = seen.loads[seen.trial.load].programs.values() if seen.trial.load in seen.loads else ()
    named = {**seen.trial.attachments, **generation.attachments}
    return [
        f"{catalogue.words(named[key])} runs program {link.prog_id}, and what ran before cannot be loaded"
        for key, link in seen.links.items()
        if key in named and not link.is_severed and (not programs or link.prog_id in programs)
    ]


def fallback(seen: Facts) -> records.Generation:
    """The Generation that a trial goes back to: the one that it says (the confirmed one), or none where none ran.

    None, too, where a reboot took its programs: nothing ran before the trial then, and boot.py loads them again once
    the trial is gone. Where its record cannot be read, the newest generation before the trial that can run. What cannot
    run any more in the boot that it ran in is no way back: the hooks stay as they are.
    """
    before = _before(seen)
    if before is not None and is_runnable(seen, before):
        return before
    if seen.trial.boot_id not in ("", seen.boot_id):
        return records.NOTHING
    if before is not None:
        return before
    if seen.trial.back_to is None and (seen.trial_is_lost or not (seen.damage or seen.newer)):
        return records.NOTHING
    earlier = [each for number, each in sorted(seen.generations.items()) if number < seen.trial.number]
    return next((each for each in reversed(earlier) if is_runnable(seen, each)), seen.trial)


def _before(seen):
    """The Generation that ran before the trial, None where no record of it is left, or where an older record of the
    trial does not say and nothing is confirmed."""
    number, confirmed = seen.trial.back_to, seen.confirmed
    if number == records.NOTHING.number:
        return records.NOTHING
    if number is None or (confirmed and confirmed.number == number):
        return confirmed
    return seen.generations.get(number)


def unnamed_off(seen: Facts, steps: Sequence) -> list:
    """Take off the links that no generation names, but for those that the steps take off already."""
    gone = {step.key for step in steps if isinstance(step, TakeOff)}
    return [_detach_unnamed(seen.links[key], key, each) for key, each in seen.unnamed.items() if key not in gone]


def _detach_unnamed(link, key, unnamed):
    unknown = Attachment(link.type or "hook", "an unknown program", (("place", "a place that no generation names"),))
    return TakeOff(key, unnamed.attachment or unknown, link.prog_id, link.attach_type or 0)
