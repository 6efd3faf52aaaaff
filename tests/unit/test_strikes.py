# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long what ran, what is proven by it, which ends of boots are strikes, and what a dead kernel's log says first."""

from __future__ import annotations

import os

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import ends, off, records, strikes
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks.contract import Attachment
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import crashes

ETH0, ETH1 = (Attachment.of("xdp", "count", interface=name) for name in ("eth0", "eth1"))
A, B = "a" * 16, "b" * 16


def generation(number, release, *attachments):
    return records.Generation(
        number, release + "-1", release, {each.target: each for each in attachments}, proven_after=100
    )


def lived(*lives):
    """A Ran after (generation, seconds) each, all in one boot."""
    ran, now = strikes.Ran(), 0.0
    for each, duration in lives:
        ran = strikes.turned(strikes.credited(ran, "boot", now, ran.generation), each, "boot", now)
        now += duration
    return strikes.credited(ran, "boot", now, ran.generation)


def test_generation_is_proven_as_its_attachment_that_ran_least():
    one, both = generation(1, A, ETH0), generation(2, A, ETH0, ETH1)
    ran = lived((one, 80), (both, 40))

    assert (strikes.seconds(ran, one), strikes.seconds(ran, both)) == (120, 40)
    assert (strikes.is_proven(ran, one), strikes.is_proven(ran, both)) == (True, False)
    assert strikes.newest_proven(ran, {1: one, 2: both}).number == 1


def test_new_release_begins_anew_and_a_rollback_to_a_proven_one_stays_proven():
    old, new, again = generation(1, A, ETH0), generation(2, B, ETH0), generation(3, A, ETH0)
    ran = lived((old, 100), (new, 99), (again, 1))

    assert [strikes.is_proven(ran, each) for each in (old, new, again)] == [True, False, True]


def test_what_attaches_nothing_is_nothing_to_go_back_to():
    ran = lived((generation(1, A), 1000))
    assert strikes.newest_proven(ran, {1: generation(1, A)}) is None


@pytest.mark.parametrize("boot_id,running", [("another", 1), ("boot", 2)])
def test_time_is_credited_to_what_is_known_to_have_run(boot_id, running):
    """Not where another boot's record speaks, nor where a killed run left another generation's."""
    ran = lived((generation(1, A, ETH0), 10))
    assert strikes.credited(ran, boot_id, 500.0, running) == ran


def struck(*boots, ran=None, cause="unknown"):
    wish = generation(1, A, ETH0)
    ran = ran or lived((wish, 10))
    for each in boots:
        ran = ends._judged(ran, wish, ends.Boot(each), None if each == "clean" else cause, "now")
    return strikes.sentence(ran, wish)


@pytest.mark.parametrize(
    "boots,is_out",
    [
        (("1",), False),
        (("1", "1"), False),
        (("1", "2"), True),
        (("1", "clean", "2"), False),
        (("1", "clean", "2", "3"), True),
        (("1", "2", "clean"), False),
    ],
)
def test_two_strikes_in_a_row_are_out(boots, is_out):
    assert bool(struck(*boots)) == is_out


def test_sentence_names_the_last_cause():
    assert struck("1", "2", cause="panic: Oops").endswith(
        "2 boots in a row ended out of order while it ran unproven, the last one by panic: Oops"
    )


def test_proven_generation_has_no_strikes():
    assert struck("1", "2", ran=lived((generation(1, A, ETH0), 100))) == ""


def test_strikes_go_with_what_they_are_about():
    ran = lived((generation(1, A, ETH0), 1))._replace(
        strikes=({"boot_id": "x", "cause": "unknown", "when": "now"},) * 2
    )
    same = strikes.turned(ran, generation(2, A, ETH0), "boot", 5.0)
    other = strikes.turned(ran, generation(3, B, ETH0), "boot", 5.0)
    assert (len(same.strikes), len(other.strikes)) == (2, 0)


@pytest.mark.parametrize(
    "text,is_off",
    [
        ("quiet ebpf_deploy=off\n", True),
        ("ebpf_deploy=off ebpf_deploy=on", False),
        ("ebpf_deploy=on ebpf_deploy=off", True),
        ("ebpf_deploy=offline my_ebpf_deploy=off ebpf_deploy", False),
        ("", False),
    ],
)
def test_last_word_of_the_command_line_counts(text, is_off):
    assert off._is_off(text) == is_off


LOG = """Panic#1 Part1
<6>[   12.1] eth0: up
<4>[   12.2] BUG: kernel NULL pointer dereference, address: 0000000000000000
<4>[   12.3] RIP: 0010:bpf_prog_run_xdp+0x1
<0>[   12.4] Kernel panic - not syncing: Fatal exception in interrupt
"""


def test_first_line_of_the_newest_crash_since(tmp_path, monkeypatch):
    monkeypatch.setattr(crashes, "KEPT", (str(tmp_path / "dmesg-*"), str(tmp_path / "*/dmesg*")))
    (tmp_path / "dmesg-efi-1").write_text(LOG.replace("NULL", "older"))
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "dmesg.txt").write_text(LOG)
    os.utime(tmp_path / "dmesg-efi-1", (100, 100))
    os.utime(tmp_path / "2024" / "dmesg.txt", (200, 200))

    assert crashes.first_line(50).startswith("BUG: kernel NULL pointer")
    assert crashes.first_line(150).startswith("BUG: kernel NULL pointer")
    assert crashes.first_line(250) == ""


def test_panic_is_told_where_no_oops_is():
    assert crashes.PANIC.search("<0>[ 1.0] Kernel panic - not syncing: sysrq triggered crash\n")[1].endswith("crash")
