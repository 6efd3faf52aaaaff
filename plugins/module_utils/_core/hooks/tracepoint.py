# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""tracepoint: programs at a static event of the kernel, beside those of others (by link since Linux 5.15)."""

from __future__ import annotations

import contextlib
import errno
import os

from ..errors import Failure, NotFound
from ..kernel import bpf, files, namespaces
from .contract import Attachment, Holder, Option, Place, ProgramType
from .event import AtEvent, first_cpu


class Tracepoint(AtEvent):
    kind = "tracepoint"
    sections = (r"(?:tp|tracepoint)/(?P<tracepoint>[^/]+/.+)",)
    description = (
        "is a static event of the kernel, beside the programs of others (Linux 5.15). While a release is replaced, "
        "both see what happens in between."
    )
    program_types = (bpf.PROG_TRACEPOINT,)
    options = {
        "tracepoint": Option("The event as CATEGORY/NAME, a folder of C(/sys/kernel/tracing/events).", is_required=True)
    }
    type_advice = 'Give the program SEC("tracepoint"), or choose another hook'

    def named(self, attachment: Attachment) -> Attachment:
        """CATEGORY/NAME, however the user parted them."""
        return attachment.with_options(tracepoint=attachment.option("tracepoint").replace(":", "/").strip("/"))

    def cuts_off(self, way_in, attachment: Attachment) -> bool:
        """No: it sees, and no packet waits for its verdict."""
        return False

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        if files.TRACEFS in files.unmounted():
            files.mount(files.TRACEFS)
        name, folder = attachment.option("tracepoint"), os.path.join(files.TRACEFS, "events")
        try:
            if os.path.normpath(name) != name or name.startswith(("/", "..")):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            with open(os.path.join(folder, name, "id"), encoding="ascii") as stream:
                return Place(int(stream.read()), bpf.ATTACH_PERF_EVENT)
        except OSError as error:
            category = name.partition("/")[0]
            known = [f"{category}/{each}" for each in files.names_in(os.path.join(folder, category))]
            raise NotFound(
                f"There is no tracepoint {name} on this host",
                namespaces.did_you_mean(name, known or files.names_in(folder)),
                tracepoint=name,
                errno=error.errno,
            ) from error

    def is_there(self, place: Place) -> bool:
        with contextlib.suppress(OSError), self.target(place):
            return True
        return False

    @contextlib.contextmanager
    def target(self, place: Place):
        """An event of its own, which the link keeps open."""
        with bpf.tracepoint_event(place.number, first_cpu()) as event:
            yield event

    def holders(self, place: Place) -> tuple:
        with self.target(place) as event:
            return tuple(Holder(number) for number in bpf.programs_at_event(event))

    def candidates(self, link: bpf.Link, program: str) -> list:
        events = os.path.join(files.TRACEFS, "events")
        return [
            Attachment.of(self.kind, program, tracepoint=f"{category}/{link.tracepoint}")
            for category in files.names_in(events)
            if link.tracepoint and os.path.isdir(os.path.join(events, category, link.tracepoint))
        ]

    def where(self, link: bpf.Link):
        """Before 6.6 the kernel tells no name, but of the program its type."""
        return {"tracepoint": link.tracepoint} if link.tracepoint or bpf.type_of(link.prog_id) == self.kind else None

    def refusal(self, attachment: Attachment, place, error: OSError) -> Failure:
        if error.errno == errno.E2BIG:
            return Failure(
                f"{self.words(attachment)} has as many programs as the kernel lets it have ({bpf.MOST_AT_EVENT})",
                "Take some off: bpf_info lists them",
                errno=error.errno,
            )
        return super().refusal(attachment, place, error)
