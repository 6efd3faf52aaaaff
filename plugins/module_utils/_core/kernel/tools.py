# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Other programs: where root takes them from, and the environment that they are started with.

The caller's PATH, folder and variables decide nothing: whoever can set one of them would choose what root runs.
"""

from __future__ import annotations

import os
import sys
from typing import Optional

from . import owned

SYSTEM = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
LOCAL = ("/usr/local/sbin", "/usr/local/bin")  # only what root alone can have put there
PLACES = f"{', '.join(SYSTEM)}, or root's own in {' and '.join(LOCAL)}"
ENVIRONMENT = {"PATH": ":".join(SYSTEM), "LC_ALL": "C.UTF-8"}


def find(name: str) -> Optional[str]:
    """The absolute path of the program on this host, None where it is in none of PLACES."""
    for path in (os.path.join(folder, name) for folder in SYSTEM):
        if os.access(path, os.X_OK):
            return path
    local = (os.path.join(folder, name) for folder in LOCAL)
    return next((path for path in local if os.access(path, os.X_OK) and owned.is_roots(path)), None)


def python(code: str, *arguments: str) -> list[str]:
    """A command that runs `code` by this process's interpreter, isolated (-I): it imports nothing from the current
    folder, from PYTHONPATH, or from a user's own packages."""
    return [sys.executable, "-I", "-c", code, *arguments]
