# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A boot takes all pins, all links and /run, and the kernel's boot id is another one: what then comes back, and when.

A reboot is played on the private host: its pins and /run are emptied, and another file stands at the boot id's place.
"""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shutil

import private_host
import programs
import pytest
from private_host import NAME, attachment, counted
from test_code import flip
from test_guard_killed import pass_the_deadline

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    apply,
    boot,
    code,
    inventory,
    lock,
    records,
    stage,
    steps,
    store,
    transitions,
    trial,
    units,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import ToolMissing, VerifierRefused
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects.rules.form import NO_VERDICT


def xdp():
    return attachment("xdp", programs.XDP, interface=private_host.DEVICE)


def attached(host, version=1):
    host.stage(version)
    host.attach(xdp())


def on_trial(host, version):
    """A guarded change, switched as its guard does it."""
    host.stage(version)
    host.attach(confirm_within=60)
    assert trial.switch(NAME)


def killed_at(host, kind):
    def work():
        apply.trace = lambda moment, step: isinstance(step, kind) and private_host.kill_self()
        host.attach()

    assert private_host.in_child(work).signal


def counts(host):
    """The version that counts the next packet."""
    before = counted(programs.XDP)
    host.receive()
    return [version for version, packets in counted(programs.XDP).items() if packets != before.get(version, 0)]


def test_boot_brings_the_confirmed_release_back(host, reboot):
    attached(host)
    reboot()

    assert [type(step) for step in boot.restore(NAME)] == [steps.PutOn]

    assert counts(host) == [1]
    assert boot.restore(NAME) == ()


def test_boot_ends_a_trial_that_was_not_confirmed_and_brings_the_confirmed_release_back(host, reboot):
    attached(host)
    on_trial(host, 2)
    number = host.facts().trial.number
    reboot()

    boot.restore(NAME)

    seen = host.facts()
    assert (seen.trial, seen.confirmed.number) == (None, 1)
    assert store.ended(store.home(NAME), number).why == "the host rebooted before it was confirmed"
    assert counts(host) == [1]


def test_boot_forgets_an_unguarded_change_that_was_killed(host, reboot):
    attached(host)
    host.stage(2)
    killed_at(host, steps.Replace)
    reboot()

    boot.restore(NAME)

    assert (host.facts().trial, counts(host)) == (None, [1])


def test_next_run_ends_the_trial_where_no_unit_did(host, reboot):
    attached(host)
    on_trial(host, 2)
    reboot()

    attached(host, 3)

    assert (host.facts().trial, counts(host)) == (None, [3])


def test_trial_after_a_reboot_without_restore_goes_back_to_nothing(host, reboot):
    """The confirmed release is not loaded, nor did it run: the way back must not wait for it."""
    attached(host)
    reboot()
    on_trial(host, 2)

    transitions.roll_back(NAME)

    seen = host.facts()
    assert (seen.trial, seen.confirmed.number, seen.links) == (None, 1, {})


def test_restore_leaves_a_live_trial_alone(host):
    attached(host)
    on_trial(host, 2)

    assert boot.restore(NAME) == ()

    assert counts(host) == [2]


def made_anew(host):
    """The interface goes and comes, as the unit of role `host` sees it."""
    host.destroy_interface()
    host.make_interface()
    return boot.come_back(private_host.DEVICE)


def test_interface_made_anew_during_a_trial_runs_it_and_goes_back_with_it(host):
    attached(host)
    on_trial(host, 2)

    assert made_anew(host) == [(NAME, None)]

    assert counts(host) == [2]
    assert host.facts().trial_is_live
    transitions.roll_back(NAME)
    assert counts(host) == [1]
    assert boot.restore(NAME) == ()


def test_trial_can_be_confirmed_after_its_interface_was_made_anew(host):
    attached(host)
    on_trial(host, 2)
    made_anew(host)

    transitions.confirm(NAME, 2)

    assert (host.facts().trial, counts(host)) == (None, [2])


def test_interface_made_anew_before_the_switch_runs_what_is_confirmed_until_then(host):
    attached(host)
    host.stage(2)
    host.attach(confirm_within=60)

    assert made_anew(host) == [(NAME, None)]

    assert counts(host) == [1]
    assert trial.switch(NAME)
    assert counts(host) == [2]


def test_interface_that_the_trial_alone_is_attached_to_has_its_program_again(host):
    host.stage(1)
    host.attach(attachment("cgroup", programs.CGROUP, cgroup=host.cgroup))
    host.attach(xdp(), confirm_within=60)
    assert made_anew(host) == [(NAME, None)]
    assert counts(host) == [], "not before the switch"
    assert trial.switch(NAME)

    assert made_anew(host) == [(NAME, None)]

    assert counts(host) == [1]
    transitions.roll_back(NAME)
    assert [link.type for link in host.facts().links.values()] == ["cgroup"]


def test_service_that_restarts_during_a_trial_runs_it(host):
    """Its cgroup is made anew, and its drop-in asks for what was there."""
    host.stage(1)
    host.attach(attachment("cgroup", programs.CGROUP, cgroup=host.cgroup))
    on_trial(host, 2)
    os.rmdir(host.cgroup)
    os.mkdir(host.cgroup)
    before = counted(programs.CGROUP)

    assert boot.come_back(f"/{os.path.basename(host.cgroup)}") == [(NAME, None)]

    host.send_from_cgroup()
    assert counted(programs.CGROUP) == {**before, 2: before.get(2, 0) + 1}


def test_trial_that_never_switched_is_not_quarantined_for_an_interface_made_anew(host):
    """A hook that lost what is confirmed runs nothing of the trial."""
    attached(host)
    host.stage(2)
    host.attach(confirm_within=60)
    host.destroy_interface()
    host.make_interface()
    with lock.locked(NAME) as home:
        store.write_deadline(home, store.deadline(home)._replace(end=records.boottime()))

    trial.expire(NAME)

    host.stage(2)
    assert counts(host) == [1]


def test_soft_reboot_gives_a_live_trial_its_guard_again(host):
    """The guard takes it back when its time has passed, or nobody would."""
    attached(host)
    host.stage(2)
    host.attach(confirm_within=60)

    assert private_host.in_child(boot.restore_all).value == [(NAME, None)]

    assert private_host.eventually(lambda: counts(host) == [2])
    pass_the_deadline()
    assert private_host.eventually(lambda: host.facts().trial is None)
    assert counts(host) == [1]
    files.remove_tree(code.FOLDER)


def test_hook_that_somebody_took_first_is_reported_and_the_others_are_back(host, reboot):
    host.stage(1)
    host.attach(xdp(), attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="ingress"))
    reboot()

    with private_host.stranger_at_xdp():
        ((name, failure),) = boot.restore_all()

        assert (name, failure.code) == (NAME, "hook_held")
        assert len(host.facts().links) == 1

    assert boot.come_back(private_host.DEVICE) == [(NAME, None)]
    assert len(host.facts().links) == 2


def test_place_that_is_there_before_the_boot_unit_ran_is_left_to_it(host, reboot):
    """A service that starts early is not charged for the maps of the whole deployment."""
    attached(host)
    reboot()

    assert boot.come_back(private_host.DEVICE) == []
    assert host.facts().loads == {}

    assert boot.restore_all() == [(NAME, None)]
    assert counts(host) == [1]


def test_boot_adds_a_drop_in_that_a_power_cut_kept_from_the_disk(host, reboot):
    host.stage(1)
    host.attach(attachment("cgroup", programs.CGROUP, cgroup=host.cgroup))
    unit = next(iter(units.found(NAME)))
    units.remove(NAME, unit)
    reboot()

    assert [type(step) for step in boot.restore(NAME)] == [steps.WriteUnit, steps.PutOn]

    assert list(units.found(NAME)) == [unit]


def test_hook_that_the_booted_kernel_refuses_keeps_no_other_from_its_program(host, reboot, monkeypatch):
    """The refusal is put where the kernel's answer comes in: no kernel here refuses xdp at will."""
    host.stage(1)
    host.attach(attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="ingress"), xdp())
    reboot()
    create = bpf.link_create

    def refuse_xdp(prog_fd, target, attach_type, flags=0):
        if attach_type == bpf.ATTACH_XDP:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported", "bpf_link_create")
        return create(prog_fd, target, attach_type, flags)

    with monkeypatch.context() as booted:
        booted.setattr(bpf, "link_create", refuse_xdp)
        ((name, failure),) = boot.restore_all()

    assert (name, failure.code) == (NAME, "unsupported")
    assert [link.type for link in host.facts().links.values()] == ["tcx"]
    assert host.facts().confirmed.number == 1
    assert boot.restore_all() == [(NAME, None)]
    assert counts(host) == [1]


@pytest.mark.parametrize("diagnosis", ["unknown_helper", "loader_killed"])
def test_release_that_the_kernel_refuses_and_no_earlier_one_stays_confirmed_for_the_next_boot(
    host, reboot, monkeypatch, diagnosis
):
    attached(host)
    reboot()

    def refused(*dummy, **more):
        raise VerifierRefused("refused", "", diagnosis=diagnosis)

    with monkeypatch.context() as booted:
        booted.setattr(elf, "load", refused)
        assert [failure.code for name, failure in boot.restore_all()] == ["verifier_refused"]
    assert host.facts().confirmed.number == 1

    assert boot.restore_all() == [(NAME, None)]
    assert counts(host) == [1]


@pytest.mark.parametrize("diagnosis", NO_VERDICT)
def test_what_says_nothing_of_the_release_is_no_verdict(host, reboot, monkeypatch, diagnosis):
    """The release before must not take the place of one that only ran out of memory while it was loaded."""
    attached(host)
    attached(host, 2)
    reboot()
    load, given = elf.load, []

    def kept_from(*arguments, **more):
        given.append(arguments)
        if len(given) == 1:
            raise VerifierRefused("not now", "", diagnosis=diagnosis)
        return load(*arguments, **more)

    with monkeypatch.context() as booted:
        booted.setattr(elf, "load", kept_from)
        assert [failure.code for name, failure in boot.restore_all()] == ["verifier_refused"]
    assert host.facts().links == {}

    assert boot.restore_all() == [(NAME, None)]
    assert counts(host) == [2]


def test_other_choice_for_a_boot_that_refuses_is_a_change(host):
    attached(host)

    outcome = host.attach(xdp(), on_boot_refusal="off")

    assert outcome.changed
    assert host.facts().confirmed.on_boot_refusal == "off"
    assert not host.attach(xdp(), on_boot_refusal="off").changed


def test_library_that_is_missing_at_boot_costs_no_release(host, reboot, monkeypatch):
    """It is no verdict of this kernel: what is confirmed stays so, and is there once the library is."""
    attached(host)
    attached(host, 2)
    reboot()

    with monkeypatch.context() as broken:
        broken.setattr(elf, "load", missing_library)
        assert [failure.code for name, failure in boot.restore_all()] == ["tool_missing"]

    assert boot.restore_all() == [(NAME, None)]
    assert counts(host) == [2]


def missing_library(*dummy):
    raise ToolMissing("libbpf is not installed on this host")


def tcx():
    return attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="ingress")


def without_tcx(patch):
    """As a kernel before 6.6 answers. Put where its answer comes in: this kernel has tcx."""
    query = bpf.prog_query

    def asked(target, attach_type):
        if attach_type == bpf.ATTACH_TCX_INGRESS:
            raise OSError(errno.EINVAL, "Invalid argument", "bpf_prog_query")
        return query(target, attach_type)

    patch.setattr(bpf, "prog_query", asked)


def journal():
    return (pathlib.Path(store.home(NAME).folder) / "journal.jsonl").read_text()


def test_kernel_without_a_hook_runs_the_release_before_that_needs_none(host, reboot, monkeypatch):
    attached(host)
    host.stage(2)
    host.attach(xdp(), tcx())
    reboot()

    with monkeypatch.context() as booted:
        without_tcx(booted)
        assert boot.restore_all() == [(NAME, None)]

    seen = host.facts()
    assert list(seen.confirmed.attachments.values()) == [xdp()]
    assert (counts(host), [link.type for link in seen.links.values()]) == ([1], ["xdp"])
    assert "Hook tcx needs Linux 6.6" in journal()
    assert catalogue.words(tcx()) in journal()


def test_kernel_without_the_hook_of_the_release_before_runs_what_it_can(host, reboot, monkeypatch):
    host.stage(1)
    host.attach(xdp(), tcx())
    host.stage(2)
    host.attach()
    number = host.facts().confirmed.number
    reboot()

    with monkeypatch.context() as booted:
        without_tcx(booted)
        ((name, failure),) = boot.restore_all()

    assert (name, failure.code, host.facts().confirmed.number) == (NAME, "unsupported", number)
    assert counts(host) == [2]
    assert "Hook tcx needs Linux 6.6" in journal()
    assert boot.restore_all() == [(NAME, None)], "the next kernel has it"
    assert len(host.facts().links) == 2


def test_rolling_back_says_which_hook_does_not_run_its_program(host):
    attached(host)
    attached(host, 2)
    host.destroy_interface()

    found = transitions.blocked(transitions.roll_back(NAME))

    host.make_interface()
    assert [failure.code for failure in found] == ["not_found"]


def test_kernel_that_refuses_a_release_with_a_new_program_runs_the_one_before(host, reboot, monkeypatch):
    """The release before has no program for the place that was added: the others have theirs."""
    stage.stage(NAME, programs.given(1, programs=(programs.XDP,)))
    host.attach(xdp())
    host.stage(2)
    host.attach(tcx())
    reboot()

    with monkeypatch.context() as booted:
        refuse(booted, 2)
        assert boot.restore_all() == [(NAME, None)]

    assert list(host.facts().confirmed.attachments.values()) == [xdp()]
    assert counts(host) == [1]
    assert catalogue.words(tcx()) in journal()


def refuse(patch, version):
    """This version's object is refused as by a kernel that lacks its helper; all others load."""
    load, refused = elf.load, programs.object_of(version)

    def given(data, *arguments, **more):
        if data == refused:
            raise VerifierRefused("refused", "", diagnosis="unknown_helper")
        return load(data, *arguments, **more)

    patch.setattr(elf, "load", given)


def test_release_before_can_be_gone_back_to_after_a_reboot_with_what_was_counted(host, reboot):
    attached(host)
    attached(host, 2)
    reboot()
    boot.restore_all()
    assert counts(host) == [2]

    transitions.roll_back(NAME)

    assert counts(host) == [1]
    assert counted(programs.XDP) == {1: 1, 2: 1}, "both share the map"


@pytest.mark.parametrize(("version", "on_change"), [(60, "merge"), (2, "fresh")])
def test_map_that_was_changed_is_not_shared_with_the_release_before_at_boot(host, reboot, version, on_change):
    attached(host)
    host.stage(version, on_change=on_change)
    host.attach()
    reboot()

    boot.restore_all()

    loads = host.facts().loads.values()
    assert len({load.maps[programs.SEEN] for load in loads}) == len(loads) == 2
    transitions.roll_back(NAME)
    assert boot.restore(NAME) == ()


@pytest.mark.parametrize(("folder", "first"), [("releases", "object.o"), ("loads", "maps")])
def test_what_a_killed_run_had_begun_to_remove_is_not_taken_for_the_whole(host, reboot, folder, first):
    host.stage(1)

    def work():
        remove = shutil.rmtree

        def begun(path):
            if f"/{folder}/" in path:
                gone = os.path.join(path, first)
                os.unlink(gone) if os.path.isfile(gone) else remove(gone)
                private_host.kill_self()
            remove(path)

        shutil.rmtree = begun
        host.stage(2)

    assert private_host.in_child(work).signal
    for release in inventory.deployment(NAME)["releases"]:
        assert not store.spoiled(store.home(NAME), store.release(store.home(NAME), release))
    assert [sorted(load.maps) for load in host.facts().loads.values()] == [[programs.SEEN]] * len(host.facts().loads)

    attached(host)
    reboot()

    assert boot.restore_all() == [(NAME, None)]
    assert counts(host) == [1]


def test_release_whose_object_is_gone_is_written_again_when_it_is_staged(host, reboot):
    """An earlier version's kill left its manifest."""
    attached(host)
    files.remove(os.path.join(store.home(NAME).folder, "releases", host.facts().confirmed.release, "object.o"))
    assert inventory.deployment(NAME)["releases"] == []

    attached(host)
    reboot()

    assert boot.restore_all() == [(NAME, None)]
    assert counts(host) == [1]


def test_release_before_that_cannot_be_loaded_at_boot_costs_the_running_one_nothing(host, reboot, monkeypatch):
    attached(host)
    attached(host, 2)
    reboot()

    with monkeypatch.context() as booted:
        refuse(booted, 1)
        assert boot.restore_all() == [(NAME, None)]

    assert counts(host) == [2]
    assert "previous_not_loaded" in journal()


# ---- files of a release that the disk damaged ----------------------------------------------------


def file_of(number, name="object.o"):
    """The file of the release that generation `number` runs."""
    return store.release_path(store.home(NAME), store.generation(store.home(NAME), number).release, name)


DAMAGE = {"bit": flip, "short": lambda path: os.truncate(path, 100), "lost": os.unlink}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_release_is_told_and_written_anew_when_it_is_staged_again(host, reboot, damage):
    attached(host)
    before = pathlib.Path(file_of(1)).read_bytes()
    DAMAGE[damage](file_of(1))

    row = inventory.deployment(NAME)
    assert (row["state"], row["releases"]) == ("drifted", [])
    assert any(f"{file_of(1)} of release {row['release']} is damaged or lost" in line for line in row["drift"])

    checked = host.stage(1, check_mode=True)
    staged = host.stage(1)

    for done in (checked.steps, staged.steps):
        assert [type(step) for step in done] == [steps.MendRelease]
    assert pathlib.Path(file_of(1)).read_bytes() == before
    assert inventory.deployment(NAME)["state"] == "confirmed"
    assert staged.after.releases[row["release"]].figures, "the manifest keeps what the kernel said of the first load"
    assert not host.stage(1).steps
    reboot()
    assert boot.restore_all() == [(NAME, None)]
    assert counts(host) == [1]


@pytest.mark.parametrize("damage", DAMAGE)
def test_release_that_is_damaged_at_boot_gives_way_to_the_one_before_and_the_unit_says_so(host, reboot, damage):
    attached(host)
    attached(host, 2)
    path = file_of(2)
    DAMAGE[damage](path)
    reboot()

    ((name, failure),) = boot.restore_all()

    assert (name, failure.code) == (NAME, "damaged")
    assert f"{path} of release" in str(failure)
    assert "the release before runs" in str(failure)
    assert "boot_damaged" in journal()
    assert counts(host) == [1]
    attached(host, 2)
    assert counts(host) == [2], "it is not quarantined, and is written anew"
    reboot()
    assert boot.restore_all() == [(NAME, None)]
    assert counts(host) == [2]


def test_release_whose_manifest_is_lost_gives_way_to_the_one_before(host, reboot):
    attached(host)
    attached(host, 2)
    path = file_of(2, "manifest.json")
    os.unlink(path)
    row = inventory.deployment(NAME)
    assert row["state"] == "drifted"
    assert any(path in line for line in row["drift"])
    reboot()

    assert [failure.code for name, failure in boot.restore_all()] == ["damaged"]

    assert counts(host) == [1]


def test_damaged_release_alone_stays_confirmed_until_it_is_mended(host, reboot):
    attached(host)
    flip(file_of(1))
    reboot()

    assert [failure.code for name, failure in boot.restore_all()] == ["damaged"]
    assert host.facts().links == {}

    attached(host)
    assert counts(host) == [1]
    assert inventory.deployment(NAME)["drift"] == []


def test_damaged_release_before_is_told_and_costs_the_running_one_nothing(host, reboot):
    attached(host)
    attached(host, 2)
    flip(file_of(1))
    assert any(file_of(1) in line for line in inventory.deployment(NAME)["drift"])
    reboot()

    assert boot.restore_all() == [(NAME, None)]

    assert counts(host) == [2]
    assert "previous_not_loaded" in journal()


def test_damaged_release_that_an_older_version_wrote_is_known_by_its_objects_digest(host):
    attached(host)
    with open(file_of(1, "manifest.json"), encoding="utf-8") as stream:
        record = json.load(stream)
    assert sorted(record.pop("files")) == ["object.o", "source"]
    pathlib.Path(file_of(1, "manifest.json")).write_text(json.dumps(record), encoding="utf-8")
    assert inventory.deployment(NAME)["drift"] == []

    flip(file_of(1))

    assert inventory.deployment(NAME)["state"] == "drifted"


def test_release_that_only_an_older_generation_needs_is_looked_at_when_it_is_staged_again(host):
    for version in (1, 2, 3):
        attached(host, version)
    flip(file_of(1))
    assert inventory.deployment(NAME)["drift"] == [], "nothing that runs or boots needs it"

    assert steps.MendRelease in [type(step) for step in host.stage(1).steps]
