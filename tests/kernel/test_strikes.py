# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release that ends boots out of order does not come back at every boot, and a hand can switch all of ours off.

Boots are played as in test_reboot.py; a real machine panics in tests/lab/power (strikes). Of systemd the one answer is
played that the private host has none for: whether the system goes down.
"""

from __future__ import annotations

import json
import os
import time

import private_host
import programs
import pytest
from private_host import NAME, attachment, counted

from ansible_collections.ebpf.deploy.plugins.module_utils._core import command
from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    apply,
    boot,
    ends,
    inventory,
    off,
    reload,
    steps,
    store,
    strikes,
    transitions,
    trial,
    units,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Quarantined, Struck, SwitchedOff
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files


def xdp():
    return attachment("xdp", programs.XDP, interface=private_host.DEVICE)


def tcx():
    return attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="ingress")


def confirmed(host, version, *attachments, **wish):
    host.stage(version)
    host.attach(*attachments or (xdp(),), **wish)


def proven(host, version=1, *attachments):
    confirmed(host, version, *attachments, proven_after=0)


@pytest.fixture
def life(reboot, monkeypatch):
    """A function that ends the boot (`crash`, `in_order`, or `by_hand` when somebody stopped the unit) and boots again,
    as the units do it; what the boot unit says."""

    def ended(how="crash"):
        if how != "crash":
            monkeypatch.setattr(units, "system_goes_down", lambda: how == "in_order")
            ends.end()
        reboot()
        ends.begin()
        return boot.restore_all()

    ends.begin()
    return ended


def runs(host):
    """The versions that count the next packet at the XDP hook."""
    before = counted(programs.XDP)
    host.receive()
    return [version for version, packets in counted(programs.XDP).items() if packets != before.get(version, 0)]


def proof():
    return inventory.deployment(NAME)["proof"]


def told(results):
    return [str(failure) for dummy, failure in results if failure]


def status(capsys):
    capsys.readouterr()
    assert command.main(["status"]) == 0
    return capsys.readouterr().out


def test_third_boot_runs_the_newest_proven_generation_and_says_why(host, life, capsys):
    proven(host, 1)
    confirmed(host, 2)

    assert told(life()) == []
    assert (runs(host), len(proof()["strikes"])) == ([2], 1)

    (failure,) = [failure for dummy, failure in life()]

    assert runs(host) == [1]
    assert isinstance(failure, Struck)
    assert "2 boots in a row ended out of order while it ran unproven" in str(failure)
    assert "a power cut" in str(failure)
    assert "left at boot" in status(capsys)
    assert "a power cut" in status(capsys)
    assert proof()["left"]["generation"] == 2
    with open(os.path.join(store.home(NAME).folder, "journal.jsonl"), encoding="utf-8") as lines:
        events = [json.loads(line)["event"] for line in lines]
    assert [each for each in events if each in ("strike", "struck")] == ["strike", "strike", "struck"]
    with pytest.raises(Quarantined, match="2 boots in a row"):
        host.stage(2)


def test_it_is_told_at_every_boot_until_somebody_changes_the_deployment(host, life):
    proven(host, 1)
    confirmed(host, 2)
    life()
    life()

    assert len(told(life("in_order"))) == 1
    assert len(told(life())) == 1, "what runs is proven: a crash is no strike against it"
    assert (runs(host), proof()["proven"]) == ([1], True)
    confirmed(host, 3)

    assert told(boot.restore_all()) == []
    assert proof()["left"] is None


def test_nothing_runs_where_nothing_is_proven(host, life):
    confirmed(host, 1)
    life()

    assert "nothing of it is attached" in told(life())[0]

    assert host.facts().links == {}
    assert inventory.deployment(NAME)["proof"]["left"]["to"] == host.facts().confirmed.number


def test_off_runs_nothing_though_another_is_proven(host, life):
    proven(host, 1)
    confirmed(host, 2, on_strikes="off")
    life()
    life()

    assert host.facts().links == {}


def test_keep_runs_it_and_shows_its_strikes(host, life):
    proven(host, 1)
    confirmed(host, 2, on_strikes="keep")
    life()
    life()

    assert told(life()) == []
    assert (runs(host), len(proof()["strikes"])) == ([2], 3)


@pytest.mark.parametrize("between", ["in_order", "by_hand"])
def test_boots_in_a_row_alone_count(host, life, between):
    """An end in order ends the row. One that nobody could tell is no strike."""
    confirmed(host, 1)
    life()

    assert told(life(between)) == []

    assert (runs(host), len(proof()["strikes"])) == ([1], 0 if between == "in_order" else 1)


def test_host_without_the_end_unit_counts_nothing(host, reboot):
    confirmed(host, 1)
    for dummy in range(3):
        reboot()
        assert told(boot.restore_all()) == []

    assert (runs(host), proof()["strikes"]) == ([1], [])


def test_boot_in_which_it_did_not_run_is_no_strike(host, life, reboot):
    """As where a boot crashed before the boot unit, or went without."""
    confirmed(host, 1)
    life()
    reboot()
    ends.begin()
    reboot()
    ends.begin()

    assert len(strikes.read(store.home(NAME)).strikes) == 2, "the first crash, and the boot before it"


def test_end_is_counted_once_though_the_unit_is_killed(host, reboot):
    confirmed(host, 1)
    ends.begin()
    reboot()

    def killed():
        ends._write = lambda record: private_host.kill_self()
        ends.begin()

    assert private_host.in_child(killed).signal
    assert len(proof()["strikes"]) == 1
    ends.begin()
    ends.begin()

    assert len(proof()["strikes"]) == 1


@pytest.mark.parametrize("kind", [steps.WriteQuarantine, steps.WriteGeneration, steps.Point, steps.PutOn])
@pytest.mark.parametrize("when", ["before", "after"])
def test_boot_unit_that_is_killed_while_it_leaves_the_release_goes_on_when_it_runs_again(host, reboot, kind, when):
    proven(host, 1)
    confirmed(host, 2)
    for dummy in range(2):
        ends.begin()
        reboot()
        if not dummy:
            ends.begin()
            boot.restore_all()
    ends.begin()

    def killed():
        apply.trace = lambda moment, step: moment == when and isinstance(step, kind) and private_host.kill_self()
        boot.restore_all()

    assert private_host.in_child(killed).signal

    assert len(told(boot.restore_all())) == 1
    assert (runs(host), proof()["left"]["generation"]) == ([1], 2)


def test_attachment_alone_is_left_where_it_is_what_is_new(host, life):
    proven(host, 1)
    host.attach(tcx())
    life()
    life()

    assert [each.hook for each in host.facts().confirmed.attachments.values()] == ["xdp"]
    assert runs(host) == [1]
    with pytest.raises(Quarantined):
        host.attach(tcx())


def test_taking_off_and_going_back_to_what_is_proven_stays_proven(host):
    confirmed(host, 1, xdp(), tcx(), proven_after=1)
    time.sleep(1.1)
    confirmed(host, 2, proven_after=1)
    assert not proof()["proven"]

    transitions.roll_back(NAME)
    assert proof()["proven"]
    host.attach(tcx(), detach=True)
    assert proof()["proven"]


def test_time_adds_up_over_boots_and_what_a_crash_takes_is_lost(host, life):
    confirmed(host, 1)
    time.sleep(0.6)
    life("in_order")
    time.sleep(0.6)
    ends.reckon()
    time.sleep(0.6)
    life()

    assert 1.2 <= strikes.seconds(strikes.read(store.home(NAME)), host.facts().confirmed) < 1.8


def test_newest_proven_generation_is_kept_for_going_back(host):
    proven(host, 1)
    for version in range(2, 7):
        confirmed(host, version)

    seen = host.facts()
    assert seen.proven == 1
    assert seen.generations[1].load in seen.loads


def test_crash_during_a_trial_is_the_trials(host, life):
    confirmed(host, 1)
    host.stage(2)
    host.attach(confirm_within=60)
    assert trial.switch(NAME)

    life()

    assert (runs(host), proof()["strikes"]) == ([1], [])


def test_damaged_record_proves_nothing_and_keeps_nothing_up(host, life):
    proven(host, 1)
    path = os.path.join(store.home(NAME).folder, "ran.json")
    for damage in (b"{", b"[]", b'{"seconds": 3}', b'{"strikes": [1]}', b'{"left": {}}', b'{"seconds": {"a": "b"}}'):
        files.write_durably(path, damage)
        files.write_durably(ends.BOOTS, damage)
        assert told(life()) == []
        assert runs(host) == [1]


# ---- switched off --------------------------------------------------------------------------------


@pytest.fixture
def switched_off(host, tmp_path, monkeypatch):
    """A function that switches the host off, by the kernel's command line or by the file."""

    def by(how):
        if how == "file":
            monkeypatch.setattr(off, "FILE", str(tmp_path / "off"))
            (tmp_path / "off").touch(mode=0o644)
        else:
            (tmp_path / "cmdline").write_text("quiet ebpf_deploy=off\n", encoding="ascii")
            private_host.run("mount", "--bind", str(tmp_path / "cmdline"), off.COMMAND_LINE)

    return by


@pytest.mark.parametrize("how", ["command line", "file"])
def test_switched_off_nothing_comes_on(host, reboot, switched_off, how, capsys):
    confirmed(host, 1)
    reboot()
    switched_off(how)

    assert [type(failure) for dummy, failure in boot.restore_all()] == [SwitchedOff]
    with pytest.raises(SwitchedOff, match=how if how != "file" else off.FILE):
        host.attach()
    with pytest.raises(SwitchedOff):
        transitions.confirm(NAME)
    assert host.facts().links == {}
    assert "switched off by" in status(capsys)
    assert inventory.host()["switched_off"]


def test_switched_off_taking_off_goes_on(host, switched_off):
    confirmed(host, 1, xdp(), tcx())
    confirmed(host, 2)
    switched_off("file")

    with pytest.raises(SwitchedOff):
        transitions.roll_back(NAME)
    host.attach(tcx(), detach=True)
    assert [each.type for each in host.facts().links.values()] == ["xdp"]
    transitions.roll_back(NAME, everything_off=True)

    assert host.facts().links == {}


def test_switched_off_a_part_is_taken_off_where_nothing_runs(host, reboot, switched_off):
    confirmed(host, 1, xdp(), tcx())
    reboot()
    reload.load_again(store.home(NAME), host.facts(), host.facts().confirmed)
    switched_off("file")

    host.attach(tcx(), detach=True)

    assert [each.hook for each in host.facts().confirmed.attachments.values()] == ["xdp"]
    assert host.facts().links == {}


def test_switched_off_an_interface_comes_back_without(host, switched_off):
    confirmed(host, 1)
    switched_off("file")
    host.destroy_interface()
    host.make_interface()

    assert [type(failure) for dummy, failure in boot.come_back(private_host.DEVICE)] == [SwitchedOff]
    assert runs(host) == []


def test_switched_off_a_trial_goes_back_all_the_same(host, switched_off):
    confirmed(host, 1)
    host.stage(2)
    host.attach(confirm_within=60)
    assert trial.switch(NAME)
    switched_off("file")

    transitions.roll_back(NAME)

    assert runs(host) == [1]


@pytest.mark.parametrize("mode", [0o646, 0o664])
def test_file_that_others_can_write_switches_nothing_off(switched_off, mode):
    switched_off("file")
    assert off.switch()
    os.chmod(off.FILE, mode)

    assert not off.switch()
