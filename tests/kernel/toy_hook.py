# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hook that no version has, added from outside as a plugin of pytest: `pytest -p toy_hook`.

It is what the contract must carry besides those that are offered: two links and so two pins, its place taken from the
program, and overlap. The environment's TOY_WITHOUT names methods that its author forgot.
"""

from __future__ import annotations

import os

import hook_rows
import programs

from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks.contract import Option, Place, Row
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks.overlap import Overlapping
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files

PROGRAM = f"{programs.MARK}_toy_max_min"


class Toy(Overlapping):
    kind = "toy"
    description = "is the two system calls that the program's name ends with."
    link_type = "perf_event"
    program_types = (bpf.PROG_TRACEPOINT,)
    since = "5.15"
    options = {"note": Option("What it is for.")}
    parts = ("", "second")

    def place(self, attachment, program_type):
        files.mount(files.TRACEFS) if files.TRACEFS in files.unmounted() else None
        numbers = [_event(call) for call in attachment.program.split("_")[-2:]]
        return Place(numbers[0], bpf.ATTACH_PERF_EVENT, more=tuple(numbers[1:]))

    def is_there(self, place):
        return True

    def attach(self, attachment, place, program, part="", after=None):
        with bpf.tracepoint_event(place.more[0] if part else place.number, 0) as event:
            return bpf.link_create(program, event, place.attach_type)

    def rows(self, host):
        first = [link for link in host.links if link.tracepoint == "sys_enter_sched_get_priority_max"]
        return [Row({}, link.prog_id, link.id) for link in first]


def _event(call):
    path = f"{files.TRACEFS}/events/syscalls/sys_enter_sched_get_priority_{call}/id"
    with open(path, encoding="ascii") as stream:
        return int(stream.read())


def calls(host, count):
    """That many system calls, by turns the one and the other."""
    for number in range(count):
        (os.sched_get_priority_min if number % 2 else os.sched_get_priority_max)(os.SCHED_RR)


for name in os.environ.get("TOY_WITHOUT", "").split():
    delattr(Toy, name)
catalogue.HOOKS["toy"] = Toy()
programs.MORE[PROGRAM] = 'SEC("tracepoint") int MARK_toy_max_min(void *ctx) { seen_of_ours(3); return 0; }'
hook_rows.ROWS["toy"] = hook_rows.Row("toy", PROGRAM, lambda host: {"note": "seen"}, calls)
