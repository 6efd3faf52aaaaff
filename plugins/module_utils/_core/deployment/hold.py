# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What keeps an attachment without us: its pins, and the descriptors of a guard. A hook is given one with each act.

links/ID         the link, or the program where the kernel has no link for this hook
links/ID+PART    a further one, of an attachment that has several
links/…-next     a new one, not yet renamed over the one before: a kill leaves one of both, and observe.py takes this
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import NamedTuple, Optional

from ..errors import NotRootsAlone
from ..kernel import bpf, files
from . import store


class Hold(NamedTuple):
    """The hold of the attachment with this id (`key`) in a deployment (records.Home)."""

    home: object
    key: str

    def path(self, part: str = "") -> str:
        return os.path.join(self.home.links, name_of(self.key, part))

    def opened(self, part: str = "") -> bpf.Fd:
        """What the guard holds, else what is pinned; FileNotFoundError where neither is."""
        return (self.home.held.link(self.key, part) if self.home.held else None) or pinned(self.path(part))

    @contextlib.contextmanager
    def before(self, part: str = "") -> Iterator[Optional[int]]:
        """As `opened`, or None: what a new one follows. One that a guard holds does not end by itself."""
        with contextlib.ExitStack() as stack:
            old = None
            with contextlib.suppress(OSError):
                old = stack.enter_context(self.opened(part))
            yield old

    def put(self, fd: int, part: str = "") -> None:
        """This one is kept from now on. One that a guard holds on with may have to wait for its pin."""
        if self.home.held:
            self.home.held.took(self.key, fd, part)
            self.home.held.write(self.home)
        path = self.path(part)
        try:
            store.make_pins_folder(self.home.links)
            for each in (path, path + "-next"):
                if not files.is_plain(each):
                    files.remove(each)
            bpf.pin(fd, path + "-next")
            os.rename(path + "-next", path)
        except (OSError, NotRootsAlone):
            if not self.home.held or self.home.held.is_brief:
                raise

    def unpin(self, part: str = "") -> None:
        """The pin goes, the guard keeps what it holds."""
        files.remove(self.path(part))

    def pin(self, fd: int, part: str = "") -> None:
        """The pin that `unpin` took is there again."""
        bpf.pin(fd, self.path(part))

    def forget(self, part: str = "") -> None:
        """No guard holds it any more."""
        if self.home.held:
            self.home.held.dropped(self.key, part)
            self.home.held.write(self.home)

    def drop(self, part: str = "") -> None:
        """Neither pinned nor held any more."""
        self.unpin(part)
        self.forget(part)

    def is_pinned(self, part: str = "") -> bool:
        return any(os.path.lexists(self.path(part) + more) for more in ("", "-next"))


def name_of(key: str, part: str = "") -> str:
    """The name of the pin of an attachment's part. No name of anything else of ours has a plus sign."""
    return f"{key}+{part}" if part else key


def pinned(path: str) -> bpf.Fd:
    """An Fd of what is pinned there, and never of what a symlink leads to: that may be another hook's link."""
    if os.path.islink(path):
        raise FileNotFoundError(errno.ENOENT, "a symlink is in the place of the pin", path)
    return bpf.get_pinned(path)
