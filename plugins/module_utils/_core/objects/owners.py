# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Who holds a program or a map: its own record, the processes that have it open, the pins that keep it.

Asked only in a conflict, and for rings, which need a reader.
"""

from __future__ import annotations

import os

from ..kernel import bpf, files


def describe(prog_id: int, link_id: int = 0, mode: str = "") -> dict:
    """A foreign holder as plain data: id, name, tag, uid, loaded_at; link_id; mode; pids; pins.

    Empty fields are left out.
    """
    try:
        info = bpf.program(prog_id)
        fields = {"name": info.name, "tag": info.tag, "type": info.type, "uid": info.uid, "loaded_at": info.loaded_at}
    except OSError:  # it went meanwhile
        fields = {}
    link_id = link_id or _link_of(prog_id)
    record = {"prog_id": prog_id, **fields, "link_id": link_id, "mode": mode}
    record.update(pids=_processes(prog_id, link_id), pinned=_pins(prog_id, link_id))
    return {field: value for field, value in record.items() if value or field == "uid"}


def sentence(record: dict) -> str:
    """`program 12 (name xdp_pass, pid 812 suricata)`: the holder in a few words."""
    words = [f"name {record['name']}"] if record.get("name") else []
    words += [f"process {each['pid']} {each['comm']}" for each in record.get("pids", [])[:2]]
    words += [f"pinned at {path}" for path in record.get("pinned", [])[:1]]
    return f"program {record['prog_id']}" + (f" ({', '.join(words)})" if words else "")


def open_maps() -> set:
    """The ids of all maps that another process holds open (fdinfo, map_id): who reads a ring must."""
    return {
        int(value)
        for pid in os.listdir("/proc")
        if pid.isdigit() and int(pid) != os.getpid()
        for name, value in _open_by(pid)
        if name == "map_id"
    }


def _link_of(prog_id):
    return next((link.id for link in bpf.links() if link.prog_id == prog_id), 0)


def _processes(prog_id, link_id):
    """[{pid, comm}] of the processes that have the program or its link open (fdinfo, prog_id and link_id)."""
    wanted = {("prog_id", str(prog_id)), ("link_id", str(link_id or -1))}
    return [
        {"pid": int(pid), "comm": _comm(pid)} for pid in os.listdir("/proc") if pid.isdigit() and _holds(pid, wanted)
    ]


def _holds(pid, wanted):
    return int(pid) != os.getpid() and bool(_open_by(pid) & wanted)


def _open_by(pid):
    """Every (field, value) of every open file of the process; none of one that has ended."""
    folder = f"/proc/{pid}/fdinfo"
    try:
        return set().union(*(_fdinfo(os.path.join(folder, name)) for name in os.listdir(folder)))
    except OSError:
        return set()


def _fdinfo(path):
    try:
        with open(path, encoding="ascii", errors="replace") as lines:
            return {(name, value.strip()) for name, dummy, value in (line.partition(":") for line in lines)}
    except OSError:
        return set()


def _comm(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def _pins(prog_id, link_id):
    """Paths on this mount namespace's bpffs that pin the program or its link."""
    found = []
    for folder, dummy, names in os.walk(files.BPFFS) if files.has_bpffs() else ():
        for name in names:
            if _pinned_ids(os.path.join(folder, name)) & {("prog", prog_id), ("link", link_id or -1)}:
                found.append(os.path.join(folder, name))
    return found


def _pinned_ids(path):
    """What is pinned there, as the fd's own fdinfo tells its kind."""
    try:
        with bpf.get_pinned(path) as fd:
            fields = dict(_fdinfo(f"/proc/self/fdinfo/{fd}"))
    except OSError:
        return set()
    if "link_id" in fields:
        return {("link", int(fields["link_id"]))}
    return {("prog", int(fields["prog_id"]))} if "prog_id" in fields else set()
