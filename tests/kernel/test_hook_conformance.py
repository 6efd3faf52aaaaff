# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One suite for every hook: attach and find, again, swap, a wrong expectation, strangers, a place that goes, detach.

A hook is a row of ROWS here, or two where it has modes or directions. A fourth hook adds its row (and, if its programs
are of a new type, its function in programs.TEXT); a test compares the table with the catalogue.
"""

from __future__ import annotations

import contextlib
import os
from typing import Callable, NamedTuple

import private_host
import programs
import pytest
from private_host import NAME, Host, attachment, bpftool, counted

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import apply, steps, store, transitions
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import HookHeld, HookMoved, NotFound
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, namespaces

GENERIC = 1 << 1  # XDP_FLAGS_SKB_MODE


class Row(NamedTuple):
    """What differs between hooks. `options` gives bpf_attach's, all else acts on a private_host.Host."""

    hook: str
    program: str
    options: Callable
    traffic: Callable  # (host, count): that many packets pass the place
    destroy: Callable
    make: Callable


def interface_row(hook, program, traffic, **options):
    return Row(
        hook,
        program,
        lambda host: {"interface": private_host.DEVICE, **options},
        traffic,
        Host.destroy_interface,
        Host.make_interface,
    )


ROWS = {
    "xdp native": interface_row("xdp", programs.XDP, Host.receive, mode="native"),
    "xdp generic": interface_row("xdp", programs.XDP, Host.receive, mode="generic"),
    "tcx ingress": interface_row("tcx", programs.TCX, Host.receive, direction="ingress"),
    "tcx egress": interface_row("tcx", programs.TCX, Host.send, direction="egress"),
    "cgroup": Row(
        "cgroup",
        programs.CGROUP,
        lambda host: {"cgroup": host.cgroup},
        Host.send_from_cgroup,
        lambda host: os.rmdir(host.cgroup),
        lambda host: os.mkdir(host.cgroup),
    ),
}


EXCLUSIVE = [name for name, row in ROWS.items() if catalogue.HOOKS[row.hook].is_exclusive]
SHARED = sorted(set(ROWS) - set(EXCLUSIVE))
WITH_MODES = [name for name, row in ROWS.items() if "mode" in catalogue.HOOKS[row.hook].option_names]


class Case(NamedTuple):
    """A row on a host of its own, with version 1 of the source staged."""

    row: Row
    host: Host
    wanted: object
    key: str

    def link(self):
        """Our link's id, and its program by name as bpftool has it."""
        (number,) = (link.id for link in self.host.facts().links.values())
        return number

    def counts(self):
        return counted(self.row.program)

    def place(self):
        hook = catalogue.HOOKS[self.row.hook]
        types = next(iter(self.host.facts().releases.values())).program_types
        return hook.place(self.wanted, types[self.row.program])

    def stranger(self, program=None):
        """A foreign process holds the place by a link."""
        place, flags = self.place(), GENERIC if self.wanted.mode == "generic" else 0
        return private_host.stranger(place.number, place.attach_type, self.row.program, flags, place.path)


@pytest.fixture(params=sorted(ROWS))
def case(request, host):
    row = ROWS[request.param]
    wanted = attachment(row.hook, row.program, **row.options(host))
    host.stage(1)
    made = Case(row, host, wanted, catalogue.hook_of(wanted).id(wanted))
    skip_without_hook(made)
    return made


def skip_without_hook(case):
    """A kernel older than the hook says so by itself; on a newer one the same answer is a failure."""
    hook = catalogue.HOOKS[case.row.hook]
    try:
        hook.holders(case.place())
    except OSError as error:
        release = os.uname().release
        assert version(release) < version(hook.since), f"{hook.kind} on Linux {release}: {error}"
        pytest.skip(f"no {hook.kind}: errno {error.errno} on Linux {release}, it came with {hook.since}")


def version(text):
    """(major, minor) of a kernel's release."""
    return tuple(int(part) for part in text.split("-")[0].split(".")[:2])


def test_table_has_every_hook_of_the_catalogue():
    assert {row.hook for row in ROWS.values()} == set(catalogue.HOOKS)


def test_attach_is_found_and_runs(case):
    outcome = case.host.attach(case.wanted)

    assert [type(step) for step in outcome.steps if step.is_hook_step] == [steps.Attach]
    case.row.traffic(case.host, 3)
    assert case.counts() == {1: 3}
    link = outcome.after.links[case.key]
    seen = private_host.links()[link.id]
    assert seen["prog_id"] == link.prog_id == outcome.after.loads[outcome.generation.load].programs[case.row.program]
    assert private_host.program_of_link(link.id) == case.row.program


def test_attach_again_changes_nothing(case):
    first = case.host.attach(case.wanted)

    again = case.host.attach(case.wanted)

    assert again.steps == ()
    assert not again.changed
    assert again.after.links == first.after.links


def test_new_release_runs_through_the_same_link(case):
    case.host.attach(case.wanted)
    case.row.traffic(case.host, 2)
    link = case.link()
    old = private_host.links()[link]["prog_id"]
    case.host.stage(2)

    outcome = case.host.attach()

    assert [type(step) for step in outcome.steps if step.is_hook_step] == [steps.Swap]
    assert case.link() == link
    assert private_host.links()[link]["prog_id"] != old
    case.row.traffic(case.host, 3)
    assert case.counts() == {1: 2, 2: 3}


def test_swap_against_a_wrong_expectation_is_refused_and_moves_nothing(case):
    case.host.attach(case.wanted)
    link = case.link()
    runs = private_host.links()[link]["prog_id"]
    loaded = case.host.stage(2)
    new = loaded.after.loads[loaded.load].programs[case.row.program]

    step = steps.Swap(case.key, case.wanted, loaded.load, expected=new)  # it runs version 1
    with store.locked(NAME) as home, pytest.raises(HookMoved) as refusal:
        apply.carry_out([step], home)

    assert refusal.value.can_retry
    assert case.wanted.describe() in refusal.value.what
    assert private_host.links()[link]["prog_id"] == runs
    case.row.traffic(case.host, 1)
    assert case.counts() == {1: 1}


def test_somebody_moved_our_link_between_plan_and_apply(case, monkeypatch):
    case.host.attach(case.wanted)
    link = case.link()
    loaded = case.host.stage(2)
    third = loaded.after.loads[case.host.facts().confirmed.load].programs[case.row.program]

    def move(moment, step):
        """What an administrator with bpftool could do: our link runs yet another program."""
        if moment == "before" and isinstance(step, steps.Swap):
            with bpf.link_by_id(link) as fd, bpf.prog_by_id(foreign.prog_id) as new, bpf.prog_by_id(third) as old:
                bpf.link_update(fd, new, old)

    with another_program(case) as foreign:
        monkeypatch.setattr(apply, "trace", move)
        with pytest.raises(HookMoved):
            case.host.attach()
        monkeypatch.undo()

        assert private_host.links()[link]["prog_id"] == foreign.prog_id
        case.host.attach()

    case.row.traffic(case.host, 1)
    assert case.counts() == {2: 1}


@contextlib.contextmanager
def another_program(case):
    """A program of a stranger, which holds some place of its own with it: the loopback, or another cgroup."""
    place, folder = case.place(), ""
    if place.path:
        folder = case.host.cgroup + "-other"
        os.mkdir(folder)
    number = namespaces.ifindex("lo")
    flags = GENERIC if case.row.hook == "xdp" else 0
    with private_host.stranger(number, place.attach_type, case.row.program, flags, folder) as foreign:
        yield foreign
    if folder:
        os.rmdir(folder)


@pytest.mark.parametrize("case", EXCLUSIVE, indirect=True)
def test_stranger_keeps_a_place_for_one_and_is_named(case):
    with case.stranger() as foreign:
        with pytest.raises(HookHeld) as refusal:
            case.host.attach(case.wanted)

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
        case.host.attach(case.wanted)

        case.row.traffic(case.host, 2)
        assert case.counts() == {1: 2}
        assert foreign_count(foreign) == 2
        transitions.remove(NAME)
        assert private_host.links()[foreign.link_id]["prog_id"] == foreign.prog_id


@pytest.mark.parametrize("case", SHARED, indirect=True)
def test_detach_takes_ours_and_leaves_a_stranger_with_a_program_of_the_same_name(case):
    case.host.attach(case.wanted)
    with case.stranger() as foreign:
        case.host.attach(case.wanted, detach=True)

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
    (map_id,) = bpftool("prog", "show", "id", str(foreign.prog_id))["map_ids"]
    rows = bpftool("map", "dump", "id", str(map_id))
    return sum(each["value"] for row in rows for each in row["formatted"]["values"])


def test_place_gone_is_severed_and_comes_back(case):
    case.host.attach(case.wanted)
    case.row.destroy(case.host)

    old = case.host.facts().links[case.key]
    assert private_host.eventually(lambda: case.host.facts().links[case.key].is_severed)
    with pytest.raises(NotFound) as refusal:
        case.host.attach(case.wanted)
    assert case.wanted.target in refusal.value.what

    case.row.make(case.host)
    outcome = case.host.attach(case.wanted)

    assert [type(step) for step in outcome.steps] == [steps.Attach]
    assert not case.host.facts().links[case.key].is_severed
    assert old.id not in private_host.links()
    case.row.traffic(case.host, 2)
    assert case.counts() == {1: 2}


def test_new_release_while_the_place_is_gone_leaves_everything(case):
    case.host.attach(case.wanted)
    before = case.host.facts()
    case.row.destroy(case.host)
    case.host.stage(2)

    with pytest.raises(NotFound):
        case.host.attach()

    after = case.host.facts()
    assert (after.confirmed, after.trial) == (before.confirmed, None)
    case.row.make(case.host)


def test_detach_leaves_no_link_no_pin_and_no_fd(case):
    case.host.attach(case.wanted)
    link, fds = case.link(), private_host.open_fds()
    program = private_host.links()[link]["prog_id"]

    outcome = case.host.attach(case.wanted, detach=True)

    assert [type(step) for step in outcome.steps if step.is_hook_step] == [steps.Detach]
    assert link not in private_host.links()
    assert private_host.tree(store.home(NAME).links) == []
    assert private_host.open_fds() == fds
    place = case.place()
    assert program not in [holder.prog_id for holder in catalogue.HOOKS[case.row.hook].holders(place)]
    case.row.traffic(case.host, 2)
    assert case.counts() == {}
    assert case.host.attach(case.wanted, detach=True).steps == ()


def test_detach_holds_for_a_link_that_somebody_else_has_open(case):
    """The hook runs nothing of ours from then on, although a monitoring agent keeps the link's fd."""
    case.host.attach(case.wanted)
    with bpf.link_by_id(case.link()):
        case.host.attach(case.wanted, detach=True)

        case.row.traffic(case.host, 2)
        assert case.counts() == {}


def test_back_to_the_release_before_through_the_same_link(case):
    case.host.attach(case.wanted)
    link = case.link()
    case.host.stage(2)
    case.host.attach()

    transitions.roll_back(NAME)

    assert case.link() == link
    case.row.traffic(case.host, 2)
    assert case.counts() == {1: 2}


@pytest.mark.parametrize("case", WITH_MODES, indirect=True)
def test_mode_changes_by_detach_and_attach(case):
    case.host.attach(case.wanted)
    other = case.wanted._replace(mode={"native": "generic", "generic": "native"}[case.wanted.mode])

    outcome = case.host.attach(other)

    kinds = [type(step) for step in outcome.steps if step.is_hook_step]
    assert kinds == [steps.Detach, steps.Attach]
    case.row.traffic(case.host, 2)
    assert case.counts() == {1: 2}
    shown = private_host.run("ip", "-details", "link", "show", private_host.DEVICE)
    assert ("xdpgeneric" in shown) == (other.mode == "generic")
