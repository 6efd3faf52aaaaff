# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Steps carried out, traced, undone. The only room that moves a hook.

A SIGKILL between any two steps leaves each hook with the old program or the new one, never with none: what is then
missing is what the next plan says. Where a hook has to be left empty between two steps, a child stands by.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from typing import Callable, NamedTuple, Optional

from ..errors import Damaged, Failure, HookHeld
from ..hooks import catalogue
from ..hooks.contract import ProgramType
from ..kernel import bpf, children, files
from ..objects import carry, contents
from . import declared, hold, records, steps, store, units

HANGS_AFTER = 20  # s between a detach and its attach: a driver that sets up its queues anew takes a few
LET_GO_WITHIN = 2  # s in which the kernel lets go of a link that a killed run had made and not pinned


def trace(moment: str, step: tuple) -> None:
    """Called before and after each step. Tests put a competitor, a failure or the end of the process here."""


def carry_out(planned: list, home: records.Home, is_decided: bool = False) -> list:
    """All planned steps are done; what those have to tell that moved entries: {map, before, after, carried, left} each.

    When one fails, those before it are undone in reverse, unless the transition's commit was passed, or `is_decided`
    says that there is nothing to go back to. Then a hook that refuses, or a map that cannot be filled, keeps no other
    from its step: the first failure is raised at the end, when all else is done.
    """
    if not home.may_change:
        raise Damaged(f"The steps for {home.name} were about to run without its lock", "This is a fault of ebpf.deploy")
    with contextlib.ExitStack() as stand_in:
        return _carried_out(planned, home, is_decided, stand_in)


def _carried_out(planned, home, is_decided, stand_in):
    done, told, late = [], [], []
    for step, following in zip(planned, [*planned[1:], None]):
        trace("before", step)
        try:
            if _has_gap(step, following):
                _stand_by(step, following, home, stand_in)
            told += DEEDS[type(step)].do(step, home) or ()
            if isinstance(step, steps.PutOn):
                stand_in.close()
        except Exception as error:  # ours, too: what was done is undone, and no hook keeps another from going back
            decided = is_decided or any(each.is_commit for each in done)
            if not (step.may_be_passed_over and (decided or isinstance(step, steps.FillMap))):
                raise _failed(error, step, done, home, decided) from error
            late.append((error, step))
            if done and _has_gap(done[-1], step):  # no hook is left empty: it runs what it ran, in that mode
                _undo([done[-1]], home)
        done.append(step)
        trace("after", step)
    for error, step in late:
        raise _named(error, step)
    return told


def _failed(error, step, done, home, decided):
    """The Failure to raise for a step: with what was undone, or what the next run will finish.

    A pointer that failed is undone itself, too: it may be renamed already, and its folder not synced.
    """
    failure = _named(error, step)
    if decided:
        failure.detail["left"] = "the change is decided; the next run finishes it"
        return failure
    problems = _undo([*done, step] if isinstance(step, steps.Point) else done, home)
    if problems:
        failure.detail["not_undone"] = problems
    return failure


def _named(error, step):
    failure = error if isinstance(error, Failure) else _failure(error)
    failure.detail.setdefault("step", step.describe())
    return failure


def _failure(error):
    """A fault of ours keeps its traceback as a field: the guard, which goes on, has nobody to show it to."""
    if isinstance(error, OSError):
        return files.disk_failure(error)
    shown = traceback.format_exception(type(error), error, error.__traceback__)
    return Failure(f"A step failed by a fault of ebpf.deploy: {error!r}", "Report it", traceback="".join(shown))


def _undo(done, home):
    """What could not be undone, in words. Whatever a step raises, those before it are undone, too."""
    problems = []
    for step in reversed(done):
        try:
            if undo := DEEDS[type(step)].undo:
                undo(step, home)
        except Exception as error:
            problems.append(f"{step.describe()}: {error if isinstance(error, (Failure, OSError)) else repr(error)}")
    return problems


# ---- hooks ---------------------------------------------------------------------------------------


def _program(step, home):
    """An Fd of the program that the step is about, held or from its load's pins: no compiler, no verifier."""
    found = home.held.program(step.load, step.attachment.program) if home.held else None
    return found or hold.pinned(os.path.join(home.loads, step.load, "progs", step.attachment.program))


def _settle(step, home):
    """`key` names the pin: an attachment's id, and its part where it has several."""
    path = os.path.join(home.links, step.key)
    if os.path.exists(path + "-next"):
        os.rename(path + "-next", path)


def _put_on(step, home):
    with _program(step, home) as program:
        _put_program_on(step, home, program)


def _put_program_on(step, home, program):
    hook = catalogue.hook_of(step.attachment)
    place = step.place or hook.place(step.attachment, ProgramType(0, step.attach_type))
    hook.put_on(step.attachment, place, program, hold.Hold(home, step.key))


def _replace(step, home):
    with _program(step, home) as new, bpf.prog_by_id(step.expected) as old:
        _replace_by(step, home, new, old)


def _replace_undo(step, home):
    with _program(step, home) as new, bpf.prog_by_id(step.expected) as old:
        _replace_by(step, home, old, new)


def _replace_by(step, home, new, expected):
    hook = catalogue.hook_of(step.attachment)
    hook.replace(step.attachment, step.place, new, expected, hold.Hold(home, step.key))


def _take_off(step, home):
    with contextlib.suppress(FileNotFoundError):  # unpinned meanwhile
        catalogue.hook_of(step.attachment).take_off(step.attachment, step.place, hold.Hold(home, step.key))


def _take_off_undo(step, home):
    """Put on anew with the program that ran there: the gap is this step's own, as it always has one."""
    with bpf.prog_by_id(step.program) as program:
        _put_program_on(step, home, program)


# ---- a gap -------------------------------------------------------------------------------------


def _has_gap(step, following):
    """Whether the hook runs nothing between the two steps."""
    return isinstance(step, steps.TakeOff) and isinstance(following, steps.PutOn) and step.key == following.key


def _stand_by(take_off, put_on, home, stand_in):
    """Until `stand_in` (an ExitStack) is closed, a child that outlives this run ends the gap if it does not.

    It holds open what that takes, whatever becomes of the pins.
    """
    with contextlib.suppress(FileNotFoundError):  # unpinned meanwhile: the steps see to that
        link = stand_in.enter_context(hold.Hold(home, take_off.key).opened())
        new = stand_in.enter_context(_program(put_on, home))
        old = stand_in.enter_context(bpf.prog_by_id(take_off.program))
        before = put_on._replace(attachment=take_off.attachment)
        ways = ((put_on, new), (before, old))
        stand_in.enter_context(children.standing_by(lambda: _end_gap(ways, home, link), HANGS_AFTER))


def _end_gap(ways, home, link):
    """The hook runs the new program, or where that is refused the old one as it was; the rest of the plan is the next
    run's."""
    if hold.Hold(home, ways[0][0].key).is_pinned():
        return
    with contextlib.suppress(OSError):
        catalogue.hook_of(ways[0][0].attachment).detach(link)
    for step, program in ways:
        end = time.monotonic() + LET_GO_WITHIN
        while time.monotonic() < end:
            try:
                return _put_program_on(step, home._replace(held=None), program)
            except HookHeld:
                time.sleep(0.05)
            except (Failure, OSError):
                break


# ---- what a guard holds --------------------------------------------------------------------------


def mend(lacking: list, home: records.Home) -> None:
    """Each (path, what makes it) of held.lacks is there: an Fd is pinned, and nothing else is at its path."""
    if lacking and not home.may_change:
        raise Damaged(f"{home.name} was about to be mended without its lock", "This is a fault of ebpf.deploy")
    if lacking:
        files.mount_bpffs()
    for path, make in lacking:
        made = make()
        if isinstance(made, bpf.Fd):
            _pin_again(made, path)


def _pin_again(made, path):
    try:
        with made as fd:
            files.make_private_folder(os.path.dirname(path))
            files.remove(path)
            bpf.pin(fd, path)
    except OSError as error:  # EPERM: no BPF file system is there
        raise files.disk_failure(error) from error


# ---- loads ---------------------------------------------------------------------------------------


def _pin_load(step, home):
    os.rename(os.path.join(home.loads, step.aside), os.path.join(home.loads, step.load))


def _remove_load(step, home):
    """Aside it bears the name of a half-made load, which the next run prunes."""
    whole = os.path.join(home.loads, step.load)
    files.remove_whole(whole, whole if step.load.endswith("-tmp") else f"{whole}-{os.getpid()}-tmp")


# ---- contents of maps ----------------------------------------------------------------------------


def _map(home, load, name):
    """An Fd of a load's map, by the id that the guard holds or from its pin."""
    return (home.held.map(load, name) if home.held else None) or hold.pinned(
        os.path.join(home.loads, load, "maps", name)
    )


def _empty_map(step, home):
    with _map(home, step.load, step.map) as fd:
        carry.empty(fd)


def _copy_map(step, home):
    with _map(home, step.onto, step.map) as old, _map(home, step.load, step.map) as new:
        return [{"map": step.map, **carry.copy(old, new, step.rows)._asdict()}]


def _prepare_merge(step, home):
    """Both ways, because the way back may have to do without a verifier."""
    aside = os.path.join(home.carry, step.load + "-tmp")
    files.remove_tree(aside)
    store.make_pins_folder(aside)
    for name, rows in step.rows.items():
        with _map(home, step.onto, name) as old, _map(home, step.load, name) as new:
            for way, source, target, moves in (("in", old, new, rows), ("back", new, old, carry.reversed_moves(rows))):
                with carry.merger(source, target, moves) as fd:
                    bpf.pin(fd, os.path.join(aside, f"{name}-{way}"))
    os.rename(aside, os.path.join(home.carry, step.load))


def _merge(step, home):
    told = [_moved(home, step, name, step.onto, step.load, rows, "in") for name, rows in step.rows.items()]
    os.mkdir(os.path.join(home.carry, step.load, "merged"), 0o700)
    return told


def _merge_back(step, home):
    """Once: were it asked for again and again, a map without room would keep a trial from ending."""
    back = {name: carry.reversed_moves(rows) for name, rows in step.rows.items()}
    try:
        return [_moved(home, step, name, step.load, step.onto, rows, "back") for name, rows in back.items()]
    finally:
        _drop_merge(step, home)


def _moved(home, step, name, source, target, rows, way):
    program = hold.pinned(os.path.join(home.carry, step.load, f"{name}-{way}"))
    with _map(home, source, name) as old, _map(home, target, name) as new, program as fd:
        return {"map": name, **carry.merge(old, new, fd, rows, must_fit=way == "in")._asdict()}


def _drop_merge(step, home):
    """Renamed first: what is left of it after a kill is not taken for the whole."""
    whole = os.path.join(home.carry, step.load)
    files.remove_whole(whole, whole if step.load.endswith("-tmp") else whole + "-tmp")
    files.remove_if_empty(home.carry)


def _fill_map(step, home):
    """Seen anew: what this transition did to the map meanwhile counts."""
    what = None if step.lacks.is_unreadable else store.declared(home, step.map)
    if what is not None:
        with _map(home, step.load, step.map) as fd:
            lacks = declared.filling(fd, step.map, what, store.release(home, records.release_of(step.load)))
            contents.carry_out(fd, bpf.map_info(fd), lacks.edit)


def _edit_map(step, home):
    with _map(home, step.load, step.map) as fd:
        contents.carry_out(fd, bpf.map_info(fd), step.edit)


# ---- state on the disk ---------------------------------------------------------------------------


def _remove_generation(step, home):
    store.remove_generation(home, step.generation.number)
    store.remove_ended(home, step.generation.number)


def _write_unit_undo(step, home):
    if step.before:
        units.write(home.name, step.unit, step.before)
    else:
        units.remove(home.name, step.unit)


def _remove_folders(step, home):
    files.remove_tree(home.carry)
    files.remove_if_empty(home.links)  # a link that no generation names stays
    files.remove_if_empty(home.loads, home.pins, records.PINS)  # another run may be loading there
    for name in {*files.names_in(home.folder)} - store.OUTLIVES:
        path = os.path.join(home.folder, name)
        files.remove_tree(path) if os.path.isdir(path) else files.remove(path)


class Deed(NamedTuple):
    """What does a step, and what undoes it: functions of (step, home)."""

    do: Callable
    undo: Optional[Callable] = None  # what it leaves the next run prunes, or makes anew


DEEDS = {
    steps.Settle: Deed(_settle),
    steps.PutOn: Deed(_put_on, _take_off),
    steps.Replace: Deed(_replace, _replace_undo),
    steps.TakeOff: Deed(_take_off, _take_off_undo),
    steps.PrepareMerge: Deed(_prepare_merge, _merge_back),
    steps.Merge: Deed(_merge),
    steps.MergeBack: Deed(_merge_back),
    steps.DropMerge: Deed(_drop_merge),
    steps.WriteRelease: Deed(
        lambda step, home: store.write_release(home, step.release, step.files),
        lambda step, home: store.remove_release(home, step.release.id),
    ),
    steps.MendRelease: Deed(lambda step, home: store.mend_release(home, step.release, step.files)),
    steps.HideGlobals: Deed(lambda step, home: store.write_manifest(home, step.release)),
    steps.RemoveRelease: Deed(lambda step, home: store.remove_release(home, step.release)),
    steps.PinLoad: Deed(_pin_load, _remove_load),
    steps.RemoveLoad: Deed(_remove_load),
    steps.WriteStaged: Deed(lambda step, home: store.write_staged(home, step.staged)),
    steps.RemoveStaged: Deed(
        lambda step, home: store.remove_staged(home),
        lambda step, home: store.write_staged(home, step.staged),
    ),
    steps.WriteGeneration: Deed(
        lambda step, home: store.write_generation(home, step.generation),
        lambda step, home: store.remove_generation(home, step.generation.number),
    ),
    steps.RemoveGeneration: Deed(_remove_generation),
    steps.Point: Deed(
        lambda step, home: store.point(home, step.pointer, step.number),
        lambda step, home: store.point_back(home, step.pointer, step.before),
    ),
    steps.WriteDeadline: Deed(
        lambda step, home: store.write_deadline(home, step.deadline),
        lambda step, home: store.remove_deadline(home),
    ),
    steps.RemoveDeadline: Deed(lambda step, home: store.remove_deadline(home)),
    steps.WriteEnded: Deed(lambda step, home: store.write_ended(home, step.ended)),
    steps.WriteQuarantine: Deed(lambda step, home: store.write_quarantine(home, step.digest, step.why, step.number)),
    steps.RemoveQuarantine: Deed(
        lambda step, home: store.remove_quarantine(home, step.digest),
        lambda step, home: store.write_quarantine(home, step.digest, step.why, step.number),
    ),
    steps.WriteKeep: Deed(lambda step, home: store.write_keep(home, step.keep)),
    steps.RemoveFolders: Deed(_remove_folders),
    steps.RemoveDamaged: Deed(lambda step, home: store.remove_damaged(step.path)),
    steps.WriteUnit: Deed(lambda step, home: units.write(home.name, step.unit, step.text), _write_unit_undo),
    steps.RemoveUnit: Deed(lambda step, home: units.remove(home.name, step.unit)),
    steps.EmptyMap: Deed(_empty_map),
    steps.CopyMap: Deed(_copy_map),
    steps.WriteDeclared: Deed(
        lambda step, home: store.write_declared(home, step.map, step.after),
        lambda step, home: store.write_declared(home, step.map, step.before),
    ),
    steps.FillMap: Deed(_fill_map),
    steps.EditMap: Deed(_edit_map),
}
