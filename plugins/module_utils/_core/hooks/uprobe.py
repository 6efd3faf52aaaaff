# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""uprobe, uretprobe: programs at a function of a program's or a library's file, for all processes that run it, beside
those of others (by link since Linux 5.15).

The place is the file itself, by its inode, and an offset in it. The kernel tells no inode, so each link keeps it as its
cookie, which is told since 6.9: a file that was replaced, as by an update, is another place.
"""

from __future__ import annotations

import contextlib
import errno
import os

from ..errors import BadObject, BadRequest, Failure, NotFound
from ..kernel import bpf, namespaces, symbols
from .contract import Attachment, Option, Place, ProgramType
from .event import AtProbe

TWICE = "While a release is replaced, both see what happens in between."


class Uprobe(AtProbe):
    kind = "uprobe"
    sections = (r"uprobe/(?P<path>/[^:]+):(?P<symbol>[^:+]+)",)
    description = (
        "is a function of a program or library, before it runs, in all processes that have its file mapped (Linux "
        f"5.15). {TWICE}"
    )
    options = {
        "path": Option(
            (
                "The file, by its whole path. Processes in containers have files of their own, such as "
                "C(/proc/4711/root/usr/bin/redis-server).",
                "A file that was replaced is another one: the next run attaches there (Linux 6.9; on older kernels "
                "detach and attach).",
            ),
            is_required=True,
        ),
        "symbol": Option("The function, by its name in the file."),
        "offset": Option("Bytes behind the start of O(symbol), or of the file where there is none.", type="int"),
    }
    type_advice = 'Give the program SEC("uprobe"), or choose another hook'

    def attachment(self, given: dict) -> Attachment:
        if "symbol" not in given and "offset" not in given:
            raise BadRequest(
                f"An attachment at hook {self.kind} needs symbol or offset", "Add the function's name as symbol"
            )
        return super().attachment(given)

    def named(self, attachment: Attachment) -> Attachment:
        """The path in the plainest way, and no offset of 0 behind a symbol."""
        offset = attachment.option("offset")
        offset = "" if attachment.option("symbol") and not offset else offset
        options = {**dict(attachment.options), "path": os.path.normpath(attachment.option("path")), "offset": offset}
        return Attachment.of(attachment.hook, attachment.program, **options)

    def is_same(self, one: Attachment, other: Attachment) -> bool:
        """In the same file, however that is named, at the same offset."""
        if one.program != other.program:
            return False
        with contextlib.suppress(Failure, OSError):
            first, second = (self.place(each, ProgramType(0, 0)) for each in (one, other))
            return (first.number, first.more) == (second.number, second.more)
        return False

    def cuts_off(self, way_in, attachment: Attachment) -> bool:
        """No: it sees, and no packet waits for its verdict."""
        return False

    def place(self, attachment: Attachment, program_type: ProgramType) -> Place:
        self.expect_probes()
        path, symbol = attachment.option("path"), attachment.option("symbol")
        if not os.path.isabs(path) or not os.path.isfile(path):
            raise NotFound(
                f"There is no file {path} on this host",
                "Give the whole path of a program or library, such as /usr/sbin/nginx",
                path=path,
            )
        file, start = os.stat(path), 0
        if symbol:
            start = _start(path, symbol)
        return Place(
            start + (attachment.option("offset") or 0),
            bpf.ATTACH_PERF_EVENT,
            path=path,
            more=(file.st_dev, file.st_ino),
        )

    def is_there(self, place: Place) -> bool:
        with contextlib.suppress(OSError):
            file = os.stat(place.path)
            return (file.st_dev, file.st_ino) == place.more
        return False

    def is_at(self, place: Place, link: bpf.Link) -> bool:
        return super().is_at(place, link) and link.cookie in (None, 0, place.more[1])

    def probed(self, place: Place) -> str:
        return place.path

    def attach(self, attachment: Attachment, place: Place, program, part: str = "", after=None) -> bpf.Fd:
        try:
            with self.target(place) as event:
                return bpf.perf_event_link(program, event, place.more[1])
        except OSError as error:
            raise self.refusal(attachment, place, error) from error

    def where(self, link: bpf.Link):
        if link.probe is None or link.probe[0] != self.kind:
            return None
        dummy, path, offset = link.probe
        return {"path": path, "offset": offset}

    def candidates(self, link: bpf.Link, program: str) -> list:
        """With the names of the functions that begin there, and without."""
        where = self.where(link)
        if where is None:
            return []
        names = []
        with contextlib.suppress(OSError, ValueError):
            names = [name for name, starts in symbols.functions(where["path"]).items() if where["offset"] in starts]
        named = [Attachment.of(self.kind, program, path=where["path"], symbol=name) for name in names]
        return [*named, Attachment.of(self.kind, program, **where)]

    def no_event(self, place: Place, error: OSError) -> Failure:
        advice = {
            errno.EINVAL: "The offset is behind the file's end, or the file's system has no pages to map",
            bpf.ENOTSUPP: "The instruction there cannot be probed",
        }
        return Failure(
            f"The kernel places no {self.kind} at {place.path}+{place.number:#x}: {error.strerror}",
            advice.get(error.errno, "Read the kernel's log (dmesg)"),
            errno=error.errno,
        )


class Uretprobe(Uprobe):
    kind = "uretprobe"
    sections = (r"uretprobe/(?P<path>/[^:]+):(?P<symbol>[^:+]+)",)
    description = (
        "is a function of a program or library, when it returns, in all processes that have its file mapped (Linux "
        f"5.15). {TWICE}"
    )
    type_advice = 'Give the program SEC("uretprobe"), or choose another hook'


def _start(path, symbol):
    """Where the function begins in the file."""
    try:
        known = symbols.functions(path)
    except ValueError as error:
        raise BadObject(f"{path} tells no functions: {error}", "Give an offset alone", path=path) from error
    starts = known.get(symbol, ())
    if symbols.CHOSEN_AT_RUN_TIME in starts:
        raise BadRequest(
            f"{symbol} in {path} is chosen by the dynamic linker (IFUNC): no call runs what has this name",
            "Give the offset of the function that is chosen on this machine",
            symbol=symbol,
        )
    if not starts:
        raise NotFound(
            f"{path} has no function {symbol}", namespaces.did_you_mean(symbol, sorted(known)), symbol=symbol
        )
    if len(starts) > 1:
        offsets = ", ".join(map(str, sorted(starts)))
        raise BadRequest(
            f"{path} has {len(starts)} functions {symbol}", f"Give one's offset alone: {offsets}", symbol=symbol
        )
    return min(starts)
