# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a tcx program stands among those of others, and what they hide from each other: said before it is put on."""

from __future__ import annotations

import private_host
import programs
import pytest
from private_host import DEVICE, NAME, attachment, counted, stranger
from test_tc_filters import foreign_filter

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import inventory, steps, transitions, trial
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf

ENDS = programs.TEXT.replace("return -1; /* TCX_NEXT: those of others run too */", "return 0; /* TC_ACT_OK */")


def wanted(**options):
    return attachment("tcx", programs.TCX, interface=DEVICE, direction="ingress", **options)


def place():
    return catalogue.hook_of(wanted()).place(wanted(), (bpf.PROG_SCHED_CLS, 0))


def attach(host, *attachments, **wish):
    return host.attach(*attachments, allow_management_path=True, **wish)


def order():
    """Program ids in the order in which they run."""
    return [number for number, dummy in bpf.prog_query(place().number, place().attach_type)]


@pytest.fixture
def other(host):
    """The id of a program of somebody else's that stands there, of the same name as ours."""
    host.stage(1)
    with stranger(wanted(), place()) as one:
        yield one.prog_id


def ours(host):
    load = host.facts().loads[host.facts().confirmed.load]
    return load.programs[programs.TCX]


@pytest.mark.parametrize("asked", ["", "first", "last", f"before {programs.TCX}", f"after {programs.TCX}"])
def test_it_stands_where_it_was_asked_for_and_stays_unchanged(host, other, asked):
    attach(host, wanted(**({"order": asked} if asked else {})))

    is_first = asked == "first" or asked.startswith("before")
    assert order() == ([ours(host), other] if is_first else [other, ours(host)])
    assert not attach(host).changed
    host.receive(2)
    assert counted(programs.TCX) == {1: 2}


def test_new_release_keeps_its_place(host, other):
    attach(host, wanted(order="first"))
    host.stage(2)

    outcome = attach(host)

    assert [type(step) for step in outcome.steps if step.is_hook_step] == [steps.Replace]
    assert order() == [ours(host), other]


def test_one_that_was_overtaken_goes_to_its_place_again(host):
    host.stage(1)
    attach(host, wanted(order="last"))
    with stranger(wanted(), place()) as late:
        assert inventory.deployment(NAME)["state"] == "drifted"

        outcome = attach(host)

        assert [type(step) for step in outcome.steps] == [steps.TakeOff, steps.PutOn]
        assert order() == [late.prog_id, ours(host)]
        host.receive(2)
        assert counted(programs.TCX) == {1: 2}
        assert not attach(host).changed


def test_change_of_the_wish_moves_it_and_the_way_back_too(host, other):
    attach(host, wanted(order="first"))
    attach(host, wanted(order="last"), confirm_within=60)
    assert trial.switch(NAME)
    assert order() == [other, ours(host)]

    trial.stop(NAME)

    assert order() == [ours(host), other]


def test_name_that_nobody_has_asks_for_nothing(host, other):
    attach(host, wanted(order="before nobody"))

    assert order() == [other, ours(host)]
    assert not attach(host).changed


@pytest.mark.parametrize("asked", ["second", "before", "before two words", "firstly"])
def test_what_is_no_order_is_refused(host, asked):
    with pytest.raises(BadRequest, match="order"):
        wanted(order=asked)


# ---- neighbours ----------------------------------------------------------------------------------


def test_program_that_hides_a_classic_filter_is_told_before(host):
    """The stranger's filter counts until ours ends the chain before it."""
    host.text = ENDS
    host.stage(1)
    with foreign_filter(7, 1) as number:
        asked = transitions.attach(
            NAME, transitions.Wish(attachments=(wanted(),), allow_management_path=True), check_mode=True
        )
        (sentence,) = asked.cautions
        assert f"program {number} " in sentence
        assert "TCX_NEXT (-1)" in sentence
        assert attach(host, wanted()).cautions == asked.cautions
        assert attach(host).cautions == ()
    private_host.forget_filters()


def test_program_ahead_is_told(host, other):
    (sentence,) = attach(host, wanted()).cautions
    assert f"program {other} " in sentence
    assert "order: first" in sentence
    attach(host, wanted(), detach=True)
    assert attach(host, wanted(order="first")).cautions == ()


def test_bpf_info_shows_the_order(host, other):
    attach(host, wanted(order="first"))

    rows, dummy = inventory.attachments()

    there = [row for row in rows if row["hook"] == "tcx" and row["interface"] == DEVICE]
    assert [(row["position"], row["prog_id"]) for row in there] == [(1, ours(host)), (2, other)]
