# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What stands for attachments to attachments: `hook: auto` and `attachments: auto` by the sections of a release's
programs, and patterns by what is on the host."""

from __future__ import annotations

from typing import Optional

from ..errors import BadRequest, Failure, NotFound
from ..hooks import catalogue
from ..hooks.contract import Attachment
from ..kernel.namespaces import did_you_mean
from . import records
from .facts import Facts


def resolved(seen: Facts, attachments: tuple, load: str) -> tuple:
    """The Attachments, each `auto` replaced by the hook that the section of the load's program says."""
    if all(each.hook != catalogue.AUTO for each in attachments):
        return attachments
    sections = {row[0]: row[1] for row in _release(seen, load).programs}
    return tuple(_resolved(sections, each) if each.hook == catalogue.AUTO else each for each in attachments)


def _resolved(sections, attachment):
    if attachment.program not in sections:
        raise NotFound(
            f"The release has no program {attachment.program}",
            did_you_mean(attachment.program, sections),
            program=attachment.program,
            programs=sorted(sections),
        )
    return catalogue.by_section(sections[attachment.program], attachment)


def everything(seen: Facts, load: str, options: dict) -> tuple:
    """(Attachments of all the load's programs that this kernel has a place for, {program: Failure} of the others).

    `options` are taken by the hooks that have them. NotFound where there is none at all.
    """
    found, left_off = [], {}
    release = _release(seen, load)
    for name, section, *dummy in release.programs:
        try:
            found += _placed(name, section, release.program_types[name], options)
        except Failure as failure:
            left_off[name] = failure
    if not found:
        raise NotFound(
            f"None of the {len(left_off)} programs of the release can be attached here: "
            + "; ".join(f"{name}: {failure.what}" for name, failure in left_off.items()),
            "Name attachments, with the options that they need",
            left_off={name: failure.what for name, failure in left_off.items()},
        )
    return tuple(found), left_off


def _placed(name, section, program_type, options):
    """The Attachments; a Failure where they lack an option, or this kernel has no such place."""
    attachment = catalogue.by_section(section, Attachment.of(catalogue.AUTO, name), options)
    hook = catalogue.hook_of(attachment)
    found = hook.matching(attachment)
    for each in found:
        try:
            hook.holders(hook.place(each, program_type))
        except OSError as error:
            raise hook.refusal(each, None, error) from error
    return found


def matching(attachments: tuple, known: Optional[tuple] = None) -> tuple:
    """The Attachments that these stand for, on this host or among the `known` ones."""
    return tuple(found for each in attachments for found in catalogue.hook_of(each).matching(each, known))


def _release(seen, load):
    release = seen.releases.get(records.release_of(load))
    if release is None:
        raise BadRequest(
            "auto is told by the programs' sections, and nothing that this host has says them",
            "Run bpf_program first, without check mode",
        )
    return release
