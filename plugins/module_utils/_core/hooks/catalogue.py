# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Every hook that is offered, one literal row each: the word users write, and who knows it."""

from __future__ import annotations

from typing import Optional

from ..errors import BadRequest, Unsupported
from ..kernel import bpf
from ..kernel.namespaces import did_you_mean
from .cgroup import Cgroup
from .contract import Attachment, Hook, Place, ProgramType
from .flow_dissector import FlowDissector
from .kprobe import Kprobe, Kretprobe, Kretsyscall, Ksyscall
from .netfilter import Netfilter
from .netkit import Netkit
from .perf_event import PerfEvent
from .raw_tracepoint import RawTracepoint
from .sk_lookup import SkLookup
from .tc import Tc
from .tcx import Tcx
from .tracepoint import Tracepoint
from .tracing import Fentry, Fexit, FmodRet, Iter, Lsm, TpBtf
from .uprobe import Uprobe, Uretprobe
from .xdp import Xdp

AUTO = "auto"  # in the place of a hook: the one that the program's section names
HOOKS = {
    "xdp": Xdp(),
    "tcx": Tcx(),
    "netkit": Netkit(),
    "cgroup": Cgroup(),
    "tc": Tc(),
    "netfilter": Netfilter(),
    "sk_lookup": SkLookup(),
    "flow_dissector": FlowDissector(),
    "tracepoint": Tracepoint(),
    "raw_tracepoint": RawTracepoint(),
    "tp_btf": TpBtf(),
    "fentry": Fentry(),
    "fexit": Fexit(),
    "fmod_ret": FmodRet(),
    "lsm": Lsm(),
    "kprobe": Kprobe(),
    "kretprobe": Kretprobe(),
    "ksyscall": Ksyscall(),
    "kretsyscall": Kretsyscall(),
    "uprobe": Uprobe(),
    "uretprobe": Uretprobe(),
    "perf_event": PerfEvent(),
    "iter": Iter(),
}


class Unknown(Hook):
    """Of a record of a newer version, or of a link that no generation names: it is told, and taken off by its pin."""

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        raise Unsupported(
            f"This version of ebpf.deploy has no hook {attachment.hook}",
            "Use the version that attached it, or a newer one",
            hook=attachment.hook,
        )

    def take_off(self, attachment: Attachment, place, hold) -> None:
        with hold.opened() as kept:
            if not bpf.kept(kept).id:
                raise Unsupported(
                    f"Nothing tells where the program runs that is pinned at {hold.path()}",
                    "Look for it with tc filter show, take it off there, and remove the pin",
                    path=hold.path(),
                )
        super().take_off(attachment, place, hold)


def hook_of(attachment: Attachment) -> Hook:
    """The Hook that an Attachment names."""
    return HOOKS.get(attachment.hook) or Unknown()


def words(attachment: Attachment) -> str:
    """Where the attachment is, in the words that users write."""
    return hook_of(attachment).words(attachment)


def attachment_from(options: dict) -> Attachment:
    """The Attachment that a user's options describe, defaults filled in.

    BadRequest names what is missing or too much.
    """
    kind, given = options.get("hook") or "", {name: each for name, each in options.items() if each not in (None, "")}
    if kind == AUTO and "program" in given:
        return Attachment.of(**given)
    if kind not in HOOKS:
        raise BadRequest(f"There is no hook {kind!r}", did_you_mean(kind, HOOKS))
    return HOOKS[kind].attachment(given)


def by_section(section: str, attachment: Attachment, defaults: Optional[dict] = None) -> Attachment:
    """The Attachment with the hook, and with options that it has not, as the program's section says; `defaults` as far
    as the hook takes them. BadRequest where the section says no hook that is offered."""
    for kind, hook in HOOKS.items():
        told = hook.section_options(section.lstrip("?"))
        if told is not None:
            taken = {name: value for name, value in (defaults or {}).items() if name in hook.options}
            return hook.attachment({**taken, **told, **attachment.as_options(), "hook": kind})
    raise BadRequest(
        f'SEC("{section}") of {attachment.program} says no hook',
        f"Name one: {', '.join(HOOKS)}; or leave the program to what attaches such programs itself",
        program=attachment.program,
        section=section,
    )


def option_specs() -> dict:
    """{option: its argument spec} of all that the hooks take, `choices` of all hooks together."""
    found = {}
    for hook in HOOKS.values():
        for name, option in hook.options.items():
            spec = found.setdefault(name, {"type": option.type})
            choices = (*spec.get("choices", ()), *option.choices)
            if choices:
                spec["choices"] = list(dict.fromkeys(choices))
    return found


def recognised(key: str, link, program: str) -> Optional[Attachment]:
    """The Attachment that was pinned under the id `key`, as link (bpf.Link) and program show it, or None."""
    hooks = [hook for kind, hook in HOOKS.items() if link.type == (kind if hook.link_type is None else hook.link_type)]
    candidates = [each for hook in hooks for each in hook.candidates(link, program)]
    return next((each for each in candidates if hook_of(each).id(each) == key), None)
