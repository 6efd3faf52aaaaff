# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The steps that change a deployment, and what can be told of each without doing it.

Every transition is a list of these records: plan.py and ways.py make it, apply.py carries it out. Beside its fields and
its words (`describe`: for check mode, results and journal) each kind of step answers three questions:

- is_commit: with this step the transition is decided. What fails before it is undone; what fails after it is finished
  by the next run.
- may_be_passed_over: once the transition is decided, a failure of this step does not stop the others. Every other hook
  still goes back, and the trial still ends.
- is_hook_step: it changes what a hook runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from ..errors import NotConverged
from ..hooks import catalogue
from ..hooks.contract import Attachment, Place
from ..objects import contents
from . import declared, records

QUESTIONS = ("is_commit", "may_be_passed_over", "is_hook_step")


def _step(kind):
    """The class, which answers no to each question that it does not answer itself."""
    for question in QUESTIONS:
        if not hasattr(kind, question):
            setattr(kind, question, False)
    return kind


# ---- hooks ---------------------------------------------------------------------------------------


@_step
class Settle(NamedTuple):
    """The new link that a killed run had pinned aside takes its place."""

    key: str

    is_hook_step = True
    may_be_passed_over = True

    def describe(self) -> str:
        return f"finish the interrupted attachment {self.key}"


@_step
class PutOn(NamedTuple):
    """The place runs the load's program; what was pinned for it before (severed, elsewhere) is dropped."""

    key: str
    attachment: Attachment
    place: Place
    load: str

    is_hook_step = True
    may_be_passed_over = True

    def describe(self) -> str:
        return f"attach {self.attachment.program} of load {self.load} at {catalogue.words(self.attachment)}"


@_step
class Replace(NamedTuple):
    """The place runs the load's program instead of the expected one. No place: the link is moved wherever it is."""

    key: str
    attachment: Attachment
    load: str
    expected: int
    place: Optional[Place] = None

    is_hook_step = True
    may_be_passed_over = True

    def describe(self) -> str:
        new = f"{self.attachment.program} of load {self.load}"
        return f"replace program {self.expected} by {new} at {catalogue.words(self.attachment)}"


@_step
class TakeOff(NamedTuple):
    """The place runs nothing of ours, and nothing is pinned for it.

    Attachment (with the live options that it ran with), program, attach_type and place are what it takes to put it on
    again. No place: nothing tells it any more.
    """

    key: str
    attachment: Attachment
    program: int
    attach_type: int
    place: Optional[Place] = None

    is_hook_step = True
    may_be_passed_over = True

    def describe(self) -> str:
        return f"detach {self.attachment.program} from {catalogue.words(self.attachment)}"


# ---- counts --------------------------------------------------------------------------------------


@_step
class PrepareMerge(NamedTuple):
    """The programs that move counts from the maps of `onto` to those of `load`, and back, are loaded and pinned.

    `rows` is {map: rows}. Undone, all counts are back.
    """

    load: str
    onto: str
    rows: dict

    def describe(self) -> str:
        return f"prepare to merge {', '.join(self.rows)} of load {self.onto} into load {self.load}"


@_step
class Merge(NamedTuple):
    """The counts of the maps of `onto` are in those of `load`, which all hooks run now."""

    load: str
    onto: str
    rows: dict

    def describe(self) -> str:
        return f"merge {', '.join(self.rows)} of load {self.onto} into load {self.load}"


@_step
class MergeBack(NamedTuple):
    """The counts are in the maps of `onto` again, whatever hooks run now; their programs are gone.

    `left` tells, once it was carried out, {map: entries whose counts found no room there}.
    """

    load: str
    onto: str
    rows: dict
    left: dict = {}

    may_be_passed_over = True

    def describe(self) -> str:
        merged = f"merge {', '.join(self.rows)} of load {self.load} back into load {self.onto}"
        return "; left out are ".join([merged, *self.counts_left()])

    def counts_left(self) -> list:
        """The counts that found no room, in words, a line for each map."""
        return [
            f"counts of {number} entries of {name}, which has no room for them" for name, number in self.left.items()
        ]


@_step
class DropMerge(NamedTuple):
    """Nobody will want the counts of `load` back."""

    load: str

    def describe(self) -> str:
        return f"forget how to merge back from load {self.load}"


# ---- releases and loads --------------------------------------------------------------------------


@_step
class WriteRelease(NamedTuple):
    """The release's manifest and its files, {name: bytes}, are on the disk."""

    release: object
    files: dict

    def describe(self) -> str:
        return f"keep release {self.release.id}"


@_step
class MendRelease(NamedTuple):
    """The files of a release that was damaged on the disk are as they were written first."""

    release: object
    files: dict

    def describe(self) -> str:
        return f"write the files of release {self.release.id} again, which were damaged"


@_step
class HideGlobals(NamedTuple):
    """The manifest on the disk is this release's, which tells less than it did."""

    release: object

    def describe(self) -> str:
        return f"hide globals of release {self.release.id}"


@_step
class RemoveRelease(NamedTuple):
    release: str

    def describe(self) -> str:
        return f"remove release {self.release}"


@_step
class PinLoad(NamedTuple):
    """The pins that were made aside take the load's name."""

    aside: str
    load: str

    def describe(self) -> str:
        return f"pin load {self.load}"


@_step
class RemoveLoad(NamedTuple):
    load: str

    def describe(self) -> str:
        return f"unload {self.load}"


@_step
class WriteStaged(NamedTuple):
    staged: records.Staged

    is_commit = True

    def describe(self) -> str:
        return f"stage load {self.staged.load}"


@_step
class RemoveStaged(NamedTuple):
    staged: records.Staged

    def describe(self) -> str:
        return f"unstage load {self.staged.load}"


# ---- generations and trials ----------------------------------------------------------------------


@_step
class WriteGeneration(NamedTuple):
    generation: records.Generation

    def describe(self) -> str:
        return f"write generation {self.generation.number}"


@_step
class RemoveGeneration(NamedTuple):
    generation: records.Generation

    def describe(self) -> str:
        return f"forget generation {self.generation.number}"


@_step
class Point(NamedTuple):
    """`trial` or `confirmed` names the generation (None: nothing); `before` is what it named."""

    pointer: str
    number: Optional[int]
    before: Optional[int]

    @property
    def is_commit(self) -> bool:
        return self.pointer == "confirmed"

    def describe(self) -> str:
        return f"{self.pointer}: generation {self.number or 'none'}"


@_step
class WriteDeadline(NamedTuple):
    deadline: records.Deadline

    def describe(self) -> str:
        return f"arm the guard of generation {self.deadline.generation}"


@_step
class RemoveDeadline(NamedTuple):
    """No deadline waits any more: its guard ends."""

    def describe(self) -> str:
        return "disarm the guard"


@_step
class WriteEnded(NamedTuple):
    """How the trial ended is on the disk: from here there is only the way back."""

    ended: records.Ended

    is_commit = True

    def describe(self) -> str:
        return f"generation {self.ended.generation} {self.ended.outcome}: {self.ended.why}"


@_step
class WriteQuarantine(NamedTuple):
    digest: str
    why: str
    number: int

    def describe(self) -> str:
        return f"quarantine {self.digest[:16]}: {self.why}"


@_step
class RemoveQuarantine(NamedTuple):
    """What was thrown back may come again: a user named it. The fields are what its quarantine says."""

    digest: str
    why: str
    number: int

    def describe(self) -> str:
        return f"lift the quarantine of {self.digest[:16]}: {self.why}"


@_step
class WriteKeep(NamedTuple):
    """So many generations stay from now on."""

    keep: int

    def describe(self) -> str:
        return f"keep {self.keep} of the generations"


@_step
class RemoveFolders(NamedTuple):
    """The deployment's empty folders are gone; its serial stays, so that no generation's number comes again."""

    name: str

    def describe(self) -> str:
        return f"remove the folders of {self.name}"


@_step
class RemoveDamaged(NamedTuple):
    """The file that nobody can read is gone."""

    path: str

    def describe(self) -> str:
        return f"remove {self.path}, which cannot be read"


# ---- services ------------------------------------------------------------------------------------


@_step
class WriteUnit(NamedTuple):
    """The service's start brings its programs back: systemd has read the drop-in. `before` is what stood in it."""

    unit: str
    text: str
    before: str = ""

    def describe(self) -> str:
        return f"add a drop-in to {self.unit}"


@_step
class RemoveUnit(NamedTuple):
    unit: str

    def describe(self) -> str:
        return f"remove the drop-in of {self.unit}"


# ---- contents of maps ----------------------------------------------------------------------------


@_step
class EmptyMap(NamedTuple):
    """The map holds nothing, before any hook runs the load."""

    map: str
    load: str

    def describe(self) -> str:
        return f"empty map {self.map} of load {self.load}"


@_step
class CopyMap(NamedTuple):
    """The map holds what that of the load `onto` does, before any hook runs its own load."""

    map: str
    load: str
    onto: str
    rows: list

    def describe(self) -> str:
        return f"copy map {self.map} of load {self.onto} into that of load {self.load}"


@_step
class WriteDeclared(NamedTuple):
    """What is declared of the map is on the disk; `before` is what was (None: nothing)."""

    map: str
    after: Optional[records.Declared]
    before: Optional[records.Declared]

    def describe(self) -> str:
        return f"declare {len(self.after.entries if self.after else ())} entries of {self.map}"


@_step
class FillMap(NamedTuple):
    """The load's map holds what is declared of it, but for what is left out: `lacks` as far as it was seen.

    can_wait: what the kernel refuses of it is said when all other steps are done, as on the way back, which must not
    stop half-way for it.
    """

    load: str
    map: str
    lacks: declared.Filling
    can_wait: bool = False

    @property
    def may_be_passed_over(self) -> bool:
        return self.can_wait

    def describe(self) -> str:
        filled = f"fill map {self.map} of load {self.load} as declared ({_counted(self.lacks.edit)})"
        return "; left out are ".join([filled, *self.lacks.left_out])


@_step
class EditMap(NamedTuple):
    """The load's map is as bpf_map was asked for."""

    load: str
    map: str
    edit: contents.Edit

    def describe(self) -> str:
        return f"{_counted(self.edit)} entries of map {self.map} of load {self.load}"


# ---- several steps -------------------------------------------------------------------------------


def _counted(edit):
    return f"write {len(edit.puts)} and delete {len(edit.deletes)}"


def left_out(steps: Iterable) -> list:
    """What did not fit the maps that the steps fill or take counts back to, in words."""
    filled = [f"map {step.map}: {text}" for step in steps if isinstance(step, FillMap) for text in step.lacks.left_out]
    return filled + [text for step in steps if isinstance(step, MergeBack) for text in step.counts_left()]


def as_told(steps: Iterable, told: Iterable) -> list:
    """The steps, each MergeBack with what apply.carry_out told of it."""
    left = {row["map"]: row["left"] for row in told if row["left"]}
    return [
        step._replace(left={**step.left, **{name: left[name] for name in step.rows if name in left}})
        if isinstance(step, MergeBack)
        else step
        for step in steps
    ]


def expect_empty(steps: Sequence) -> None:
    """All is as planned; NotConverged names what is not."""
    if steps:
        raise NotConverged(
            "The host is not as planned although every step went through",
            "Run again; if it stays, something else on the host changes the same hook",
            missing=[step.describe() for step in steps],
        )
