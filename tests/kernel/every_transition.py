# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each way that a deployment moves, as a table for sweeps: kills and faults are put into them from outside.

Also the questions that a sweep asks after each: what counts packets now, what is kept, whether the next run settles it.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Callable, NamedTuple

import private_host
import programs
from private_host import NAME, attachment

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    apply,
    boot,
    observe,
    records,
    stage,
    store,
    transitions,
    trial,
    units,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files

HOOKS = (programs.XDP, programs.TCX, programs.CGROUP)
UNDER_A_STEP = (  # what changes the disk, bpffs or a hook, wherever in the core it is called from
    (os, "rename"),
    (os, "symlink"),
    (os, "unlink"),
    (os, "rmdir"),
    (os, "mkdir"),
    (bpf, "pin"),
    (bpf, "link_create"),
    (bpf, "link_update"),
    (bpf, "link_detach"),
    (bpf, "netfilter_link"),
    (bpf, "raw_tracepoint_link"),
    (bpf, "tracepoint_event"),
    (bpf, "probe_event"),
    (bpf, "clock_event"),
    (bpf, "perf_event_link"),
    (bpf, "tc_attach"),
    (bpf, "tc_detach"),
)


class Transition(NamedTuple):
    """One way that a deployment moves. `ran` and `runs`: the version at the hooks before and after, None for none."""

    given: Callable  # (host): the state in which it starts
    work: Callable  # (host): the operation itself
    ran: object
    runs: object
    again: Callable  # (host): the operation as a user would run it after the kill; it must end well


def three(host):
    return (
        attachment("xdp", programs.XDP, interface=private_host.DEVICE),
        attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="ingress"),
        attachment("cgroup", programs.CGROUP, cgroup=host.cgroup),
    )


def nothing(host):
    pass


def staged(host):
    host.stage(1)


def attached(host):
    host.stage(1)
    host.attach(*three(host))


def second_staged(host):
    attached(host)
    host.stage(2)


def upgraded(host):
    second_staged(host)
    host.attach()


def several_releases_old(host):
    """Three upgrades back: a further one drops generations, loads and releases."""
    upgraded(host)
    for version in (3, 4):
        host.stage(version)
        host.attach()
    host.stage(5)


def guarded(host):
    """A guarded change from its arming to its confirmation, the guard's part played here."""
    armed = host.attach(confirm_within=60)
    trial.switch(NAME)
    transitions.confirm(NAME, armed.generation.number if armed.deadline else None)


def on_trial(host):
    second_staged(host)
    host.attach(confirm_within=60)
    trial.switch(NAME)


def trial_lost(host):
    """The record of the trial cannot be read any more, while its hooks run."""
    on_trial(host)
    with open(os.path.join(store.home(NAME).folder, "trial"), "r+b") as stream:
        stream.truncate(10)


UNCOUNTED = {"key": 255, "value": 1}  # no version counts there


def declared(host):
    attached(host)
    host.declare(UNCOUNTED)


def rebooted(host):
    """Pins and links are gone, and the kernel's boot id does not matter where there is no trial."""
    declared(host)
    files.remove_tree(records.PINS)


def damaged(host):
    """What is confirmed cannot be read any more, while its links go on."""
    upgraded(host)
    with open(os.path.join(store.home(NAME).folder, "confirmed"), "r+b") as stream:
        stream.truncate(10)


def adopt(host):
    transitions.confirm(NAME)


def larger_staged(on_change):
    """The staged release has a larger map than the one that runs."""

    def given(host):
        attached(host)
        host.stage(60, on_change)

    return given


def merged(host):
    larger_staged("merge")(host)
    host.attach()


def merge_on_trial(host):
    larger_staged("merge")(host)
    host.attach(confirm_within=60)
    trial.switch(NAME)


def leave_second(host):
    """Generation 2 is left, as roles name it: said again, it is left already."""
    transitions.roll_back(NAME, number=2)


def second_left(host):
    """The second release is quarantined, and the first one runs again."""
    upgraded(host)
    leave_second(host)


def name_second(host):
    transitions.roll_back(NAME, host.facts().generations[2].release)


WITH_LIMIT = programs.TEXT + "\nconst volatile __u32 MARK_limit = 1;\n"
LIMIT = f"{programs.MARK}_limit"


def generic(host):
    """XDP in its other mode: a detach and an attach."""
    return attachment("xdp", programs.XDP, interface=private_host.DEVICE, mode="generic")


def mode_on_trial(host):
    attached(host)
    host.attach(generic(host), confirm_within=60)
    trial.switch(NAME)


def limited(secrets=()):
    given = programs.given(1, WITH_LIMIT)._replace(globals={LIMIT: 7}, secrets=frozenset(secrets))
    stage.stage(NAME, given)


def limit_shown(host):
    limited()
    host.attach(*three(host))


def damaged_on_disk(host):
    """Version 1 runs, and the disk lost a bit of the object that it was loaded from."""
    attached(host)
    home = store.home(NAME)
    path = os.path.join(home.folder, "releases", observe.facts(home).confirmed.release, "object.o")
    with open(path, "r+b") as stream:
        first = stream.read(1)
        stream.seek(0)
        stream.write(bytes([first[0] ^ 1]))


def transition(given, work, ran, runs):
    return Transition(given, work, ran, runs, work)


TRANSITIONS = {
    "stage": transition(nothing, lambda host: host.stage(1), None, None),
    "stage a second release": transition(attached, lambda host: host.stage(2), 1, 1),
    "attach": transition(staged, lambda host: host.attach(*three(host)), None, 1),
    "make a global secret": transition(limit_shown, lambda host: limited({LIMIT}), 1, 1),
    "mend a release on the disk": transition(damaged_on_disk, lambda host: host.stage(1), 1, 1),
    "upgrade": transition(second_staged, lambda host: host.attach(), 1, 2),
    "upgrade and prune": transition(several_releases_old, lambda host: host.attach(), 4, 5),
    "change the mode": transition(attached, lambda host: host.attach(generic(host)), 1, 1),
    "take a change of mode back": transition(mode_on_trial, leave_second, 1, 1),
    "detach": transition(attached, lambda host: host.attach(*three(host), detach=True), 1, None),
    "roll back": transition(upgraded, leave_second, 2, 1),
    "guarded change": transition(second_staged, guarded, 1, 2),
    "take a trial back": transition(on_trial, leave_second, 2, 1),
    "name what is quarantined": transition(second_left, name_second, 1, 2),
    "take a trial that cannot be read back": transition(trial_lost, leave_second, 2, 1),
    "declare": transition(attached, lambda host: host.declare(UNCOUNTED), 1, 1),
    "boot": transition(rebooted, lambda host: boot.restore(NAME), None, 1),
    "everything off": transition(upgraded, lambda host: transitions.roll_back(NAME, everything_off=True), 2, None),
    "copy a map": transition(larger_staged("copy"), lambda host: host.attach(), 1, 60),
    "begin a map afresh": transition(larger_staged("fresh"), lambda host: host.attach(), 1, 60),
    "merge a map": transition(larger_staged("merge"), lambda host: host.attach(), 1, 60),
    "merge a map under guard": transition(larger_staged("merge"), guarded, 1, 60),
    "roll back a merge": transition(merged, leave_second, 60, 1),
    "take a merge on trial back": transition(merge_on_trial, leave_second, 60, 1),
    "remove after a merge": transition(merged, lambda host: transitions.remove(NAME), 60, None),
    "keep fewer": transition(several_releases_old, lambda host: transitions.keep(NAME, 1), 4, 4),
    "adopt": transition(damaged, adopt, 2, 2),
    "remove what cannot be read": transition(damaged, lambda host: transitions.remove(NAME), 2, None),
    "remove": transition(upgraded, lambda host: transitions.remove(NAME), 2, None),
}


# ---- where a sweep strikes -------------------------------------------------------------------------


def moments(host, each, watched):
    """What a child that is not killed passes, in words; the host is then as the transition leaves it."""
    each.given(host)

    def record():
        seen = []
        watched(seen.append)
        each.work(host)
        return seen

    ended = private_host.in_child(record)
    assert not ended.failure
    assert ended.value
    return ended.value


def steps_alone(at):
    """`at` hears of each moment between steps: for this process, which ends with the transition.

    Before each, and after the last of a plan: nothing happens after another before the next one begins.
    """
    carry_out, last = apply.carry_out, []

    def carried_out(steps, *more, **options):
        last[:] = steps[-1:]
        return carry_out(steps, *more, **options)

    def trace(moment, step):
        if moment == "before" or step is last[0]:
            at(f"{moment}: {type(step).__name__}: {step.describe()}")

    apply.carry_out, apply.trace = carried_out, trace


def inside_steps(at):
    """`at` hears of each call that changes something, while a step is carried out."""
    inside = []

    def mark(moment, step):
        inside[:] = [step] if moment == "before" else []

    def told(room, name):
        call = getattr(room, name)

        def heard(*arguments, **more):
            if inside:
                at(f"in {type(inside[0]).__name__}: before {name}{arguments}")
            return call(*arguments, **more)

        return heard

    apply.trace = mark
    for room, name in UNDER_A_STEP:
        setattr(room, name, told(room, name))


# ---- what is true after it -------------------------------------------------------------------------


def assert_finished(host, each, moment, wanted):
    """The same operation in a new process ends well; the hooks, and what is kept, are as if nothing had happened.

    `moment` says in words what did happen.
    """
    ended = private_host.in_child(lambda: each.again(host) and None)
    assert not ended.failure, f"{moment}: {ended.failure}"
    for program, versions in running(host).items():
        assert (versions or [None]) == [each.runs], f"{moment}: {program} runs {versions}"
    again = private_host.in_child(lambda: settled(host))
    assert not again.failure, f"{moment}: {again.failure}"
    assert again.value == [], f"{moment}: {again.value}"
    assert_kept(shape(), dict(wanted), moment)


def assert_kept(kept, wanted, moment):
    """Nothing more is kept than without a kill. Less may be: a generation that a killed run wrote counts as one of
    those that prune keeps; but never less than the way back needs."""
    for field in ("paths", "loads"):
        more = kept.pop(field) - wanted.pop(field)
        assert not more, f"{moment}: {field}: {sorted(more)}"
    assert kept.pop("how many loads") <= wanted.pop("how many loads")
    assert kept == wanted, moment


def settled(host):
    """The steps that the plan for what is confirmed still has: none."""
    seen = host.facts()
    return [step.describe() for step in transitions.confirm(NAME).steps] if seen.confirmed else []


def running(host):
    """{program: versions that counted a packet now}: one packet passed each hook, and was counted once at most."""
    before = counts()
    host.receive()
    host.send_from_cgroup()
    after = counts()
    found = {}
    for program in HOOKS:
        more = {key: after[program][key] - before[program].get(key, 0) for key in after[program]}
        assert sum(more.values()) in (0, 1)
        found[program] = [version for (dummy, version), packets in more.items() if packets]
    return found


def counts():
    """{program: {(map, version): packets}}, by the kernel's list of maps: the deployment's pins may be gone already."""
    found = {program: {} for program in HOOKS}
    for each in private_host.bpftool("map", "show"):
        if each.get("name") == programs.SEEN:
            with contextlib.suppress(private_host.Gone):
                for program, rows in private_host.counted_in("id", str(each["id"])).items():
                    found[program].update({(each["id"], version): packets for version, packets in rows.items()})
    return found


def shape():
    """What is kept of the deployment: every path, and what it says.

    Left out are what a killed run may have used up (a generation's number, the K of a load R-K), journal and folders.
    """
    place = store.home(NAME)
    seen = observe.facts(place)
    paths = [path for top in (place.pins, place.folder) for path in private_host.tree(top) if not os.path.isdir(path)]
    paths += private_host.tree(units.FOLDER)
    return {
        "paths": {
            re.sub(r"(generations|outcomes)/\d+\.|/(?:[0-9a-f]{16}){1,2}-\d+/|journal.*", "…", path) for path in paths
        },
        "staged": seen.staged and seen.staged.release,
        "trial": seen.trial,
        "confirmed": seen.confirmed and (seen.confirmed.release, seen.confirmed.attachments),
        "loads": {records.release_of(load) for load in seen.loads},
        "how many loads": len(seen.loads),
        "can go back": bool(seen.confirmed and store.generation(place, seen.confirmed.previous or 0)),
        "debris": (seen.debris, seen.unsettled),
        "globals": {number: each.globals for number, each in seen.releases.items() if each and each.globals},
        "declared": {name: store.declared(place, name) for name in store.declared_maps(place)},
        "not in the map": lacking(place, seen),
    }


def lacking(place, seen):
    """{map: entries}: declared, and not in the map that the hooks run with."""
    found = {name: observe.map_load(seen, name) for name in store.declared_maps(place)}
    return {name: observe.filling(place, seen, load, name).edit.puts for name, load in found.items() if load}


def reset(host):
    """The host as at first, serial included."""
    transitions.remove(NAME)
    assert [path for path in shape()["paths"] if "serial" not in path and "quarantine" not in path] == []
    place = store.home(NAME)
    for path in reversed(private_host.tree(place.folder)):
        os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
