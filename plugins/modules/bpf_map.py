#!/usr/bin/python
# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bpf_map
short_description: Read, fill and edit eBPF maps, typed by their BTF
description:
  - Makes entries of a map present or absent, and returns its entries. Keys and values are written as YAML has them,
    numbers, texts, lists and dictionaries by the fields' names, and checked against the types that the map was
    compiled with.
  - Without O(entries) it only reads.
extends_documentation_fragment:
  - ebpf.deploy._common
options:
  name:
    description: The deployment whose map it is, with O(map). The confirmed load's map, or the staged one's where
      nothing is attached.
    type: str
  map:
    description: The map's name in the C source.
    type: str
  path:
    description: A map pinned on bpffs by whomever, instead of O(name) and O(map).
    type: path
  entries:
    description:
      - The entries, each with C(key) and C(value). For O(state=absent) the key is enough.
      - In a per-CPU map C(value) stands for every CPU, and C(values) lists one for each.
      - Addresses may be written as such where the type is one, and keys of an LPM trie as C(10.0.0.0/8).
    type: list
    elements: dict
  state:
    description: Whether the entries shall be there.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: Whether entries that are not named are deleted.
    type: bool
    default: false
seealso:
  - module: ebpf.deploy.bpf_info
author:
  - the ebpf.deploy contributors (@ebpf-deploy)
"""

EXAMPLES = r"""
---
- name: Read the packet counter
  ebpf.deploy.bpf_map:
    name: counter
    map: packet_count_map
  become: true
  register: count

- name: Show it, summed over the CPUs
  ansible.builtin.debug:
    msg: "{{ count.entries[0]['values'] | sum }} packets"

- name: Exactly these networks are blocked
  ebpf.deploy.bpf_map:
    name: edge
    map: blocked
    purge: true
    entries:
      - {key: 192.0.2.0/24, value: {action: drop, hits: 0}}
      - {key: 198.51.100.7/32, value: {action: drop, hits: 0}}
  become: true
"""

RETURN = r"""
entries:
  description: The map's entries after the change, each with C(key) and C(value), or C(values) of a per-CPU map.
  returned: success
  type: list
  elements: dict
  sample: [{key: 0, values: [5, 7]}]
map:
  description: The map, fields named as bpftool names them.
  returned: success
  type: dict
  sample: {id: 78, type: percpu_array, name: packet_count_ma, bytes_key: 4, bytes_value: 8, max_entries: 1}
written:
  description: How many entries were written, or would be in check mode.
  returned: success
  type: int
  sample: 2
deleted:
  description: How many entries were deleted, or would be in check mode.
  returned: success
  type: int
  sample: 0
"""

from ..module_utils import _module
from ..module_utils._core.deployment import observe, store
from ..module_utils._core.errors import BadRequest, NotFound
from ..module_utils._core.kernel import bpf
from ..module_utils._core.objects import contents, entries


def main():
    _module.run(
        work,
        argument_spec={
            "name": {"type": "str"},
            "map": {"type": "str"},
            "path": {"type": "path"},
            "entries": {"type": "list", "elements": "dict"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purge": {"type": "bool", "default": False},
        },
        required_one_of=[("path", "name")],
        mutually_exclusive=[("path", "name")],
        required_together=[("name", "map")],
    )


def work(module):
    if module.params["path"]:
        return edited(module, module.params["path"])
    place = store.home(module.params["name"])
    if module.check_mode or module.params["entries"] is None:
        return edited(module, path_of(module, place))
    path_of(module, place)  # refused before the lock is made for a deployment that is none
    with store.locked(module.params["name"]) as home:
        return edited(module, path_of(module, home))  # another run may have moved on to another load


def path_of(module, place):
    """Where the deployment's map is pinned."""
    return observe.map_path(place, observe.facts(place), module.params["map"])


def edited(module, path):
    """The map that is pinned at `path` is as wanted, or in check mode what would be done to it."""
    params = module.params
    with opened(path) as fd:
        info = bpf.map_info(fd)
        form, before = entries.of(info), contents.read(fd, info)
        edit = contents.Edit((), (), 0, False)
        if params["entries"] is not None:
            wanted = entries.pack(form, params["entries"], before)
            refuse_valueless(params, wanted)
            edit = contents.plan(info, before, wanted, params["state"], params["purge"])
        if not edit.is_empty and not module.check_mode:
            contents.carry_out(fd, info, edit)
        after = contents.read(fd, info) if not module.check_mode else before
    fields = {
        "changed": not edit.is_empty,
        "entries": entries.unpack(form, after),
        "map": {field: value for field, value in info._asdict().items() if field != "type_number"},
        "written": len(edit.puts),
        "deleted": len(edit.deletes),
    }
    if module._diff:
        expected = len(before) + sum(1 for key, dummy in edit.puts if key not in dict(before)) - len(edit.deletes)
        fields["diff"] = _module.diff(counts(info, len(before), 0), counts(info, expected, len(edit.puts)))
    return fields


def opened(path):
    """An Fd of the map pinned there."""
    try:
        fd = bpf.get_pinned(path)
    except OSError as error:
        raise NotFound(
            f"No map is pinned at {path}: {error.strerror}", "See bpftool -f map show for what is", path=path
        ) from error
    kind = bpf.kind(fd.number)
    if kind != "map":
        fd.close()
        raise BadRequest(f"What is pinned at {path} is a {kind}, not a map", "Give a map's path", path=path)
    return fd


def refuse_valueless(params, wanted):
    if params["state"] == "present" and any(value is None for dummy, value in wanted):
        raise BadRequest("An entry has a key and no value", "Add value: to each entry, or set state: absent")


def counts(info, number, written):
    """What --diff shows of a map: never its values, which may be secret."""
    return {"map": info.name, "entries": number, "written": written}


if __name__ == "__main__":
    main()
