# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""perf_event: programs that a clock runs on every CPU, beside those of others (by link since Linux 5.15).

Each CPU has a link of its own. One that is taken off line takes its event with it: its link is dropped with the next
change. One that comes gets its link with the next run.
"""

from __future__ import annotations

import errno

from ..errors import Failure
from ..kernel import bpf
from .contract import Attachment, Option, Place, ProgramType, Seat
from .event import AtEvent, online_cpus

MOST_SAMPLES = "/proc/sys/kernel/perf_event_max_sample_rate"


class PerfEvent(AtEvent):
    kind = "perf_event"
    sections = (r"perf_event",)
    description = (
        "is a clock that runs the program on every CPU that is busy, as profilers do (Linux 5.15). While a release is "
        "replaced, both run."
    )
    program_types = (bpf.PROG_PERF_EVENT,)
    options = {
        "frequency": Option(
            ("How often in a second, on each CPU that is not idle.", "V(99) by default."),
            type="int",
            default=99,
            range=(1, 100000),
        )
    }
    type_advice = 'Give the program SEC("perf_event"), or choose another hook'

    @property
    def parts(self):
        """A link for each CPU that is on line."""
        return tuple(_part(cpu) for cpu in online_cpus())

    def cuts_off(self, way_in, attachment: Attachment) -> bool:
        """No: it sees, and no packet waits for its verdict."""
        return False

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        return Place(attachment.option("frequency"), bpf.ATTACH_PERF_EVENT)

    def is_there(self, place: Place) -> bool:
        return True

    def seat(self, place: Place, kept: bpf.Link, ours: frozenset) -> Seat:
        """What runs: not the links of CPUs that are off line."""
        parts = self.parts
        running = tuple(link for link in (kept._replace(others=()), *kept.others) if link.part in parts)
        return super().seat(place, running[0]._replace(others=running[1:]) if running else kept, ours)

    def put_on(self, attachment: Attachment, place: Place, program, hold) -> None:
        super().put_on(attachment, place, program, hold)
        self._drop_rest(hold)

    def replace(self, attachment: Attachment, place, new, expected, hold) -> None:
        super().replace(attachment, place, new, expected, hold)
        self._drop_rest(hold)

    def take_off(self, attachment: Attachment, place, hold) -> None:
        super().take_off(attachment, place, hold)
        self._drop_rest(hold)

    def _drop_rest(self, hold):
        parts = self.parts
        for part in map(_part, range(bpf.possible_cpus())):
            if part not in parts and hold.is_pinned(part):
                hold.drop(part)

    def attach(self, attachment: Attachment, place: Place, program, part: str = "", after=None) -> bpf.Fd:
        try:
            with bpf.clock_event(place.number, _cpu(part)) as event:
                return bpf.link_create(program, event, place.attach_type)
        except OSError as error:
            raise self.refusal(attachment, place, error) from error

    def where(self, link: bpf.Link):
        """The kernel tells no frequency."""
        return {} if bpf.type_of(link.prog_id) == self.kind else None

    def refusal(self, attachment: Attachment, place, error: OSError) -> Failure:
        with open(MOST_SAMPLES, encoding="ascii") as stream:
            most = int(stream.read())
        if error.errno == errno.EINVAL and place.number > most:
            return Failure(
                f"{self.words(attachment)} is more often than this host allows ({most})",
                "Lower frequency, or raise the sysctl kernel.perf_event_max_sample_rate",
                errno=error.errno,
            )
        return super().refusal(attachment, place, error)


def _part(cpu):
    return f"cpu{cpu}" if cpu else ""


def _cpu(part):
    return int(part[len("cpu") :] or 0)
