# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolling back one, ten and fifty hooks of a kind, as `ebpf-deploy rollback` does it, beside the same links updated
bare.

Bare is BPF_LINK_UPDATE alone, on the same pinned links, with the pins open already: what no tool can be faster than.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import observe, stage, store, transitions
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import source

TITLE = "Rolling back: median of all rounds, on the host, without Ansible's round trip"
HEAD = ("hooks", "ms in all", "ms a hook", "ms bare", "ratio")
NAME = "bench"
COUNTS, ROUNDS = (1, 10, 50), 9
TEXT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int bench_xdp(struct xdp_md *ctx)
{
    return VERSION == 1 ? XDP_PASS : XDP_DROP;
}

SEC("tcx/ingress")
int bench_tcx(struct __sk_buff *skb)
{
    return VERSION == 1 ? -1 : 0;
}

SEC("cgroup_skb/egress")
int bench_cgroup(struct __sk_buff *skb)
{
    return VERSION == 1;
}

char _license[] SEC("license") = "GPL";
"""


def rows():
    with places(max(COUNTS)) as cgroups:
        for kind in ("xdp", "tcx", "cgroup"):
            for count in COUNTS:
                yield measured(kind, wanted(kind, cgroups)[:count])


@contextlib.contextmanager
def places(count):
    """The paths of as many cgroups; and as many interfaces b0, b1 … (with a peer each, which native XDP wants)."""
    top = os.path.join(files.cgroup2_root(), f"ebpf-deploy-bench-{os.getpid()}")
    cgroups = [os.path.join(top, str(number)) for number in range(count)]
    for number in range(count):
        subprocess.run(["ip", "link", "add", f"b{number}", "type", "veth", "peer", f"peer{number}"], check=True)
        subprocess.run(["ip", "link", "set", f"b{number}", "up"], check=True)
    try:
        for path in cgroups:
            os.makedirs(path)
        yield cgroups
    finally:
        for path in [*cgroups, top]:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(path)
        for number in range(count):
            subprocess.run(["ip", "link", "del", f"b{number}"], check=True)


def wanted(kind, cgroups):
    more = {"xdp": {}, "tcx": {"direction": "ingress"}, "cgroup": {}}[kind]
    return [
        catalogue.attachment_from(
            {
                "hook": kind,
                "program": f"bench_{kind}",
                **({"cgroup": path} if kind == "cgroup" else {"interface": f"b{number}"}),
                **more,
            }
        )
        for number, path in enumerate(cgroups)
    ]


def measured(kind, attachments):
    """One row: version 2 is left for version 1 and taken again, over and over."""
    try:
        stage_version(1)
        transitions.attach(NAME, transitions.Wish(tuple(attachments)))
        second = stage_version(2).built.release.id
        times, bare = [], []
        for dummy in range(ROUNDS):
            transitions.attach(NAME, transitions.Wish(release=second, retry_quarantined=True))
            bare += bare_updates()
            began = time.perf_counter()
            transitions.roll_back(NAME)
            times.append((time.perf_counter() - began) * 1000)
    finally:
        transitions.remove(NAME)
    whole, each, alone = statistics.median(times), statistics.median(times) / len(attachments), statistics.median(bare)
    return f"{len(attachments)} {kind}", whole, each, alone, each / alone


def stage_version(number):
    made = source.Source("bench.bpf.c", TEXT.encode(), cflags=(f"-DVERSION={number}",))
    return stage.stage(NAME, stage.Given(source=made, file="bench.bpf.c"), retry_quarantined=True)


def bare_updates():
    """Milliseconds that each link took to run the other version, and to run its own again."""
    place = store.home(NAME)
    seen = observe.facts(place)
    current, previous = seen.confirmed, seen.generations[seen.confirmed.previous]
    times = []
    for key, attachment in current.attachments.items():
        with contextlib.ExitStack() as opened:
            new, old = (
                opened.enter_context(bpf.get_pinned(os.path.join(place.loads, each.load, "progs", attachment.program)))
                for each in (previous, current)
            )
            link = opened.enter_context(bpf.get_pinned(os.path.join(place.links, key)))
            for wanted_program, expected in ((new, old), (old, new)):
                began = time.perf_counter()
                bpf.link_update(link, wanted_program, expected)
                times.append((time.perf_counter() - began) * 1000)
    return times
