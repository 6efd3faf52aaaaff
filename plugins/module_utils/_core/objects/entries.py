# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A map's entries as users write them, typed by the map's BTF, to its contents as bytes and back.

    form = of(info)                              how this map's entries are written
    wanted = pack(form, entries, actual)         [(key, value), …] of [{"key": …, "value": …}, …]
    entries = unpack(form, actual)               the other way

A per-CPU map is read as {"key": …, "values": [one for each]} and may be written so too; a single "value" stands for all
CPUs. How one value is written is the business of kernel/values.py, what is in a map and what changes there that of
contents.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from ..errors import BadRequest
from ..kernel import bpf, btf, values
from . import contents


class Form(NamedTuple):
    """How a map's entries are written. Type ids are 0 where the map was made without BTF."""

    btf: Any
    key_type: int
    value_type: int
    bytes_key: int
    bytes_value: int
    cpus: int  # 0: one value, whatever CPU

    @property
    def holds_globals(self) -> bool:
        """Whether the value is a section of variables (.data, .bss): what is not named stays as it is."""
        return bool(self.value_type) and self.btf.type(self.value_type).kind == "datasec"


def of(info: bpf.Map) -> Form:
    """The form of a map that the kernel knows, its types included. BadRequest where the kind of map has no entries."""
    contents.refuse_without_entries(info)
    types = btf.parse(bpf.btf_bytes(info.btf_id)) if info.btf_id else None
    cpus = bpf.possible_cpus() if info.type_number in contents.PER_CPU else 0
    return Form(types, info.btf_key_type_id, info.btf_value_type_id, info.bytes_key, info.bytes_value, cpus)


# ---- values --------------------------------------------------------------------------------------


def pack(form: Form, entries: Iterable, actual: Iterable = (), secret: bool = False) -> list:
    """[(key, value), …] in bytes of [{"key": …, "value": …}, …]; without "value" and "values" an entry's value is None.

    `actual` is looked into for globals only: those not named keep the value they have there.
    """
    before = dict(actual) if form.holds_globals else {}
    packed = []
    for place, entry in enumerate(entries):
        path = f"entries[{place}]"
        key = _pack_key(form, entry, path, secret)
        packed.append((key, _pack_value(form, entry, path, before.get(key), secret)))
    return packed


def unpack(form: Form, items: Iterable, secrets: Collection = ()) -> list:
    """[{"key": …, "value": …}, …] of the bytes; {"key": …, "values": […]} where the map has a value for each CPU.

    `secrets` names variables of a section that are not to be shown; without types none of it is.
    """
    rows = [{"key": _unpacked(form, form.key_type, key), **_shown_value(form, value)} for key, value in items]
    return [{**row, "value": _hidden(row["value"], secrets)} for row in rows] if secrets else rows


def _hidden(value, secrets):
    if not isinstance(value, dict):
        return values.SECRET
    return {name: values.SECRET if name in secrets else each for name, each in value.items()}


def _pack_key(form, entry, path, secret):
    if not isinstance(entry, dict) or "key" not in entry or not entry.keys() <= {"key", "value", "values"}:
        raise BadRequest(f"{path} must have a key, and a value or values", path=path)
    path += ".key"
    return values.pack(form.btf, form.key_type, entry["key"], size=form.bytes_key, path=path, secret=secret)


def _pack_value(form, entry, path, before, secret):
    if "value" in entry and "values" in entry:
        raise BadRequest(f"{path} has both value and values", "Give one of them", path=path)
    if "values" in entry:
        return _pack_each(form, entry["values"], f"{path}.values", secret)
    if "value" not in entry:
        return None
    value, path = entry["value"], f"{path}.value"
    if form.cpus and isinstance(value, list) and not _is_list_itself(form):
        return _pack_each(form, value, path, secret)
    if before is not None and isinstance(value, dict):
        return values.replace(form.btf, form.value_type, before, value, path=path, secret=secret)
    packed = _pack_one(form, value, path, secret)
    return contents.join([packed] * form.cpus) if form.cpus else packed


def _pack_each(form, given, path, secret):
    if not form.cpus:
        raise BadRequest(f"{path}: this map does not have a value for each CPU", 'Give a single "value"', path=path)
    if not isinstance(given, (list, tuple)) or len(given) != form.cpus:
        number = len(given) if isinstance(given, (list, tuple)) else "no"
        raise BadRequest(
            f"{path} has {number} values, and this host has {form.cpus} possible CPUs",
            'Give one for each, or a single "value" for all',
            path=path,
        )
    return contents.join([_pack_one(form, value, f"{path}[{cpu}]", secret) for cpu, value in enumerate(given)])


def _pack_one(form, value, path, secret):
    return values.pack(form.btf, form.value_type, value, size=form.bytes_value, path=path, secret=secret)


def _is_list_itself(form):
    """Whether a list can be meant as a single value."""
    if not form.value_type:
        return form.bytes_value not in (1, 2, 4, 8)
    return form.btf.type(form.btf.resolve(form.value_type)).kind == "array"


def _unpacked(form, type_id, data):
    return values.unpack(form.btf, type_id, data)


def _shown_value(form, data):
    if not form.cpus:
        return {"value": _unpacked(form, form.value_type, data)}
    return {"values": [_unpacked(form, form.value_type, part) for part in contents.split(data, form.bytes_value)]}
