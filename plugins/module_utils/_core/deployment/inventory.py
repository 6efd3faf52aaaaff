# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What is on the host, ours or not: programs, maps, links, attachments, deployments, the host itself. Reads only."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from ..errors import Failure
from ..hooks import catalogue
from ..kernel import bpf, files, libbpf, namespaces, owned
from . import observe, off, plan, records, store, strikes

OURS = ("part", "others")  # fields of bpf.Link that the kernel does not know


def programs() -> list:
    """Every program in the kernel, fields as `bpftool prog show` has them; bytes_memlock beside them."""
    return [_record(number, bpf.prog_by_id, bpf.prog_info) for number in bpf.prog_ids()]


def maps() -> list:
    """Every map in the kernel, fields as `bpftool map show` has them."""
    return [_record(number, bpf.map_by_id, bpf.map_info, leave_out=("type_number",)) for number in bpf.map_ids()]


def links() -> list:
    """Every link in the kernel, fields as `bpftool link show` has them; `deployment` names whose it is, if ours."""
    owners = _ours()[0]
    return [
        {
            **{field: value for field, value in link._asdict().items() if value is not None and field not in OURS},
            **({"attach_type": bpf.attach_type_name(link.attach_type)} if link.attach_type is not None else {}),
            "deployment": owners.get(("link", link.id)),
        }
        for link in bpf.links()
    ]


def _record(number, opened, info, leave_out=()):
    try:
        with opened(number) as fd:
            record = {**info(fd)._asdict(), "bytes_memlock": bpf.memlock(fd)}
    except FileNotFoundError:  # it went meanwhile
        return {"id": number}
    return {field: value for field, value in record.items() if field not in leave_out}


class Host(NamedTuple):
    """What hooks list their rows from: all interfaces {ifindex: name} of this network namespace, all links, whose a
    program that is attached without one is; `warnings` takes what could not be listed, and why; `ours` are the
    Attachments that a deployment has by a link, by its id; `further` the ids of the other links of those with several.
    """

    interfaces: dict
    links: list
    warnings: list
    ours: dict
    further: set


def attachments() -> tuple:
    """(rows, warnings): what sits at the hooks that this network namespace and cgroup tree show, ours or not."""
    owners, ours, further = _ours()
    interfaces = {number: name for name, number in namespaces.interfaces().items()}
    host = Host(interfaces, bpf.links(), [], ours, further)
    rows = [_row(kind, each, owners) for kind, hook in catalogue.HOOKS.items() for each in hook.rows(host)]
    return rows, host.warnings


def _row(kind, row, owners):
    try:
        info = bpf.program(row.prog_id)
        named = {"program": info.name, "tag": info.tag, "type": info.type}
    except FileNotFoundError:
        named = {}
    owner = owners.get(("link", row.link_id) if row.link_id else ("prog", row.prog_id))
    return {"hook": kind, **row.where, "prog_id": row.prog_id, **named, "link_id": row.link_id, "deployment": owner}


def _ours():
    """({("link", id), or ("prog", id) where its hook has no links: name of the deployment that pins it}, {id of a link:
    the Attachment that it is}, ids of its further links)."""
    owners, attachments, further = {}, {}, set()
    for name in store.deployments():
        seen = observe.facts(store.home(name))
        for key, first in seen.links.items():
            for generation in seen.generations.values():
                if key in generation.attachments:
                    attachments[first.id] = generation.attachments[key]
            further.update(link.id for link in first.others)
            for link in (first, *first.others):
                owners[("link", link.id) if link.id else ("prog", link.prog_id)] = name
    return owners, attachments, further


def deployments(only: str = "") -> list:
    """Every deployment on this host, or the named one: state, what is staged and confirmed, attachments, drift."""
    rows = [deployment(name) for name in store.deployments() if only in ("", name)]
    return [row for row in rows if row["state"] != "absent" or only]


def deployment(name: str) -> dict:
    """One deployment as the disk and the kernel have it; `drift` says in words what the next run would mend."""
    seen = observe.facts(store.home(name))
    generation = seen.confirmed if seen.trial_is_lost else seen.trial or seen.confirmed
    drift = _drift(seen, generation)
    return {
        "name": name,
        "state": _state(seen, drift),
        "release": generation.release if generation else None,
        "load": generation.load if generation else None,
        "generation": generation.number if generation else None,
        "previous": generation.previous if generation else None,
        "staged": seen.staged.release if seen.staged else None,
        "releases": sorted(number for number, each in seen.releases.items() if each and number not in seen.spoiled),
        "attachments": observe.attachment_rows(seen, generation),
        "maps": _maps(seen, generation),
        "declared": [_declared(seen, each) for each in store.declared_maps(store.home(name))],
        "unread": observe.unread_rings(seen, generation),
        "proof": _proof(seen),
        "drift": drift,
    }


def _proof(seen):
    """Whether what is confirmed is proven, its strikes, and what was left for strikes. Equal while nothing happens."""
    place, confirmed = store.home(seen.name), seen.confirmed or records.NOTHING
    ran = strikes.reckoned(place, seen.confirmed, seen.boot_id)
    return {
        "proven": bool(seen.confirmed) and strikes.is_proven(ran, confirmed),
        "strikes": [dict(row) for row in ran.strikes],
        "left": strikes.left(place, seen.confirmed),
    }


def _state(seen, drift):
    if not seen.exists:
        return "absent"
    if seen.unnamed or seen.damage or seen.newer:
        return "unknown"
    if seen.trial:
        return "trial"
    if seen.confirmed is None:
        return "staged"
    return "drifted" if drift else "confirmed"


def _drift(seen, generation):
    """What differs from the generation, in words."""
    lines = [*(str(each) for each in seen.newer), *(f"{path} cannot be read" for path in seen.damage)]
    lines += [str(store.lost_release(*each)) for each in sorted(seen.spoiled.items())]
    lines += [f"no generation names link {seen.links[key].id} ({seen.links[key].type})" for key in seen.unnamed]
    if generation is None:
        return lines
    scene = observe.scene(seen, generation)
    lines += [str(failure) for failure in plan.blocked(scene)]
    try:
        return lines + [step.describe() for step in plan.mend(scene, skip_blocked=True)]
    except Failure as failure:
        return [*lines, str(failure)]


def _maps(seen, generation):
    load = seen.loads.get((generation or seen.staged).load) if generation or seen.staged else None
    return [{"name": name, "id": number} for name, number in load.maps.items()] if load else []


def _declared(seen, name):
    """What bpf_map declared of a map beside what is in it. This is no drift of the deployment: programs write, too."""
    place, load = store.home(seen.name), observe.map_load(seen, name)
    try:
        what = store.declared(place, name)
    except Failure as failure:
        return {"map": name, "entries": None, "missing": None, "different": None, "left_out": [str(failure)]}
    number = len(what.entries) if what else 0
    if load is None:
        return {"map": name, "entries": number, "missing": number, "different": 0, "left_out": []}
    lacks = observe.filling(place, seen, load, name)
    different = len(lacks.edit.puts) - lacks.missing
    return {
        "map": name,
        "entries": number,
        "missing": lacks.missing,
        "different": different,
        "left_out": list(lacks.left_out),
    }


def bpffs_warnings() -> list:
    """A sentence where others than root can make files in the BPF file system, else nothing."""
    if not files.has_bpffs() or owned.is_roots(files.BPFFS):
        return []
    mode = stat.S_IMODE(os.stat(files.BPFFS).st_mode)
    return [
        f"The BPF file system at {files.BPFFS} is not root's alone (mode {mode:04o}): others can be first to a name "
        f"there. Unless somebody needs that, have it mounted with mode=0700, and until then: chmod 0700 {files.BPFFS}"
    ]


def host() -> dict:
    """What decides whether eBPF works here."""
    return {
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "libbpf": libbpf.version(),
        "kernel_btf": os.path.exists(bpf.KERNEL_BTF),
        "bpffs": files.has_bpffs(),
        "bpffs_is_roots": owned.is_roots(files.BPFFS),
        "possible_cpus": bpf.possible_cpus(),
        "switched_off": off.switch(),
    }
