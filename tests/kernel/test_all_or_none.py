# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several attachments, one refuses: those before it run again what they ran, and the refusal says who is there.

What happens between observing and applying is put there by apply.trace.
"""

from __future__ import annotations

import contextlib
import os

import private_host
import programs
import pytest
from private_host import NAME, attachment, counted

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    apply,
    boot,
    lock,
    observe,
    plan,
    records,
    steps,
    store,
    transitions,
    units,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import DiskRefused, Failure, HookHeld, NotFound
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files, namespaces
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf


@pytest.fixture
def three(host):
    """cgroup, tcx and xdp, in this order."""
    return (
        attachment("cgroup", programs.CGROUP, cgroup=host.cgroup),
        attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="ingress"),
        attachment("xdp", programs.XDP, interface=private_host.DEVICE),
    )


def before(kind, act):
    """A trace that calls `act` before the first step of this kind."""
    left = [act]

    def trace(moment, step):
        if moment == "before" and isinstance(step, kind) and left:
            left.pop()()

    return trace


def versions(host):
    """{program: the version that counts now, None for none}."""
    found = {}
    earlier = {program: counted(program) for program in programs.ROWS}
    host.receive()
    host.send_from_cgroup()
    for program in programs.ROWS:
        now = counted(program)
        found[program] = next((each for each in now if now[each] != earlier[program].get(each, 0)), None)
    return found


def all_at(version, xdp="same"):
    xdp = version if xdp == "same" else xdp
    return {programs.XDP: xdp, programs.TCX: version, programs.CGROUP: version}


@contextlib.contextmanager
def stranger_at_xdp_during(monkeypatch, kind):
    """A foreign process takes the interface's XDP hook just before the first step of this kind."""
    taken = contextlib.ExitStack()
    foreign = []

    def take():
        foreign.append(taken.enter_context(private_host.stranger_at_xdp()))

    with taken:
        monkeypatch.setattr(apply, "trace", before(kind, take))
        yield foreign


def test_stranger_takes_xdp_meanwhile_and_the_others_run_again_what_they_ran(host, three, monkeypatch):
    host.stage(1)
    host.attach(*three[:2])
    generation, ours = host.facts().confirmed, host.facts().links
    host.stage(2)

    with stranger_at_xdp_during(monkeypatch, steps.PutOn) as foreign:
        with pytest.raises(HookHeld) as refusal:
            host.attach(*three)
        monkeypatch.undo()

        (holder,) = refusal.value.detail["holders"]
        assert holder["name"] == programs.XDP
        assert {"pid": foreign[0].pid, "comm": "stranger"} in holder["pids"]
        assert holder["pinned"] == [foreign[0].pin]
        assert "stranger" in refusal.value.what
        assert refusal.value.detail["step"].startswith(f"attach {programs.XDP}")
        assert "not_undone" not in refusal.value.detail
        assert versions(host) == all_at(1, xdp=None)
        seen = host.facts()
        assert (seen.confirmed, seen.trial, seen.links) == (generation, None, ours)
        assert private_host.links()[foreign[0].link_id]["prog_id"] == foreign[0].prog_id

    host.attach(*three)
    assert versions(host) == all_at(2)


def test_first_attach_that_is_refused_half_way_leaves_nothing_attached(host, three, monkeypatch):
    host.stage(1)

    with stranger_at_xdp_during(monkeypatch, steps.WriteGeneration), pytest.raises(HookHeld):
        host.attach(*three)

    seen = host.facts()
    assert (seen.links, seen.confirmed, seen.trial, seen.generations) == ({}, None, None, {})
    assert versions(host) == all_at(None)


def test_holder_by_ip_is_named_although_no_link_and_no_process_stands_behind_it(host, three):
    """`ip link set … xdp` leaves a program without link: nothing but its name and number can be told."""
    pinned = f"{files.BPFFS}/by-ip"
    elf.load(programs.object_of(0), "by-ip", [programs.XDP], pins=pinned)
    private_host.run("ip", "link", "set", "dev", private_host.DEVICE, "xdp", "pinned", f"{pinned}/progs/{programs.XDP}")
    files.remove_tree(pinned)
    host.stage(1)

    with pytest.raises(HookHeld) as refusal:
        host.attach(*three)

    (holder,) = refusal.value.detail["holders"]
    assert (holder["name"], holder["mode"], "link_id" in holder) == (programs.XDP, "native", False)
    assert f"program {holder['prog_id']} (name {programs.XDP})" in refusal.value.what
    private_host.run("ip", "link", "set", "dev", private_host.DEVICE, "xdp", "off")


def test_last_write_fails_and_every_hook_runs_again_what_it_ran(host, three, monkeypatch):
    host.stage(1)
    host.attach(*three)
    host.stage(2)

    with disk_full_at_the_commit(monkeypatch):
        host.attach()

    assert versions(host) == all_at(1)
    assert host.facts().trial is None


def test_detached_hooks_are_attached_again_when_the_commit_fails(host, three, monkeypatch):
    host.stage(1)
    host.attach(*three)

    with disk_full_at_the_commit(monkeypatch):
        host.attach(*three, detach=True)

    assert versions(host) == all_at(1)
    assert transitions.confirm(NAME).steps == ()


def test_drop_in_of_a_former_version_stands_again_when_the_commit_fails(host, three, monkeypatch):
    host.stage(1)
    host.attach(*three)
    unit = next(iter(units.found(NAME)))
    units.write(NAME, unit, "# as a former version wrote it\n")
    host.stage(2)

    with disk_full_at_the_commit(monkeypatch):
        host.attach()

    assert units.found(NAME) == {unit: "# as a former version wrote it\n"}


def test_change_of_mode_that_is_refused_leaves_the_old_mode(host, three, monkeypatch):
    host.stage(1)
    host.attach(*three)

    with disk_full_at_the_commit(monkeypatch):
        host.attach(three[2].with_options(mode="generic"))

    number = namespaces.ifindex(private_host.DEVICE)
    assert list(bpf.xdp_query(number)) == ["native"]
    assert "xdpgeneric" not in private_host.run("ip", "-details", "link", "show", private_host.DEVICE)
    assert versions(host) == all_at(1)


@contextlib.contextmanager
def disk_full_at_the_commit(monkeypatch):
    """Just before the commit our disk takes no further file."""

    def fill():
        used = os.statvfs(records.STATE)
        private_host.run("mount", "-o", f"remount,nr_inodes={used.f_files - used.f_ffree}", records.STATE)

    def trace(moment, step):
        if moment == "before" and step.is_commit:
            fill()

    with pytest.raises(DiskRefused, match="No space is left") as refusal:
        monkeypatch.setattr(apply, "trace", trace)
        yield refusal
    monkeypatch.undo()
    private_host.run("mount", "-o", "remount,nr_inodes=0", records.STATE)
    assert "not_undone" not in refusal.value.detail


def test_detaching_what_was_never_attached_changes_nothing(host):
    host.stage(1)
    xdp = attachment("xdp", programs.XDP, interface=private_host.DEVICE)

    outcome = host.attach(xdp, detach=True, on_boot_refusal="off")

    assert not outcome.changed
    assert (host.facts().confirmed, host.facts().generations) == (None, {})
    host.attach(xdp)
    with pytest.raises(NotFound, match="no earlier release"):
        transitions.roll_back(NAME)


# ---- undoing -------------------------------------------------------------------------------------


def failing(step, home):
    raise KeyError("no such thing")


def test_undo_that_raises_whatever_it_may_keeps_no_other_step_from_its_own(host, three, monkeypatch):
    host.stage(1)
    host.attach(*three)
    host.stage(2)
    swap, point = apply.DEEDS[steps.Replace], apply.DEEDS[steps.Point]

    def refuse_tcx(step, home):
        (failing if step.attachment.hook == "tcx" else swap.undo)(step, home)

    monkeypatch.setitem(apply.DEEDS, steps.Replace, swap._replace(undo=refuse_tcx))
    monkeypatch.setitem(apply.DEEDS, steps.Point, point._replace(do=failing))

    planned = [step for step in swaps(host) if isinstance(step, steps.Replace)]
    with lock.locked(NAME) as home, pytest.raises(Failure) as failure:
        apply.carry_out([*planned, steps.Point("confirmed", 2, 1)], home)

    monkeypatch.undo()
    assert "KeyError" in failure.value.what
    assert "failing" in failure.value.detail["traceback"]
    assert ["KeyError" in line and "tcx" in line for line in failure.value.detail["not_undone"]] == [True]
    assert versions(host) == {**all_at(1), programs.TCX: 2}
    host.attach()
    assert versions(host) == all_at(2)


def swaps(host):
    """The steps from the confirmed load to the staged one."""
    seen = host.facts()
    wanted = seen.confirmed._replace(load=seen.staged.load, release=seen.staged.release)
    return plan.switch(observe.scene(seen, wanted))


def test_detach_in_a_mode_that_is_not_known_is_undone(host, three):
    """Seen from outside: the link was there, and its program no more in the interface's own list."""
    host.stage(1)
    host.attach(*three)
    key, link = next((key, link) for key, link in host.facts().links.items() if link.type == "xdp")
    detach = steps.TakeOff(key, three[2].with_options(mode=""), link.prog_id, link.attach_type)
    refused = steps.Point("trial", 7, None)

    with pytest.MonkeyPatch.context() as patch, lock.locked(NAME) as home, pytest.raises(Failure) as failure:
        patch.setitem(apply.DEEDS, steps.Point, apply.DEEDS[steps.Point]._replace(do=failing))
        apply.carry_out([detach, refused], home)

    assert "not_undone" not in failure.value.detail
    assert versions(host) == all_at(1)


def test_the_same_program_under_another_id_takes_the_place_of_its_own(host):
    """The id says the direction: that of the program, where the user says none. One link is there before and after."""
    group = {"hook": "cgroup", "program": programs.CGROUP, "cgroup": host.cgroup}
    host.stage(1)
    host.attach(catalogue.attachment_from(group))

    done = host.attach(catalogue.attachment_from({**group, "direction": "egress"}), purge=True)

    assert done.changed
    assert len(private_host.bpftool("cgroup", "show", host.cgroup)) == 1


def test_a_link_whose_pin_was_renamed_gets_no_second_one_beside_it(host):
    row = {"hook": "tcx", "program": programs.TCX, "interface": private_host.DEVICE, "direction": "ingress"}
    host.stage(1)
    host.attach(catalogue.attachment_from(row))
    before, (pin,) = private_host.links(), private_host.tree(store.home(NAME).links)
    os.rename(pin, pin + "-old")

    with pytest.raises(HookHeld, match="whose pin was moved away"):
        boot.restore(NAME)

    assert private_host.links() == before


@pytest.mark.parametrize("moved", [records.PINS, store.home(NAME).pins])
def test_a_link_whose_pin_was_moved_away_gets_no_second_one_beside_it(host, moved):
    row = {"hook": "tcx", "program": programs.TCX, "interface": private_host.DEVICE, "direction": "ingress"}
    host.stage(1)
    host.attach(catalogue.attachment_from(row))
    before = private_host.links()
    os.rename(moved, moved + "-old")

    with pytest.raises(HookHeld, match="whose pin was moved away"):
        boot.restore(NAME)

    assert private_host.links() == before
    files.remove_tree(moved)
    os.rename(moved + "-old", moved)
    assert boot.restore(NAME) == ()
