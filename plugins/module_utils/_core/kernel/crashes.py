# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The last words of a kernel that died: what pstore, systemd-pstore and kdump kept of its log.

Whose fault it was is not this room's business.
"""

from __future__ import annotations

import glob
import os
import re

# Where logs of crashes lie; systemd-pstore moves pstore's own to a folder for each crash, kdump's distributions differ.
KEPT = (
    "/sys/fs/pstore/dmesg-*",
    "/var/lib/systemd/pstore/*dmesg*",
    "/var/lib/systemd/pstore/*/*dmesg*",
    "/var/lib/systemd/pstore/*/*/*dmesg*",
    "/var/crash/*/*dmesg*",
)
BYTES = 1 << 20  # a log is smaller
PANIC = re.compile(r"^.*?(Kernel panic - .*)$", re.MULTILINE)
OOPS = re.compile(
    r"^.*?((?:BUG: |Oops: |general protection fault|Unable to handle kernel|Internal error: |watchdog: BUG: ).*)$",
    re.MULTILINE,
)


def first_line(since):
    """What the newest log of a crash after `since` (seconds since the epoch) says first; empty where there is none.

    A record may hold a part of the log only: the oops is told where one is in it, else the panic.
    """
    found = sorted(((_written(path), path) for pattern in KEPT for path in glob.glob(pattern)), reverse=True)
    texts = [_text(path) for when, path in found if when > since]
    lines = [match[1].strip() for kind in (OOPS, PANIC) for text in texts for match in [kind.search(text)] if match]
    return lines[0] if lines else ""


def _written(path):
    try:
        return os.stat(path).st_mtime
    except OSError:  # systemd-pstore moves it meanwhile
        return 0.0


def _text(path):
    try:
        with open(path, "rb") as stream:
            return stream.read(BYTES).decode(errors="replace")
    except OSError:
        return ""
