# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts, rollbacks and trials in random order, every other one killed at a random step: nothing grows.

25 rounds by default; `./dev test kernel test_soak -- --rounds 200 --seed N` for a long one, or the same one again.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter

import private_host
import programs
from every_transition import running, settled, steps_alone, three
from private_host import NAME

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import records, store, transitions, trial
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files

VERSIONS = (1, 2, 3, 4, 5, 6)
KILLED_WITHIN = 10  # steps: a round has 4 to 9 moments, so some come to their end before it
KERNEL = "bytes of kernel memory"
GROWTH = 64 << 10  # bytes, however many rounds; 8 KB were measured


def roll_out(host, version):
    host.stage(version, retry_quarantined=True)
    host.attach(retry_quarantined=True)


def roll_back(host, dummy):
    transitions.roll_back(NAME)


def guarded(host, version):
    host.stage(version, retry_quarantined=True)
    armed = host.attach(confirm_within=60, retry_quarantined=True)
    if armed.deadline:
        trial.switch(NAME)
        transitions.confirm(NAME, armed.generation.number)


def taken_back(host, version):
    host.stage(version, retry_quarantined=True)
    host.attach(confirm_within=60, retry_quarantined=True)
    trial.switch(NAME)
    transitions.roll_back(NAME)


WAYS = (roll_out, roll_back, guarded, taken_back)
POLITE = {"not_found", "rolled_back"}  # nothing to go back to; a trial that the settling of a kill took back


def test_random_rollouts_and_kills_leave_no_more_than_one_rollout(host, request, figures, monkeypatch):
    rounds, seed = request.config.getoption("--rounds"), request.config.getoption("--seed")
    chance = random.Random(seed)
    figures.append(f"soak: --rounds {rounds} --seed {seed}")
    monkeypatch.setattr(store, "JOURNAL_BYTES", 4096)  # as many turns of the journal as years would bring
    for version in VERSIONS:
        programs.object_of(version)

    with private_host.memory_cgroup(host) as folder:
        ended = private_host.in_cgroup(folder, lambda: soaked(host, chance, rounds, folder))

    assert not ended.failure
    seen, before, after = ended.value
    figures.append(f"soak: {dict(seen)}; at rest before and after: {before}, {after}")
    grown = after.pop(KERNEL) - before.pop(KERNEL)
    assert after == before
    assert grown < GROWTH
    assert seen["killed"]


def soaked(host, chance, rounds, folder):
    """What became of how many rounds, and what one rollout holds before and after them."""
    before = at_rest(host, folder)
    seen = Counter(one_round(host, chance, number) for number in range(rounds))
    return seen, before, at_rest(host, folder)


def first(host):
    """Version 1, whatever this host threw back."""
    host.stage(1, retry_quarantined=True)
    host.attach(*three(host), retry_quarantined=True)


def one_round(host, chance, number):
    """What became of it, in a word; the hooks are uniform and settled then."""
    way, version, moment = chance.choice(WAYS), chance.choice(VERSIONS), chance.randrange(2 * KILLED_WITHIN)
    if not host.facts().confirmed:
        first(host)

    def work():
        kill_at(moment)
        way(host, version)

    ended = private_host.in_child(work)
    label = f"round {number}, {way.__name__} {version}, moment {moment}"
    assert ended.signal in (0, signal.SIGKILL), label
    assert not ended.failure or ended.code in POLITE, f"{label}: {ended.failure}"
    for program, versions in running(host).items():
        assert len(versions) == 1, f"{label}: {program} ran {versions}"
    transitions.attach(NAME, transitions.Wish(retry_quarantined=True))  # the next run
    assert settled(host) == [], label
    assert len({tuple(versions) for versions in running(host).values()}) == 1, label
    assert_bounded(store.home(NAME), label)
    return "killed" if ended.signal else ended.code or "well"


def assert_bounded(place, label):
    """As much as the way back needs is on the disk and pinned, however many rounds were before."""
    kept = records.KEEP + 2  # what is staged, and the confirmed one's previous, may be older than the newest KEEP
    for folder in ("generations", "outcomes", "releases"):
        assert len(files.names_in(os.path.join(place.folder, folder))) <= kept, f"{label}: {folder}"
    assert len(files.names_in(place.loads)) <= kept, f"{label}: loads"
    assert len(files.names_in(place.links)) == 3, f"{label}: links"
    assert len(files.names_in(os.path.join(place.folder, "quarantine"))) <= len(VERSIONS), f"{label}: quarantine"
    journal = [os.path.join(place.folder, name) for name in files.names_in(place.folder) if "journal" in name]
    assert sum(map(os.path.getsize, journal)) < 3 * store.JOURNAL_BYTES, f"{label}: journal"


def kill_at(moment):
    """This process is killed at the moment with this number, if it comes to it."""
    left = [moment]

    def count_down(dummy):
        if left[0] == 0:
            private_host.kill_self()
        left[0] -= 1

    steps_alone(count_down)


def at_rest(host, folder):
    """What one rollout of version 1 holds, by kind: after whatever came before it, settled and removed.

    And what the kernel still holds when it is removed, too, for processes in the cgroup at `folder`.
    """
    transitions.remove(NAME)
    assert private_host.eventually(lambda: not private_host.ours_in_kernel())
    first(host)
    place = store.home(NAME)
    programs_here, maps_here = (
        [each for each in private_host.bpftool(kind, "show") if private_host._is_ours(each)] for kind in ("prog", "map")
    )
    held = {
        "programs": len(programs_here),
        "maps": len(maps_here),
        "links": sum(
            each.get("prog_id") in {one["id"] for one in programs_here} for each in private_host.links().values()
        ),
        "bytes_memlock": sum(each["bytes_memlock"] for each in (*programs_here, *maps_here)),
        "pins": len(private_host.tree(place.pins)),
        "files": len([path for path in private_host.tree(place.folder) if "quarantine" not in path]),
        "files in /run": len(private_host.tree(records.RUN)),
        "fds": len(private_host.open_fds()),
        "processes": processes(),
    }
    transitions.remove(NAME)
    assert private_host.eventually(lambda: not private_host.ours_in_kernel())
    held[KERNEL] = private_host.kernel_memory(folder)
    return held


def processes():
    """How many processes share this mount namespace."""
    ours, found = os.readlink("/proc/self/ns/mnt"), 0
    for pid in (each for each in os.listdir("/proc") if each.isdigit()):
        try:
            found += os.readlink(f"/proc/{pid}/ns/mnt") == ours
        except OSError:
            continue
    return found
