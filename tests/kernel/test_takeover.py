# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A map changes its shape from one release to the next: what becomes of its entries, under traffic, after kills, and on
the way back. Every count is a packet that really passed.
"""

from __future__ import annotations

import random
import struct
import sys

import private_host
import programs
import pytest
from private_host import NAME, attachment

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    apply,
    boot,
    observe,
    store,
    transitions,
    trial,
    ways,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import (
    BadRequest,
    BeyondLimits,
    Failure,
    MapChanged,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files

FLOWS = f"{programs.MARK}_flows"
TEXT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct flow {
#if VERSION % 2
    __u64 packets;
    __u64 bytes;
#else
    __u64 bytes;
    __u32 errors;
    __u64 packets;
#endif
};

struct {
    __uint(type, BPF_MAP_TYPE_KIND);
    __uint(max_entries, VERSION % 2 ? 64 : LARGER);
    __type(key, __u32);
    __type(value, struct flow);
} MARK_flows SEC(".maps");

SEC("xdp")
int MARK_xdp(struct xdp_md *ctx)
{
    __u32 key = (ctx->data_end - ctx->data) % 16;
    struct flow none = {};
    struct flow *flow = bpf_map_lookup_elem(&MARK_flows, &key);

    if (ctx->ingress_ifindex == 1000000 + VERSION) /* each version is another release */
        return XDP_DROP;
    if (!flow) {
        bpf_map_update_elem(&MARK_flows, &key, &none, BPF_NOEXIST);
        flow = bpf_map_lookup_elem(&MARK_flows, &key);
    }
    if (flow) {
        __sync_fetch_and_add(&flow->packets, 1);
        __sync_fetch_and_add(&flow->bytes, ctx->data_end - ctx->data);
    }
    return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
"""
KINDS = ("HASH", "PERCPU_HASH", "ARRAY")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def stage(host, version, on_change=None, kind="HASH", fields=None, larger=128):
    given = programs.given(version, TEXT.replace("KIND", kind).replace("LARGER", str(larger)))
    wish = {FLOWS: {"on_change": on_change, "fields": fields}} if on_change else {}
    return private_host.stage.stage(NAME, given._replace(maps=wish))


def xdp():
    return attachment("xdp", programs.XDP, interface=private_host.DEVICE)


def deployed(host, kind="HASH"):
    stage(host, 1, kind=kind)
    host.attach(xdp())


def counted(load):
    """Packets in the map of this load, by bpftool."""
    path = f"{store.home(NAME).loads}/{load}/maps/{FLOWS}"
    rows = [row["formatted"] for row in private_host.bpftool("map", "dump", "pinned", path)]
    values = [each["value"] for row in rows for each in row.get("values", [row])]
    return sum(value["packets"] for value in values)


def loads(host):
    """(the load confirmed, the one before)."""
    seen = host.facts()
    return seen.confirmed.load, seen.generations[seen.confirmed.previous].load


def test_change_without_a_policy_is_refused_field_by_field_and_says_what_there_is(host):
    deployed(host)
    host.receive(5)

    with pytest.raises(MapChanged) as refusal:
        stage(host, 2)

    assert "on_change" in str(refusal.value)
    assert any("errors" in line for line in refusal.value.detail["differences"])
    host.receive(5)
    assert counted(host.facts().confirmed.load) == 10


def test_copy_takes_the_entries_over_before_the_first_hook_runs_the_new_load(host, kind):
    deployed(host, kind)
    host.receive(7)

    stage(host, 2, "copy", kind)
    outcome = host.attach()

    assert [each["map"] for each in outcome.carried] == [FLOWS]
    host.receive(3)
    assert counted(loads(host)[0]) == 10
    assert not host.attach().changed


def test_fresh_begins_with_nothing_even_where_the_map_is_equal(host):
    deployed(host)
    host.receive(7)

    stage(host, 3, "fresh")
    host.attach()

    host.receive(2)
    assert counted(loads(host)[0]) == 2


def test_merge_moves_the_counts(host, kind):
    deployed(host, kind)
    host.receive(7)

    stage(host, 2, "merge", kind)
    host.attach()

    host.receive(3)
    assert [counted(load) for load in loads(host)] == [10, 0]
    assert not host.attach().changed


def test_rollback_takes_the_counts_along(host, kind):
    deployed(host, kind)
    host.receive(7)
    stage(host, 2, "merge", kind)
    host.attach()
    host.receive(3)

    transitions.roll_back(NAME)

    host.receive(1)
    assert counted(host.facts().confirmed.load) == 11
    assert not transitions.confirm(NAME).changed


def test_trial_that_goes_back_takes_the_counts_along(host, kind):
    deployed(host, kind)
    host.receive(7)
    stage(host, 2, "merge", kind)
    host.attach(confirm_within=60)
    assert trial.switch(NAME)
    host.receive(3)

    transitions.roll_back(NAME)

    host.receive(1)
    assert counted(host.facts().confirmed.load) == 11
    assert host.facts().carries == {}


@pytest.mark.parametrize("is_guarded", [True, False])
def test_way_back_leaves_out_the_counts_that_the_old_map_has_no_room_for(host, is_guarded):
    """The old map has room for 64 flows, and holds one; on the new one there are a hundred more."""
    upgraded_by_merge(host, is_guarded)
    load = next(each for each in host.facts().loads if host.facts().runs(each))
    with bpf.get_pinned(f"{store.home(NAME).loads}/{load}/maps/{FLOWS}") as new:
        for key in range(100, 200):
            bpf.map_update(new, struct.pack("=I", key), struct.pack("=QIIQ", 1, 0, 0, 1))

    outcome = transitions.roll_back(NAME)

    assert outcome.left_out == [f"counts of 37 entries of {FLOWS}, which has no room for them"]
    if is_guarded:
        assert list(store.ended(store.home(NAME), 2).left_out) == outcome.left_out
    with open(f"{store.home(NAME).folder}/journal.jsonl", encoding="utf-8") as journal:
        assert outcome.left_out[0] in journal.read()
    host.receive(1)
    assert flows(host.facts().confirmed.load) == [1] * 63 + [8]
    assert host.facts().trial is None
    assert not transitions.confirm(NAME).changed


def test_trial_ends_although_its_counts_cannot_come_back(host):
    upgraded_by_merge(host, is_guarded=True)
    load = host.facts().trial.load
    files.remove(f"{store.home(NAME).carry}/{load}/{FLOWS}-back")

    with pytest.raises(Failure):
        transitions.roll_back(NAME)

    seen = host.facts()
    assert (seen.trial, seen.deadline, seen.runs(load), seen.carries) == (None, None, False, {})
    assert not transitions.confirm(NAME).changed


def upgraded_by_merge(host, is_guarded):
    """Version 2 runs, on trial or confirmed, and has the seven packets that version 1 counted."""
    deployed(host)
    host.receive(7)
    stage(host, 2, "merge")
    host.attach(confirm_within=60 if is_guarded else 0)
    assert trial.switch(NAME) == is_guarded


def flows(load):
    """The packets of each flow in the map of this load, by bpftool, the least first."""
    path = f"{store.home(NAME).loads}/{load}/maps/{FLOWS}"
    rows = private_host.bpftool("map", "dump", "pinned", path)
    return sorted(row["formatted"]["value"]["packets"] for row in rows)


def test_merge_that_fails_half_way_leaves_hooks_and_counts_where_they_were(host):
    """The new map has room for one entry, and there are three: seen when the hook runs the new release already."""
    deployed(host)
    host.receive(7)
    load = host.facts().confirmed.load
    with bpf.get_pinned(f"{store.home(NAME).loads}/{load}/maps/{FLOWS}") as old:
        for key in (1, 2, 3):
            bpf.map_update(old, struct.pack("=I", 100 + key), struct.pack("=QQ", 1, 1))
    stage(host, 2, "merge", larger=1)

    with pytest.raises(BadRequest, match="is full at 1 entries") as refusal:
        host.attach()

    assert "not_undone" not in refusal.value.detail
    host.receive(1)
    assert counted(load) == 11
    assert host.facts().carries == {}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_merge_under_traffic_killed_in_the_middle_loses_and_doubles_no_count(host, figures, seed):
    """100 packets before each step, the process killed at one of them, the next run finishing it."""
    deployed(host)
    sent = [0]

    def send(moment=None, step=None):
        host.receive(100)
        sent[0] += 100

    send()
    stage(host, 2, "merge")
    steps = moments(host)
    killed = random.Random(seed).randrange(len(steps))

    def work():
        left = [killed]

        def traced(moment, step):
            host.receive(100)
            if left[0] == 0:
                private_host.kill_self()
            left[0] -= 1

        apply.trace = traced
        host.attach()

    assert private_host.in_child(work).signal
    sent[0] += 100 * (killed + 1)
    send()
    host.attach()
    send()

    new, old = loads(host)
    assert counted(new) + counted(old) == sent[0]
    assert counted(old) == 0
    figures.append(f"merge under traffic: killed {steps[killed]}: {sent[0]} packets, {counted(new)} counted")


def moments(host):
    """What the change will pass, in words."""
    seen = host.facts()
    generation = transitions.plan_for(seen, transitions.Wish())
    steps = ways.change(observe.scene(seen, generation))
    return [f"{moment} {step.describe()}" for step in steps for moment in ("before", "after")]


def test_load_that_was_staged_for_another_release_is_staged_again(host):
    """While one release was on trial the next was staged; with the trial confirmed, its maps are the wrong ones."""
    deployed(host)
    stage(host, 3, "fresh")
    host.attach(confirm_within=60)
    assert trial.switch(NAME)
    stage(host, 2, "merge")
    transitions.confirm(NAME)

    with pytest.raises(MapChanged, match="Run bpf_program again"):
        host.attach()

    stage(host, 2, "merge")
    host.receive(1)
    host.attach()
    assert counted(host.facts().confirmed.load) == 1


@pytest.mark.parametrize("on_change", ["copy", "fresh", "merge"])
def test_rollback_two_releases_deep_leaves_the_shared_map_alone(host, on_change):
    """The second release took the map over, and the third shares it: it is not the first one's any more."""
    deployed(host)
    stage(host, 2, on_change)
    host.attach()
    stage(host, 4)
    host.attach()
    host.receive(5)

    transitions.roll_back(NAME)

    host.receive(1)
    assert counted(host.facts().confirmed.load) == 6


def test_rollback_two_releases_deep_takes_the_counts_of_the_shared_map_along(host):
    deployed(host)
    host.receive(7)
    stage(host, 2, "merge")
    host.attach()
    stage(host, 4)
    host.attach()
    host.receive(5)
    first = host.facts().generations[1]

    transitions.roll_back(NAME, first.release)

    host.receive(1)
    assert counted(first.load) == 13
    assert not transitions.confirm(NAME).changed


def test_release_that_is_taken_off_and_attached_again_keeps_its_entries(host):
    deployed(host)
    stage(host, 2, "fresh")
    host.attach()
    host.receive(5)
    host.attach(xdp(), detach=True)

    host.attach(xdp())

    host.receive(1)
    assert counted(host.facts().confirmed.load) == 6


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"on_change": "nonsense"}, "there is no 'nonsense'"),
        ({"on_change": "merge", "fields": 5}, "is a mapping"),
        ({"on_change": "merge", "fields": {"bytes": "add"}}, "there is no 'add'"),
        ({"on_change": "merge", "fields": {"byte": "max"}}, "no field byte. Did you mean bytes"),
    ],
)
def test_words_for_a_map_are_judged_on_a_host_that_has_nothing_yet(host, wish, said):
    given = programs.given(1, TEXT.replace("KIND", "HASH").replace("LARGER", "128"))
    with pytest.raises(BadRequest, match=said):
        private_host.stage.build(NAME, given._replace(maps={FLOWS: wish}))


def test_verifying_a_release_judges_its_maps_against_those_in_use(host):
    deployed(host)
    given = programs.given(2, TEXT.replace("KIND", "HASH").replace("LARGER", "128"))

    with pytest.raises(MapChanged, match="does not fit"):
        private_host.stage.verify(NAME, private_host.stage.build(NAME, given), given)

    agreed = given._replace(maps={FLOWS: {"on_change": "merge"}})
    figures, dummy = private_host.stage.verify(NAME, private_host.stage.build(NAME, agreed), agreed)
    assert figures.programs[programs.XDP]["tag"]


def test_policy_for_a_map_that_is_not_there(host):
    with pytest.raises(BadRequest, match="has no map"):
        private_host.stage.stage(NAME, programs.given(1)._replace(maps={"flow": {"on_change": "copy"}}))


# ---- maps whose contents are of one release ------------------------------------------------------

TAIL = """
int MARK_tail(struct xdp_md *ctx);

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 2);
    __uint(key_size, 4);
    __array(values, int (struct xdp_md *));
} MARK_jumps SEC(".maps") = {.values = {[1] = (void *)&MARK_tail}};

struct inner {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, __u64);
} MARK_within SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
    __uint(max_entries, 8);
    __type(key, __u32);
    __array(values, struct inner);
} MARK_outer SEC(".maps") = {.values = {[1] = &MARK_within}};

SEC("xdp")
int MARK_tail(struct xdp_md *ctx)
{
    seen(0);
    return bpf_map_lookup_elem(&MARK_outer, &(__u32){1}) ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int MARK_xdp(struct xdp_md *ctx)
{
    bpf_tail_call(ctx, &MARK_jumps, 1);
    return XDP_PASS;
}
"""
TAIL_TEXT = programs.TEXT.replace(
    programs.TEXT[programs.TEXT.index('SEC("xdp")') : programs.TEXT.index('SEC("tcx')], TAIL
)
BY_HAND = TAIL_TEXT.replace(" = {.values = {[1] = (void *)&MARK_tail}}", "")
JUMPS, WITHIN, OUTER, TAIL_NAME = (f"{programs.MARK}_{name}" for name in ("jumps", "within", "outer", "tail"))


def tail_given(version, text=TAIL_TEXT, **more):
    return programs.given(version, text)._replace(**more)


def tail_staged(version, text=TAIL_TEXT, check_mode=False, **more):
    return private_host.stage.stage(NAME, tail_given(version, text, **more), check_mode=check_mode)


def filled_by_hand(load):
    """As a user with bpftool fills it: with the tail of the same load."""
    folder = f"{store.home(NAME).loads}/{load}"
    private_host.run(
        *("bpftool", "map", "update", "pinned", f"{folder}/maps/{JUMPS}", "key", "1", "0", "0", "0"),
        *("value", "pinned", f"{folder}/progs/{TAIL_NAME}"),
    )


def shown(load, name):
    return private_host.bpftool("map", "show", "pinned", f"{store.home(NAME).loads}/{load}/maps/{name}")["id"]


def test_loading_a_release_leaves_the_running_ones_tail_calls_alone(host):
    tail_staged(1)
    host.attach(xdp())

    tail_staged(2, check_mode=True)
    with pytest.raises(BeyondLimits):
        tail_staged(2, limits={"insns": 1})
    tail_staged(2)

    host.receive(3)
    assert private_host.counted(programs.XDP) == {1: 3}


def test_tail_calls_go_with_their_release_there_and_back(host):
    tail_staged(1)
    host.attach(xdp())
    tail_staged(2)
    host.attach()
    host.receive(2)
    transitions.roll_back(NAME)
    host.receive(3)

    assert private_host.counted(programs.XDP) == {1: 3, 2: 2}
    assert not transitions.confirm(NAME).changed


def test_tail_calls_of_what_is_confirmed_survive_the_load_of_the_release_before_at_boot(host, reboot):
    tail_staged(1)
    host.attach(xdp())
    reboot()
    tail_staged(2)  # with nothing there that it could take over
    host.attach()
    reboot()

    assert boot.restore_all() == [(NAME, None)]

    assert len(host.facts().loads) == 2
    host.receive(3)
    assert private_host.counted(programs.XDP) == {2: 3}


def test_map_of_maps_that_the_object_fills_holds_the_maps_of_its_own_load(host):
    tail_staged(1)
    host.attach(xdp())

    load = tail_staged(2, maps={WITHIN: {"on_change": "fresh"}}).load

    (entry,) = private_host.bpftool("map", "dump", "pinned", f"{store.home(NAME).loads}/{load}/maps/{OUTER}")
    inner = int.from_bytes(bytes(int(byte, 16) for byte in entry["value"]), sys.byteorder)
    assert inner == shown(load, WITHIN)
    assert not tail_staged(2, maps={WITHIN: {"on_change": "fresh"}}).steps


def test_programs_that_were_put_into_a_prog_array_by_hand_are_neither_called_by_the_next_release_nor_lost(host):
    first = tail_staged(1, BY_HAND).load
    host.attach(xdp())
    assert tail_staged(2, BY_HAND, check_mode=True).steps, "an empty one has nothing to lose"
    filled_by_hand(first)

    with pytest.raises(MapChanged, match="holds programs of the running release"):
        tail_staged(2, BY_HAND)
    second = tail_staged(2, BY_HAND, maps={JUMPS: {"on_change": "fresh"}}).load
    filled_by_hand(second)
    host.receive(3)
    host.attach()
    host.receive(2)

    assert private_host.counted(programs.XDP) == {1: 3, 2: 2}


@pytest.mark.parametrize("name", [JUMPS, OUTER])
def test_nothing_is_carried_into_a_map_that_belongs_to_its_release(host, name):
    tail_staged(1)
    host.attach(xdp())

    with pytest.raises(MapChanged, match="belongs to one release"):
        tail_staged(2, maps={name: {"on_change": "copy"}})
