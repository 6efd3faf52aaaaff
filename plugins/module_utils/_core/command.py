# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Doors 2 and 3, for a host without Ansible: `ebpf-deploy status | rollback NAME | off NAME`, and what its units call.

    status [NAME]        what is deployed, and whether the hooks run it
    rollback NAME        the release before
    off NAME             everything off its hooks, now
    boot                 (the boot unit) all confirmed releases again
    begin, end           (the end unit) judges how the last boot ended; says that this one ends in order
    reckon               (its timer) how long everything has run by now is on the disk
    back TARGET          (device and service units) an interface or cgroup is there again

How it comes to the host: deployment/code.py.
"""

from __future__ import annotations

import sys
from typing import Optional

from .deployment import boot, code, ends, inventory, off, transitions
from .errors import Failure
from .kernel import namespaces

USAGE = "usage: ebpf-deploy status [NAME] | rollback NAME | off NAME"


def install(check_mode: bool = False) -> bool:
    """The host has this command, with all that it imports. Whether it was otherwise."""
    return code.install(check_mode)


def main(arguments: Optional[list] = None) -> int:
    """The command's exit code; what went wrong is one sentence on stderr."""
    verb, *names = (sys.argv[1:] if arguments is None else arguments) or [""]
    work, counts = _DO.get(verb, (None, ()))
    if len(names) not in counts:
        _say(USAGE, sys.stderr)
        return 2
    try:
        return work(*names)
    except Failure as failure:
        _say(failure, sys.stderr)
        return 1


def _say(text, stream=None):
    (stream or sys.stdout).write(f"{text}\n")


def _status(name=""):
    if off.switch():
        _say(f"switched off by {off.switch()}: nothing of ebpf.deploy is put on a hook of this host")
    for row in inventory.deployments(name):
        _say(f"{row['name']}: {row['state']}, release {row['release']}, generation {row['generation']}")
        for each in row["attachments"]:
            runs = f"program {each['prog_id']}" if "prog_id" in each else "nothing"
            _say(f"  {each['where']}: {each['program']} ({runs})")
        for line in row["drift"]:
            _say(f"  drift: {line}")
        for line in _proof(row["proof"]):
            _say(f"  {line}")
    return 0


def _proof(proof):
    """Lines about strikes, none where there is nothing to tell."""
    left = proof["left"]
    if left:
        yield f"left at boot: release {left['release']} (generation {left['generation']}): {left['why']}"
    for number, each in enumerate(proof["strikes"], 1):
        yield f"strike {number}: a boot ended out of order ({each['cause']}; {each['when']})"


def _rollback(name):
    outcome = transitions.roll_back(name, why="ebpf-deploy rollback on the host")
    _say(f"{name}: release {outcome.generation.release if outcome.generation else 'none'}")
    return _told([(name, failure) for failure in transitions.blocked(outcome)])


def _off(name):
    transitions.roll_back(name, everything_off=True, why="ebpf-deploy off on the host")
    _say(f"{name}: off")
    return 0


def _boot():
    return _told(boot.restore_all())


def _begin():
    for name, text in ends.begin():
        _say(f"{name}: {text}", sys.stderr)
    return 0


def _end():
    if not ends.end():
        _say("The system does not go down now: how this boot ends will not be known, and counts as nothing", sys.stderr)
    return 0


def _reckon():
    ends.reckon()
    return 0


def _back(target):
    """Of a service with PrivateNetwork= even a start command marked + runs in the service's own network namespace."""
    with namespaces.network("/proc/1/ns/net"):
        return _told(boot.come_back(target))


def _told(results):
    """The exit code for [(name, what went wrong or None)], each failure said."""
    failures = [(name, failure) for name, failure in results if failure]
    for name, failure in failures:
        _say(f"{name}: {failure}", sys.stderr)
    return 1 if failures else 0


_DO = {  # verb: what it does, and how many names may follow
    "status": (_status, (0, 1)),
    "rollback": (_rollback, (1,)),
    "off": (_off, (1,)),
    "boot": (_boot, (0,)),
    "back": (_back, (1,)),
    "begin": (_begin, (0,)),
    "end": (_end, (0,)),
    "reckon": (_reckon, (0,)),
}
