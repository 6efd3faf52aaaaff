# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries that bpf_map declared are the deployment's: they are in its map whatever made or left the map, before packets
meet a program that asks it.

The release here blocks what its map lists. 1 and 3 have the map in another layout each, 4 in a smaller one, 2 has none:
a map that one of them brings after it is a new one, and the map of an older load stays as it was left.
"""

from __future__ import annotations

import socket

import private_host
import programs
import pytest
from private_host import ADDRESS, DEVICE, NAME, PEER_ADDRESS, PORT, attachment

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    boot,
    inventory,
    lock,
    observe,
    records,
    stage,
    store,
    transitions,
    trial,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest, Damaged, MapChanged

BLOCKED = f"{programs.MARK}_blocked"
TEXT = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>

struct network { __u32 prefixlen; __be32 address; };
#if VERSION == 3
struct rule { __u32 hits; __u32 action; };
#else
struct rule { __u16 action; };
#endif

#if VERSION != 2
struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, VERSION == 4 ? 1 : 2000);
    __type(key, struct network);
    __type(value, struct rule);
} MARK_blocked SEC(".maps");
#endif

SEC("xdp")
int MARK_xdp(struct xdp_md *ctx)
{
#if VERSION != 2
    struct ethhdr *frame = (void *)(long)ctx->data;
    struct iphdr *packet = (void *)(frame + 1);
    struct network from = { .prefixlen = 32 };
    struct rule *rule;

    if ((void *)(packet + 1) > (void *)(long)ctx->data_end)
        return XDP_PASS;
    from.address = packet->saddr;
    rule = bpf_map_lookup_elem(&MARK_blocked, &from);
    if (rule && rule->action == 1)
        return XDP_DROP;
#endif
    return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
"""
ONE, OTHER = "10.99.0.11", "10.99.0.12"


@pytest.fixture
def blocking(host):
    """A host whose peer has two more addresses, and on which version 1 blocks nothing yet."""
    for address in (ONE, OTHER):
        private_host.run("nsenter", "-t", str(host.peer.pid), "-n", "ip", "addr", "add", f"{address}/24", "dev", "k1")
    run(host, 1)
    return host


def run(host, version):
    """The version's release at the interface."""
    made = stage.stage(NAME, programs.given(version, TEXT, "blocking.bpf.c"))
    host.attach(attachment("xdp", programs.XDP, interface=DEVICE))
    return made.built.release.id


def network(address, **value):
    return {"key": address, "value": {"action": 1, **value}}


def blocked(host):
    """Which of ONE and OTHER do not get a packet through; one of another address comes behind each."""
    found = set()
    for address in (ONE, OTHER):
        with host.at_peer(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((address, 0))
            sender.sendto(b"?", (ADDRESS, PORT))
            host.sender.sendto(b"x", (ADDRESS, PORT))
        came = host.receiver.recvfrom(16)[1][0]
        if came == PEER_ADDRESS:
            found.add(address)
        else:
            assert (came, host.receiver.recvfrom(16)[1][0]) == (address, PEER_ADDRESS)
    return found


def declare(host, *entries, **asked):
    return host.declare(*entries, map=BLOCKED, **asked)


def by_bpftool(host):
    """How many entries bpftool finds in the map that is confirmed."""
    return len(private_host.bpftool("map", "dump", "pinned", confirmed_map(host)))


def confirmed_map(host):
    return observe.map_path(store.home(NAME), host.facts(), BLOCKED)


# ---- a boot --------------------------------------------------------------------------------------


def test_thousand_declared_networks_block_packets_after_a_boot(blocking, reboot):
    thousand = [network(f"10.{number // 250}.{number % 250}.0/24") for number in range(998)]
    declare(blocking, *thousand, network(f"{ONE}/32"), network("10.99.0.12/31"))
    reboot()

    fill, attach = (step.describe() for step in boot.restore(NAME))

    assert fill.startswith(f"fill map {BLOCKED} of load ") and fill.endswith("(write 1000 and delete 0)")
    assert attach.startswith(f"attach {programs.XDP} of load ")
    assert blocked(blocking) == {ONE, OTHER}
    assert by_bpftool(blocking) == 1000
    assert boot.restore(NAME) == ()


def test_boot_brings_back_what_is_declared_alone(blocking, reboot):
    declare(blocking, network("10.1.0.0/16"), network(f"{ONE}/32"))
    declare(blocking, network(f"{OTHER}/32"), persist=False)
    declare(blocking, {"key": "10.1.0.0/16"}, state="absent")
    assert blocked(blocking) == {ONE, OTHER}
    reboot()

    boot.restore(NAME)

    assert blocked(blocking) == {ONE}
    assert by_bpftool(blocking) == 1


def test_next_run_fills_the_map_where_no_unit_did(blocking, reboot):
    declare(blocking, network(f"{ONE}/32"))
    reboot()

    run(blocking, 1)

    assert blocked(blocking) == {ONE}


def test_boot_goes_on_without_a_list_that_is_damaged_and_says_so(blocking, reboot):
    declare(blocking, network(f"{ONE}/32"))
    path = f"{store.home(NAME).folder}/entries/{BLOCKED}"
    with open(path, "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"?")
    reboot()

    ((name, failure),) = boot.restore_all()

    assert (name, failure.code) == (NAME, "map_changed")
    assert path in str(failure)
    assert blocked(blocking) == set()
    with pytest.raises(Damaged):
        declare(blocking, network(f"{OTHER}/32"))
    declare(blocking, network(f"{OTHER}/32"), purge=True)
    assert [len(store.declared(store.home(NAME), BLOCKED).entries), blocked(blocking)] == [1, {OTHER}]


# ---- another release, and the way back -----------------------------------------------------------


def test_release_with_a_new_map_has_what_is_declared_in_its_own_layout(blocking):
    declare(blocking, network(f"{ONE}/32"))
    run(blocking, 2)
    assert blocked(blocking) == set()

    run(blocking, 3)

    assert blocked(blocking) == {ONE}
    assert declare(blocking, network(f"{ONE}/32", hits=0)).changed is False


def test_way_back_fills_the_old_map_and_says_what_it_cannot_hold(blocking):
    """Declared since: OTHER, with a field that the old release does not know. Removed since: ONE."""
    first = blocking.facts().confirmed.release
    declare(blocking, network(f"{ONE}/32"))
    run(blocking, 2)
    run(blocking, 3)
    declare(blocking, network(f"{OTHER}/32", hits=7), purge=True)

    outcome = transitions.roll_back(NAME, first)

    assert blocked(blocking) == {OTHER}
    assert outcome.left_out == [f"map {BLOCKED}: 1 entries: value hits has no place there"]
    assert transitions.confirm(NAME).steps == ()


def test_way_back_does_not_wait_for_a_map_that_the_kernel_will_not_fill(blocking):
    first = blocking.facts().confirmed.release
    declare(blocking, network(f"{ONE}/32"))
    private_host.run("bpftool", "map", "freeze", "pinned", confirmed_map(blocking))
    run(blocking, 2)
    run(blocking, 3)
    declare(blocking, network(f"{OTHER}/32"))

    with pytest.raises(BadRequest) as said:
        transitions.roll_back(NAME, first)

    assert "frozen" in str(said.value)
    assert blocking.facts().confirmed.release == first
    assert blocked(blocking) == {ONE}


def test_entries_written_on_trial_are_in_the_trials_map_and_after_it_in_the_old_one(blocking):
    first = blocking.facts().confirmed
    run(blocking, 2)
    run(blocking, 3)
    stage_afresh(first)
    blocking.attach(confirm_within=60)
    declare(blocking, network(f"{OTHER}/32"))  # armed: the hooks run 3 still
    assert trial.switch(NAME)
    assert blocked(blocking) == {OTHER}
    declare(blocking, network(f"{ONE}/32"))
    assert blocked(blocking) == {ONE, OTHER}

    transitions.roll_back(NAME)

    assert blocking.facts().confirmed.load != first.load
    assert blocked(blocking) == {ONE, OTHER}


def test_map_that_begins_afresh_is_filled_after_it_was_emptied(blocking):
    """What is not declared goes, and what is comes in as far as it fits: a policy says that this is meant."""
    first = blocking.facts().confirmed
    declare(blocking, network("10.1.0.0/16"), persist=False)
    declare(blocking, network(f"{ONE}/32"))
    run(blocking, 2)
    run(blocking, 3)
    declare(blocking, network(f"{OTHER}/32", hits=7))
    stage_afresh(first)

    outcome = blocking.attach()

    assert outcome.left_out == [f"map {BLOCKED}: 1 entries: value hits has no place there"]
    assert blocked(blocking) == {ONE, OTHER}
    assert by_bpftool(blocking) == 2


def stage_afresh(generation):
    """The generation's load is staged, its map to begin empty, as bpf_program writes it."""
    with lock.locked(NAME) as home:
        policies = {BLOCKED: {"on_change": "fresh", "copied": [], "counted": []}}
        onto = store.pointed(home, "confirmed").load
        store.write_staged(home, records.Staged(generation.load, generation.release, "", policies, onto))


def test_release_that_cannot_hold_what_is_declared_is_refused_until_that_is_less(blocking):
    declare(blocking, network(f"{ONE}/32"), network(f"{OTHER}/32"))
    run(blocking, 2)

    with pytest.raises(MapChanged) as refusal:
        run(blocking, 4)

    assert refusal.value.detail["left_out"] == [f"map {BLOCKED}: 1 entries: the map has room for 1"]
    assert blocked(blocking) == set()
    declare(blocking, {"key": f"{OTHER}/32"}, state="absent")
    run(blocking, 4)
    assert blocked(blocking) == {ONE}


# ---- bpf_map again, and what is reported ---------------------------------------------------------


def test_declared_again_changes_nothing_and_an_entry_lost_in_the_kernel_is_mended(blocking):
    assert declare(blocking, network(f"{ONE}/32")).changed
    assert not declare(blocking, network(f"{ONE}/32")).changed
    path = confirmed_map(blocking)
    private_host.run("bpftool", "map", "delete", "pinned", path, "key", *map(str, [32, 0, 0, 0, 10, 99, 0, 11]))
    (row,) = inventory.deployments(NAME)
    assert row["declared"] == [{"map": BLOCKED, "entries": 1, "missing": 1, "different": 0, "left_out": []}]

    assert declare(blocking, network(f"{ONE}/32")).changed

    assert blocked(blocking) == {ONE}
    assert inventory.deployments(NAME)[0]["declared"][0]["missing"] == 0


def test_declared_entries_go_with_the_deployment(blocking):
    declare(blocking, network(f"{ONE}/32"))

    transitions.remove(NAME)

    assert store.declared_maps(store.home(NAME)) == []
    run(blocking, 1)
    assert blocked(blocking) == set()


def test_more_than_the_map_holds_is_not_declared(blocking):
    declare(blocking, network(f"{ONE}/32"))
    many = [network(f"10.{number >> 8}.{number & 255}.0/24") for number in range(2000)]

    with pytest.raises(BadRequest):
        declare(blocking, *many)

    assert declared_and_there(blocking) == (1, 1)


def test_what_the_kernel_refuses_is_not_declared(blocking):
    declare(blocking, network(f"{ONE}/32"))
    private_host.run("bpftool", "map", "freeze", "pinned", confirmed_map(blocking))

    with pytest.raises(BadRequest) as refusal:
        declare(blocking, network(f"{OTHER}/32"))

    assert "frozen" in str(refusal.value)
    assert declared_and_there(blocking) == (1, 1)


def declared_and_there(host):
    return len(store.declared(store.home(NAME), BLOCKED).entries), by_bpftool(host)
