# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The switch that keeps a host without our programs, by hand: on the kernel's command line, or a file.

    ebpf_deploy=off            on the kernel's command line, for this boot
    /etc/ebpf_deploy/off       root's alone on the whole way, until somebody removes it

Nothing that is attached goes off by it; nothing comes on. Taking off, and going back from a change on trial, go on.
"""

from __future__ import annotations

from ..errors import SwitchedOff
from ..kernel import owned

COMMAND_LINE = "/proc/cmdline"
WORD = "ebpf_deploy="
FILE = "/etc/ebpf_deploy/off"


def switch() -> str:
    """What keeps this host without our programs, in words; empty where nothing does."""
    if _is_off(_command_line()):
        return "ebpf_deploy=off on the kernel's command line"
    return FILE if owned.is_roots(FILE) else ""


def refuse(name: str) -> None:
    """SwitchedOff where nothing of ours may come onto a hook of this host."""
    found = switch()
    if found:
        lifted = f"remove {FILE}" if found == FILE else "boot without it"
        raise SwitchedOff(
            f"Nothing of {name} is put on a hook of this host: it is switched off by {found}",
            f"To have programs again {lifted}, then run systemctl restart ebpf-deploy-boot, or roll out again; "
            f"ebpf-deploy off {name} keeps {name} off for good",
            switch=found,
            name=name,
        )


def _command_line():
    with open(COMMAND_LINE, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def _is_off(text):
    """The last word counts, as for the kernel's own parameters."""
    words = [word[len(WORD) :] for word in text.split() if word.startswith(WORD)]
    return bool(words) and words[-1] == "off"
