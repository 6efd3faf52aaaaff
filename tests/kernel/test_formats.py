# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of other versions. What 6322a26 left on a host is read, finished, gone back from and booted. Two versions at
one deployment do each other no harm. A newer version's record is refused by name, but not by way back, guard and boot.

state_of_6322a26/record.py says how the folders there came to be.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys

import private_host
import pytest
from private_host import DEVICE, NAME, attachment
from test_guard_killed import pass_the_deadline

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    boot,
    guard,
    inventory,
    observe,
    records,
    store,
    transitions,
    trial,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import (
    Damaged,
    Quarantined,
    RolledBack,
    TooNew,
    TrialRuns,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files, namespaces
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf

OLD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "state_of_6322a26")
ONE, TWO = "9c26ce2521cd0945", "d8ba5c97606b301c"  # its releases
XDP, TCX, SEEN = "old_xdp", "old_tcx", "old_seen"
QUARANTINED = "35adde68bfa0a098415e3bef6d03d714986c8bd61bcf106c727627dc0ddad00c"  # the source_id of TWO


# ---- a host as 6322a26 left it -------------------------------------------------------------------


def path(*names):
    return os.path.join(store.home(NAME).folder, *names)


def left_on_disk(state):
    """Disk and /run are as they were then, of this boot, and a deadline there passes in a minute."""
    shutil.copytree(os.path.join(OLD, state), path(), symlinks=True)
    shutil.copytree(os.path.join(OLD, "releases"), path("releases"))
    for release in os.listdir(path("releases")):
        os.rename(path("releases", release, "object"), path("releases", release, "object.o"))
    kernel = read(path("kernel"))
    os.unlink(path("kernel"))
    for number in store.generation_numbers(store.home(NAME)):
        with contextlib.suppress(ValueError):  # torn
            change(path(f"generations/{number}.json"), boot_id=namespaces.boot_id())
    if os.path.exists(path("deadline")):
        files.make_private_folder(records.RUN)
        shutil.move(path("deadline"), store.deadline_path(NAME))
        change(store.deadline_path(NAME), boot_id=namespaces.boot_id(), end=records.boottime() + 60)
    return kernel


def left(state):
    """The kernel, too, has what it had."""
    kernel = left_on_disk(state)
    place, shared = store.home(NAME), {}
    for load in kernel["loads"]:
        pins = os.path.join(place.loads, load)
        files.make_private_folder(place.loads)
        data = store.release_file(place, store.release(place, records.release_of(load)), "object.o")
        elf.load(data, NAME, [XDP, TCX], shared, pins)
        shared = {SEEN: os.path.join(pins, "maps", SEEN)}
    for each in both():
        hook = catalogue.hook_of(each)
        load = kernel["links"].get(hook.id(each))
        if load:
            files.make_private_folder(place.links)
            pinned = bpf.get_pinned(os.path.join(place.loads, load, "progs", each.program))
            with pinned as program, hook.attach(each, hook.place(each, (0, 0)), program) as link:
                bpf.pin(link, os.path.join(place.links, hook.id(each)))


def both():
    return (attachment("xdp", XDP, interface=DEVICE), attachment("tcx", TCX, interface=DEVICE, direction="ingress"))


def read(name):
    with open(name, encoding="utf-8") as stream:
        return json.load(stream)


def change(name, **fields):
    """A field that is None goes."""
    record = {**read(name), **fields}
    with open(name, "w", encoding="utf-8") as stream:
        json.dump({field: value for field, value in record.items() if value is not None}, stream)


def runs():
    """The releases that the hooks run, by bpftool: one for each link that is pinned."""
    place, found = store.home(NAME), {}
    for load in files.names_in(place.loads):
        for program in (XDP, TCX):
            pinned = os.path.join(place.loads, load, "progs", program)
            found[private_host.bpftool("prog", "show", "pinned", pinned)["id"]] = records.release_of(load)
    shown = private_host.links()
    return [found[shown[each.id]["prog_id"]] for each in observe.facts(place).links.values()]


def both_run(release):
    return [release] * 2 if release else []


RUNS = {
    "staged": None,
    "confirmed": TWO,
    "declared": TWO,
    "armed": ONE,
    "trial": TWO,
    "leaving": TWO,
    "thrown_back": ONE,
    "torn": TWO,
}


@pytest.mark.parametrize("state", RUNS)
def test_each_state_is_told_as_it_was_and_nothing_moves(host, state):
    left(state)

    row = inventory.deployment(NAME)

    word = {
        "armed": "trial",
        "leaving": "trial",
        "declared": "confirmed",
        "thrown_back": "confirmed",
        "torn": "unknown",
    }
    assert row["state"] == word.get(state, state)
    assert row["releases"] == [ONE, TWO]
    assert runs() == both_run(RUNS[state])
    if state in ("confirmed", "thrown_back"):
        assert row["drift"] == []


def test_confirmed_one_goes_back_and_forth(host):
    left("confirmed")
    assert not transitions.confirm(NAME).changed

    transitions.roll_back(NAME)
    assert runs() == both_run(ONE)

    transitions.roll_back(NAME, release=TWO)
    assert runs() == both_run(TWO)


def test_staged_one_is_attached(host):
    left("staged")

    host.attach(*both())

    assert runs() == both_run(ONE)


def test_kept_and_declared_are_known(host):
    left("declared")

    seen = host.facts()
    assert seen.keep == 5
    assert [key[0] for key, dummy in store.declared(store.home(NAME), SEEN).entries] == [250, 251]
    assert inventory.deployment(NAME)["declared"][0]["entries"] == 2


def test_armed_trial_is_switched_and_confirmed(host):
    left("armed")

    assert trial.switch(NAME)
    assert runs() == both_run(TWO)
    transitions.confirm(NAME, 2)

    assert host.facts().confirmed.number == 2


def test_trial_that_expired_is_taken_back_and_quarantined(host, monkeypatch):
    left("trial")
    pass_the_deadline()
    monkeypatch.setattr(guard, "GRACE", 0)

    guard.main(NAME)

    assert runs() == both_run(ONE)
    with pytest.raises(RolledBack, match="not confirmed in time"):
        transitions.confirm(NAME, 2)
    assert store.quarantined(store.home(NAME), QUARANTINED)["generation"] == 2


def test_trial_is_not_confirmed_by_others_and_lives_on(host):
    left("trial")

    with pytest.raises(TrialRuns, match="Rollout its-rollout has generation 2"):
        transitions.attach(NAME, transitions.Wish(rollout_id="another"))

    assert host.facts().trial_is_live
    assert runs() == both_run(TWO)


def test_way_back_that_was_begun_is_ended(host):
    left("leaving")

    with pytest.raises(RolledBack, match="by a user"):
        transitions.confirm(NAME)

    assert runs() == both_run(ONE)
    assert host.facts().trial is None


def test_what_it_threw_back_stays_out(host):
    left("thrown_back")

    with pytest.raises(Quarantined, match="generation 2 was thrown back"):
        transitions.attach(NAME, transitions.Wish(release=TWO))
    with pytest.raises(RolledBack, match="by a user"):
        transitions.confirm(NAME, 2)


def test_torn_one_stops_changes_and_is_adopted(host):
    left("torn")
    with pytest.raises(Damaged):
        transitions.roll_back(NAME)

    transitions.confirm(NAME)

    assert runs() == both_run(TWO)
    assert inventory.deployment(NAME)["state"] == "confirmed"


@pytest.mark.parametrize(
    ("state", "release"),
    [("staged", None), ("confirmed", TWO), ("armed", ONE), ("trial", ONE), ("leaving", ONE), ("thrown_back", ONE)],
)
def test_each_state_boots(host, reboot, state, release):
    left_on_disk(state)
    reboot()

    assert boot.restore_all() == [(NAME, None)]

    assert runs() == both_run(release)


def test_each_state_is_removed(host):
    """What is left after each test is looked at, too (private_host)."""
    for state in RUNS:
        left(state)
        transitions.remove(NAME)
        assert private_host.tree(records.PINS) == []
        shutil.rmtree(path())


# ---- two versions at one deployment --------------------------------------------------------------


def by_old_code(script, *arguments):
    """What 6322a26's own code printed, in a process that has nothing else of us."""
    begin = f"import json, sys; sys.path.insert(0, {os.path.join(OLD, 'code.zip')!r})\n"
    modules = "from ebpf_deploy.deployment import apply, boot, guard, inventory, plan, store, transitions, trial\n"
    command = [sys.executable, "-I", "-c", begin + modules + script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def old_guard():
    """6322a26's guard serves the deployment until no trial is left."""
    return by_old_code(f"guard.GRACE = 0; guard.main({NAME!r})")


def on_trial(host, **wish):
    """Release TWO, staged by 6322a26, on trial by today's code; it is switched by whatever guard comes."""
    left("confirmed")
    transitions.roll_back(NAME)
    wish = {"retry_quarantined": True, "release": TWO, "confirm_within": 60, "rollout_id": "new", **wish}
    return transitions.attach(NAME, transitions.Wish(**wish)).generation.number


def test_old_guard_takes_back_what_todays_code_put_on_trial(host):
    number = on_trial(host)
    assert trial.switch(NAME)
    assert runs() == both_run(TWO)
    pass_the_deadline()

    ended = old_guard()

    assert (ended.returncode, ended.stderr) == (0, "")
    assert runs() == both_run(ONE)
    with pytest.raises(RolledBack, match="not confirmed in time"):
        transitions.confirm(NAME, number)


def test_old_guard_switches_and_confirms_by_its_probe_what_todays_code_armed(host):
    number = on_trial(host, probe="true")

    ended = old_guard()

    assert (ended.returncode, ended.stderr) == (0, "")
    assert runs() == both_run(TWO)
    assert (host.facts().confirmed.number, host.facts().trial) == (number, None)


OLD_TRIAL = f"""
wish = transitions.Wish(release={TWO!r}, retry_quarantined=True, confirm_within=60, rollout_id="old")
print(transitions.attach({NAME!r}, wish).generation.number)
trial.switch({NAME!r})
"""


@pytest.fixture
def old_trial(host):
    """The number of a generation that 6322a26's code put on trial and switched to, of ONE that runs."""
    left("thrown_back")
    done = by_old_code(OLD_TRIAL)
    assert done.returncode == 0, done.stderr
    assert runs() == both_run(TWO)
    return int(done.stdout)


def test_todays_controller_leaves_an_old_ones_trial_to_it(host, old_trial):
    with pytest.raises(TrialRuns, match=f"Rollout old has generation {old_trial}"):
        transitions.attach(NAME, transitions.Wish(rollout_id="new"))
    assert runs() == both_run(TWO)

    done = by_old_code(f"print(transitions.confirm({NAME!r}, {old_trial}).state)")

    assert (done.stdout, done.stderr) == ("confirmed\n", "")
    assert inventory.deployment(NAME)["state"] == "confirmed"


def test_old_guard_ends_when_todays_code_took_its_trial_back(host, old_trial):
    transitions.roll_back(NAME, number=old_trial)

    ended = old_guard()

    assert (ended.returncode, ended.stderr) == (0, "")
    assert runs() == both_run(ONE)


def test_old_controller_leaves_todays_trial_to_its_own(host):
    number = on_trial(host)
    assert trial.switch(NAME)

    done = by_old_code(f"transitions.attach({NAME!r}, transitions.Wish(rollout_id='old'))")

    assert f"Rollout new has generation {number}" in done.stderr
    assert runs() == both_run(TWO)
    assert transitions.confirm(NAME, number).generation.number == number


def test_old_controller_goes_on_from_what_todays_code_confirmed_and_back(host):
    left("confirmed")
    transitions.roll_back(NAME)

    script = f"transitions.roll_back({NAME!r}, release={TWO!r}); print(inventory.deployment({NAME!r})['state'])"
    done = by_old_code(script)

    assert (done.stdout, done.stderr) == ("confirmed\n", "")
    assert runs() == both_run(TWO)
    assert not transitions.confirm(NAME).changed
    assert inventory.deployment(NAME)["drift"] == []


def test_old_boot_unit_brings_back_what_todays_code_confirmed(host, reboot):
    left("confirmed")
    transitions.roll_back(NAME)
    reboot()

    done = by_old_code("print(boot.restore_all())")

    assert (done.stdout, done.stderr) == (f"[('{NAME}', None)]\n", "")
    assert runs() == both_run(ONE)


# ---- newer and older formats ---------------------------------------------------------------------

NEWER = records.FORMAT + 1


def on_disk():
    """Every record of the deployment, as paths below its folder."""
    found = [each for each in private_host.tree(path()) if each.endswith(".json") and not os.path.islink(each)]
    return [os.path.relpath(each, path()) for each in found]


def rewrite_all(**fields):
    for each in on_disk():
        with contextlib.suppress(ValueError):  # torn
            change(path(each), **fields)
    if os.path.exists(store.deadline_path(NAME)):
        change(store.deadline_path(NAME), **fields)


@pytest.fixture(autouse=True)
def known_again(host):
    """At the end the deployment can be removed."""
    yield
    if os.path.isdir(path()):
        rewrite_all(format=records.FORMAT)


@pytest.mark.parametrize("number", [0, None])
def test_older_formats_and_none_are_read(host, number):
    left("trial")
    rewrite_all(format=number)

    assert transitions.confirm(NAME, 2).state == "confirmed"

    assert inventory.deployment(NAME)["drift"] == []


@pytest.mark.parametrize(
    "name", ["generations/1.json", "generations/2.json", "staged.json", "keep.json", f"releases/{ONE}/manifest.json"]
)
def test_newer_record_is_refused_by_name_and_loses_nothing(host, name):
    left("declared")
    change(path(name), format=NEWER, colour="blue")
    before = {each: read(path(each)) for each in on_disk()}

    for work in (
        lambda: transitions.confirm(NAME),
        lambda: transitions.roll_back(NAME),
        lambda: transitions.attach(NAME, transitions.Wish(release=ONE)),
        lambda: transitions.remove(NAME),
        lambda: transitions.keep(NAME, 1),
        lambda: host.stage(3),
        lambda: host.declare({"key": 1, "value": 1}, map=SEEN),
    ):
        with pytest.raises(TooNew, match=r"newer ebpf\.deploy.*Update the collection") as refused:
            work()
        assert (refused.value.detail["path"], refused.value.detail["format"]) == (path(name), NEWER)

    assert {each: read(path(each)) for each in on_disk()} == before
    row = inventory.deployment(NAME)
    assert (row["state"], row["generation"]) == ("unknown", 2)
    assert path(name) in row["drift"][0]
    assert runs() == both_run(TWO)


def test_guard_takes_a_newer_ones_trial_back_and_prunes_nothing(host, monkeypatch):
    left("trial")
    rewrite_all(format=NEWER, colour="blue")
    pass_the_deadline()
    before = set(on_disk())
    monkeypatch.setattr(guard, "GRACE", 0)

    guard.main(NAME)

    assert runs() == both_run(ONE)
    assert store.ended(store.home(NAME), 2).outcome == records.ROLLED_BACK
    assert before - set(on_disk()) == {"staged.json"}, "it was of what is left"


def test_guard_confirms_a_newer_ones_trial_by_its_probe(host, monkeypatch):
    left("trial")
    change(store.deadline_path(NAME), probe="true", by_controller=False)
    rewrite_all(format=NEWER, colour="blue")
    monkeypatch.setattr(guard, "GRACE", 0)

    guard.main(NAME)

    assert (runs(), host.facts().trial) == (both_run(TWO), None)


@pytest.mark.parametrize(("unreadable", "comes_back"), [("confirmed", ONE), ("trial", ONE)])
def test_guard_goes_by_what_it_has_where_a_newer_record_tells_it_nothing(host, monkeypatch, unreadable, comes_back):
    left("trial")
    if unreadable == "confirmed":  # there is one more before
        shutil.copy(path("generations/1.json"), path("generations/0.json"))
        change(path("generations/0.json"), number=0)
    change(os.path.realpath(path(unreadable)), format=NEWER, load=None)
    pass_the_deadline()
    monkeypatch.setattr(guard, "GRACE", 0)

    guard.main(NAME)

    assert runs() == both_run(comes_back)


def test_newer_records_keep_nothing_from_boot(host, reboot):
    left_on_disk("confirmed")
    rewrite_all(format=NEWER, colour="blue")
    reboot()

    assert boot.restore_all() == [(NAME, None)]

    assert runs() == both_run(TWO)
    with pytest.raises(TooNew):
        observe.sound_facts(store.home(NAME))


@pytest.mark.parametrize("number", ["1", True, 1.5, [1]])
def test_format_that_is_no_number_is_damage(host, number):
    left("confirmed")
    change(path("staged.json"), format=number)

    with pytest.raises(Damaged):
        transitions.roll_back(NAME)
