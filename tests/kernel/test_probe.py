# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe of a guarded change: what it decides, alone and with a controller, and that nothing of it outlives its
time."""

from __future__ import annotations

import os
import time

import private_host
import pytest
from private_host import NAME, PEER_ADDRESS, eventually
from test_trial_questions import guarded_for_a_second, with_a_trial

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    probe,
    records,
    store,
    transitions,
    trial,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest, ProbeNotPassed, RolledBack


@pytest.fixture
def on_trial(host):
    return with_a_trial(host)


# ---- what it decides -----------------------------------------------------------------------------


def test_controller_confirms_no_trial_whose_probe_has_not_passed(on_trial):
    armed(on_trial, "false")

    for check_mode in (True, False):
        with pytest.raises(ProbeNotPassed, match="The probe false has not passed"):
            transitions.confirm(NAME, 3, check_mode)
    guarded_for_half_a_second()

    assert store.ended(store.home(NAME), 3).why == "its probe false did not pass in time"
    with pytest.raises(RolledBack, match="its probe false did not pass in time"):
        transitions.confirm(NAME, 3)


def test_probe_that_passes_confirms_no_trial_that_a_controller_has_to_confirm(on_trial):
    armed(on_trial, "true")

    guarded_for_half_a_second()

    assert store.ended(store.home(NAME), 3).why == "it was not confirmed in time"


def test_controller_confirms_once_the_probe_has_passed(on_trial):
    armed(on_trial, "true")
    trial.probe_passed(NAME, 2)
    with pytest.raises(ProbeNotPassed):
        transitions.confirm(NAME, 3)

    trial.probe_passed(NAME, 3)

    assert transitions.confirm(NAME, 3).after.confirmed.number == 3


def test_probe_confirms_where_no_controller_can(on_trial):
    armed(on_trial, "true", by_controller=False)

    guarded_for_half_a_second()

    assert (on_trial.facts().confirmed.number, on_trial.facts().trial) == (3, None)


def test_probe_is_not_asked_before_the_switch_to_its_own_trial(on_trial, monkeypatch, tmp_path):
    """The first guard still lives when the same rollout arms its next trial, which the second guard will switch."""
    on_trial.attach(confirm_within=60, probe=f"touch {tmp_path}/asked")
    monkeypatch.setattr(trial, "switch", lambda *dummy: None)

    guarded_for_a_second(monkeypatch)

    assert not (tmp_path / "asked").exists()
    assert store.ended(store.home(NAME), 3).outcome == records.ROLLED_BACK


@pytest.mark.parametrize("text", [" ", "tcp:a..b:22", "tcp::22", "tcp:localhost:0", "tcp:localhost", "echo 'x"])
def test_probe_that_cannot_be_asked_is_refused_and_to_a_guard_it_has_failed(text):
    with pytest.raises(BadRequest, match="cannot be read"):
        probe.expect(text)

    assert not probe.passes(text, 5)


@pytest.mark.parametrize("text", ["", "true", "tcp:localhost:22", "tcp:[::1]:22", "tcp:192.0.2.1:22"])
def test_probe_that_can_be_asked(text):
    probe.expect(text)


def test_probe_connects(host):
    with host.at_peer():
        listening = private_host.socket.create_server((PEER_ADDRESS, 8099))

    with listening:
        assert probe.passes(f"tcp:{PEER_ADDRESS}:8099", 5)
    assert not probe.passes(f"tcp:{PEER_ADDRESS}:8099", 5)


# ---- that nothing of it is left ------------------------------------------------------------------


@pytest.fixture
def silent_resolver(host, tmp_path):
    """Names are asked of the peer, which listens and never answers."""
    (tmp_path / "resolv.conf").write_text(f"nameserver {PEER_ADDRESS}\n")
    private_host.run("mount", "--bind", str(tmp_path / "resolv.conf"), "/etc/resolv.conf")
    with host.at_peer():
        silent = private_host.socket.socket(private_host.socket.AF_INET, private_host.socket.SOCK_DGRAM)
        silent.bind((PEER_ADDRESS, 53))
    yield silent
    silent.close()


def test_name_that_nobody_resolves_holds_nothing_up(silent_resolver):
    began = time.monotonic()

    assert not probe.passes("tcp:nowhere.example:22", 0.5)

    assert time.monotonic() - began < 2
    assert silent_resolver.recv(512), "the resolver was asked"


HOLDS_ON = {
    "in its session": "sleep 4711 & sleep 4711",
    "in another session": "setsid sleep 4711 & sleep 4711",
    "deaf to SIGTERM": "trap '' TERM; sleep 4711",
    "though the probe passes": "setsid sleep 4711 & exit 0",
}


@pytest.mark.parametrize("how", HOLDS_ON)
def test_all_that_a_probe_started_ends_with_it(how, tmp_path):
    (tmp_path / "probe").write_text(f"echo >{tmp_path}/asked; {HOLDS_ON[how]}\n")

    passed = probe.passes(f"sh {tmp_path}/probe", 0.5)

    assert passed == (how == "though the probe passes")
    assert (tmp_path / "asked").exists()
    assert eventually(lambda: not sleeping())


def test_probe_ends_when_nobody_wants_to_know_any_more():
    began = time.monotonic()

    assert not probe.passes("sleep 4711", 60, lambda: time.monotonic() - began > 0.2)

    assert time.monotonic() - began < 2
    assert not sleeping()


def test_guard_whose_probe_hangs_goes_back_in_time(on_trial):
    armed(on_trial, "sleep 4711")
    began = time.monotonic()

    guarded_for_half_a_second()

    assert time.monotonic() - began < 3
    assert store.ended(store.home(NAME), 3).why == "its probe sleep 4711 did not pass in time"


def armed(host, text, **wish):
    """Generation 3 on trial with this probe, switched."""
    host.attach(confirm_within=60, probe=text, **wish)
    assert trial.switch(NAME)


def guarded_for_half_a_second():
    with pytest.MonkeyPatch.context() as patched:
        guarded_for_a_second(patched, 0.5)


def sleeping():
    """The processes that a probe of this test left: no other sleeps so long."""
    found = []
    for pid in (each for each in os.listdir("/proc") if each.isdigit()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                found += [pid] if b"4711" in stream.read().split(b"\0") else []
        except OSError:
            pass
    return found
