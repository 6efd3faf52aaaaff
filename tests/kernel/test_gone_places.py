# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A place that was there and is not any more keeps nobody from an upgrade: the rest moves, and it is told.

Its attachment stays in the deployment, and runs the release of then when the place comes back.
"""

from __future__ import annotations

import os

import programs
import pytest
from private_host import DEVICE, NAME, attachment, counted, eventually, run

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import boot, inventory, transitions, trial
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import NotFound

OTHER, OTHER_PEER = "k8", "k9"


def at_interface(hook):
    def make(host):
        run("ip", "link", "add", OTHER, "type", "veth", "peer", "name", OTHER_PEER)

    options = {} if hook == "xdp" else {"direction": "ingress"}
    program = programs.XDP if hook == "xdp" else programs.TCX
    wanted = attachment(hook, program, interface=OTHER, **options)
    return make, lambda host: run("ip", "link", "del", OTHER), lambda host: wanted


def cgroup(host):
    return os.path.join(os.path.dirname(host.cgroup), "itest-gone")


GOING = {
    "xdp": at_interface("xdp"),
    "tcx": at_interface("tcx"),
    "tc": at_interface("tc"),
    "cgroup": (
        lambda host: os.makedirs(cgroup(host), exist_ok=True),
        lambda host: os.rmdir(cgroup(host)),
        lambda host: attachment("cgroup", programs.CGROUP, cgroup=cgroup(host)),
    ),
    "interface of a namespace": (
        lambda host: run("sh", "-ec", "ip netns add itest-gone; ip -n itest-gone link add k7 type veth peer name k6"),
        lambda host: run("ip", "netns", "delete", "itest-gone"),
        lambda host: attachment("xdp", programs.XDP, interface="k7", netns="itest-gone"),
    ),
}


def staying():
    return attachment("tcx", programs.TCX, interface=DEVICE, direction="egress")


@pytest.fixture(params=sorted(GOING))
def gone(request, host):
    """The attachment whose place is gone, beside one that stays; with release 2 staged. And what makes the place."""
    make, destroy, wanted = GOING[request.param]
    make(host)
    try:
        going = wanted(host)
        host.stage(1)
        host.attach(going, staying(), allow_management_path=True)
        destroy(host)
        assert eventually(lambda: inventory.deployment(NAME)["state"] != "confirmed")
        host.stage(2)
        yield going, lambda: make(host)
    finally:
        transitions.remove(NAME)
        if request.param == "cgroup" and os.path.isdir(cgroup(host)):
            os.rmdir(cgroup(host))
        if request.param == "interface of a namespace" and os.path.exists("/run/netns/itest-gone"):
            destroy(host)


def test_the_rest_is_upgraded_and_the_absent_is_told(host, gone):
    outcome = host.attach(allow_management_path=True)

    (failure,) = outcome.gone.values()
    assert isinstance(failure, NotFound)
    assert outcome.changed
    assert len(outcome.generation.attachments) == 2
    host.send(3)
    assert counted(programs.TCX) == {2: 3}

    again = host.attach(allow_management_path=True)

    assert (again.changed, again.gone.keys()) == (False, outcome.gone.keys())
    assert transitions.confirm(NAME).gone.keys() == outcome.gone.keys()


def test_it_runs_the_release_of_then_when_its_place_comes_back(host, gone):
    going, make = gone
    host.attach(allow_management_path=True)

    make()
    again = host.attach(allow_management_path=True)

    assert [step.attachment for step in again.steps] == [going]
    assert [step.load for step in again.steps] == [host.facts().confirmed.load]
    assert again.gone == {}
    assert inventory.deployment(NAME)["state"] == "confirmed"


def test_guarded_upgrade_of_the_rest(host, gone):
    outcome = host.attach(confirm_within=60, allow_management_path=True)
    assert len(outcome.gone) == 1

    assert trial.switch(NAME)
    assert transitions.look(NAME, outcome.generation.number).state == "trial"
    transitions.confirm(NAME, outcome.generation.number)

    assert host.facts().confirmed.number == outcome.generation.number
    host.send(1)
    assert counted(programs.TCX) == {2: 1}


def test_guarded_upgrade_is_taken_back_without_it(host, gone):
    outcome = host.attach(confirm_within=60, allow_management_path=True)
    assert trial.switch(NAME)

    transitions.roll_back(NAME, number=outcome.generation.number)

    host.send(1)
    assert counted(programs.TCX) == {1: 1}


def test_check_mode_says_the_same(host, gone):
    outcome = transitions.attach(NAME, transitions.Wish(allow_management_path=True), check_mode=True)

    assert len(outcome.gone) == 1
    assert [step.attachment for step in outcome.steps if step.is_hook_step] == [staying()]


def test_new_place_that_is_not_there_is_refused_as_ever(host, gone):
    before = host.facts().confirmed
    with pytest.raises(NotFound, match="nowhere"):
        host.attach(attachment("xdp", programs.XDP, interface="nowhere"), allow_management_path=True)
    assert host.facts().confirmed == before


def test_interface_that_is_called_otherwise_is_not_gone(host):
    """What runs there would stay at the old release, and nobody would be told."""
    run("ip", "link", "add", OTHER, "type", "veth", "peer", "name", OTHER_PEER)
    wanted = [attachment("xdp", programs.XDP, interface=OTHER)]
    wanted += [attachment("tc", programs.TCX, interface=OTHER, direction="ingress")]
    for each in wanted:
        host.stage(1)
        host.attach(each, staying(), allow_management_path=True)
        run("ip", "link", "set", OTHER, "name", "other")
        host.stage(2)
        with pytest.raises(NotFound, match=OTHER):
            host.attach(allow_management_path=True)
        run("ip", "link", "set", "other", "name", OTHER)
        transitions.remove(NAME)


def test_after_a_boot_without_the_place_an_upgrade_goes_on(host, gone):
    """The boot left it out; its pin went with the kernel."""
    host.attach(allow_management_path=True)
    boot.restore(NAME)

    outcome = host.attach(allow_management_path=True)

    assert (outcome.changed, len(outcome.gone)) == (False, 1)
