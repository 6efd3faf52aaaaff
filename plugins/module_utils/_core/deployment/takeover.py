# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What a new load's maps take over from those in use: shared where equal, else as the user's on_change says.

    refuse     MapChanged, field by field (the default)
    copy       its entries, converted, before any hook runs the new load
    merge      its counts, moved by the kernel once all hooks run it
    fresh      nothing, even where the map is equal

Globals (.data, .bss, .rodata) are always new: an object's internal maps are none of its `maps`. So is what holds the
release's own programs (prog_array), or the maps that its object puts there: the policy `own`, which is no word of the
user's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import MapChanged
from ..kernel import bpf
from ..objects import carry, maps

OWN = {"on_change": "own", "copied": [], "counted": []}


class Takeover(NamedTuple):
    """`shared` is {map: path of the pin it shall be}, `policies` and `onto` are a Generation's; `ids` are those of the
    maps in use that all this was decided on."""

    shared: dict = {}
    policies: dict = {}
    onto: str = ""
    ids: dict = {}


def of(place, seen, spec, wishes: Mapping) -> Takeover:
    """The Takeover of an object (elf.ObjectSpec) by the user's `wishes`, {map: {on_change, fields}}.

    MapChanged where a map differs and the wish is to refuse that. That the wishes have a meaning is tuning's verdict.
    """
    load = seen.loads.get(seen.confirmed.load) if seen.confirmed else None
    if load is None:
        return Takeover()
    manifest = seen.releases.get(seen.confirmed.release)
    declared = {record["name"]: maps.from_record(record) for record in manifest.maps} if manifest else {}
    shared, policies = {}, {}
    for shape in (each for each in spec.maps if each.name in load.maps):
        path = os.path.join(place.loads, seen.confirmed.load, "maps", shape.name)
        policy = _policy(path, declared.get(shape.name), shape, wishes.get(shape.name) or {})
        if policy is None:
            shared[shape.name] = path
        else:
            policies[shape.name] = policy
    ids = {name: load.maps[name] for name in (*shared, *policies)}
    return Takeover(shared, policies, seen.confirmed.load, ids)


def _policy(path, declared, new, wish):
    """What a generation remembers, None where the map is shared."""
    on_change = wish.get("on_change") or "refuse"
    if maps.is_own(new):
        _expect_nothing_to_carry(path, new, on_change)
        return OWN
    old = _in_use(path, declared)
    differences = maps.differences(old, new)
    if on_change == "fresh":
        return carry.policy(old, new, on_change)
    if not differences:
        return None
    if on_change == "refuse":
        raise MapChanged(
            f"Map {new.name} of the new release does not fit the one that is in use: {differences[0]}",
            f"Keep the map's definition, or say what becomes of its entries: maps: {{{new.name}: {{on_change: …}}}}, "
            "with copy for configuration, merge for counters, or fresh; the running release was not touched",
            map=new.name,
            differences=differences,
        )
    return carry.policy(old, new, on_change, wish.get("fields"))


def _expect_nothing_to_carry(path, new, on_change):
    """MapChanged where the user wants a map's entries carried that belongs to its load, or would lose own ones.

    Programs that were put into a prog_array by hand are the running release's, so that none may be called by the next;
    but that its tail calls go nowhere until somebody fills the new one must be the user's decision.
    """
    if on_change in ("copy", "merge"):
        raise MapChanged(
            f"Map {new.name} cannot be carried over: what lies in it belongs to one release",
            f"Leave maps.{new.name}.on_change out, or say fresh",
            map=new.name,
        )
    if on_change == "refuse" and not new.is_filled and _holds_any(path):
        raise MapChanged(
            f"Map {new.name} holds programs of the running release, and the new release's tail calls may not run them",
            f"Have the source fill it (.values = {{…}}); or say maps: {{{new.name}: {{on_change: fresh}}}} and put the "
            "new programs into its own map before bpf_attach",
            map=new.name,
        )


def _holds_any(path):
    with bpf.get_pinned(path) as fd:
        return any(True for dummy in bpf.map_items(fd, bpf.map_info(fd)))


def _in_use(path, declared):
    """Sizes as the kernel has them, layouts as the manifest: many kinds of map lose their BTF when they are created."""
    pinned = pinned_shape(path)
    if declared is None:
        return pinned
    return pinned._replace(key_layout=declared.key_layout, value_layout=declared.value_layout)


def pinned_shape(path: str) -> maps.Shape:
    """The maps.Shape of a map that is pinned, as the kernel has it."""
    with bpf.get_pinned(path) as fd:
        return maps.of_kernel(fd, os.path.basename(path))
