# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What a hook is to the rest: Attachment (wanted), ProgramType (of what), Place (where that is on this host), Seat
(what of ours is there), Holder (who sits there), Hook.

The base class answers for a hook whose links the kernel updates (BPF_LINK_UPDATE). A hook's own file says only what
differs. overlap.py has the base for links that cannot be updated.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
from typing import NamedTuple, Optional, Union

from ..errors import BadRequest, Failure, HookHeld, HookMoved, NoSuchHook, NotFound, Unprivileged, WrongType
from ..kernel import bpf, namespaces

# How a hook changes its program. UPDATE: at no moment none and at no moment two. OVERLAP: the new one is on before the
# old one ends, and both see what comes in between. GAP: none runs in between, and the plan says so by two steps; no
# hook that is offered is so, but for XDP's change of mode.
UPDATE, OVERLAP, GAP = "update", "overlap", "gap"

# What records call an interface or a cgroup, and what command.py's script looks for when one is made anew
TARGET, TARGETS = "target", ("interface", "cgroup")
FIRST = ("xdp", "tcx", "cgroup")  # hooks that every version knows


class Option(NamedTuple):
    """An option of bpf_attach that a hook takes: in the words of Ansible's documentation, and as its argument spec.

    is_live: it is no part of the attachment's id. To change it takes the program off and puts it on again, with a gap.
    """

    description: Union[str, tuple]
    type: str = "str"
    choices: tuple = ()
    is_required: bool = False
    is_live: bool = False
    default: Union[str, int] = ""
    range: tuple = ()  # the least and the most that a number may be


class Attachment(NamedTuple):
    """One program wanted at one hook. `options` are the hook's own, as (name, value) pairs by name, none of them empty:
    `of` makes them so."""

    hook: str
    program: str
    options: tuple = ()

    @classmethod
    def of(cls, hook: str, program: str, **options: Union[str, int]) -> Attachment:
        return cls(hook, program, tuple(sorted((name, value) for name, value in options.items() if value != "")))

    def option(self, name: str) -> Union[str, int]:
        """The option's value, "" where it has none."""
        return dict(self.options).get(name, "")

    @property
    def target(self) -> str:
        """The interface's name or the cgroup's path, which may be made anew while we do not run; "" for others."""
        return next((value for name, value in self.options if name in TARGETS), "")

    def with_options(self, **values: Union[str, int]) -> Attachment:
        """The same with other values; an empty one takes the option away."""
        return self.of(self.hook, self.program, **{**dict(self.options), **values})

    def as_options(self) -> dict:
        """As users write it: what bpf_attach takes."""
        return {"hook": self.hook, "program": self.program, **dict(self.options)}

    def as_record(self) -> dict:
        """For our files."""
        return {TARGET if name in TARGETS else name: value for name, value in self.as_options().items()}

    @classmethod
    def from_record(cls, record: dict) -> Attachment:
        """Of a record of ours, of whatever version."""
        target = "cgroup" if record["hook"] == "cgroup" else "interface"
        given = {target if name == TARGET else name: value for name, value in record.items()}
        return cls.of(given.pop("hook"), given.pop("program"), **given)


class Place(NamedTuple):
    """Where an attachment is on this host now, as the kernel knows it, however it is called: outside of its hook nobody
    looks into it, but for `anchor`.

    number: ifindex, cgroup id, id of an event. netns, path: the namespace or the folder that it is reached by.
    """

    number: int
    attach_type: int
    netns: str = ""
    path: str = ""
    more: tuple = ()

    @classmethod
    def from_record(cls, record: dict) -> Place:
        """Of its record in a file of ours."""
        return cls(**{**record, "more": tuple(record.get("more", ()))})

    def as_record(self) -> dict:
        """For a file of ours; versions that know no `more` read it, too."""
        return {name: value for name, value in self._asdict().items() if name != "more" or value}

    @property
    def anchor(self) -> str:
        """The file that keeps the place reachable while somebody has it open; empty where it needs none."""
        return self.path or (namespaces.path_of(self.netns) if self.netns else "")

    def reached_by(self, path: str) -> Place:
        """The same place, reached by another path of its anchor."""
        return self._replace(path=path) if self.path else self._replace(netns=path)


class ProgramType(NamedTuple):
    """What the kernel was told of a program at its load, its own numbers. target: the function, tracepoint or LSM hook
    that it was loaded for; empty where its type has none, or where its release was lost."""

    number: int
    attach_type: int
    target: str = ""


class Holder(NamedTuple):
    """A program that sits at a place. link_id 0: attached without a link. mode is XDP's."""

    prog_id: int
    link_id: int = 0
    mode: str = ""


class Seat(NamedTuple):
    """What of ours an attachment has, by the kernel: the ids of the programs that run, two where a change was cut.

    is_here: they run at the place. Otherwise the place is gone, and nothing runs (is_gone), or they run elsewhere, as
    after the place's name went to another. options: those that are live, as the kernel has them.
    """

    runs: frozenset
    is_here: bool = True
    is_gone: bool = False
    options: tuple = ()


class Row(NamedTuple):
    """What sits at a place, for bpf_info: `where` are the words of the hook's options."""

    where: dict
    prog_id: int
    link_id: int = 0


class Hook:
    """One kind of hook. Subclasses are stateless; catalogue.py has one of each."""

    kind = ""
    description = ""  # what it is, in a sentence or two of bpf_attach's documentation, and since which kernel
    link_type: Optional[str] = None  # bpftool's name for its links: the kind's own by default; "" where it has none
    program_types = ()  # kernel numbers that may sit here
    how = UPDATE
    is_moved_by_link = True  # whether `replace` needs no place: the link is moved wherever it is
    is_exclusive = False  # whether one program alone may sit at a place
    since = ""  # the first kernel that has it by link
    sections: tuple = ()  # regular expressions for SEC(…) of its programs; their groups are options
    options: dict = {}  # {name: Option}, in the order in which users read them
    key_options = ()  # what makes an id; empty: all that are not live. What hosts run today has ids by this order
    type_advice = "Choose the hook that fits the program, or change the program's SEC(…)"

    # ---- what is wanted --------------------------------------------------------------------------

    def attachment(self, given: dict) -> Attachment:
        """The Attachment of a user's options {name: value}, defaults filled in; BadRequest names what is missing."""
        needed = {name: option.choices for name, option in self.options.items() if option.is_required}
        for name, choices in {"program": (), **needed}.items():
            if name not in given:
                advice = " or ".join(f"{name}: {choice}" for choice in choices) or f"the option {name}"
                raise BadRequest(f"An attachment at hook {self.kind} needs {name}", f"Add {advice}", hook=self.kind)
        foreign = set(given) - set(self.options) - {"hook", "program"}
        if foreign:
            raise BadRequest(
                f"Hook {self.kind} takes no {', '.join(sorted(foreign))}",
                f"It takes: {', '.join(sorted(self.options))}",
            )
        for name, option in self.options.items():
            if option.choices and given.get(name, option.choices[0]) not in option.choices:
                raise BadRequest(f"{name} {given[name]} is none of {', '.join(option.choices)}", f"Set {name} to one")
            if option.range and name in given and not option.range[0] <= int(given[name]) <= option.range[1]:
                least, most = option.range
                raise BadRequest(f"{name} {given[name]} is not from {least} to {most}", f"Set {name} to such a number")
        filled = {name: given.get(name, option.default) for name, option in self.options.items()}
        return self.named(Attachment.of(self.kind, given["program"], **filled))

    def section_options(self, section: str) -> Optional[dict]:
        """What a program's section says of where it runs, {option: value}; None where it is another hook's."""
        found = next(filter(None, (re.fullmatch(form, section) for form in self.sections)), None)
        return {name: value for name, value in found.groupdict().items() if value} if found else None

    def named(self, attachment: Attachment) -> Attachment:
        """The same with its place named as all name it, however the user spelt it."""
        return attachment

    def matching(self, attachment: Attachment, known: Optional[tuple] = None) -> list:
        """The Attachments that a pattern in the options stands for, on this host or among `known` ones; itself where
        there is none."""
        return [attachment]

    def is_same(self, one: Attachment, other: Attachment) -> bool:
        """Whether both mean the same place on this host, although they are spelt otherwise: then they are one."""
        return False

    def key(self, attachment: Attachment) -> list:
        """What makes two attachments the same one; the program counts where several may sit."""
        names = self.key_options or [name for name, option in self.options.items() if not option.is_live]
        key = [self.kind, *(attachment.option(name) for name in names)]
        return key if self.is_exclusive else [*key, attachment.program]

    def id(self, attachment: Attachment) -> str:
        """The key's short hash: the name of its pin."""
        return hashlib.sha256(json.dumps(self.key(attachment)).encode()).hexdigest()[:12]

    def words(self, attachment: Attachment) -> str:
        """`xdp eth0 (native) in netns blue`: where it is, in the words that users write."""
        given = dict(attachment.options)
        inside = f" in netns {given.pop('netns')}" if "netns" in given else ""
        live = "".join(f" ({given.pop(name)})" for name, each in self.options.items() if each.is_live and name in given)
        order = sorted(given, key=[*self.options, *given].index)
        return " ".join([attachment.hook, *(str(given[name]) for name in order)]) + live + inside

    def accepts(self, attachment: Attachment, program_type: ProgramType) -> None:
        """The program goes with this hook; WrongType otherwise."""
        number = program_type.number
        if number not in self.program_types:
            wanted = " or ".join(bpf.prog_type_name(each) for each in self.program_types)
            raise WrongType(
                f"{attachment.program} is of type {bpf.prog_type_name(number)}, and hook {self.kind} takes {wanted}",
                self.type_advice,
                program=attachment.program,
                type=bpf.prog_type_name(number),
                hook=self.kind,
            )

    def cuts_off(self, way_in, attachment: Attachment) -> bool:
        """Whether a wrong program here could cut off the controller's way in (way_in.WayIn): yes, unless a hook proves
        otherwise."""
        return True

    def unit(self, attachment: Attachment) -> str:
        """The systemd service that makes the attachment's place anew when it starts; empty where none does."""
        return ""

    # ---- what is there ---------------------------------------------------------------------------

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        """Where the attachment is on this host now; NotFound where there is no such place."""
        raise NotImplementedError

    def is_there(self, place: Place) -> bool:
        """Whether the place is what it was: nobody removed it since."""
        raise NotImplementedError

    def is_at(self, place: Place, link: bpf.Link) -> bool:
        """Whether the link sits at the place. Where the kernel tells nothing of that, its pin must do."""
        known = {link.ifindex, link.cgroup_id, link.netns_ino} - {None}
        return link.attach_type in (None, place.attach_type) and (not known or place.number in known)

    def seat(self, place: Place, kept: bpf.Link, ours: frozenset) -> Seat:
        """What of ours is at the place. `kept` is what the attachment's pins hold, `ours` are the ids of all programs
        that the deployment has loaded."""
        if kept.is_severed:
            return Seat(frozenset(), is_here=False, is_gone=True)
        return Seat(kept.prog_ids, is_here=self.is_at(place, kept), options=self.live_options(place, kept))

    def runs_nowhere(self, attachment: Attachment, kept: bpf.Link) -> bool:
        """Whether what the attachment's pins hold runs at no place: where its own is not found, that tells whether it
        is gone or is called otherwise."""
        return kept.is_severed

    def live_options(self, place: Place, kept: bpf.Link) -> tuple:
        """The live options as the kernel has them, (name, value) pairs."""
        return ()

    def holders(self, place: Place) -> tuple:
        """All programs that sit at the place, ours and foreign, as Holders; none where the kernel does not tell."""
        return ()

    def candidates(self, link: bpf.Link, program: str) -> list:
        """The Attachments of `program` that could have made this link; none where its place is gone."""
        return []

    def rows(self, host) -> list:
        """Rows of all that sits at hooks of this kind, ours or not. `host` is inventory.Host."""
        return []

    def expect_possible(self, attachment: Attachment, place: Place) -> None:
        """Raises what putting the program on will be answered with, as far as that can be known before."""

    def told(self, attachment: Attachment, link: bpf.Link) -> dict:
        """What more the kernel tells of an attachment that runs, as fields of its row in results."""
        return {}

    def cautions(self, attachment: Attachment, place: Place) -> list:
        """What to know before the program is put on there, a sentence each: what it hides from others, what others hide
        from it, what it may miss."""
        return []

    # ---- how it moves ----------------------------------------------------------------------------

    def put_on(self, attachment: Attachment, place: Place, program, hold) -> None:
        """The place runs the program (an Fd), and the hold (deployment/hold.py) keeps it there. What the hold had, of a
        place that is gone, ends."""
        with hold.before() as old, self.attach(attachment, place, program) as link:
            hold.put(link)
            if old is not None:
                self.detach(old)

    def replace(self, attachment: Attachment, place, new, expected, hold) -> None:
        """The place runs the new program, if it ran the expected one until now. `place` may be None, where its name
        means another one now, with is_moved_by_link alone."""
        with hold.opened() as link:
            self.swap(attachment, link, new, expected)

    def take_off(self, attachment: Attachment, place, hold) -> None:
        """The place runs nothing of ours. Unpinned first: what was pinned ends with this process at the latest. Pinned
        again where it does not come off. `place` may be None, where nothing tells it any more."""
        with hold.opened() as link:
            hold.unpin()
            try:
                self.detach(link)
            except OSError:
                hold.pin(link)
                raise
            hold.forget()

    def attach(self, attachment: Attachment, place: Place, program) -> bpf.Fd:
        """A new link that runs the program at the place. Raises what errno means here."""
        try:
            with self.target(place) as target:
                return bpf.link_create(program, target, place.attach_type, self.link_flags(attachment))
        except OSError as error:
            raise self.refusal(attachment, place, error) from error

    def link_flags(self, attachment: Attachment) -> int:
        return 0

    @contextlib.contextmanager
    def target(self, place: Place):
        """What BPF_LINK_CREATE and BPF_PROG_QUERY take for the place, inside its network namespace."""
        with namespaces.network(place.netns):
            yield place.number

    def swap(self, attachment: Attachment, link, new, expected) -> None:
        """The link runs the new program, if it ran the expected one until now."""
        try:
            bpf.link_update(link, new, expected)
        except OSError as error:
            raise self._swap_refusal(attachment, error) from error

    def detach(self, link) -> None:
        """The link runs nothing; what it is attached to has no trace of it.

        A severed one is left to its last reference.
        """
        try:
            bpf.link_detach(link)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOLINK, errno.EINVAL):  # EINVAL: before 5.9
                raise

    # ---- what the kernel's refusals mean ---------------------------------------------------------

    def refusal(self, attachment: Attachment, place, error: OSError) -> Failure:
        """What the errno of BPF_LINK_CREATE means at this hook."""
        where = self.words(attachment)
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
            return NoSuchHook(
                f"This kernel refused to attach at {where}: {error.strerror}",
                f"Hook {self.kind} needs Linux {self.since} or newer; this is {namespaces.kernel_release()}",
                errno=error.errno,
                kernel=namespaces.kernel_release(),
            )
        return Failure(
            f"Attaching at {where} failed: {error.strerror}", "Read the kernel's log (dmesg)", errno=error.errno
        )

    def moved(self, attachment: Attachment) -> HookMoved:
        return HookMoved(
            f"{self.words(attachment)} no longer runs the program that was seen there",
            "Run again: the plan is made anew",
            errno=1,
        )

    def _swap_refusal(self, attachment: Attachment, error: OSError) -> Failure:
        where = self.words(attachment)
        if error.errno == errno.EPERM:
            return self.moved(attachment)
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
