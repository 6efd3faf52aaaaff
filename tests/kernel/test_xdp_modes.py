# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""XDP's modes: which one runs where the kernel chooses, and what is foretold of native XDP before anything moves."""

from __future__ import annotations

import private_host
import programs
import pytest
from private_host import DEVICE, NAME, attachment, counted, run

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import observe, steps, transitions
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Unsupported
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import namespaces, netlink

BASIC = 1  # NETDEV_XDP_ACT_BASIC


def wanted(interface=DEVICE, mode="auto"):
    return attachment("xdp", programs.XDP, interface=interface, mode=mode)


def attach(host, *attachments, check_mode=False, **wish):
    asked = transitions.Wish(attachments=attachments, allow_management_path=True, **wish)
    return transitions.attach(NAME, asked, check_mode)


def runs_in(outcome):
    return [row["runs_in"] for row in observe.attachment_rows(outcome.after, outcome.generation)]


@pytest.mark.parametrize(("interface", "mode"), [(DEVICE, "native"), ("lo", "generic")])
def test_auto_runs_as_the_driver_can_and_says_how(host, interface, mode):
    host.stage(1)

    outcome = attach(host, wanted(interface))

    assert runs_in(outcome) == [mode]
    shown = run("ip", "-details", "link", "show", interface)
    assert ("xdpgeneric" in shown) == (mode == "generic")
    again = attach(host, wanted(interface))
    assert (again.changed, runs_in(again)) == (False, [mode])
    host.stage(2)
    assert [type(step) for step in attach(host).steps if step.is_hook_step] == [steps.Replace]


def test_auto_and_a_mode_by_name_are_two_wishes(host):
    host.stage(1)
    attach(host, wanted(mode="native"))

    outcome = attach(host, wanted())

    assert [type(step) for step in outcome.steps if step.is_hook_step] == []
    assert attach(host, wanted(mode="generic")).changed
    host.receive(2)
    assert counted(programs.XDP) == {1: 2}


def test_features_of_native_xdp(host):
    index = namespaces.ifindex(DEVICE)
    if netlink.xdp_features(index) is None:
        pytest.skip("this kernel does not tell them: they came with 6.3")
    assert netlink.xdp_features(index) & BASIC
    assert netlink.xdp_features(netlink.LOOPBACK) == 0


def refused(host, interface, **more):
    with pytest.raises(Unsupported) as refusal:
        attach(host, wanted(interface, "native"), **more)
    return str(refusal.value)


def test_native_where_it_cannot_be_is_foretold_in_the_words_of_the_run(host):
    host.stage(1)

    told = refused(host, "lo", check_mode=True)

    assert "The driver of lo refused native XDP" in told
    assert "MTU" not in told
    assert refused(host, "lo") == told
    assert refused(host, "lo", confirm_within=60) == told
    assert (host.facts().trial, host.facts().links) == (None, {})


def test_advice_for_an_interface_on_another_is_to_attach_below(host):
    try:
        run("ip", "link", "add", "k8", "link", DEVICE, "type", "macvlan")
    except AssertionError as error:
        pytest.skip(f"this kernel has no macvlan: {error}")
    host.stage(1)

    assert f"Attach at {DEVICE}, which k8 is made on" in refused(host, "k8")


def test_interface_of_a_namespace_is_asked_there(host):
    peer = f"/proc/{host.peer.pid}/ns/net"
    host.stage(1)
    outcome = attach(host, attachment("xdp", programs.XDP, interface=private_host.PEER_DEVICE, netns=peer, mode="auto"))
    assert runs_in(outcome) == ["native"]
