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
  - Entries of a deployment's map can be declared (O(persist)). They are then kept on the host's disk, and are in the
    map before a program runs with it. That holds after a boot, with a release whose map is a new one, and on the way
    back to an older release.
  - A release whose map cannot hold what is declared is refused by M(ebpf.deploy.bpf_attach). On the way back, and where
    C(on_change) says that the map takes entries over or begins empty, what has no place is left out and reported.
extends_documentation_fragment:
  - ebpf.deploy._common
options:
  name:
    description: The deployment whose map it is, with O(map). While a guarded change is on trial, the trial's map.
      Otherwise the confirmed release's, or where that has none of the name, the staged one's.
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
  persist:
    description:
      - Whether O(entries) are declared, which is kept on disk and outlives the map. Entries that O(state=absent) or
        O(purge) removes are declared no longer.
      - By default V(true) for a deployment's hash, array and LPM trie, which hold configuration as a rule. By default
        V(false) for the per-CPU and LRU kinds and for variables (C(.data), C(.bss)), where programs keep their own
        counts, and for O(path), which belongs to no deployment.
      - With V(false) the named entries are written to the map alone. If they were declared before, they are not any
        more.
    type: bool
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

- name: Block what a file on the controller lists, one network a line, also after a boot
  ebpf.deploy.bpf_map:
    name: edge
    map: blocked
    purge: true
    entries: "{{ dict(lookup('ansible.builtin.file', 'blocked.txt') | split | product([rule])) | dict2items }}"
  vars:
    rule: {action: drop}
  become: true

- name: Block a network until the next boot
  ebpf.deploy.bpf_map:
    name: edge
    map: blocked
    persist: false
    entries:
      - {key: 203.0.113.0/24, value: {action: drop, hits: 0}}
  become: true

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
  description: The map's entries after the change, each with C(key) and C(value), or C(values) of a per-CPU map. Global
    variables that were given as secret (O(ebpf.deploy.bpf_program#module:globals)) show as "(secret)".
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
declared:
  description: How many entries of the map are declared (O(persist)) after the task, or would be in check mode.
  returned: with O(name)
  type: int
  sample: 2
left_out:
  description:
    - What was declared of an older map with this name, and has no place in this one, in words. It is declared no
      longer. Each also is a warning.
  returned: with O(name)
  type: list
  elements: str
  sample: []
"""

from ..module_utils import _module
from ..module_utils._core.deployment import edit
from ..module_utils._core.objects import entries


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
            "persist": {"type": "bool"},
        },
        required_one_of=[("path", "name")],
        mutually_exclusive=[("path", "name")],
        required_together=[("name", "map")],
    )


def work(module):
    params = module.params
    asked = edit.Asked(params["entries"], params["state"], params["purge"], params["persist"])
    if params["path"]:
        return fields(module, edit.pinned(params["path"], asked, module.check_mode))
    result = edit.deployed(params["name"], params["map"], asked, module.check_mode)
    for text in result.left_out:
        module.warn(f"Declared no longer, because this map has no place for it: {text}")
    return {
        **fields(module, result),
        "declared": number_of(result.declared),
        "left_out": list(result.left_out),
    }


def fields(module, result):
    """What the module returns of any map."""
    found = {
        "changed": result.changed,
        "entries": entries.unpack(result.form, result.after, result.secrets),
        "map": {field: value for field, value in result.info._asdict().items() if field != "type_number"},
        "written": len(result.edit.puts),
        "deleted": len(result.edit.deletes),
    }
    if module._diff:
        there = dict(result.before)
        after = len(there) + sum(1 for key, dummy in result.edit.puts if key not in there) - len(result.edit.deletes)
        found["diff"] = _module.diff(
            counts(result, len(there), 0, result.was_declared),
            counts(result, after, len(result.edit.puts), result.declared),
        )
    return found


def counts(result, number, written, declared):
    """What --diff shows of a map: never its values, which may be secret."""
    return {"map": result.info.name, "entries": number, "written": written, "declared": number_of(declared)}


def number_of(declared):
    return len(declared.entries) if declared else 0


if __name__ == "__main__":
    main()
