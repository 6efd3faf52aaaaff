# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a deployment that are damaged, lost, or of another format, while its links go on: nothing is guessed, the
hooks stay as they are, and bpf_release adopts or removes.
"""

from __future__ import annotations

import json
import os
import shutil

import private_host
import programs
import pytest
from private_host import NAME, attachment, counted

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    apply,
    boot,
    guard,
    inventory,
    observe,
    records,
    steps,
    store,
    transitions,
    trial,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import (
    Damaged,
    NotFound,
    Quarantined,
    RolledBack,
    TooNew,
)


def three(host):
    return (
        attachment("xdp", programs.XDP, interface=private_host.DEVICE),
        attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="ingress"),
        attachment("cgroup", programs.CGROUP, cgroup=host.cgroup),
    )


@pytest.fixture
def attached(host):
    """Two releases were rolled out, the second one runs at three hooks."""
    for version in (1, 2):
        host.stage(version)
        host.attach(*three(host))
    return host


def path(*names):
    return os.path.join(store.home(NAME).folder, *names)


def tear(name):
    """The file's second half is lost, as after a crash of a file system that does not order its writes."""
    with open(path(name), "r+b") as stream:
        stream.truncate(os.path.getsize(path(name)) // 2)


def rewrite(name, **fields):
    with open(path(name), encoding="utf-8") as stream:
        record = {**json.load(stream), **fields}
    with open(path(name), "w", encoding="utf-8") as stream:
        json.dump(record, stream)


def ids(host):
    """{attachment id: (link, program)}: equal before and after where nothing moved."""
    return {key: (link.id, link.prog_id) for key, link in host.facts().links.items()}


def counts(host):
    """{program: the version that counts now}."""
    before = {program: counted(program) for program in programs.ROWS}
    host.receive()
    host.send_from_cgroup()
    return {
        program: [version for version, packets in counted(program).items() if packets != before[program].get(version)]
        for program in programs.ROWS
    }


ALL_AT_2 = {program: [2] for program in programs.ROWS}


@pytest.mark.parametrize("name", ["confirmed", "staged.json", "serial", "generations/1.json"])
def test_damage_stops_every_change_and_moves_nothing(attached, name):
    attached.stage(3)
    before = ids(attached)
    tear(name)

    for work in (
        lambda: attached.stage(4),
        attached.attach,
        lambda: transitions.roll_back(NAME),
    ):
        with pytest.raises(Damaged, match=r"cannot be read.*state=confirmed"):
            work()

    row = inventory.deployment(NAME)
    assert row["state"] == "unknown"
    assert any("cannot be read" in line for line in row["drift"])
    assert ids(attached) == before
    assert counts(attached) == ALL_AT_2


@pytest.mark.parametrize("name", ["confirmed", "staged.json", "serial", "generations/1.json"])
def test_damaged_file_is_dropped_and_what_the_hooks_run_is_confirmed(attached, name):
    attached.stage(3)
    before = ids(attached)
    tear(name)

    assert transitions.confirm(NAME).changed

    seen = observe.sound_facts(store.home(NAME))
    assert {each.target for each in seen.confirmed.attachments.values()} == {
        private_host.DEVICE,
        "/" + os.path.basename(attached.cgroup),
    }
    assert seen.confirmed.number in (2, 3)
    assert ids(attached) == before
    assert not transitions.confirm(NAME).changed
    assert inventory.deployment(NAME)["state"] == "confirmed"
    attached.stage(4)
    attached.attach()
    assert counts(attached) == {program: [4] for program in programs.ROWS}


def test_damaged_deployment_without_links_has_nothing_confirmed_of_it(host):
    host.stage(1)
    tear("staged.json")

    assert transitions.confirm(NAME).changed

    seen = observe.sound_facts(store.home(NAME))
    assert (seen.confirmed, seen.generations) == (None, {})


def test_folder_that_was_lost_is_made_again_from_what_the_kernel_runs(attached):
    before = ids(attached)
    shutil.rmtree(path())

    assert inventory.deployments()[0]["state"] == "unknown"
    transitions.confirm(NAME)

    confirmed = attached.facts().confirmed
    assert {(each.hook, each.program) for each in confirmed.attachments.values()} == {
        (each.hook, each.program) for each in three(attached)
    }
    assert ids(attached) == before
    attached.stage(3)
    attached.attach()
    assert counts(attached) == {program: [3] for program in programs.ROWS}


def test_folder_that_was_lost_does_not_keep_the_deployment_from_being_removed(attached):
    shutil.rmtree(path())

    transitions.remove(NAME)

    assert attached.facts().links == {}
    assert private_host.tree(records.PINS) == []


def test_each_hook_comes_off_once_where_what_is_confirmed_cannot_be_read(attached):
    """An older generation still names the hooks."""
    tear("confirmed")

    off = [step.key for step in transitions.remove(NAME).steps if isinstance(step, steps.TakeOff)]

    assert len(off) == len(set(off)) == 3


def test_links_of_two_releases_are_not_adopted_by_guess(host):
    """A run was killed between two hooks, and then the folder was lost."""
    host.stage(1)
    host.attach(*three(host))
    host.stage(2)

    def killed_after_the_first():
        apply.trace = lambda moment, step: (
            moment == "after" and isinstance(step, steps.Replace) and private_host.kill_self()
        )
        host.attach()

    assert private_host.in_child(killed_after_the_first).signal
    shutil.rmtree(path())

    with pytest.raises(NotFound, match="do not say which release"):
        transitions.confirm(NAME)

    transitions.remove(NAME)
    assert host.facts().links == {}


def test_trial_whose_way_back_cannot_be_read_goes_back_to_the_newest_that_can(attached):
    """No hook is left without a program because a file is damaged."""
    attached.stage(3)
    attached.attach(confirm_within=60)
    assert trial.switch(NAME)
    tear("confirmed")

    transitions.roll_back(NAME, number=3)

    assert counts(attached) == {program: [1] for program in programs.ROWS}


@pytest.mark.parametrize("spoil", [tear, lambda name: os.unlink(path(name))], ids=["torn", "gone"])
def test_trial_that_cannot_be_read_is_taken_back_by_its_guard(attached, monkeypatch, spoil):
    attached.stage(3)
    attached.attach(
        attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="egress"), confirm_within=60
    )
    assert trial.switch(NAME)
    spoil("generations/3.json")
    assert inventory.deployment(NAME)["state"] == "unknown"
    monkeypatch.setattr(guard, "GRACE", 0)

    guard.main(NAME)

    assert counts(attached) == ALL_AT_2
    seen = observe.sound_facts(store.home(NAME))
    assert (seen.trial, seen.confirmed.number, seen.deadline) == (None, 2, None)
    assert len(seen.links) == 3, "what the trial alone had attached is off"
    with pytest.raises(RolledBack, match="its own file cannot be read"):
        transitions.confirm(NAME, 3)


def test_next_run_takes_a_trial_that_cannot_be_read_back_and_goes_on(attached):
    attached.stage(3)
    attached.attach(confirm_within=60)
    assert trial.switch(NAME)
    tear("trial")

    attached.stage(4)
    attached.attach()

    assert counts(attached) == {program: [4] for program in programs.ROWS}


def test_first_trial_that_cannot_be_read_goes_back_to_nothing(host):
    host.stage(1)
    host.attach(*three(host), confirm_within=60)
    assert trial.switch(NAME)
    tear("trial")

    trial.expire(NAME)

    seen = observe.sound_facts(store.home(NAME))
    assert (seen.trial, seen.links) == (None, {})


def test_newer_format_is_left_to_a_newer_collection(attached):
    before = ids(attached)
    rewrite("confirmed", format=records.FORMAT + 1)

    for work in (lambda: attached.stage(3), attached.attach, lambda: transitions.confirm(NAME)):
        with pytest.raises(TooNew, match=r"newer ebpf\.deploy.*Update the collection"):
            work()

    assert inventory.deployment(NAME)["state"] == "unknown"
    rewrite("confirmed", format=records.FORMAT)
    assert ids(attached) == before


def test_fields_that_this_version_does_not_know_are_ignored(attached):
    rewrite("confirmed", colour="blue")

    assert not transitions.confirm(NAME).changed


def test_one_damaged_deployment_keeps_no_other_from_boot(attached):
    tear("confirmed")

    ((name, failure),) = boot.restore_all()

    assert (name, failure.code) == (NAME, "damaged")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "x"}'])
def test_quarantine_whose_record_is_damaged_keeps_out_until_it_is_tried_again(host, content):
    host.stage(1)
    host.attach(*three(host))
    host.stage(2)
    host.attach()
    transitions.roll_back(NAME)
    (record,) = os.listdir(path("quarantine"))
    with open(path("quarantine", record), "w", encoding="utf-8") as stream:
        stream.write(content)

    with pytest.raises(Quarantined, match="its own record cannot be read"):
        host.stage(2)

    host.stage(2, retry_quarantined=True)
    host.attach(retry_quarantined=True)
    assert counts(host) == ALL_AT_2
