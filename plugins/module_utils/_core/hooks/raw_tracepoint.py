# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""raw_tracepoint: programs at a tracepoint of the kernel as its code calls it, beside those of others (Linux 5.8)."""

from __future__ import annotations

import errno
import os

from ..errors import Failure, NotFound
from ..kernel import bpf, files, namespaces, targets
from .contract import Attachment, Holder, Option, Place, ProgramType, Row
from .overlap import Overlapping

NOT_RAW = ("syscalls", "ftrace", "kprobes", "uprobes", "synthetic")  # categories of events that are made out of others


class RawTracepoint(Overlapping):
    kind = "raw_tracepoint"
    sections = (r"raw_(?:tp|tracepoint)/(?P<tracepoint>\w+)",)
    description = (
        "is a tracepoint with its bare arguments, beside the programs of others (Linux 5.8). While a release is "
        "replaced, both see what happens in between."
    )
    program_types = (bpf.PROG_RAW_TRACEPOINT,)
    since = "5.8"
    options = {"tracepoint": Option("The tracepoint's NAME, without a category.", is_required=True)}
    type_advice = 'Give the program SEC("raw_tp"), or choose another hook'

    def named(self, attachment: Attachment) -> Attachment:
        """Without the category that the event of the same name has."""
        name = attachment.option("tracepoint").replace(":", "/").rpartition("/")[2]
        return attachment.with_options(tracepoint=name)

    def cuts_off(self, way_in, attachment: Attachment) -> bool:
        """No: it sees, and no packet waits for its verdict."""
        return False

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        name = attachment.option("tracepoint")
        if not _has(name):
            raise NotFound(
                f"There is no raw tracepoint {name} on this host",
                namespaces.did_you_mean(name, _names()),
                tracepoint=name,
            )
        return Place(0, 0, more=(name,))

    def is_there(self, place: Place) -> bool:
        return _has(place.more[0])

    def is_at(self, place: Place, link: bpf.Link) -> bool:
        return link.tracepoint == place.more[0]

    def holders(self, place: Place) -> tuple:
        there = [link for link in bpf.links() if link.type == self.kind and self.is_at(place, link)]
        return tuple(Holder(link.prog_id, link.id) for link in there)

    def attach(self, attachment: Attachment, place: Place, program, part: str = "", after=None) -> bpf.Fd:
        try:
            return bpf.raw_tracepoint_link(program, place.more[0])
        except OSError as error:
            raise self.refusal(attachment, place, error) from error

    def candidates(self, link: bpf.Link, program: str) -> list:
        return [Attachment.of(self.kind, program, tracepoint=link.tracepoint)]

    def rows(self, host) -> list:
        """Programs of type tracing have links of this type, too: those are tp_btf's."""
        links = [link for link in host.links if link.type == self.kind and bpf.type_of(link.prog_id) != "tracing"]
        return [Row({"tracepoint": link.tracepoint}, link.prog_id, link.id) for link in links]

    def refusal(self, attachment: Attachment, place, error: OSError) -> Failure:
        if error.errno == errno.EINVAL:  # tracepoint_probe_register knows the kernel; the program asks for too much
            return Failure(
                f"{self.words(attachment)} has fewer arguments than {attachment.program} reads",
                "Correct the program: the tracepoint's arguments are those of btf_trace_NAME in vmlinux.h",
                errno=error.errno,
            )
        return super().refusal(attachment, place, error)


def _has(name):
    """Whether the kernel or a module has it: each tracepoint has a type in their BTF. Without BTF the attach tells."""
    return not targets.types_unknown_to_btf({f"btf_trace_{name}"})


def _names():
    """The names of the tracepoints that are events, too: most of them."""
    if files.TRACEFS in files.unmounted():
        files.mount(files.TRACEFS)
    with open(os.path.join(files.TRACEFS, "available_events"), encoding="ascii") as lines:
        events = [line.strip().partition(":") for line in lines]
    return sorted({name for category, dummy, name in events if category not in NOT_RAW})
