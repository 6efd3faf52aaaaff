# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Every hook that is offered, one literal row each: the word users write, and who knows it."""

from __future__ import annotations

from ..errors import BadRequest
from ..kernel.namespaces import did_you_mean
from .cgroup import Cgroup
from .contract import Attachment
from .tcx import Tcx
from .xdp import Xdp

HOOKS = {
    "xdp": Xdp(),
    "tcx": Tcx(),
    "cgroup": Cgroup(),
}


def hook_of(attachment):
    """The Hook that an Attachment names."""
    return HOOKS[attachment.hook]


def attachment_from(options):
    """The Attachment that a user's options describe, defaults filled in.

    BadRequest names what is missing or too much.
    """
    kind = options.get("hook") or ""
    if kind not in HOOKS:
        raise BadRequest(f"There is no hook {kind!r}", did_you_mean(kind, HOOKS))
    hook, given = HOOKS[kind], {name: value for name, value in options.items() if value not in (None, "")}
    target, own = hook.option_names[0], set(hook.option_names)
    for name in ("program", target):
        if name not in given:
            raise BadRequest(f"An attachment at hook {kind} needs {name}", f"Add the option {name}", hook=kind)
    foreign = set(given) - own - {"hook", "program", "netns"}
    if foreign:
        raise BadRequest(f"Hook {kind} takes no {', '.join(sorted(foreign))}", f"It takes: {', '.join(sorted(own))}")
    filled = {**getattr(hook, "defaults", {}), **given}
    return Attachment(
        hook=kind,
        program=filled["program"],
        target=hook.named(filled[target]),
        netns=filled.get("netns", ""),
        direction=filled.get("direction", ""),
        mode=filled.get("mode", ""),
    )


def recognised(key, link, program):
    """The Attachment that was pinned under the id `key`, as link (bpf.Link) and program show it, or None."""
    candidates = HOOKS[link.type].candidates(link, program) if link.type in HOOKS else ()
    return next((each for each in candidates if hook_of(each).id(each) == key), None)
