# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The base of hooks whose links the kernel neither updates nor detaches: a new link is on before the old one ends.

Such a link ends with its last reference. Whoever holds it open keeps its program running, so each end is looked at.
"""

from __future__ import annotations

import contextlib
import time

from ..errors import HookHeld
from ..kernel import bpf
from ..objects import owners
from .contract import OVERLAP, Attachment, Hook, Place, ProgramType, Seat

LET_GO_WITHIN = 2  # s
OFF_AFTER = 0.01  # s: bpf_link_free() takes the id away first, then the program off its hook, maybe in a worker


class Overlapping(Hook):
    how = OVERLAP
    is_moved_by_link = False
    parts = ("",)  # of an attachment with several links, their names; the first has none

    def seat(self, place: Place, kept: bpf.Link, ours: frozenset) -> Seat:
        """Where a part is missing, nothing is there yet: what is there is put on anew."""
        seat = super().seat(place, kept, ours)
        is_whole = {kept.part, *(link.part for link in kept.others)} >= set(self.parts)
        return seat if is_whole else seat._replace(is_here=False)

    def put_on(self, attachment: Attachment, place: Place, program, hold) -> None:
        """What the hold had of a part ends with its pin. On failure the parts that were put on go again."""
        done = []
        try:
            for part in self.parts:
                with self.attach(attachment, place, program, part) as link:
                    hold.put(link, part)
                done.append(part)
        except Exception:
            for part in done:
                hold.drop(part)
            raise

    def replace(self, attachment: Attachment, place, new, expected, hold) -> None:
        """Part by part; those that run the new program already, since a run was killed between them, stay."""
        number, due = bpf.prog_info(new).id, []
        for part in self.parts:
            with hold.opened(part) as link:
                old = bpf.link_info(link)
            if old.prog_id == number:
                continue
            if old.prog_id != bpf.prog_info(expected).id:
                raise self.moved(attachment)
            due.append((part, old))
        if not due:
            raise self.moved(attachment)
        with self._undone(attachment, place, hold) as done:
            for part, old in due:
                with self.attach(attachment, place, new, part, old) as link:
                    hold.put(link, part)
                    self._expect_ended(attachment, old, part, hold)
                done.append(old._replace(part=part))

    def take_off(self, attachment: Attachment, place, hold) -> None:
        with self._undone(attachment, place, hold) as done:
            for part in self.parts:
                try:
                    with hold.opened(part) as link:
                        old = bpf.link_info(link)
                except FileNotFoundError:  # a run was killed between the parts
                    continue
                hold.drop(part)
                self._expect_ended(attachment, old, part, hold)
                done.append(old._replace(part=part))

    @contextlib.contextmanager
    def _undone(self, attachment, place, hold):
        """A list of Links that ended: where one does not end, those before it are made anew."""
        done = []
        try:
            yield done
        except Exception:
            for old in done:
                with bpf.prog_by_id(old.prog_id) as program:
                    there = place or self.place(attachment, ProgramType(0, old.attach_type))
                    with self.attach(attachment, there, program, old.part) as link:
                        hold.put(link, old.part)
            raise

    def attach(self, attachment: Attachment, place: Place, program, part: str = "", after=None) -> bpf.Fd:
        """A new link of this part. `after` is the Link that it follows."""
        return super().attach(attachment, place, program)

    def _expect_ended(self, attachment, old, part, hold):
        """The kernel has no such link any more. Otherwise it is kept as before: HookHeld says who holds it open.

        It lets go a moment later, and so does who keeps descriptors for a guard.
        """
        end = time.monotonic() + LET_GO_WITHIN
        while time.monotonic() < end:
            if not bpf.is_link(old.id):
                time.sleep(OFF_AFTER)
                return
            time.sleep(0.01)
        holder = owners.describe(old.prog_id, old.id)
        with bpf.link_by_id(old.id) as link:
            hold.put(link, part)
        raise HookHeld(
            f"{self.words(attachment)} still runs {owners.sentence(holder)}, whose link another process holds open",
            "End that process, or have it close the link; the kernel ends such a link with its last reference",
            holders=[holder],
        )
