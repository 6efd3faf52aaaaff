# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Classic tc filters: ours beside those of others at the same qdisc, which are never touched.

No link tells whose a filter is: ours has a handle made of the attachment's id, and its program is pinned.
"""

from __future__ import annotations

import contextlib
import os

import private_host
import programs
import pytest
from private_host import DEVICE, NAME, attachment, counted, run

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import inventory, store, transitions
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Failure, HookHeld, Unsupported
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf


@pytest.fixture(autouse=True)
def filters(host):
    host.stage(1)
    yield
    private_host.forget_filters()


def wanted(**options):
    return attachment("tc", programs.TCX, interface=DEVICE, direction="ingress", **options)


def attach(host, *attachments, **wish):
    return host.attach(*attachments, allow_management_path=True, **wish)


def shown():
    """tc's own words on the ingress filters of the interface."""
    return run("tc", "filter", "show", "dev", DEVICE, "ingress")


@contextlib.contextmanager
def foreign_filter(priority, handle, version=9):
    """Somebody else's filter, by tc, running a program of version `version` that counts."""
    pins = os.path.join(files.BPFFS, "foreign")
    elf.load(programs.object_of(version, programs.TEXT), "foreign", [programs.TCX], pins=pins)
    pinned = os.path.join(pins, "progs", programs.TCX)
    run("tc", "qdisc", "replace", "dev", DEVICE, "clsact")
    words = ("ingress", "prio", str(priority), "handle", str(handle), "bpf", "da", "object-pinned", pinned)
    run("tc", "filter", "add", "dev", DEVICE, *words)
    try:
        with bpf.get_pinned(pinned) as fd:
            yield bpf.prog_info(fd).id
    finally:
        files.remove_tree(pins)


def handle_of(asked):
    return catalogue.hook_of(asked).place(asked, (bpf.PROG_SCHED_CLS, 0)).more[1]


def test_filters_of_others_stay_through_everything(host):
    with foreign_filter(7, 1) as number:
        for work in (
            lambda: attach(host, wanted()),
            lambda: host.stage(2) and attach(host),
            lambda: attach(host, wanted(), detach=True),
            lambda: transitions.remove(NAME),
        ):
            work()
            assert bpf.tc_query(host_index(), "ingress", 1, 7) == number
    assert "pref 7 " in shown()


def host_index():
    return catalogue.hook_of(wanted()).place(wanted(), (bpf.PROG_SCHED_CLS, 0)).number


def test_default_priority_comes_after_that_of_others_and_a_lower_one_before(host):
    attach(host, wanted(), wanted(priority=3))
    with foreign_filter(7, 1):
        order = [line.split()[4] for line in shown().splitlines() if "handle" in line and "direct-action" in line]
    assert order == ["3", "7", "49152"]


def test_two_of_ours_at_one_priority(host):
    attach(host, wanted(priority=5), attachment("tc", programs.TCX, interface=DEVICE, direction="egress", priority=5))
    host.receive(2)
    assert counted(programs.TCX) == {1: 2}


def test_filter_in_our_place_is_named_and_stays(host):
    asked = wanted(priority=11)
    with foreign_filter(11, handle_of(asked)) as number:
        with pytest.raises(HookHeld) as refusal:
            attach(host, asked)
        assert refusal.value.detail["holders"][0]["prog_id"] == number
        assert bpf.tc_query(host_index(), "ingress", handle_of(asked), 11) == number
    assert host.facts().links == {}


def test_priority_of_filters_of_another_kind_is_told(host):
    run("tc", "qdisc", "replace", "dev", DEVICE, "clsact")
    try:
        run("tc", "filter", "add", "dev", DEVICE, "ingress", "prio", "13", "matchall", "action", "pass")
    except Exception as error:
        pytest.skip(f"this kernel has no matchall: {error}")
    with pytest.raises(Unsupported, match="of another kind"):
        attach(host, wanted(priority=13))
    assert "matchall" in shown()


def test_filter_that_somebody_took_off_is_put_on_again(host):
    attach(host, wanted())
    bpf.tc_detach(host_index(), "ingress", handle_of(wanted()), 49152)

    assert inventory.deployment(NAME)["state"] == "drifted"
    outcome = attach(host)

    assert [type(step).__name__ for step in outcome.steps] == ["PutOn"]
    host.receive(2)
    assert counted(programs.TCX) == {1: 2}


def test_program_that_somebody_put_in_its_place_is_not_replaced(host):
    attach(host, wanted())
    with foreign_filter(7, 1) as number, bpf.prog_by_id(number) as program:
        bpf.tc_attach(host_index(), "ingress", handle_of(wanted()), 49152, program, is_new=False)
        host.stage(2)
        with pytest.raises(Failure) as refusal:
            attach(host)
        assert refusal.value.code in ("hook_held", "hook_moved")
        assert bpf.tc_query(host_index(), "ingress", handle_of(wanted()), 49152) == number


def test_what_has_no_pin_any_more_is_told_and_left(host):
    """Without its pin nothing proves that the filter is ours."""
    attach(host, wanted())
    files.remove_tree(store.home(NAME).links)

    with pytest.raises(HookHeld, match=programs.TCX[:15]):
        attach(host)

    assert bpf.tc_query(host_index(), "ingress", handle_of(wanted()), 49152)


def test_qdisc_of_somebody_else_is_used_and_stays(host):
    run("tc", "qdisc", "add", "dev", DEVICE, "clsact")
    attach(host, wanted())
    transitions.remove(NAME)
    assert "clsact" in run("tc", "qdisc", "show", "dev", DEVICE)
