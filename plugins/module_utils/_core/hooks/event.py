# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What hooks have in common whose links are at an event of perf: tracepoints and probes (by link since Linux 5.15)."""

from __future__ import annotations

import contextlib

from ..errors import Failure, NoSuchHook
from ..kernel import bpf, namespaces, targets
from .contract import Holder, Place, Row
from .overlap import Overlapping

ONLINE = "/sys/devices/system/cpu/online"


def online_cpus() -> list:
    with open(ONLINE, encoding="ascii") as stream:
        ranges = [each.split("-") for each in stream.read().strip().split(",")]
    return [cpu for each in ranges for cpu in range(int(each[0]), int(each[-1]) + 1)]


def first_cpu() -> int:
    return online_cpus()[0]


class AtEvent(Overlapping):
    link_type = "perf_event"
    since = "5.15"

    def is_at(self, place: Place, link: bpf.Link) -> bool:
        """Its pin says so, where the kernel does not tell."""
        return link.attach_type == place.attach_type

    def rows(self, host) -> list:
        """By links alone: there are thousands of events. Ours are told as users wrote them, others as the kernel tells
        them: since 6.6, and a tracepoint without its category."""
        found = []
        for link in host.links:
            if link.type != self.link_type or link.id in host.further:
                continue
            ours = host.ours.get(link.id)
            where = dict(ours.options) if ours else self.where(link)
            if where is not None and (ours is None or ours.hook == self.kind):
                found.append(Row(where, link.prog_id, link.id))
        return found

    def where(self, link: bpf.Link):
        """The place of somebody's link in the words of our options; None where it is at no such hook."""
        return None


class AtProbe(AtEvent):
    """`kind` is the kernel's word for it, too, or `probe` is."""

    program_types = (bpf.PROG_KPROBE,)
    probe = ""

    @contextlib.contextmanager
    def target(self, place: Place):
        """An event of its own, which the link keeps open."""
        try:
            event = bpf.probe_event(self._probe, self.probed(place), place.number, first_cpu())
        except OSError as error:
            raise self.no_event(place, error) from error
        with event as fd:
            yield fd

    @property
    def _probe(self):
        return self.probe or self.kind

    def probed(self, place: Place) -> str:
        """The function or the file."""
        raise NotImplementedError

    def no_event(self, place: Place, error: OSError) -> Failure:
        """Why the kernel has no probe there."""
        raise NotImplementedError

    def expect_probes(self) -> None:
        kind = self._probe.replace("ret", "")
        if not targets.has_probes(kind):
            raise NoSuchHook(
                f"This kernel places no {kind}s: it shows no {bpf.PMUS}/{kind}",
                f"Boot a kernel with CONFIG_{kind.upper()}_EVENTS, or use another hook",
                kernel=namespaces.kernel_release(),
            )

    def is_at(self, place: Place, link: bpf.Link) -> bool:
        known = link.probe is None or (link.probe[0], link.probe[2]) == (self._probe, place.number)
        return super().is_at(place, link) and known

    def holders(self, place: Place) -> tuple:
        """None before 6.6, which does not tell."""
        there = [link for link in bpf.links() if link.probe is not None and self.is_at(place, link)]
        return tuple(Holder(link.prog_id, link.id) for link in there)
