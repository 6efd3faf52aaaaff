# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The host's own key: a digest over a secret global is made with it, so that nobody finds the secret by trying values.

    /var/lib/ebpf_deploy/.key    32 random bytes, 0600, made when the first secret is staged; in no output

A clone of the host has the same key. It stays: a digest then says of two hosts that their secrets are equal, and of
none what the secret is, whereas a new key would make the clone forget what it threw back. Where the key is lost another
is made: each release with a secret is then staged once more, and what was thrown back under the old key is refused,
since nobody can tell whether it is the same (store.quarantined_under_another_key).
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Optional

from ..kernel import files
from . import records

SIZE = 32


def path() -> str:
    return os.path.join(records.STATE, ".key")


def get(keep: bool = True) -> bytes:
    """This host's key. Where there is none, or one that others may have read, a new one: only for this call unless
    `keep`."""
    found = _read()
    if found or not keep:
        return found or os.urandom(SIZE)
    files.make_private_folder(records.STATE)
    aside = f"{path()}.{os.getpid()}"
    files.write_durably(aside, os.urandom(SIZE))
    try:
        if os.path.lexists(path()):
            os.rename(aside, path())
        else:
            with contextlib.suppress(FileExistsError):  # another run was faster
                os.link(aside, path())
    finally:
        files.remove(aside)
    files.sync_folder(records.STATE)
    return _read() or get()


def _read() -> Optional[bytes]:
    try:
        descriptor = os.open(path(), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        facts = os.fstat(descriptor)
        is_ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o077
        data = stream.read(SIZE + 1) if is_ours else b""
    return data if len(data) == SIZE else None
