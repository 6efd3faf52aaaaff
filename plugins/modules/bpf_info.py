#!/usr/bin/python
# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bpf_info
short_description: See what eBPF is on a host, ours or not
description:
  - Lists deployments, attachments, programs, maps and links as the kernel has them, with the field names of bpftool.
  - Says of every attachment which deployment it belongs to, and of every deployment whether the hooks still run what
    was confirmed.
extends_documentation_fragment:
  - ebpf.deploy._common
attributes:
  action:
    support: full
    description: Has an action plugin, which evaluates O(query) on the controller. It neither hangs on a connection that
      a change has cut, nor ends as unreachable. A host that gives no answer is a failed task.
  diff_mode:
    support: N/A
    description: Changes nothing.
options:
  name:
    description: Only this deployment, for V(deployments).
    type: str
    default: ""
  gather:
    description: What to list.
    type: list
    elements: str
    choices: [deployments, attachments, programs, maps, links, host]
    default: [deployments, attachments, host]
  query:
    description:
      - A JMESPath expression over the result, evaluated on the controller (needs jmespath there). Its answer is
        RV(queried).
    type: str
seealso:
  - module: ebpf.deploy.bpf_map
author:
  - the ebpf.deploy contributors (@ebpf-deploy)
"""

EXAMPLES = r"""
---
- name: What runs here, and whose is it
  ebpf.deploy.bpf_info:
  become: true

- name: Interfaces that run XDP programs of others
  ebpf.deploy.bpf_info:
    gather: [attachments]
    query: attachments[?hook=='xdp' && deployment==null].interface
  become: true
  register: foreign

- name: One deployment
  ebpf.deploy.bpf_info:
    name: counter
    gather: [deployments]
  become: true
"""

RETURN = r"""
deployments:
  description:
    - The deployments, with state (V(absent), V(staged), V(trial), V(confirmed), V(drifted), V(unknown)), release,
      generation, attachments and maps.
    - V(unknown) is a deployment whose files cannot be read, or that has links which no file names.
      M(ebpf.deploy.bpf_release) with O(ebpf.deploy.bpf_release#module:state=confirmed) adopts what its hooks run.
    - C(drift) says in words what differs from what was confirmed, and which files of its release, or of the one before,
      the disk damaged or lost. C(unread) names ring and perf buffers that no process holds open.
    - C(declared) has a row for each map with entries that M(ebpf.deploy.bpf_map) declared. It counts them, those of
      them that the map lacks (C(missing)) and those that have another value there (C(different)), which may be the
      program's own doing. C(left_out) says in words what the map cannot hold.
    - C(proof) says whether what is confirmed is proven (see O(ebpf.deploy.bpf_attach#module:on_strikes)), which boots
      ended out of order meanwhile (C(strikes)), and what a boot left for its strikes (C(left)).
  returned: when gathered
  type: list
  elements: dict
  sample:
    - name: counter
      state: confirmed
      release: 3f1c0f4f6c9de2ab
      generation: 2
      previous: 1
      attachments: [{hook: xdp, interface: eth0, mode: native, program: xdp_packet_counter, prog_id: 345, link_id: 12}]
      declared: [{map: blocked, entries: 1000, missing: 0, different: 0, left_out: []}]
      unread: []
      proof: {proven: true, strikes: [], left: null}
      drift: []
attachments:
  description:
    - What sits at the hooks of this network namespace, at cgroups and at tracepoints, with the options of
      M(ebpf.deploy.bpf_attach). C(deployment) is null for what is not ours.
    - C(link_id) is 0 for what is attached without a link, such as a classic tc filter.
  returned: when gathered
  type: list
  elements: dict
  sample: [{hook: xdp, interface: eth0, mode: native, prog_id: 345, program: xdp_packet_coun, link_id: 12, deployment:
    counter}]
programs:
  description: All programs in the kernel.
  returned: when gathered
  type: list
  elements: dict
  sample: [{id: 345, type: xdp, name: xdp_packet_coun, tag: b63b4fc4f3b5d0f8, loaded_at: 81234567890, map_ids: [78]}]
maps:
  description: All maps in the kernel.
  returned: when gathered
  type: list
  elements: dict
  sample: [{id: 78, type: percpu_array, name: packet_count_ma, bytes_key: 4, bytes_value: 8, max_entries: 1}]
links:
  description: All links in the kernel.
  returned: when gathered
  type: list
  elements: dict
  sample: [{id: 12, type: xdp, prog_id: 345, ifindex: 2, deployment: counter}]
host:
  description:
    - What decides whether eBPF works on this host.
    - C(switched_off) is empty, or says what keeps the host without our programs, C(ebpf_deploy=off) on the kernel's
      command line or the file C(/etc/ebpf_deploy/off).
    - C(bpffs_is_roots) says whether nobody but root can make files in C(/sys/fs/bpf); where it is false, a warning
      tells what to do.
  returned: when gathered
  type: dict
  sample: {kernel: 6.12.0, machine: x86_64, libbpf: '1.5', kernel_btf: true, bpffs: true, bpffs_is_roots: true,
    possible_cpus: 4, switched_off: ""}
queried:
  description: The answer of O(query).
  returned: with O(query)
  type: raw
"""

from ..module_utils import _module
from ..module_utils._core.deployment import inventory, store


def main():
    _module.run(
        work,
        argument_spec={
            "name": {"type": "str", "default": ""},
            "gather": {
                "type": "list",
                "elements": "str",
                "choices": ["deployments", "attachments", "programs", "maps", "links", "host"],
                "default": ["deployments", "attachments", "host"],
            },
            "query": {"type": "str"},
        },
    )


def work(module):
    fields, name = {"changed": False}, module.params["name"]
    if name:
        store.home(name)
    for subject in module.params["gather"]:
        if subject == "attachments":
            fields["attachments"], warnings = inventory.attachments()
            for text in warnings:
                module.warn(text)
        else:
            fields[subject] = GATHER[subject](name)
    for text in inventory.bpffs_warnings() if "host" in fields else ():
        module.warn(text)
    return fields


GATHER = {
    "deployments": inventory.deployments,
    "programs": lambda name: inventory.programs(),
    "maps": lambda name: inventory.maps(),
    "links": lambda name: inventory.links(),
    "host": lambda name: inventory.host(),
}


if __name__ == "__main__":
    main()
