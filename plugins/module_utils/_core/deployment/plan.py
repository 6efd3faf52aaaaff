# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Facts and a wanted generation to steps. Pure: values in, values out; an empty plan means that all is as wanted.

Every transition of a deployment is a list of these steps; apply.py carries them out. One step of a transition is its
commit: what fails before it is undone, what fails after it is finished by the next run.
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple, Optional

from ..errors import Failure, HookHeld, MapChanged, NotConverged, NotFound
from ..hooks import catalogue
from ..hooks.contract import OWNER_ADVICE, Attachment, Place
from ..kernel.namespaces import did_you_mean
from ..objects import contents, owners
from . import declared, store, units

NOTHING = store.Generation(0, "", "", {})  # no attachments: what hooks run before the first generation


# ---- steps ---------------------------------------------------------------------------------------


class Settle(NamedTuple):
    """The new link that a killed run had pinned aside takes its place."""

    key: str


class Attach(NamedTuple):
    """A new link runs the load's program at the place; a link pinned there before (severed, elsewhere) is dropped."""

    key: str
    attachment: Attachment
    place: Place
    load: str


class Swap(NamedTuple):
    """The link runs the load's program instead of the expected one."""

    key: str
    attachment: Attachment
    load: str
    expected: int


class Detach(NamedTuple):
    """The link is gone, and the hook runs nothing of ours there.

    Attachment (with the mode that it ran in), program and attach_type are what it takes to attach it again.
    """

    key: str
    attachment: Attachment
    program: int
    attach_type: int


class EmptyMap(NamedTuple):
    """The map holds nothing, before any hook runs the load."""

    map: str
    load: str


class CopyMap(NamedTuple):
    """The map holds what that of the load `onto` does, before any hook runs its own load."""

    map: str
    load: str
    onto: str
    rows: list


class PrepareMerge(NamedTuple):
    """The programs that move counts from the maps of `onto` to those of `load`, and back, are loaded and pinned.

    `rows` is {map: rows}. Undone, all counts are back.
    """

    load: str
    onto: str
    rows: dict


class Merge(NamedTuple):
    """The counts of the maps of `onto` are in those of `load`, which all hooks run now."""

    load: str
    onto: str
    rows: dict


class MergeBack(NamedTuple):
    """The counts are in the maps of `onto` again, whatever hooks run now; their programs are gone.

    `left` tells, once it was carried out, {map: entries whose counts found no room there}.
    """

    load: str
    onto: str
    rows: dict
    left: dict = {}


class DropMerge(NamedTuple):
    """Nobody will want the counts of `load` back."""

    load: str


class WriteRelease(NamedTuple):
    """The release's manifest and its files, {name: bytes}, are on the disk."""

    release: object
    files: dict


class MendRelease(NamedTuple):
    """The files of a release that was damaged on the disk are as they were written first."""

    release: object
    files: dict


class HideGlobals(NamedTuple):
    """The manifest on the disk is this release's, which tells less than it did."""

    release: object


class RemoveRelease(NamedTuple):
    release: str


class PinLoad(NamedTuple):
    """The pins that were made aside take the load's name."""

    aside: str
    load: str


class RemoveLoad(NamedTuple):
    load: str


class WriteStaged(NamedTuple):
    staged: store.Staged


class RemoveStaged(NamedTuple):
    staged: store.Staged


class WriteGeneration(NamedTuple):
    generation: store.Generation


class RemoveGeneration(NamedTuple):
    generation: store.Generation


class Point(NamedTuple):
    """`trial` or `confirmed` names the generation (None: nothing); `before` is what it named."""

    pointer: str
    number: Optional[int]
    before: Optional[int]


class WriteDeadline(NamedTuple):
    deadline: store.Deadline


class RemoveDeadline(NamedTuple):
    """No deadline waits any more: its guard ends."""


class WriteEnded(NamedTuple):
    """How the trial ended is on the disk: from here there is only the way back."""

    ended: store.Ended


class WriteQuarantine(NamedTuple):
    digest: str
    why: str
    number: int


class RemoveQuarantine(NamedTuple):
    """What was thrown back may come again: a user named it. The fields are what its quarantine says."""

    digest: str
    why: str
    number: int


class WriteKeep(NamedTuple):
    """So many generations stay from now on."""

    keep: int


class RemoveDamaged(NamedTuple):
    """The file that nobody can read is gone."""

    path: str


class WriteUnit(NamedTuple):
    """The service's start brings its programs back: systemd has read the drop-in. `before` is what stood in it."""

    unit: str
    text: str
    before: str = ""


class RemoveUnit(NamedTuple):
    unit: str


class WriteDeclared(NamedTuple):
    """What is declared of the map is on the disk; `before` is what was (None: nothing)."""

    map: str
    after: Optional[store.Declared]
    before: Optional[store.Declared]


class FillMap(NamedTuple):
    """The load's map holds what is declared of it, but for what is left out: `lacks` as far as it was seen.

    can_wait: what the kernel refuses of it is said when all other steps are done, as on the way back, which must not
    stop half-way for it.
    """

    load: str
    map: str
    lacks: declared.Filling
    can_wait: bool = False


class EditMap(NamedTuple):
    """The load's map is as bpf_map was asked for."""

    load: str
    map: str
    edit: contents.Edit


class RemoveFolders(NamedTuple):
    """The deployment's empty folders are gone; its serial stays, so that no generation's number comes again."""

    name: str


COMMITS = (WriteStaged, WriteEnded)


def can_be_passed_over(step):
    """Whether the other steps go on without this one once the change is decided: each hook that can goes back, and a
    trial ends whatever became of its counts."""
    return isinstance(step, (*HOOK_STEPS, MergeBack)) or (isinstance(step, FillMap) and step.can_wait)


def is_commit(step):
    """Whether the transition counts as done once this step is."""
    return isinstance(step, COMMITS) or (isinstance(step, Point) and step.pointer == "confirmed")


def describe(step):
    """The step in words for users: check mode, results, journal."""
    kind = type(step).__name__
    if kind == "Attach":
        return f"attach {step.attachment.program} of load {step.load} at {step.attachment.describe()}"
    if kind == "Swap":
        new = f"{step.attachment.program} of load {step.load}"
        return f"replace program {step.expected} by {new} at {step.attachment.describe()}"
    if kind == "Detach":
        return f"detach {step.attachment.program} from {step.attachment.describe()}"
    return _HOUSEKEEPING[kind](step)


_HOUSEKEEPING = {
    "EmptyMap": lambda step: f"empty map {step.map} of load {step.load}",
    "CopyMap": lambda step: f"copy map {step.map} of load {step.onto} into that of load {step.load}",
    "PrepareMerge": lambda step: f"prepare to merge {', '.join(step.rows)} of load {step.onto} into load {step.load}",
    "Merge": lambda step: f"merge {', '.join(step.rows)} of load {step.onto} into load {step.load}",
    "MergeBack": lambda step: "; left out are ".join([_merged_back(step), *_counts_left(step)]),
    "DropMerge": lambda step: f"forget how to merge back from load {step.load}",
    "Settle": lambda step: f"finish the interrupted attachment {step.key}",
    "WriteRelease": lambda step: f"keep release {step.release.id}",
    "MendRelease": lambda step: f"write the files of release {step.release.id} again, which were damaged",
    "HideGlobals": lambda step: f"hide globals of release {step.release.id}",
    "RemoveRelease": lambda step: f"remove release {step.release}",
    "PinLoad": lambda step: f"pin load {step.load}",
    "RemoveLoad": lambda step: f"unload {step.load}",
    "WriteStaged": lambda step: f"stage load {step.staged.load}",
    "RemoveStaged": lambda step: f"unstage load {step.staged.load}",
    "WriteGeneration": lambda step: f"write generation {step.generation.number}",
    "RemoveGeneration": lambda step: f"forget generation {step.generation.number}",
    "Point": lambda step: f"{step.pointer}: generation {step.number or 'none'}",
    "WriteDeadline": lambda step: f"arm the guard of generation {step.deadline.generation}",
    "RemoveDeadline": lambda step: "disarm the guard",
    "WriteEnded": lambda step: f"generation {step.ended.generation} {step.ended.outcome}: {step.ended.why}",
    "WriteQuarantine": lambda step: f"quarantine {step.digest[:16]}: {step.why}",
    "RemoveQuarantine": lambda step: f"lift the quarantine of {step.digest[:16]}: {step.why}",
    "WriteKeep": lambda step: f"keep {step.keep} of the generations",
    "RemoveDamaged": lambda step: f"remove {step.path}, which cannot be read",
    "WriteUnit": lambda step: f"add a drop-in to {step.unit}",
    "RemoveUnit": lambda step: f"remove the drop-in of {step.unit}",
    "WriteDeclared": lambda step: f"declare {len(step.after.entries if step.after else ())} entries of {step.map}",
    "EditMap": lambda step: f"{_counted(step.edit)} entries of map {step.map} of load {step.load}",
    "FillMap": lambda step: "; left out are ".join([_filled(step), *step.lacks.left_out]),
    "RemoveFolders": lambda step: f"remove the folders of {step.name}",
}


def _counted(edit):
    return f"write {len(edit.puts)} and delete {len(edit.deletes)}"


def _merged_back(step):
    return f"merge {', '.join(step.rows)} of load {step.load} back into load {step.onto}"


def _counts_left(step):
    return [f"counts of {number} entries of {name}, which has no room for them" for name, number in step.left.items()]


def _filled(step):
    return f"fill map {step.map} of load {step.load} as declared ({_counted(step.lacks.edit)})"


def left_out(steps):
    """What did not fit the maps that the steps fill or take counts back to, in words."""
    filled = [f"map {step.map}: {text}" for step in steps if isinstance(step, FillMap) for text in step.lacks.left_out]
    return filled + [text for step in steps if isinstance(step, MergeBack) for text in _counts_left(step)]


def as_told(steps, told):
    """The steps, each MergeBack with what apply.carry_out told of it."""
    left = {row["map"]: row["left"] for row in told if row["left"]}
    return [
        step._replace(left={**step.left, **{name: left[name] for name in step.rows if name in left}})
        if isinstance(step, MergeBack)
        else step
        for step in steps
    ]


HOOK_STEPS = (Settle, Attach, Swap, Detach)


# ---- the hooks -----------------------------------------------------------------------------------


def switch(seen, generation, skip_blocked=False, by_link=False):
    """Steps that make the hooks run the generation: empty when they do. New comes on before anything goes off.

    `seen` is observe.hooks(facts, generation). Links that no generation names are left alone. skip_blocked: an
    interface or cgroup that is not there, or that somebody else holds, is passed over, as on the way back, which must
    not stop half-way for it. by_link: a link that is alive is moved where it is, whatever has the place's name by now.
    """
    load = seen.loads.get(generation.load)
    if generation.attachments and load is None:
        raise NotFound(
            f"The programs of release {generation.release} are not loaded on this host",
            "Run bpf_program with the release's source: after a reboot the kernel has none of them",
            load=generation.load,
        )
    steps = [Settle(key) for key in sorted(seen.unsettled)]
    for key, attachment in generation.attachments.items():
        program = _program(load, attachment, generation)
        try:
            steps += _towards(seen, key, attachment, generation.load, program, by_link)
        except Failure:
            if not skip_blocked:
                raise
    return steps + _away(seen, generation)


def blocked(seen, generation):
    """What skip_blocked passes over, a Failure each: no such place or hook here, or somebody else's program."""
    found = []
    for key, attachment in generation.attachments.items():
        try:
            _towards(seen, key, attachment, generation.load, 0)
        except Failure as failure:
            found.append(failure)
    return found


def _program(load, attachment, generation):
    if attachment.program not in load.programs:
        raise NotFound(
            f"Release {generation.release} has no program {attachment.program}, which {attachment.describe()} needs",
            f"{did_you_mean(attachment.program, load.programs)} Name another, or detach {attachment.describe()} first",
            program=attachment.program,
            programs=sorted(load.programs),
        )
    return load.programs[attachment.program]


def _towards(seen, key, attachment, load, program, by_link=False):
    """Steps for one attachment. Raises what is wrong with its place, or HookHeld."""
    place, link = seen.places[key], seen.links.get(key)
    is_elsewhere = isinstance(place, Failure) or (link and not place.is_of(link))
    if by_link and is_elsewhere and link and not link.is_severed:
        return [Swap(key, attachment, load, link.prog_id)] if link.prog_id != program else []
    if isinstance(place, Failure):
        raise place
    attach = Attach(key, attachment, place, load)
    if link is None or link.is_severed or not place.is_of(link):
        _refuse_foreign(seen, key, attachment)
        return [attach]
    if attachment.mode and seen.modes[key] != attachment.mode:
        return [Detach(key, attachment._replace(mode=seen.modes[key]), link.prog_id, link.attach_type), attach]
    if link.prog_id != program:
        return [Swap(key, attachment, load, link.prog_id)]
    return []


def renews(seen, step):
    """Whether the step brings back what its link ran until the place was gone: a severed link still says what."""
    if isinstance(step, Settle):
        return True
    link = seen.links.get(step.key) if isinstance(step, Attach) else None
    return link is not None and link.prog_id == seen.loads[step.load].programs[step.attachment.program]


def _refuse_foreign(seen, key, attachment):
    """HookHeld where somebody else's program sits alone at the attachment's place."""
    if seen.holders[key]:
        who = owners.sentence(seen.holders[key][0])
        if not catalogue.hook_of(attachment).is_exclusive:
            raise HookHeld(
                f"{attachment.describe()} runs {who} already, by a link of {seen.name} whose pin was moved away",
                f"Put the pin back, or take the link off: bpftool link detach id {seen.holders[key][0].get('link_id')}",
                holders=list(seen.holders[key]),
            )
        raise HookHeld(
            f"{attachment.describe()} is held by {who}, which ebpf.deploy did not attach for {seen.name}",
            OWNER_ADVICE,
            holders=list(seen.holders[key]),
        )


def _away(seen, generation):
    """Detach what some generation attached and this one does not want."""
    known = {}
    for each in seen.generations.values():
        known.update(each.attachments)
    gone = [key for key in seen.links if key in known and key not in generation.attachments]
    return [Detach(key, known[key], seen.links[key].prog_id, seen.links[key].attach_type) for key in gone]


def move(seen, generation):
    """As mend, towards a load that no hook may run yet: its maps first hold what they take over."""
    return mend(seen, generation, first=_taken_in(seen, generation))


def mend(seen, generation, skip_blocked=False, first=()):
    """As switch, and the services that need a drop-in have it before a hook moves, and maps hold what is declared of
    them. `first`: what happens to maps before they are filled; a repair empties none.

    A drop-in that is there too early is harmless, as it brings back what is confirmed; one that is missing is not.
    """
    return [
        *_units_missing(seen, generation),
        *first,
        *_fill(seen, generation, skip_blocked, {step.map for step in first}),
        *switch(seen, generation, skip_blocked),
        *_counts_back(seen, *_left(seen, generation)),
        *_counts(seen, generation),
    ]


# ---- the maps ------------------------------------------------------------------------------------


def expect_maps_fit(seen, generation):
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


def _fill(seen, generation, can_wait, emptied=()):
    """What is declared is in the maps before a hook runs with them, in those that were emptied or copied into, too.

    MapChanged where some of it does not fit a map that has no policy, and that cannot wait.
    """
    steps = [
        FillMap(generation.load, name, lacks, can_wait)
        for name, lacks in sorted(seen.fillings.items())
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


def _prepared(seen, generation):
    """The way back for counts is there before anything moves."""
    rows = _merged_rows(generation)
    if not rows or generation.load in seen.carries or generation.onto not in seen.loads:
        return []
    return [PrepareMerge(generation.load, generation.onto, rows)]


def _counts(seen, generation, is_prepared=False):
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


def _counts_back(seen, *loads):
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


def _units_missing(seen, generation):
    if seen.units is None:
        return []
    texts = {unit: (text, seen.units.get(unit, "")) for unit, text in sorted(_units(generation).items())}
    return [WriteUnit(unit, text, before) for unit, (text, before) in texts.items() if text != before]


def _units_left(seen, *generations):
    """Take away the drop-ins that none of the generations needs."""
    needed = {unit for each in generations for unit in _units(each)}
    return [RemoveUnit(unit) for unit in sorted({*(seen.units or ())} - needed)]


def _units(generation):
    """{service: text of its drop-in} for all attachments whose place a service makes anew."""
    places = {catalogue.hook_of(each).unit(each): each.target for each in generation.attachments.values()}
    return {unit: units.drop_in(target) for unit, target in places.items() if unit}


def expect_empty(steps):
    """All is as planned; NotConverged names what is not."""
    if steps:
        raise NotConverged(
            "The host is not as planned although every step went through",
            "Run again; if it stays, something else on the host changes the same hook",
            missing=[describe(step) for step in steps],
        )


# ---- the transitions -----------------------------------------------------------------------------


def wanted(seen, attachments, load, *, replace=False, without=(), base=None):
    """The Generation, not numbered yet, in which `attachments` are added to those of `base` and all run `load`.

    `base` is what is confirmed, unless another is given. replace: exactly these. `without`: attachments to take off,
    where it is their program that is there.
    """
    base = base or seen.confirmed
    merged = {**(base.attachments if base and not replace else {}), **by_id(attachments)}
    for key, named in by_id(without).items():
        if key in merged and merged[key].program == named.program:
            del merged[key]
    release = store.release_of(load)
    policies, onto = _taken_over(seen, load)
    return store.Generation(
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


def by_id(attachments):
    """{id: Attachment}, the ids that links are pinned under."""
    return {catalogue.hook_of(attachment).id(attachment): attachment for attachment in attachments}


def _previous(seen, release):
    """The generation that was confirmed before the release last changed."""
    if seen.confirmed is None:
        return None
    if seen.confirmed.release == release:
        return seen.confirmed.previous
    return seen.confirmed.number


def change(seen, generation):
    """Steps from the confirmed generation to this one, confirmed at the end.

    Where nothing but the hooks differs, these alone.
    """
    hook_steps = move(seen, generation)
    before = seen.confirmed or NOTHING
    if generation.runs_the_same(before) and generation.has_options_of(before):
        return [*hook_steps, *prune(seen)]
    numbered = generation._replace(number=seen.next_number)
    prepared = _prepared(seen, generation)
    return [
        WriteGeneration(numbered),
        *prepared,
        Point("trial", numbered.number, None),
        *hook_steps,
        *(_counts(seen, generation, is_prepared=True) if prepared else []),
        *confirm(seen, numbered.number),
        *prune(seen, confirmed=numbered),
    ]


def begin(seen, generation, deadline):
    """Steps that arm a guarded change and move no hook: the guard does that.

    Only the trial's pointer says so from then on.
    """
    return [
        WriteGeneration(generation),
        *_units_missing(seen, generation),
        *_prepared(seen, generation),
        WriteDeadline(deadline),
        Point("trial", generation.number, None),
    ]


def confirm(seen, number):
    """Steps that make generation `number` the confirmed one, and no trial of it."""
    before = seen.confirmed.number if seen.confirmed else None
    disarm = [RemoveDeadline()] if seen.deadline else []
    return [Point("confirmed", number, before), Point("trial", None, number), *disarm]


def finish(seen):
    """Steps that end what a killed run began: its trial switched and confirmed."""
    return [*move(seen, seen.trial), *confirm(seen, seen.trial.number), *prune(seen, confirmed=seen.trial)]


def back(seen, ended=None, quarantine=""):
    """Steps that give up the trial: the hooks run `fallback` again, and `seen` is observe.hooks(facts, that).

    `ended` is how a guarded one ended (None where that is on the disk already), `quarantine` the digest that it costs.
    """
    return [*hooks_first(seen, ended, quarantine), *leave(seen, ended)]


def hooks_first(seen, ended=None, quarantine=""):
    """The steps of `back` up to the hooks, and to the counts, which follow them."""
    generation = fallback(seen)
    hook_steps = hooks_back(seen)
    ended = ended and ended._replace(left_out=tuple(left_out(hook_steps)))
    return [
        *([WriteQuarantine(quarantine, ended.why, seen.trial.number)] if quarantine else []),
        *([WriteEnded(ended)] if ended else []),
        *hook_steps,
        *(_counts_back(seen, seen.trial.load) if seen.trial.load != generation.load else []),
    ]


def leave(seen, ended=None):
    """The steps of `back` once the hooks run `fallback`: no trial is left. A lost `confirmed` names that again."""
    generation = fallback(seen)
    is_rejected = seen.staged and seen.staged.load == seen.trial.load != generation.load and _was_judged(seen, ended)
    is_unpointed = seen.confirmed is None and generation.number in seen.generations
    return [
        *_units_left(seen, seen.confirmed or generation),
        *([RemoveStaged(seen.staged)] if is_rejected else []),
        *(_trial_damage(seen) if seen.trial_is_lost else []),
        *([Point("confirmed", generation.number, None)] if is_unpointed and not (seen.damage or seen.newer) else []),
        Point("trial", None, seen.trial.number),
        *([RemoveDeadline()] if seen.deadline else []),
    ]


def hooks_back(seen):
    """Steps that make the hooks run `fallback` again, with what is declared in its maps, as far as they let us.

    Of a lost trial nobody knows what it added: the links that no generation names go. None where `fallback` cannot
    run: the hooks stay as they are, see `not_back`.
    """
    generation = fallback(seen)
    if not is_runnable(seen, generation):
        return []
    steps = [*_fill(seen, generation, can_wait=True), *switch(seen, generation, skip_blocked=True, by_link=True)]
    return [*steps, *(_unnamed_off(seen, steps) if seen.trial_is_lost else [])]


def still_on_trial(seen):
    """The places where a program of the trial's load alone sits, by whatever link, in words.

    `seen` is observe.hooks(facts, the trial or what it goes back to).
    """
    before, trial = (seen.loads.get(each.load) for each in (fallback(seen), seen.trial))
    ids = {*(trial.programs.values() if trial else ())} - {*(before.programs.values() if before else ())}
    named = {**seen.trial.attachments, **fallback(seen).attachments}
    return [
        f"{named[key].describe()} runs program {number} of the trial"
        for key, numbers in seen.sitting.items()
        for number in numbers
        if number in ids and key in named
    ]


def is_runnable(seen, generation):
    """Whether the kernel has the generation's programs."""
    programs = {each.program for each in generation.attachments.values()}
    return not programs or (generation.load in seen.loads and programs <= set(seen.loads[generation.load].programs))


def not_back(seen):
    """The hooks that do not run `fallback`, in words; those that cannot (see `blocked`) only while they run the trial.

    `seen` is observe.hooks(facts, fallback), with its links. Empty, too, where a reboot took all of them.
    """
    generation = fallback(seen)
    if is_runnable(seen, generation) and generation != seen.trial:
        steps = [step for step in hooks_back(seen) if isinstance(step, HOOK_STEPS)]
        return [describe(step) for step in steps]
    programs = seen.loads[seen.trial.load].programs.values() if seen.trial.load in seen.loads else ()
    named = {**seen.trial.attachments, **generation.attachments}
    return [
        f"{named[key].describe()} runs program {link.prog_id}, and what ran before cannot be loaded"
        for key, link in seen.links.items()
        if key in named and not link.is_severed and (not programs or link.prog_id in programs)
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
    return seen.trial.guarded and not (ended and ended.outcome in (store.SUPERSEDED, store.FAILED))


def fallback(seen):
    """The Generation that a trial goes back to: the one that it says (the confirmed one), or none where none ran.

    None, too, where a reboot took its programs: nothing ran before the trial then, and boot.py loads them again once
    the trial is gone. Where its record cannot be read, the newest generation before the trial that can run. What cannot
    run any more in the boot that it ran in is no way back: the hooks stay as they are.
    """
    before = _before(seen)
    if before is not None and is_runnable(seen, before):
        return before
    if seen.trial.boot_id not in ("", seen.boot_id):
        return NOTHING
    if before is not None:
        return before
    if seen.trial.back_to is None and (seen.trial_is_lost or not (seen.damage or seen.newer)):
        return NOTHING
    earlier = [each for number, each in sorted(seen.generations.items()) if number < seen.trial.number]
    return next((each for each in reversed(earlier) if is_runnable(seen, each)), seen.trial)


def _before(seen):
    """The Generation that ran before the trial, None where no record of it is left, or where an older record of the
    trial does not say and nothing is confirmed."""
    number, confirmed = seen.trial.back_to, seen.confirmed
    if number == 0:
        return NOTHING
    if number is None or (confirmed and confirmed.number == number):
        return confirmed
    return seen.generations.get(number)


def digest_left(seen, generation):
    """What is quarantined when `generation` is thrown back: its source, or where only the attachments differ, these.

    Empty where it equals what is confirmed: that never is.
    """
    if generation.runs_the_same(seen.confirmed):
        return ""
    if seen.confirmed is None or generation.release != seen.confirmed.release:
        return source_left(seen, generation)
    return attachments_digest(generation)


def source_left(seen, generation):
    """What quarantine knows of the generation's release: its source_id, with secrets its private_id; empty where its
    manifest is gone."""
    release = seen.releases.get(generation.release)
    return (release.private_id or release.source_id) if release else ""


def attachments_digest(generation):
    """The digest of a set of attachments, whatever release they run."""
    text = json.dumps([each.as_record() for key, each in sorted(generation.attachments.items())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def going_back(seen, target, why="", lifted=None):
    """Steps to run the release of generation `target` again, at today's attachments; `confirmed` is moved first.

    `seen` is observe.hooks(facts, the generation that `returning` gives), `lifted` the RemoveQuarantine of a release
    that a user named.
    """
    generation = returning(seen, target)
    left = "" if target and target.release == seen.confirmed.release else source_left(seen, seen.confirmed)
    stays_staged = seen.staged is None or seen.staged.load == generation.load
    return [
        WriteGeneration(generation),
        *([WriteQuarantine(left, why, seen.confirmed.number)] if left else []),
        *([lifted] if lifted else []),
        *([] if stays_staged else [RemoveStaged(seen.staged)]),
        Point("confirmed", generation.number, seen.confirmed.number),
        *mend(seen, generation, skip_blocked=True),
        *prune(seen if stays_staged else seen._replace(staged=None), confirmed=generation),
    ]


def returning(seen, target):
    """The Generation of a rollback: today's attachments on the target's load, its `previous` inherited; what was proven
    of the target stays so."""
    return seen.confirmed._replace(
        number=seen.next_number,
        load=target.load if target else seen.confirmed.load,
        release=target.release if target else seen.confirmed.release,
        attachments=seen.confirmed.attachments if target else {},
        previous=target.previous if target else seen.confirmed.previous,
        policies=target.policies if target else seen.confirmed.policies,
        onto=target.onto if target else seen.confirmed.onto,
        leaves=seen.confirmed.load if target and target.load != seen.confirmed.load else "",
        proven_after=(target or seen.confirmed).proven_after,
    )


def stage(seen, release, aside, staged, files, hidden=()):
    """Steps that make `staged` (store.Staged) the staged load.

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


def declare(load, name, edit, before, after):
    """Steps that make a map's contents, and what is declared of it, as bpf_map was asked; first on the disk."""
    return [
        *([WriteDeclared(name, after, before)] if after != before else []),
        *([EditMap(load, name, edit)] if not edit.is_empty else []),
    ]


def prune(seen, *, staged=None, confirmed=None):
    """Steps that drop what nobody needs: generations, loads and releases that are neither staged, nor on trial, nor
    confirmed or its previous, nor the newest proven one, nor among the newest `seen.keep`, and drop-ins that neither
    the trial nor the confirmed one needs.

    `staged` and `confirmed` say what will be so when these steps are reached. Nothing where a newer version's records
    may need more than is known here.
    """
    if seen.newer:
        return []
    staged, confirmed = staged or seen.staged, confirmed or seen.confirmed
    generations = {**seen.generations, **({confirmed.number: confirmed} if confirmed else {})}
    needed = set(sorted(generations)[-seen.keep :])
    needed |= {number for each in (confirmed, seen.trial) if each for number in (each.number, each.previous)}
    needed |= {seen.proven}
    needed |= {number for number, each in generations.items() if confirmed and _waits(seen, confirmed, each)}
    kept = [generations[number] for number in needed if number in generations]
    loads = {each.load for each in kept} | ({staged.load} if staged else set())
    releases = {store.release_of(load) for load in loads}
    onto = {each.load: each.onto for each in generations.values()}
    return [
        *_units_left(seen, *(each for each in (confirmed, seen.trial) if each)),
        *(RemoveGeneration(each) for number, each in sorted(seen.generations.items()) if number not in needed),
        *(DropMerge(load) for load in sorted(seen.carries) if not {load, onto.get(load)} <= loads),
        *(RemoveLoad(load) for load in sorted({*seen.loads} - loads)),
        *(RemoveLoad(name) for name in seen.debris),
        *(RemoveRelease(number) for number in sorted({*seen.releases} - releases)),
    ]


def _waits(seen, confirmed, generation):
    """Whether counts that came with the generation still have to go back to those of the confirmed one."""
    return generation.load == confirmed.leaves and generation.load in seen.carries


def adopted(seen):
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
    base = seen.confirmed or NOTHING
    load = loads.pop()
    attachments = {**base.attachments, **{key: each.attachment for key, each in ours.items()}}
    return base._replace(load=load, release=store.release_of(load), attachments=attachments)


def adoption(seen, generation):
    """Steps that confirm what `adopted` made of the links, and drop what could not be read."""
    clearance = [RemoveDamaged(path) for path in seen.damage]
    if generation.runs_the_same(seen.confirmed or NOTHING):
        return [*clearance, *mend(seen, generation), *prune(seen)]
    numbered = generation._replace(number=seen.next_number)
    return [
        WriteGeneration(numbered),
        Point("confirmed", numbered.number, seen.confirmed.number if seen.confirmed else None),
        *clearance,
        *mend(seen, generation),
        *prune(seen, confirmed=numbered),
    ]


def keeping(seen, keep):
    """Steps after which `keep` generations stay, and no more."""
    return [*([WriteKeep(keep)] if keep != seen.keep else []), *prune(seen._replace(keep=keep))]


def removal(seen):
    """Steps after which nothing of the deployment is left but its serial."""
    empty = (
        store.Generation(seen.next_number, seen.confirmed.load, seen.confirmed.release, {}) if seen.confirmed else None
    )
    steps = [WriteGeneration(empty), Point("confirmed", empty.number, seen.confirmed.number)] if empty else []
    steps += switch(seen, empty or NOTHING)
    steps += _unnamed_off(seen, steps)
    steps += _units_left(seen, NOTHING)
    steps += [DropMerge(load) for load in sorted(seen.carries)]
    steps += [RemoveLoad(name) for name in (*sorted(seen.loads), *seen.debris)]
    steps += [RemoveStaged(seen.staged)] if seen.staged else []
    steps += [Point("confirmed", None, empty.number)] if empty else []
    steps += [RemoveGeneration(each) for each in (*seen.generations.values(), *([empty] if empty else []))]
    steps += [RemoveRelease(number) for number in sorted(seen.releases)]
    steps += [RemoveDamaged(path) for path in seen.damage]
    steps += [RemoveDeadline()] if seen.deadline else []
    return [*steps, RemoveFolders(seen.name)]


def _unnamed_off(seen, steps):
    """Detach the links that no generation names, but for those that the steps detach by an older generation's word."""
    gone = {step.key for step in steps if isinstance(step, Detach)}
    return [_detach_unnamed(seen.links[key], key, each) for key, each in seen.unnamed.items() if key not in gone]


def _detach_unnamed(link, key, unnamed):
    attachment = unnamed.attachment or Attachment(link.type, "an unknown program", "a place that no generation names")
    return Detach(key, attachment, link.prog_id, link.attach_type)
