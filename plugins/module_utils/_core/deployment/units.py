# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What systemd does for us: a drop-in for each service that has programs at its cgroup, which a restart makes anew.

    /etc/systemd/system/UNIT.d/50-ebpf-deploy-NAME.conf
    /etc/systemd/system/UNIT.d/50-ebpf-deploy-NAME.conf.unread    there until systemd has read the one beside it
    /etc/systemd/system/UNIT.d.NAME-gone                          on its way out: an empty folder could be anybody's

Which services these are is plan.py's business; the units of role `host` are the role's.
"""

from __future__ import annotations

import os
import subprocess

from ..errors import Failure
from ..kernel import files, tools

FOLDER = "/etc/systemd/system"
UNREAD = ".unread"
RELOAD_SECONDS = 90


def pid1_sees_the_same() -> bool:
    """Whether PID 1 is a systemd that has this bpffs and this network namespace: its units find our pins and
    interfaces."""
    try:
        same_network = os.stat("/proc/1/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino
        theirs, ours = os.stat("/proc/1/root" + files.BPFFS), os.stat(files.BPFFS)
        return os.path.isdir("/run/systemd/system") and same_network and theirs.st_dev == ours.st_dev
    except OSError:
        return False


def are_read() -> bool:
    """Whether drop-ins that are written here are read by the systemd of this host."""
    return pid1_sees_the_same() and bool(tools.find("systemctl"))


def system_goes_down() -> bool:
    """Whether systemd stops all units now, for a shutdown, a reboot, kexec or a soft reboot."""
    systemctl = tools.find("systemctl")
    if systemctl is None:
        return False
    try:
        run = subprocess.run(  # pylint: disable=ansible-bad-function  # the core knows no AnsibleModule
            [systemctl, "is-system-running"],
            env=tools.ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return run.stdout.strip() == b"stopping"


def drop_in(cgroup: str) -> str:
    """The text that has a service's programs back at its cgroup before its own first process.

    `+`: as root and outside the service's sandbox, whatever it is. `-`: the service starts even where this fails.
    """
    quoted = cgroup.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return (
        "# Written by ebpf.deploy: programs are attached to this service's cgroup, which each start makes anew.\n"
        f'[Service]\nExecStartPre=-+/bin/sh /var/lib/ebpf_deploy/.code/run back "{quoted}"\n'
    )


def found(name: str) -> dict:
    """{unit: text} of the deployment's drop-ins; the text is empty where systemd may not have read it."""
    result = {}
    for folder in files.names_in(os.path.realpath(FOLDER)):
        unit, service, rest = folder.rpartition(".service.d")
        unit += ".service"
        if service and rest == f".{name}-gone":
            result[unit] = ""
        elif service and not rest and _parts(name, unit):
            result[unit] = _text(name, unit)
    return result


def _text(name, unit):
    if _parts(name, unit) != [_path(name, unit)]:
        return ""
    with open(_path(name, unit), encoding="utf-8", errors="replace") as stream:
        return stream.read()


def write(name: str, unit: str, text: str) -> None:
    """The unit has the drop-in, and systemd has read it."""
    path = _path(name, unit)
    files.remove_tree(_gone(name, unit))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    files.write_durably(path + UNREAD, b"")
    files.write_durably(path, text.encode(), mode=0o644)  # systemd warns of one that not everybody may read
    _read_anew()
    files.remove(path + UNREAD)


def remove(name: str, unit: str) -> None:
    """The unit has no drop-in of the deployment.

    Killed before systemd has read that: the command then finds nothing to bring back, which is harmless.
    """
    folder, parts = os.path.dirname(_path(name, unit)), _parts(name, unit)
    if parts and len(parts) == len(os.listdir(folder)):
        files.remove_tree(_gone(name, unit))
        os.rename(folder, _gone(name, unit))
    else:
        for path in parts:
            files.remove(path)
    files.remove_tree(_gone(name, unit))
    _read_anew()


def _path(name, unit):
    return os.path.join(FOLDER, unit + ".d", f"50-ebpf-deploy-{name}.conf")


def _gone(name, unit):
    return os.path.join(FOLDER, f"{unit}.d.{name}-gone")


def _parts(name, unit):
    """Paths of the drop-in and of what a killed run left beside it."""
    path = _path(name, unit)
    ours = {path + end for end in ("", UNREAD, ".aside", UNREAD + ".aside")}
    folder = os.path.dirname(path)
    return [each for each in (os.path.join(folder, name) for name in files.names_in(folder)) if each in ours]


def _read_anew():
    try:
        run = subprocess.run(  # pylint: disable=ansible-bad-function  # the core knows no AnsibleModule
            [tools.find("systemctl"), "daemon-reload"],
            stdin=subprocess.DEVNULL,
            env=tools.ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
            timeout=RELOAD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _not_read(f"no answer for {RELOAD_SECONDS} s") from None
    if run.returncode != 0:
        raise _not_read(run.stderr.strip())


def _not_read(why):
    return Failure(f"systemd does not read its units anew: {why}", "Run systemctl daemon-reload and look at why")
