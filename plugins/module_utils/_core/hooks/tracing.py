# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""tp_btf, fentry, fexit, fmod_ret, lsm, iter: programs that are loaded for one tracepoint, function or kind of object.

Since Linux 5.13, but for tp_btf and iter: before that, one that was taken off cannot be put on again, as a way back
does.

The place is the program's own: its section names it, or `target` in its entry of bpf_program's programs. So a release
whose program is for another function moves the attachment there, as any release replaces the one before.
"""

from __future__ import annotations

import contextlib
import errno
import os

from ..errors import BadRequest, Failure, HookHeld, NoSuchHook, WrongType
from ..kernel import bpf, namespaces, targets
from .contract import OWNER_ADVICE, Attachment, Holder, Place, ProgramType, Row
from .overlap import Overlapping

TWICE = "While a release is replaced, both see what happens in between."
ACTIVE_LSMS = "/sys/kernel/security/lsm"
OF_ONE_MAP = ("bpf_map_elem", "bpf_sk_storage_map", "sockmap")
MOST_AT_FUNCTION = 38  # BPF_MAX_TRAMP_LINKS on x86_64


class LoadedFor(Overlapping):
    link_type = "tracing"
    program_types = (bpf.PROG_TRACING,)
    since = "5.13"
    attach_type = 0
    btf_prefix = ""  # before the name of the function that the kernel runs the programs of this target by

    def words(self, attachment: Attachment) -> str:
        return f"{attachment.hook} of {attachment.program}"

    def accepts(self, attachment: Attachment, program_type: ProgramType) -> None:
        super().accepts(attachment, program_type)
        if program_type.attach_type != self.attach_type:
            name, wanted = (bpf.attach_type_name(each) for each in (program_type.attach_type, self.attach_type))
            raise WrongType(
                f"{attachment.program} is loaded as {name}, and hook {self.kind} takes {wanted}",
                self.type_advice,
                program=attachment.program,
                type=bpf.prog_type_name(program_type.number),
                hook=self.kind,
            )

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        """That it is there is known since the program was loaded."""
        return Place(0, self.attach_type, more=(program_type.target,))

    def is_there(self, place: Place) -> bool:
        """A program keeps its function, and the module that has it."""
        return True

    def is_at(self, place: Place, link: bpf.Link) -> bool:
        """Wherever its program is loaded for."""
        return link.attach_type in (None, place.attach_type)

    def holders(self, place: Place) -> tuple:
        """At functions of the kernel itself: two modules' may have the same number."""
        links = [link for link in bpf.links() if link.type == self.link_type and link.attach_type == place.attach_type]
        number = targets.function_btf_id(self.btf_prefix + place.more[0]) if links else 0
        return tuple(Holder(link.prog_id, link.id) for link in links if number and link.target_btf_id == number)

    def attach(self, attachment: Attachment, place: Place, program, part: str = "", after=None) -> bpf.Fd:
        try:
            return bpf.raw_tracepoint_link(program)
        except OSError as error:
            raise self.refusal(attachment, place, error) from error

    def candidates(self, link: bpf.Link, program: str) -> list:
        return [Attachment.of(self.kind, program)]

    def rows(self, host) -> list:
        links = [link for link in host.links if link.type == self.link_type and link.attach_type == self.attach_type]
        return [Row({}, link.prog_id, link.id) for link in links]

    def refusal(self, attachment: Attachment, place, error: OSError) -> Failure:
        if error.errno == errno.EBUSY:
            return HookHeld(
                f"{self.words(attachment)}: {place.more[0]} runs this very program already, or a live patch holds it",
                OWNER_ADVICE,
                errno=error.errno,
            )
        if error.errno == errno.E2BIG:
            return Failure(
                f"{self.words(attachment)}: {place.more[0]} has as many programs as the kernel lets it have "
                f"({MOST_AT_FUNCTION})",
                "Take some off: bpf_info lists them",
                errno=error.errno,
            )
        if error.errno == bpf.ENOTSUPP:
            kernel = f"{namespaces.kernel_release()} on {os.uname().machine}"
            return NoSuchHook(
                f"{self.words(attachment)}: Linux {kernel} attaches no program to functions",
                "Use a newer kernel (on aarch64 6.4 or newer), or a kprobe",
                errno=error.errno,
                kernel=namespaces.kernel_release(),
            )
        return super().refusal(attachment, place, error)


class Observing(LoadedFor):
    def cuts_off(self, way_in, attachment: Attachment) -> bool:
        """No: it sees, and nothing waits for its verdict."""
        return False


class TpBtf(Observing):
    kind = "tp_btf"
    sections = (r"tp_btf/.+",)
    description = f"is the tracepoint that the program was loaded for, with its arguments' types (Linux 5.8). {TWICE}"
    link_type = "raw_tracepoint"
    since = "5.8"
    attach_type = bpf.ATTACH_TRACE_RAW_TP
    type_advice = 'Give the program SEC("tp_btf/NAME"), or choose another hook'

    def holders(self, place: Place) -> tuple:
        links = [link for link in bpf.links() if link.type == self.link_type and link.tracepoint == place.more[0]]
        return tuple(Holder(link.prog_id, link.id) for link in links if bpf.type_of(link.prog_id) == "tracing")

    def rows(self, host) -> list:
        links = [link for link in host.links if link.type == self.link_type and bpf.type_of(link.prog_id) == "tracing"]
        return [Row({"tracepoint": link.tracepoint}, link.prog_id, link.id) for link in links]


class Fentry(Observing):
    kind = "fentry"
    sections = (r"fentry/.+",)
    description = f"is the entry of the kernel's function that the program was loaded for (Linux 5.13). {TWICE}"
    attach_type = bpf.ATTACH_TRACE_FENTRY
    type_advice = 'Give the program SEC("fentry/FUNCTION"), or choose another hook'


class Fexit(Observing):
    kind = "fexit"
    sections = (r"fexit/.+",)
    description = f"is the return of the kernel's function that the program was loaded for (Linux 5.13). {TWICE}"
    attach_type = bpf.ATTACH_TRACE_FEXIT
    type_advice = 'Give the program SEC("fexit/FUNCTION"), or choose another hook'


class FmodRet(LoadedFor):
    kind = "fmod_ret"
    sections = (r"fmod_ret/.+",)
    description = (
        "is the entry of the kernel's function that the program was loaded for, which does not run where the program "
        f"returns an error (Linux 5.13). {TWICE}"
    )
    attach_type = bpf.ATTACH_MODIFY_RETURN
    type_advice = 'Give the program SEC("fmod_ret/FUNCTION"), or choose another hook'


class Lsm(LoadedFor):
    kind = "lsm"
    sections = (r"lsm/.+",)
    description = (
        "is the LSM hook that the program was loaded for, whose act it may forbid, where the kernel runs with the BPF "
        f"LSM (Linux 5.13). {TWICE}"
    )
    program_types = (bpf.PROG_LSM,)
    attach_type = bpf.ATTACH_LSM_MAC
    btf_prefix = "bpf_lsm_"
    type_advice = 'Give the program SEC("lsm/HOOK"), or choose another hook'

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        """Where the BPF LSM does not take part, the kernel attaches the program and never runs it."""
        with contextlib.suppress(OSError), open(ACTIVE_LSMS, encoding="ascii") as stream:
            active = stream.read().strip()
            if "bpf" not in active.split(","):
                raise NoSuchHook(
                    f"This kernel runs without the BPF LSM, so {attachment.program} would never run: it has {active}",
                    f"Boot with lsm={active},bpf on the kernel's command line",
                    kernel=namespaces.kernel_release(),
                )
        return super().place(attachment, program_type)


class Iter(Observing):
    kind = "iter"
    sections = (r"iter/.+",)
    description = (
        "is a file, and runs the program for each object of the kind that it was loaded for while somebody reads it "
        "(Linux 5.8). The file is the attachment's pin, C(links/ID) in the deployment's folder on the BPF file system; "
        "a new release's takes its place at once."
    )
    link_type = "iter"
    since = "5.8"
    attach_type = bpf.ATTACH_TRACE_ITER
    type_advice = 'Give the program SEC("iter/KIND"), or choose another hook'

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        if program_type.target in OF_ONE_MAP:
            raise BadRequest(
                f"{attachment.program} goes through the entries of one map, and hook {self.kind} can name none",
                "Read the map with bpf_map",
                program=attachment.program,
            )
        return super().place(attachment, program_type)

    def holders(self, place: Place) -> tuple:
        """Nobody sits there beside others: each has a file of its own."""
        return ()

    def attach(self, attachment: Attachment, place: Place, program, part: str = "", after=None) -> bpf.Fd:
        try:
            return bpf.link_create(program, 0, place.attach_type)
        except OSError as error:
            raise self.refusal(attachment, place, error) from error
