# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""kprobe, kretprobe, ksyscall, kretsyscall: programs at a function of the kernel, beside those of others (by link since
Linux 5.15).

Calls that the compiler inlined are no calls any more, and no kernel tells which those are: that a probe is on does not
mean that it sees all of them.
"""

from __future__ import annotations

import errno

from ..errors import Failure, NotFound
from ..kernel import bpf, namespaces, targets
from .contract import Attachment, Option, Place, ProgramType
from .event import AtProbe

# What the architectures' wrappers of a system call begin with; without one it is sys_NAME
WRAPPERS = ("__x64_sys_", "__arm64_sys_", "__s390x_sys_", "__riscv_sys_", "__se_sys_", "sys_")
FUNCTION = Option(
    (
        "The kernel's function.",
        "Calls that the compiler inlined are not seen, and no kernel tells which those are.",
    ),
    is_required=True,
)
TWICE = "While a release is replaced, both see what happens in between."


class Kprobe(AtProbe):
    kind = "kprobe"
    sections = (r"kprobe/(?P<function>[\w.$]+)",)
    description = f"is a function of the kernel, before it runs (Linux 5.15). {TWICE}"
    options = {
        "function": FUNCTION,
        "offset": Option("Bytes behind the start of O(function), where another instruction begins.", type="int"),
    }
    type_advice = 'Give the program SEC("kprobe"), or choose another hook'

    def attachment(self, given: dict) -> Attachment:
        """A probe at the start has no offset, however that was said."""
        return super().attachment({name: value for name, value in given.items() if (name, value) != ("offset", 0)})

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        self.expect_probes()
        function = self.function(attachment)
        return Place(attachment.option("offset") or 0, bpf.ATTACH_PERF_EVENT, more=(function,))

    def function(self, attachment: Attachment) -> str:
        """The kernel's name of it."""
        name = attachment.option("function")
        if name not in targets.functions():
            raise _no_function(name)
        return name

    def is_there(self, place: Place) -> bool:
        return place.more[0] in targets.functions()

    def is_at(self, place: Place, link: bpf.Link) -> bool:
        return super().is_at(place, link) and (link.probe is None or link.probe[1] == place.more[0])

    def probed(self, place: Place) -> str:
        return place.more[0]

    def where(self, link: bpf.Link):
        if link.probe is None or link.probe[0] != self.kind:
            return None
        dummy, function, offset = link.probe
        return {"function": function, **({"offset": offset} if offset else {})}

    def candidates(self, link: bpf.Link, program: str) -> list:
        where = self.where(link)
        return [Attachment.of(self.kind, program, **where)] if where else []

    def no_event(self, place: Place, error: OSError) -> Failure:
        where = place.more[0] + (f"+{place.number}" if place.number else "")
        advice = {
            errno.EADDRNOTAVAIL: "Several functions have this name: choose another one",
            errno.EILSEQ: "No instruction begins at this offset: leave it out, or correct it",
        }
        return Failure(
            f"The kernel places no {self._probe} at {where}: {error.strerror}",
            advice.get(
                error.errno,
                "Some functions cannot be probed (see /sys/kernel/debug/kprobes/blacklist): choose another, or a "
                "tracepoint",
            ),
            errno=error.errno,
        )


class Kretprobe(Kprobe):
    kind = "kretprobe"
    sections = (r"kretprobe/(?P<function>[\w.$]+)",)
    description = f"is a function of the kernel, when it returns (Linux 5.15). {TWICE}"
    options = {"function": FUNCTION}
    type_advice = 'Give the program SEC("kretprobe"), or choose another hook'

    def cuts_off(self, way_in, attachment: Attachment) -> bool:
        """No: it sees. What may end a function with an error (bpf_override_return), kprobes alone may."""
        return False


class Ksyscall(Kprobe):
    kind, probe = "ksyscall", "kprobe"
    sections = (r"ksyscall/(?P<syscall>\w+)",)
    description = f"is a system call, before it runs (Linux 5.15). {TWICE}"
    options = {"syscall": Option("The system call's name, as C(openat).", is_required=True)}
    type_advice = 'Give the program SEC("ksyscall"), or choose another hook'

    def function(self, attachment: Attachment) -> str:
        """The architecture's wrapper: the first that this kernel has."""
        name, known = attachment.option("syscall"), targets.functions()
        for prefix in WRAPPERS:
            if prefix + name in known:
                return prefix + name
        calls = {each[len(prefix) :] for prefix in WRAPPERS for each in known if each.startswith(prefix)}
        raise NotFound(
            f"This kernel has no system call {name}", namespaces.did_you_mean(name, sorted(calls)), syscall=name
        )

    def where(self, link: bpf.Link):
        """Those of others are kprobes."""
        return None

    def candidates(self, link: bpf.Link, program: str) -> list:
        function = link.probe[1] if link.probe else ""
        names = [function[len(prefix) :] for prefix in WRAPPERS if function.startswith(prefix)]
        return [Attachment.of(self.kind, program, syscall=name) for name in names]


class Kretsyscall(Ksyscall):
    kind, probe = "kretsyscall", "kretprobe"
    sections = (r"kretsyscall/(?P<syscall>\w+)",)
    description = f"is a system call, when it returns (Linux 5.15). {TWICE}"
    type_advice = 'Give the program SEC("kretsyscall"), or choose another hook'

    def cuts_off(self, way_in, attachment: Attachment) -> bool:
        """No: as kretprobe."""
        return False


def _no_function(name):
    """The sentence for a name that kallsyms does not have. What the compiler made out of a function has its name, a dot
    and what was done."""
    known = targets.functions()
    copies = sorted(each for each in known if each.partition(".")[0] == name)
    if copies:
        return NotFound(
            f"This kernel has {name} only as copies that the compiler made: {', '.join(copies)}",
            f"Attach to {copies[0]}, whose arguments may be others than in the source; calls may be inlined besides",
            function=name,
            copies=copies,
        )
    near = targets.nearest(name, known)
    return NotFound(
        f"This kernel has no function {name}, or the compiler inlined all its calls",
        f"Did you mean {' or '.join(near)}?" if near else "See /proc/kallsyms",
        function=name,
        near=near,
    )
