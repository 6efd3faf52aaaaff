# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`hook: auto` and `attachments: auto`: where a program runs is what its section says."""

from __future__ import annotations

import os

import programs
import pytest
from private_host import DEVICE, NAME, attachment, counted

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import transitions
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest, NotFound
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue

CALLED, MISSING, SOCKET = f"{programs.MARK}_called", f"{programs.MARK}_missing", f"{programs.MARK}_socket"
MORE = f"""
SEC("tracepoint/syscalls/sys_enter_sched_get_priority_max")
int {CALLED}(void *ctx)
{{
    seen(3);
    return 0;
}}

SEC("tp/syscalls/sys_enter_opena")
int {MISSING}(void *ctx)
{{
    return 0;
}}

SEC("socket")
int {SOCKET}(struct __sk_buff *skb)
{{
    return 0;
}}
"""


def attach_all(host, check_mode=False, **options):
    wish = transitions.Wish(everything=options, allow_management_path=True)
    return transitions.attach(NAME, wish, check_mode)


def at(outcome):
    return {each.program: each for each in outcome.generation.attachments.values()}


@pytest.mark.parametrize(
    ("program", "options", "asked"),
    [
        (programs.XDP, {"interface": DEVICE}, {"hook": "xdp"}),
        (programs.XDP, {"interface": DEVICE, "mode": "generic"}, {"hook": "xdp"}),
        (programs.TCX, {"interface": DEVICE}, {"hook": "tcx", "direction": "ingress"}),
        (programs.CGROUP, {"cgroup": "/"}, {"hook": "cgroup"}),
    ],
)
def test_hook_is_what_the_section_says(host, program, options, asked):
    host.stage(1)
    wanted = attachment(**{**asked, **options, "program": program})

    outcome = host.attach(attachment("auto", program, **options), allow_management_path=True)

    assert list(at(outcome).values()) == [wanted]
    assert not host.attach(attachment("auto", program, **options), allow_management_path=True).changed
    detached = host.attach(attachment("auto", program, **options), detach=True)
    assert (detached.changed, at(detached)) == (True, {})


def test_option_that_its_hook_does_not_take_is_refused(host):
    host.stage(1)
    with pytest.raises(BadRequest, match="takes no direction"):
        host.attach(attachment("auto", programs.XDP, interface=DEVICE, direction="ingress"))


def test_program_that_the_release_has_not_is_named_with_the_nearest(host):
    host.stage(1)
    with pytest.raises(NotFound) as refusal:
        host.attach(attachment("auto", programs.XDP + "x", interface=DEVICE))
    assert programs.XDP in refusal.value.do


def test_all_programs_that_this_host_has_a_place_for(host):
    """And the others are named: one lacks its option, one its tracepoint, one is nobody's to attach."""
    host.text = programs.TEXT + MORE
    host.stage(1)

    outcome = attach_all(host, interface=DEVICE)

    assert set(at(outcome)) == {programs.XDP, programs.TCX, CALLED}
    assert set(outcome.left_off) == {programs.CGROUP, MISSING, SOCKET}
    why = {name: str(failure) for name, failure in outcome.left_off.items()}
    assert "needs cgroup" in why[programs.CGROUP]
    assert "sys_enter_opena" in why[MISSING]
    assert 'SEC("socket")' in why[SOCKET]
    os.sched_get_priority_max(os.SCHED_RR)
    host.receive(2)
    assert counted(programs.XDP) == {1: 2}
    assert not attach_all(host, interface=DEVICE).changed

    assert set(at(attach_all(host, interface=DEVICE, cgroup=host.cgroup))) == {*at(outcome), programs.CGROUP}


def test_check_mode_says_the_same_and_changes_nothing(host):
    host.text = programs.TEXT + MORE
    host.stage(1)

    asked = attach_all(host, check_mode=True, interface=DEVICE)

    assert host.facts().links == {}
    assert asked.left_off.keys() == attach_all(host, interface=DEVICE).left_off.keys()


def test_nothing_to_attach_is_a_failure(host):
    host.stage(1)
    with pytest.raises(NotFound, match="None of the 3 programs") as refusal:
        attach_all(host)
    assert set(refusal.value.detail["left_off"]) == {programs.XDP, programs.TCX, programs.CGROUP}


def test_before_anything_is_staged_check_mode_cannot_tell(host):
    with pytest.raises(BadRequest, match="nothing that this host has says them"):
        attach_all(host, check_mode=True, interface=DEVICE)


def test_sections_have_one_hook_each():
    """As libbpf's own table writes them; what a hook of ours does not take, no other takes by mistake."""
    told = {
        "xdp": "xdp",
        "xdp.frags": "xdp",
        "xdp/cpumap": None,
        "tcx/egress": "tcx",
        "netkit/peer": "netkit",
        "cgroup/connect4": "cgroup",
        "cgroup_skb/ingress": "cgroup",
        "netfilter": "netfilter",
        "sockops": "cgroup",
        "cgroup/dev": "cgroup",
        "flow_dissector": "flow_dissector",
        "sk_lookup": "sk_lookup",
        "sk_lookup/any": "sk_lookup",
        "tp/sched/sched_switch": "tracepoint",
        "?tracepoint/sched/sched_switch": "tracepoint",
        "kprobe/tcp_v4_connect": "kprobe",
        "kprobe/tcp_v4_connect.isra.0": "kprobe",
        "kretprobe/tcp_v4_connect": "kretprobe",
        "kprobe": None,
        "ksyscall/openat": "ksyscall",
        "kretsyscall/openat": "kretsyscall",
        "uprobe//usr/bin/bash:readline": "uprobe",
        "uretprobe//usr/bin/bash:readline": "uretprobe",
        "raw_tp/sched_switch": "raw_tracepoint",
        "raw_tracepoint/sched_switch": "raw_tracepoint",
        "tp_btf/sched_switch": "tp_btf",
        "fentry/vfs_open": "fentry",
        "fexit/vfs_open": "fexit",
        "fmod_ret/bpf_modify_return_test": "fmod_ret",
        "lsm/file_open": "lsm",
        "iter/task": "iter",
        "perf_event": "perf_event",
        "tc": None,
        "socket": None,
        ".text": None,
    }
    for section, kind in told.items():
        asked = section.lstrip("?")
        kinds = [name for name, hook in catalogue.HOOKS.items() if hook.section_options(asked) is not None]
        assert kinds == ([kind] if kind else []), section
