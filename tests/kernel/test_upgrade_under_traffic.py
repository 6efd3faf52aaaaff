# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fifty upgrades while packets flow: as many packets are counted, by one version or another, as were sent.

Each version stamps its number into a per-CPU count that all releases share. The sender has at most a window of packets
under way, so that none is dropped for want of room: a packet that no version counted would show.
"""

from __future__ import annotations

import os
import time

import private_host
import programs
import pytest
from private_host import NAME, attachment, counted

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import steps, transitions

UPGRADES = 50
WINDOW = 32  # packets under way at once
LIMIT = 20_000_000  # packets, should nobody say stop


def flow(host, stop):
    """Packets sent, each of them received, until `stop` (a pipe) is closed."""
    os.set_blocking(stop, False)
    sent = 0
    while sent < LIMIT and _is_open(stop):
        host.receive(WINDOW)
        sent += WINDOW
    return sent


def _is_open(pipe):
    try:
        return os.read(pipe, 1) != b""
    except BlockingIOError:
        return True


def under_traffic(host, work):
    """(packets sent, seconds) while `work` was done."""
    reading, writing = os.pipe()

    def send():
        os.close(writing)
        return flow(host, reading)

    began = time.monotonic()
    sender = private_host.begin_child(send)
    os.close(reading)
    try:
        work()
    finally:
        os.close(writing)
        ended = sender()
    return ended.value, time.monotonic() - began


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_no_packet_passes_uncounted_while_fifty_releases_follow_each_other(host, mode, figures):
    for version in range(UPGRADES + 1):
        programs.object_of(version)  # compiled now: what is measured is loading and switching
    host.stage(0)
    host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE, mode=mode))
    link = private_host.links().keys() & {each.id for each in host.facts().links.values()}
    switched = []

    def upgrade_all():
        for version in range(1, UPGRADES + 1):
            host.stage(version)
            outcome = host.attach()
            switched.append([type(step) for step in outcome.steps if step.is_hook_step])
            assert private_host.eventually(lambda seen=version: seen in counted(programs.XDP)), "no packet flows"

    sent, seconds = under_traffic(host, upgrade_all)

    by_version = counted(programs.XDP)
    assert switched == [[steps.Replace]] * UPGRADES
    assert {each.id for each in host.facts().links.values()} == link
    assert sum(by_version.values()) == sent
    assert set(by_version) == set(range(UPGRADES + 1))
    figures.append(
        f"upgrade under traffic, xdp {mode}: {UPGRADES} upgrades in {seconds:.1f} s, {sent} packets sent and received, "
        f"{sum(by_version.values())} counted by {len(by_version)} versions ({min(by_version.values())} to "
        f"{max(by_version.values())} each), {sent - sum(by_version.values())} uncounted"
    )


def test_way_back_and_forth_under_traffic_loses_nothing_at_three_hooks(host, figures):
    """Two releases, left and taken again: the way back too swaps in place."""
    host.stage(1)
    host.attach(
        attachment("xdp", programs.XDP, interface=private_host.DEVICE),
        attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="ingress"),
        attachment("cgroup", programs.CGROUP, cgroup=host.cgroup),
    )
    host.stage(2)

    def back_and_forth():
        for dummy in range(10):
            host.attach(retry_quarantined=True)
            transitions.roll_back(NAME)
            host.stage(2, retry_quarantined=True)

    sent, seconds = under_traffic(host, back_and_forth)

    for program in (programs.XDP, programs.TCX):
        by_version = counted(program)
        assert sum(by_version.values()) == sent
        assert set(by_version) == {1, 2}
    figures.append(f"10 upgrades and 10 ways back in {seconds:.1f} s: {sent} packets, all counted at xdp and at tcx")
