# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Children that are forked and start no other program: what they inherit, and how long they live.

Such a child has every descriptor of its parent, a deployment's lock among them: a flock lasts until the last of them is
closed, so a child that hangs would hold it when its parent is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal

from . import libbpf

PR_SET_PDEATHSIG = 1
STANDARD = (0, 1, 2)


def die_with(parent: int) -> None:
    """This process is killed when its parent ends, whose pid the parent read before it forked."""
    libbpf.call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(0)


def close_inherited(*kept: int) -> None:
    """No descriptor of this process is open but the standard ones and those that are kept."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in (*STANDARD, *kept):
            with contextlib.suppress(OSError):  # that of the listing itself is closed already
                os.close(int(name))
