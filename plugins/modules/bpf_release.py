#!/usr/bin/python
# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bpf_release
short_description: Confirm, roll back or remove a deployment
description:
  - V(confirmed) confirms a guarded change that is on trial, the one that O(generation) names and no other. Without one
    it makes the hooks run the confirmed generation again where something moved them, and finishes what a killed run
    began.
  - Where the deployment's files are damaged or lost (state V(unknown) in M(ebpf.deploy.bpf_info)), V(confirmed) without
    O(generation) takes what its links run now for confirmed.
  - V(rolled_back) takes a guarded change back that is on trial. Without one it makes the hooks run the release that
    was confirmed before the last one. Its programs are still loaded, so that neither compiler nor verifier is needed.
    A boot loads the confirmed release and the one before, with role P(ebpf.deploy.host#role). An older one has to be
    rolled out again.
  - V(absent) takes everything of the deployment off the host, hooks first.
extends_documentation_fragment:
  - ebpf.deploy._common
  - ebpf.deploy._common.name
attributes:
  action:
    support: full
    description: Has an action plugin, which neither hangs on a connection that a change has cut, nor ends as
      unreachable. A host that gives no answer is a failed task.
  idempotent:
    support: partial
    description: O(state=rolled_back) goes back one release further with each run, unless O(generation) or O(release)
      is given.
options:
  state:
    description: What the deployment shall be.
    type: str
    choices: [confirmed, rolled_back, absent]
    default: confirmed
  generation:
    description:
      - The generation that is meant, as RV(ebpf.deploy.bpf_attach#module:generation) names it.
      - For V(confirmed), fails when that one was rolled back. For V(rolled_back), changes nothing where that one is
        neither on trial nor confirmed, so that a second run does not go back further.
    type: int
  release:
    description:
      - For V(rolled_back), the release to run. The one confirmed before by default.
      - One that is named is not quarantined any more.
      - V(none) takes every program off its hook and keeps the releases.
    type: str
    default: ""
  comment:
    description:
      - For V(rolled_back), why. The deployment's history, its journal and the quarantine say it.
      - On one line, of 500 letters at the most.
    type: str
    default: ""
  keep:
    description:
      - For V(confirmed), how many generations stay for going back, from now on. Their programs stay loaded until the
        next boot, which takes memory for the maps that they do not share.
      - What is confirmed, the one before it and what is on trial stay in any case.
      - Three where it was never set.
    type: int
  rollout_id:
    description:
      - For V(confirmed) without O(generation), the rollout whose change may be confirmed. One that somebody else's run
        has on trial is refused, and named. By default it is this run of Ansible alone, as in M(ebpf.deploy.bpf_attach).
      - With O(generation) the change is confirmed whosever it is.
    type: str
    default: ""
seealso:
  - module: ebpf.deploy.bpf_program
  - module: ebpf.deploy.bpf_attach
author:
  - the ebpf.deploy contributors (@ebpf-deploy)
"""

EXAMPLES = r"""
---
- name: Back to the release before
  ebpf.deploy.bpf_release:
    name: counter
    state: rolled_back
  become: true

- name: Take this change back, and say why
  ebpf.deploy.bpf_release:
    name: counter
    state: rolled_back
    generation: "{{ attached.generation }}"
    comment: "ticket 4711: the proxy lost one request in ten"
  become: true

- name: Everything off its hook, now
  ebpf.deploy.bpf_release:
    name: counter
    state: rolled_back
    release: none
  become: true

- name: Keep the programs of the last ten generations loaded
  ebpf.deploy.bpf_release:
    name: counter
    keep: 10
  become: true

- name: Nothing of it left on the host
  ebpf.deploy.bpf_release:
    name: counter
    state: absent
  become: true
"""

RETURN = r"""
generation:
  description: The number of the confirmed generation.
  returned: when one is confirmed
  type: int
  sample: 5
release:
  description: The release that the attachments run now.
  returned: when one is confirmed
  type: str
  sample: 9b1c0f4f6c9de2ab
state:
  description: V(confirmed), V(trial) or V(absent).
  returned: success
  type: str
  sample: confirmed
attachments:
  description: All attachments of the deployment, with the link and the program that the kernel shows there.
  returned: success
  type: list
  elements: dict
  sample: []
steps:
  description: What was done, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: ["replace program 345 by xdp_packet_counter of load 9b1c0f4f6c9de2ab-1 at xdp eth0 (native)"]
gone:
  description:
    - Attachments whose interface, cgroup or network namespace is not there any more, in words. Each also is a warning.
    - They were confirmed once, so they stay part of the deployment and are attached again when their place comes back.
      The others go on. They alone make the task neither changed nor failed; an attachment that was never confirmed
      fails, and so does the task where no place of the deployment is left.
  returned: success
  type: list
  elements: str
  sample: ["There is no interface eth9 on this host"]
left_out:
  description:
    - What a map of the release gone back to cannot hold of declared entries (M(ebpf.deploy.bpf_map)) and of merged
      counts, in words. Each also is a warning.
  returned: success
  type: list
  elements: str
  sample: ["map blocked: 2 entries: value hits has no place there"]
carried:
  description:
    - What became of the entries of maps that changed with the release, as O(ebpf.deploy.bpf_program#module:maps) says.
      C(before) counts the entries of the old map, C(after) those of the new one, C(carried) those that were copied or
      whose counts were moved.
    - C(left) counts the entries whose counts could not be moved, as those of a CPU that is offline, or those that found
      no room on the way back.
  returned: success
  type: list
  elements: dict
  sample: [{map: flows, before: 812, after: 812, carried: 812, left: 0}]
repaired:
  description: What a killed run had begun and this one finished first.
  returned: success
  type: list
  elements: str
  sample: []
failure:
  description: What is wrong, as data. C(code) names the kind, V(rolled_back) where the confirmation came too late.
  returned: on failure
  type: dict
  sample: {code: rolled_back, generation: 5, outcome: rolled_back, why: it was not confirmed in time}
"""

import textwrap

from ..module_utils import _module
from ..module_utils._core.deployment import observe, transitions
from ..module_utils._core.errors import BadRequest

COMMENT_LETTERS = 500


def main():
    _module.run(
        work,
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["confirmed", "rolled_back", "absent"], "default": "confirmed"},
            "generation": {"type": "int"},
            "release": {"type": "str", "default": ""},
            "comment": {"type": "str", "default": ""},
            "keep": {"type": "int"},
            "rollout_id": {"type": "str", "default": ""},
        },
    )


def work(module):
    params = module.params
    if params["keep"] is not None and (params["state"] != "confirmed" or params["keep"] < 1):
        raise BadRequest("keep goes with state: confirmed, and is 1 or more", "Leave keep out, or correct it")
    outcome = moved(params, module.check_mode)
    for failure in transitions.blocked(outcome) if params["state"] == "rolled_back" else ():
        module.warn(f"A hook does not run what was gone back to: {failure}")
    kept = transitions.keep(params["name"], params["keep"], module.check_mode) if params["keep"] else ()
    return {
        **_module.outcome_fields(module, outcome._replace(steps=(*outcome.steps, *kept))),
        "state": outcome.state,
        "attachments": observe.attachment_rows(outcome.after, outcome.generation),
    }


def moved(params, check_mode):
    """The Outcome of what O(state) asks for."""
    name, release, number = params["name"], params["release"], params["generation"]
    if params["state"] == "rolled_back":
        why = said(params["comment"]) or "rolled back by a user"
        if release == "none":
            return transitions.roll_back(name, "", number, check_mode, everything_off=True, why=why)
        return transitions.roll_back(name, release, number, check_mode, why=why)
    if params["comment"]:
        raise BadRequest("comment goes with state: rolled_back", "Leave comment out, or set state: rolled_back")
    if release:
        raise BadRequest("release goes with state: rolled_back", "Leave release out, or set state: rolled_back")
    if params["state"] == "absent":
        return transitions.remove(name, check_mode)
    return transitions.confirm(name, number, check_mode, rollout_id=params["rollout_id"])


def said(comment):
    """The user's words on one line that a journal can hold and a terminal can show."""
    words = "".join(each if each.isprintable() else " " for each in comment).split()
    return textwrap.shorten(" ".join(words), COMMENT_LETTERS, placeholder=" …")


if __name__ == "__main__":
    main()
