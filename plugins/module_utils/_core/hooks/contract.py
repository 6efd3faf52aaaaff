# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What a hook is to the rest: Attachment (wanted), Place (where that is on this host), Holder (who sits there), Hook.

The base class answers for a hook with a kernel link (BPF_LINK_CREATE). A hook's own file says only what differs.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from typing import NamedTuple

from ..errors import Failure, HookHeld, HookMoved, NotFound, Unprivileged, Unsupported, WrongType
from ..kernel import bpf, namespaces


class Attachment(NamedTuple):
    """One program wanted at one hook, as the user names both. `target` is an interface or a cgroup's path."""

    hook: str
    program: str
    target: str
    netns: str = ""
    direction: str = ""
    mode: str = ""

    def as_record(self):
        return {field: value for field, value in self._asdict().items() if value}

    @classmethod
    def from_record(cls, record):
        """Fields that a later version added are left out."""
        return cls(**{field: record[field] for field in cls._fields if field in record})

    def describe(self):
        """`xdp eth0 (native)`: where it is, in the words that users write."""
        where = [self.hook, self.direction, self.target]
        inside = f" in netns {self.netns}" if self.netns else ""
        return " ".join(part for part in where if part) + (f" ({self.mode})" if self.mode else "") + inside


class Place(NamedTuple):
    """Where an attachment is on this host now: ifindex or cgroup id, and the kernel's attach type."""

    number: int
    attach_type: int
    netns: str = ""
    path: str = ""

    def is_of(self, link):
        """Whether the link (bpf.Link) sits here."""
        return link.attach_type == self.attach_type and self.number in (link.ifindex, link.cgroup_id)


class Holder(NamedTuple):
    """A program that sits at a place. link_id 0: attached without a link. mode is XDP's."""

    prog_id: int
    link_id: int = 0
    mode: str = ""


class Hook:
    """One kind of hook. Subclasses are stateless; catalogue.py has one of each."""

    kind = ""
    program_types = ()  # kernel numbers that may sit here
    is_exclusive = False  # whether one program alone may sit at a place
    since = ""  # the first kernel that has it by link
    option_names = ()  # of the module's options, those that this hook takes; the first is the target

    def key(self, attachment):
        """What makes two attachments the same one: mode is an option, the program counts where several may sit."""
        key = [self.kind, attachment.netns, attachment.target, attachment.direction]
        return key if self.is_exclusive else [*key, attachment.program]

    def id(self, attachment):
        """The key's short hash: the name of the link's pin."""
        return hashlib.sha256(json.dumps(self.key(attachment)).encode()).hexdigest()[:12]

    def accepts(self, attachment, program_type):
        """The program's (type, expected attach type) goes with this hook; WrongType otherwise."""
        number = program_type[0]
        if number not in self.program_types:
            wanted = " or ".join(bpf.prog_type_name(each) for each in self.program_types)
            raise WrongType(
                f"{attachment.program} is of type {bpf.prog_type_name(number)}, and hook {self.kind} takes {wanted}",
                self.type_advice,
                program=attachment.program,
                type=bpf.prog_type_name(number),
                hook=self.kind,
            )

    type_advice = "Choose the hook that fits the program, or change the program's SEC(…)"

    def is_on(self, way_in, attachment):
        """Whether a wrong program here could cut off the controller's way in (way_in.WayIn): yes, unless a hook proves
        otherwise."""
        return True

    def named(self, target):
        """The target as its Attachment has it, however the user spelt it."""
        return target

    def unit(self, attachment):
        """The systemd service that makes the attachment's place anew when it starts; empty where none does."""
        return ""

    def place(self, attachment, program_type):
        """Where the attachment is on this host now; NotFound where there is no such place."""
        raise NotImplementedError

    def holders(self, place):
        """All programs that sit at the place, ours and foreign."""
        with self.target(place) as target:
            return tuple(Holder(*row) for row in bpf.prog_query(target, place.attach_type))

    def candidates(self, link, program):
        """The Attachments of `program` that could have made this link (bpf.Link); none where its place is gone."""
        return ()

    def link_flags(self, attachment):
        return 0

    def attach(self, attachment, place, prog_fd):
        """An Fd of a new link that runs the program at the place. Raises what errno means here."""
        try:
            with self.target(place) as target:
                return bpf.link_create(prog_fd, target, place.attach_type, self.link_flags(attachment))
        except OSError as error:
            raise self.refusal(attachment, place, error) from error

    @contextlib.contextmanager
    def target(self, place):
        """What BPF_LINK_CREATE and BPF_PROG_QUERY take for the place, inside its network namespace."""
        with namespaces.network(place.netns):
            yield place.number

    def swap(self, attachment, link_fd, new_fd, expected_fd):
        """The link runs the new program, if it ran the expected one until now."""
        try:
            bpf.link_update(link_fd, new_fd, expected_fd)
        except OSError as error:
            raise self._swap_refusal(attachment, error) from error

    def detach(self, link_fd):
        """The link runs nothing; what it is attached to has no trace of it.

        A severed one is left to its last reference.
        """
        try:
            bpf.link_detach(link_fd)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOLINK, errno.EINVAL):  # EINVAL: before 5.9
                raise

    def refusal(self, attachment, place, error):
        """What the errno of BPF_LINK_CREATE means at this hook."""
        where = attachment.describe()
        if error.errno == errno.EEXIST:
            return HookHeld(
                f"{where} runs this very program already, by a link that is not ours", OWNER_ADVICE, errno=17
            )
        if error.errno == errno.EPERM:
            return Unprivileged(
                f"The kernel refused to attach at {where}: operation not permitted",
                "Run as root in the host's own namespaces with CAP_BPF and CAP_NET_ADMIN (add become: true)",
                errno=error.errno,
            )
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return Unsupported(
                f"This kernel refused to attach at {where}: {error.strerror}",
                f"Hook {self.kind} needs Linux {self.since} or newer; this is {namespaces.kernel_release()}",
                errno=error.errno,
                kernel=namespaces.kernel_release(),
            )
        return Failure(
            f"Attaching at {where} failed: {error.strerror}", "Read the kernel's log (dmesg)", errno=error.errno
        )

    def _swap_refusal(self, attachment, error):
        where = attachment.describe()
        if error.errno == errno.EPERM:
            return HookMoved(
                f"{where} no longer runs the program that was seen there", "Run again: the plan is made anew", errno=1
            )
        if error.errno == errno.ENOLINK:
            return NotFound(
                f"{where} is gone: its link has been severed",
                "Run again once the interface or cgroup is back",
                errno=67,
            )
        return Failure(
            f"Replacing the program at {where} failed: {error.strerror}",
            "Read the kernel's log (dmesg), then run again",
            errno=error.errno,
        )


OWNER_ADVICE = "Ask its owner to take it off; ebpf.deploy never touches what it did not attach"


def interface_place(attachment, attach_type):
    """The Place on the attachment's interface in its network namespace."""
    with namespaces.network(attachment.netns):
        number = namespaces.ifindex(attachment.target)
        others = namespaces.interfaces() if number is None else ()
    if number is None:
        inside = f" in network namespace {attachment.netns}" if attachment.netns else ""
        raise NotFound(
            f"There is no interface {attachment.target}{inside} on this host",
            namespaces.did_you_mean(attachment.target, others),
            interface=attachment.target,
            interfaces=sorted(others),
        )
    return Place(number, attach_type, netns=attachment.netns)


def interface_is_on(way_in, attachment):
    """False where the attachment's interface is none of those that carry the way in (is_on of hooks at interfaces)."""
    if way_in.is_everything:
        return True
    is_own = namespaces.is_own(attachment.netns)
    if is_own is False:
        return way_in.leads_elsewhere
    number = namespaces.ifindex(attachment.target)
    return is_own is None or number is None or number in way_in.interfaces


def interface_names(number):
    """The names of the interface with this index in the process's own network namespace: one, or none."""
    return [name for name, index in namespaces.interfaces().items() if index == number]
