# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One suite for every hook: attach and find, again, replace, a wrong expectation, strangers, a place that goes, detach,
a guard, a reboot. What each hook is tested with is in hook_rows.py; a test compares that table with the catalogue."""

from __future__ import annotations

import contextlib
import os

import hook_rows
import private_host
import programs
import pytest
from hook_rows import ROWS, rows_whose
from private_host import NAME, bpftool

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    apply,
    boot,
    held,
    inventory,
    lock,
    steps,
    store,
    transitions,
    trial,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import HookHeld, HookMoved, NotFound, WrongType
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue, contract
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files, namespaces

EXCLUSIVE = rows_whose(lambda hook: hook.is_exclusive and hook.link_type != "")
SHARED = rows_whose(lambda hook: not hook.is_exclusive)
UPDATED = rows_whose(lambda hook: hook.how == contract.UPDATE and hook.link_type != "")
OVERLAPPING = rows_whose(lambda hook: hook.how == contract.OVERLAP)
CAN_GO = sorted(name for name, row in ROWS.items() if row.destroy)
WITH_MODES = rows_whose(lambda hook: "mode" in hook.options)


@pytest.fixture(params=sorted(ROWS))
def case(request, host):
    return hook_rows.made(request.param, host)


def test_table_has_every_hook_of_the_catalogue():
    assert {row.hook for row in ROWS.values()} == set(catalogue.HOOKS)


def test_attach_is_found_and_runs(case):
    outcome = case.attach(case.wanted)

    assert [type(step) for step in outcome.steps if step.is_hook_step] == [steps.PutOn]
    case.row.traffic(case.host, 3)
    assert case.counts() == {1: 3}
    number = outcome.after.loads[outcome.generation.load].programs[case.row.program]
    assert case.seat() == contract.Seat(frozenset({number}), options=case.seat().options)
    assert outcome.after.links[case.key].prog_id == number
    if case.row.hook != "tc":
        link = outcome.after.links[case.key]
        assert private_host.links()[link.id]["prog_id"] == number
        assert private_host.program_of_link(link.id) == case.row.program


def test_bpf_info_lists_it_with_its_options(case):
    case.attach(case.wanted)

    rows, dummy = inventory.attachments()

    (row,) = (each for each in rows if each["hook"] == case.row.hook and each["deployment"] == NAME)
    assert row["program"] == case.row.program[:15]
    told = {name: value for name, value in case.wanted.options if name in row}
    assert {name: row[name] for name in told} == told
    assert row["link_id"] == case.kept()


def test_program_of_another_type_is_refused_by_one_sentence(case):
    other = programs.CGROUP if case.row.program == programs.XDP else programs.XDP

    with pytest.raises(WrongType) as refusal:
        case.attach(case.wanted._replace(program=other))

    assert refusal.value.what.startswith(other)
    assert f"hook {case.row.hook} takes " in refusal.value.what
    assert case.host.facts().links == {}


def test_attach_again_changes_nothing(case):
    first = case.attach(case.wanted)

    again = case.attach(case.wanted)

    assert again.steps == ()
    assert not again.changed
    assert again.after.links == first.after.links


def test_new_release_runs_in_the_place_of_the_old_one(case):
    case.attach(case.wanted)
    case.row.traffic(case.host, 2)
    kept, old = case.kept(), case.seat().runs
    case.host.stage(2)

    outcome = case.attach()

    assert [type(step) for step in outcome.steps if step.is_hook_step] == [steps.Replace]
    assert (case.kept() == kept) == (catalogue.HOOKS[case.row.hook].how == contract.UPDATE)
    assert case.seat().runs.isdisjoint(old)
    assert not [link for link in private_host.links().values() if link.get("prog_id") in old]
    case.row.traffic(case.host, 3)
    assert case.counts() == {1: 2, 2: 3}
    assert case.attach().steps == ()


def test_replace_against_a_wrong_expectation_is_refused_and_moves_nothing(case):
    case.attach(case.wanted)
    kept, runs = case.kept(), case.seat().runs
    loaded = case.host.stage(2)
    new = loaded.after.loads[loaded.load].programs[case.row.program]

    step = steps.Replace(case.key, case.wanted, loaded.load, expected=new, place=case.place())  # it runs version 1
    with lock.locked(NAME) as home, pytest.raises(HookMoved) as refusal:
        apply.carry_out([step], home)

    assert refusal.value.can_retry
    assert catalogue.words(case.wanted) in refusal.value.what
    assert (case.kept(), case.seat().runs) == (kept, runs)
    case.row.traffic(case.host, 1)
    assert case.counts() == {1: 1}


@pytest.mark.parametrize("case", UPDATED, indirect=True)
def test_somebody_moved_our_link_between_plan_and_apply(case, monkeypatch):
    case.attach(case.wanted)
    link = case.kept()
    loaded = case.host.stage(2)
    third = loaded.after.loads[case.host.facts().confirmed.load].programs[case.row.program]

    def move(moment, step):
        """What an administrator with bpftool could do: our link runs yet another program."""
        if moment == "before" and isinstance(step, steps.Replace):
            with bpf.link_by_id(link) as fd, bpf.prog_by_id(foreign.prog_id) as new, bpf.prog_by_id(third) as old:
                bpf.link_update(fd, new, old)

    with another_program(case) as foreign:
        monkeypatch.setattr(apply, "trace", move)
        with pytest.raises(HookMoved):
            case.attach()
        monkeypatch.undo()

        assert private_host.links()[link]["prog_id"] == foreign.prog_id
        case.attach()

    case.row.traffic(case.host, 1)
    assert case.counts() == {2: 1}


@contextlib.contextmanager
def another_program(case):
    """A program of a stranger, which holds another place with it, or the same one beside ours: the loopback, another
    cgroup, the network namespace."""
    place, folder = case.place(), ""
    if case.row.hook == "cgroup":
        folder = case.host.cgroup + "-other"
        os.mkdir(folder)
        place = place.reached_by(folder)
    elif case.row.hook in ("xdp", "tcx"):
        place = place._replace(number=namespaces.ifindex("lo"))
    elif case.row.hook == "flow_dissector":
        place = place.reached_by(f"/proc/{case.host.peer.pid}/ns/net")
    wanted = case.wanted.with_options(mode="generic") if case.row.hook == "xdp" else case.wanted
    with private_host.stranger(wanted, place, case.host.text) as foreign:
        yield foreign
    if folder:
        os.rmdir(folder)


@pytest.mark.parametrize("case", EXCLUSIVE, indirect=True)
def test_stranger_keeps_a_place_for_one_and_is_named(case):
    with case.stranger() as foreign:
        with pytest.raises(HookHeld) as refusal:
            case.attach(case.wanted)

        assert_names(refusal.value, foreign)
        assert case.host.facts().links == {}
        assert case.host.facts().confirmed is None
        transitions.remove(NAME)
        case.row.traffic(case.host, 2)
        assert private_host.links()[foreign.link_id]["prog_id"] == foreign.prog_id
        assert foreign_count(foreign) == 2


@pytest.mark.parametrize("case", SHARED, indirect=True)
def test_stranger_shares_a_place_for_several(case):
    with case.stranger() as foreign:
        case.attach(case.wanted)

        case.row.traffic(case.host, 2)
        assert case.counts() == {1: 2}
        assert foreign_count(foreign) == 2
        transitions.remove(NAME)
        assert private_host.links()[foreign.link_id]["prog_id"] == foreign.prog_id


@pytest.mark.parametrize("case", SHARED, indirect=True)
def test_detach_takes_ours_and_leaves_a_stranger_with_a_program_of_the_same_name(case):
    case.attach(case.wanted)
    with case.stranger() as foreign:
        case.attach(case.wanted, detach=True)

        case.row.traffic(case.host, 1)
        assert case.counts() == {}
        assert foreign_count(foreign) == 1


def assert_names(failure, foreign):
    """The refusal says who holds the hook, in its sentence and in its fields."""
    (holder,) = failure.detail["holders"]
    assert holder["prog_id"] == foreign.prog_id
    assert holder["name"] == foreign.program
    assert {"pid": foreign.pid, "comm": foreign.comm} in holder["pids"]
    assert foreign.pin in holder["pinned"]
    assert foreign.comm in failure.what
    assert str(foreign.prog_id) in failure.what


def foreign_count(foreign):
    """Packets that the stranger's program (version 0) counted in its own map, by bpftool."""
    ids = bpftool("prog", "show", "id", str(foreign.prog_id))["map_ids"]
    (map_id,) = (each for each in ids if bpftool("map", "show", "id", str(each))["name"] == programs.SEEN[:15])
    rows = bpftool("map", "dump", "id", str(map_id))
    return sum(each["value"] for row in rows for each in row["formatted"]["values"])


@pytest.mark.parametrize("altname", ["k0alt", "k0-an-altname-that-is-longer-than-a-name-can-be"])
@pytest.mark.parametrize("case", ["tcx ingress", "tc ingress", "xdp native"], indirect=True)
def test_altname_is_the_same_place(case, altname):
    private_host.run("ip", "link", "property", "add", "dev", private_host.DEVICE, "altname", altname)
    options = {**dict(case.wanted.options), "interface": altname}
    case.attach(case.wanted)

    again = case.attach(private_host.attachment(case.row.hook, case.row.program, **options))

    assert again.steps == ()
    assert again.after.links.keys() == {case.key}


@pytest.mark.parametrize("case", CAN_GO, indirect=True)
def test_place_gone_is_told_and_comes_back(case):
    case.attach(case.wanted)
    case.row.destroy(case.host)

    old = case.kept()
    assert private_host.eventually(lambda: not case.seat().is_here)
    with pytest.raises(NotFound) as refusal:
        case.attach(case.wanted)
    assert case.wanted.target in refusal.value.what

    case.row.make(case.host)
    outcome = case.attach(case.wanted)

    assert [type(step) for step in outcome.steps] == [steps.PutOn]
    assert case.seat().is_here
    assert private_host.eventually(lambda: old == 0 or old not in private_host.links())
    case.row.traffic(case.host, 2)
    assert case.counts() == {1: 2}


@pytest.mark.parametrize("case", CAN_GO, indirect=True)
def test_new_release_while_the_place_is_gone_leaves_everything(case):
    case.attach(case.wanted)
    before = case.host.facts()
    case.row.destroy(case.host)
    case.host.stage(2)

    with pytest.raises(NotFound):
        case.attach()

    after = case.host.facts()
    assert (after.confirmed, after.trial) == (before.confirmed, None)
    case.row.make(case.host)


def test_detach_leaves_no_link_no_pin_and_no_fd(case):
    case.attach(case.wanted)
    kept, (program,), fds = case.kept(), case.seat().runs, private_host.open_fds()

    outcome = case.attach(case.wanted, detach=True)

    assert [type(step) for step in outcome.steps if step.is_hook_step] == [steps.TakeOff]
    assert kept not in private_host.links()
    assert private_host.tree(store.home(NAME).links) == []
    assert private_host.open_fds() == fds
    place = case.place()
    assert program not in [holder.prog_id for holder in catalogue.HOOKS[case.row.hook].holders(place)]
    case.row.traffic(case.host, 2)
    assert case.counts() == {}
    assert case.attach(case.wanted, detach=True).steps == ()


@pytest.mark.parametrize("case", UPDATED, indirect=True)
def test_detach_holds_for_a_link_that_somebody_else_has_open(case):
    """The hook runs nothing of ours from then on, although a monitoring agent keeps the link's fd."""
    case.attach(case.wanted)
    with bpf.link_by_id(case.kept()):
        case.attach(case.wanted, detach=True)

        case.row.traffic(case.host, 2)
        assert case.counts() == {}


@pytest.mark.parametrize("case", OVERLAPPING, indirect=True)
@pytest.mark.parametrize("what", ["detach", "upgrade"])
def test_link_that_somebody_else_has_open_and_that_cannot_be_ended_is_told(case, what):
    """The kernel ends such a link with its last reference alone; nothing changed, and whose it is is said."""
    case.attach(case.wanted)
    runs = case.seat().runs
    if what == "upgrade":
        case.host.stage(2)
    with private_host.agent(case.kept()) as pid:
        with pytest.raises(HookHeld) as refusal:
            case.attach(*([case.wanted] if what == "detach" else []), detach=what == "detach")

        (holder,) = refusal.value.detail["holders"]
        assert pid in [each["pid"] for each in holder["pids"]]
    assert case.seat().runs == runs
    case.row.traffic(case.host, 2)
    assert case.counts() == {1: 2}


def test_back_to_the_release_before(case):
    case.attach(case.wanted)
    kept = case.kept()
    case.host.stage(2)
    case.attach()

    transitions.roll_back(NAME)

    assert (case.kept() == kept) == (catalogue.HOOKS[case.row.hook].how == contract.UPDATE)
    case.row.traffic(case.host, 2)
    assert case.counts() == {1: 2}


def test_guard_holds_what_it_takes_and_takes_the_trial_back(case):
    """Although all pins are lost meanwhile."""
    case.attach(case.wanted)
    case.host.stage(2)
    case.attach(confirm_within=60)
    with lock.locked(NAME) as home:
        holds = held.take(home)
    trial.switch(NAME, holds)
    case.row.traffic(case.host, 2)
    assert case.counts() == {2: 2}
    files.remove_tree(store.home(NAME).links)

    assert holds.facts(store.home(NAME)).known.keys() == {case.key}
    trial.stop(NAME, holds)

    assert store.ended(store.home(NAME), 2).back
    case.row.traffic(case.host, 3)
    assert case.counts() == {1: 3, 2: 2}
    holds.close()
    assert case.host.facts().links.keys() == {case.key}


def test_comes_back_after_a_reboot(case, reboot):
    case.attach(case.wanted)
    reboot()

    boot.restore(NAME)

    case.row.traffic(case.host, 2)
    assert case.counts() == {1: 2}


@pytest.mark.parametrize("case", WITH_MODES, indirect=True)
def test_mode_changes_by_detach_and_attach(case):
    case.attach(case.wanted)
    mode = {"native": "generic", "generic": "native"}[case.wanted.option("mode")]
    other = case.wanted.with_options(mode=mode)

    outcome = case.attach(other)

    kinds = [type(step) for step in outcome.steps if step.is_hook_step]
    assert kinds == [steps.TakeOff, steps.PutOn]
    case.row.traffic(case.host, 2)
    assert case.counts() == {1: 2}
    shown = private_host.run("ip", "-details", "link", "show", private_host.DEVICE)
    assert ("xdpgeneric" in shown) == (mode == "generic")
