#!/usr/bin/python
# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bpf_attach
short_description: Attach a deployment's programs to hooks, replace and detach them
description:
  - Makes hooks run what M(ebpf.deploy.bpf_program) staged. A hook that runs an earlier release is updated in place,
    so that no packet passes without a program.
  - A deployment never mixes releases. Moving to a release moves every attachment, all or none. When one hook refuses,
    those before it run again what they ran.
  - With O(name) alone, the attachments that are there move to the staged release. Named attachments are added to them.
    While a guarded change of the same O(rollout_id) is on trial, what is there is what that change attaches.
  - Warns of ring and perf buffers that no process holds open, because what nobody reads there is lost.
  - Programs of others are never touched. Where only one program may sit, the holder is named and the run fails.
extends_documentation_fragment:
  - ebpf.deploy._common
  - ebpf.deploy._common.name
  - ebpf.deploy._common.rollout
  - ebpf.deploy._attachment
attributes:
  action:
    support: full
    description: Has an action plugin, which confirms a guarded change over a new connection.
options:
  release:
    description:
      - The release to attach, as RV(ebpf.deploy.bpf_program#module:release) names it. The staged one by default.
    type: str
    default: ""
  purge:
    description: Whether attachments that are not named are taken off.
    type: bool
    default: false
  confirm_within:
    description:
      - Seconds in which the change must be confirmed. Otherwise a guard on the host takes it back, with no help from
        outside. The task then fails as rolled back.
      - The guard also makes the switch, when the module has ended, so that a program that cuts the host off cannot
        cut off its own rollback. With V(0) the change is confirmed at once.
      - Five seconds are the least. What is detached is confirmed at once.
      - The module returns once the guard holds open what it would go back to. Where that is not loaded any more, it is
        loaded again from the host's disk. Where that cannot be, the module fails, and nothing has changed.
    type: int
    default: 0
  confirm:
    description:
      - With O(confirm_within), who confirms. V(auto) opens new connections after the switch, and confirms when three
        in a row came through, none of them slower than three times what one took before. V(manual) returns while the
        change is on trial. Confirm it with M(ebpf.deploy.bpf_release) after your own checks.
      - Where the connection cannot be opened anew (local, containers), comes in over lo (through a tunnel, or a jump by
        the host itself), or where the host cannot tell which it is, V(auto) needs O(confirm_probe), and is V(manual)
        without it. O(confirm_probe) then decides alone.
    type: str
    choices: [auto, manual]
    default: auto
  confirm_probe:
    description:
      - With O(confirm_within), a check that the guard runs on the host after the switch, again and again until it
        passes. Before that, nobody can confirm the change.
      - Where the connection can be opened anew, or with O(confirm=manual), both are needed, the probe and the
        confirmation. Elsewhere the probe confirms.
      - C(tcp:HOST:PORT) connects. Anything else is a command that must end with 0. After five seconds, and at the
        deadline, the probe is killed with all that it started, and has not passed.
    type: str
    default: ""
  on_boot_refusal:
    description:
      - What to do when the host boots with a kernel that refuses the release. V(previous) runs the release before,
        V(off) runs nothing.
      - The same holds where the disk damaged or lost the release's files; the boot unit then fails and says which.
      - Where that kernel lacks only some of the hooks, V(previous) runs the release before if it has all of that one's.
        Otherwise, and with V(off), the other hooks run the release.
    type: str
    choices: [previous, "off"]
    default: previous
  on_strikes:
    description:
      - What to do when two boots in a row ended out of order, by a panic, a reset or a power cut, while the change ran
        and was not proven yet (O(proven_after)). The next boot quarantines it, and V(previous) runs the newest proven
        generation with the attachments that it had, or nothing where there is none. V(off) runs nothing.
      - V(keep) runs it all the same. A firewall that must not fail open wants that, since a power cut counts, too.
      - Only a host with the units of role P(ebpf.deploy.host#role) knows how its boots end. C(proof) in
        RV(ebpf.deploy.bpf_info#module:deployments) has the strikes and their causes.
    type: str
    choices: [previous, "off", keep]
    default: previous
  proven_after:
    description:
      - Seconds that a release must have run at an attachment, boots added up, to be proven there. A day by default.
        What was proven is so again after a rollback to it, and with V(0) everything is proven.
      - The units of role P(ebpf.deploy.host#role) write down each hour how long that is. What a crash takes is less.
    type: int
    default: 86400
  allow_management_path:
    description:
      - Whether to attach without O(confirm_within) on the way that the connection comes in by. That is the interface
        that the SSH connection uses, with the devices above and below it, and the cgroups above sshd. Without sshd it
        is the default route's device.
    type: bool
    default: false
  state:
    description:
      - V(attached) attaches and replaces. V(detached) takes the named attachments off and keeps the release.
      - Where the hook has another program of the deployment than the one that V(detached) names, nothing changes.
    type: str
    choices: [attached, detached]
    default: attached
  _is_followed:
    description: Whether the action plugin waits for the outcome, and wants to know how to ask for it. Not for users.
    type: bool
    default: false
  _origin:
    description: Whose run this is, and a mark of the task. Not for users.
    type: dict
    default: {}
  _asks_only:
    description: Whether to do nothing but tell what became of the change with the mark. Not for users.
    type: bool
    default: false
  _doubt:
    description: Why the action plugin cannot prove by new connections that the host is reached. Not for users.
    type: str
    default: ""
  _is_checked:
    description: With O(confirm=manual), whether somebody checks the host before confirming. Not for users.
    type: bool
    default: true
  _everything:
    description: Whether O(attachments) was V(auto). Not for users.
    type: bool
    default: false
seealso:
  - module: ebpf.deploy.bpf_program
  - module: ebpf.deploy.bpf_release
author:
  - the ebpf.deploy contributors (@ebpf-deploy)
"""

EXAMPLES = r"""
---
- name: Count packets on an interface
  ebpf.deploy.bpf_attach:
    name: counter
    program: xdp_packet_counter
    hook: xdp
    interface: eth0
    confirm_within: 60
  become: true

- name: Put it on trial, to be confirmed by checks of your own
  ebpf.deploy.bpf_attach:
    name: counter
    confirm_within: 120
    confirm: manual
  become: true
  register: attached

- name: Check that the service answers
  ansible.builtin.uri:
    url: http://localhost/health

- name: Confirm that change and no other
  ebpf.deploy.bpf_release:
    name: counter
    generation: "{{ attached.generation }}"
  become: true

- name: Move all attachments of the deployment to the staged release
  ebpf.deploy.bpf_attach:
    name: counter
  become: true

- name: Exactly these attachments, all or none
  ebpf.deploy.bpf_attach:
    name: edge
    purge: true
    confirm_within: 60
    attachments:
      - {program: drop_blocked, hook: xdp, interface: eth0}
      - {program: mark, hook: tcx, interface: eth0, direction: egress}
      - {program: deny_metadata, hook: cgroup, cgroup: /system.slice/web.service}
  become: true

- name: All programs of the release that this host has a place for, each where its section says
  ebpf.deploy.bpf_attach:
    name: watch
    attachments: auto
  become: true

- name: Take one off
  ebpf.deploy.bpf_attach:
    name: edge
    state: detached
    program: mark
    hook: tcx
    interface: eth0
    direction: egress
  become: true
"""

RETURN = r"""
generation:
  description: The number of the generation that is confirmed, or on trial. It is the deployment's load and all its
    attachments.
  returned: success
  type: int
  sample: 4
release:
  description: The release that all attachments run.
  returned: success
  type: str
  sample: 3f1c0f4f6c9de2ab
state:
  description:
    - V(confirmed), or V(trial) while a guarded change waits for its confirmation. V(staged) where there was nothing to
      detach.
    - Where a guarded change failed, V(rolled_back), V(not_back) when a hook still runs it, or V(unknown) when the host
      did not answer any more. With C(async), V(armed).
  returned: success, and when a guarded change failed
  type: str
  sample: confirmed
guard:
  description:
    - What waits on the host for the confirmation. C(deadline) is O(confirm_within). It counts from when the
      change was armed, and the switch comes about two seconds after the end of the module.
    - C(how) is V(systemd) or V(process). With V(process), C(cannot_survive) says what ends it for good. The next run
      takes the change back then.
  returned: with O(confirm_within), when something changed
  type: dict
  sample: {how: systemd, unit: ebpf-deploy-guard-counter-4711, deadline: 60}
attachments:
  description:
    - All attachments of the deployment with their options, and the link and the program that the kernel shows there.
    - C(link_id) is 0 where the hook has no links. C(where) says it in words.
  returned: success
  type: list
  elements: dict
  sample:
    - {id: 5d2c3b0f1e9a, hook: xdp, interface: eth0, mode: native, program: xdp_packet_counter, where: xdp eth0
      (native), link_id: 12, prog_id: 345, severed: false}
steps:
  description: What was done, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: ["attach xdp_packet_counter of load 3f1c0f4f6c9de2ab-1 at xdp eth0 (native)"]
left_off:
  description:
    - With O(attachments=auto), the programs that were not attached, and why. Each also is a warning.
  returned: success
  type: list
  elements: dict
  sample: [{program: on_open, why: There is no tracepoint syscalls/sys_enter_opena on this host}]
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
  returned: success, unless a guard makes the switch
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
  description: What is wrong, as data. C(code) names the kind, C(holders) who holds the hook, C(not_back) the hooks that
    do not run again what ran before a guarded change.
  returned: on failure
  type: dict
  sample: {code: hook_held, holders: [{prog_id: 77, name: xdp_pass, tag: 3b185187f1855c4c, pids: [{pid: 812, comm:
    suricata}]}]}
"""

from ..module_utils import _module
from ..module_utils._core.deployment import guard, observe, probe, store, transitions, trial
from ..module_utils._core.errors import BadRequest, Failure, NotFound
from ..module_utils._core.hooks import catalogue
from ..module_utils._core.kernel import way_in

ATTACHMENT = {
    "program": {"type": "str"},
    "hook": {"type": "str", "choices": [*catalogue.HOOKS, catalogue.AUTO]},
    **catalogue.option_specs(),
}


def main():
    listed = {name: {**spec, "required": name in ("program", "hook")} for name, spec in ATTACHMENT.items()}
    _module.run(
        work,
        argument_spec={
            "name": {"type": "str", "required": True},
            "release": {"type": "str", "default": ""},
            "attachments": {"type": "list", "elements": "dict", "default": [], "options": listed},
            "purge": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["attached", "detached"], "default": "attached"},
            "confirm_within": {"type": "int", "default": 0},
            "confirm": {"type": "str", "choices": ["auto", "manual"], "default": "auto"},
            "confirm_probe": {"type": "str", "default": ""},
            "rollout_id": {"type": "str", "default": ""},
            "retry_quarantined": {"type": "bool", "default": False},
            "allow_management_path": {"type": "bool", "default": False},
            "on_boot_refusal": {"type": "str", "choices": ["previous", "off"], "default": "previous"},
            "on_strikes": {"type": "str", "choices": ["previous", "off", "keep"], "default": "previous"},
            "proven_after": {"type": "int", "default": 86400},
            "_is_followed": {"type": "bool", "default": False},
            "_origin": {"type": "dict", "default": {}},
            "_asks_only": {"type": "bool", "default": False},
            "_doubt": {"type": "str", "default": ""},
            "_is_checked": {"type": "bool", "default": True},
            "_everything": {"type": "bool", "default": False},
            **ATTACHMENT,
        },
    )


def work(module):
    params = module.params
    doubt = (params["confirm_within"] and (params["_doubt"] or guard.doubt_of(way_in.peer()))) or ""
    if params["_asks_only"]:
        return told(params, doubt)
    is_alone = params["confirm"] == "manual" and not params["_is_checked"] and not params["confirm_probe"]
    wish = transitions.Wish(
        attachments=() if params["_everything"] else wanted(params),
        everything=defaults(params) if params["_everything"] else None,
        release=params["release"],
        purge=params["purge"],
        detach=params["state"] == "detached",
        confirm_within=params["confirm_within"],
        probe=params["confirm_probe"],
        by_controller=params["confirm"] == "manual" or not doubt,
        doubt=doubt if is_alone else "",
        retry_quarantined=params["retry_quarantined"],
        allow_management_path=params["allow_management_path"],
        on_boot_refusal=params["on_boot_refusal"],
        on_strikes=params["on_strikes"],
        proven_after=params["proven_after"],
        by="bpf_attach",
        rollout_id=params["rollout_id"],
        origin=params["_origin"],
    )
    if 0 < params["confirm_within"] < 5:
        raise BadRequest("confirm_within leaves no time to confirm", "Set 5 seconds or more, 60 as a rule")
    if params["proven_after"] < 0:
        raise BadRequest("proven_after is a time", "Set 0 or more seconds")
    probe.expect(params["confirm_probe"])
    if params["confirm_within"] and wish.detach:
        raise BadRequest("state: detached is confirmed at once", "Leave confirm_within out")
    if wish.detach and not wish.attachments and wish.everything is None:
        raise BadRequest(
            "state: detached names what to take off", "Add program:, hook: and where that is, or attachments:"
        )
    outcome = transitions.attach(params["name"], wish, module.check_mode, load_again)
    fields = {
        **_module.outcome_fields(module, outcome),
        "state": "confirmed" if outcome.after.confirmed or outcome.steps else "staged",
        "attachments": observe.attachment_rows(outcome.after, outcome.generation),
        "left_off": [{"program": name, "why": failure.what} for name, failure in outcome.left_off.items()],
    }
    for name, failure in outcome.left_off.items():
        module.warn(f"Program {name} is not attached: {failure}")
    for name in observe.unread_rings(outcome.after, outcome.after.confirmed):
        module.warn(
            f"Nobody reads map {name} of {params['name']} now: what its programs put there is lost once it is full. "
            f"Its reader finds it at {store.home(params['name']).loads}/{outcome.after.confirmed.load}/maps/{name}."
        )
    if outcome.deadline:
        number = outcome.generation.number
        fields.update(state="armed", generation=number, guard=guarded(params, number))
        if params["_is_followed"]:
            fields["_ask"] = {**guard.questions(params["name"], number), "doubt": doubt}
    return fields


def load_again(*what):
    """As reload.load_again, which few need: reading it takes longer than all the rest of this module."""
    from ..module_utils._core.deployment import reload

    reload.load_again(*what)


def told(params, doubt):
    """What became of the change that has the task's mark, and whose answer was lost on its way."""
    number = transitions.marked(params["name"], params["_origin"].get("task"))
    if number is None:
        raise NotFound(
            "The connection was lost, and the host has no such change: it had not begun, changed nothing, or was taken "
            "back",
            "Look at bpf_info, and run again",
        )
    asked = {**guard.questions(params["name"], number), "doubt": doubt}
    deadline = {"how": "unknown", "deadline": params["confirm_within"]}
    return {"changed": True, "state": "armed", "generation": number, "guard": deadline, "_ask": asked}


def guarded(params, number):
    """The guard runs, as {how, deadline}: it switches when this module has ended."""
    try:
        return {**guard.arm(params["name"]), "deadline": params["confirm_within"]}
    except (Failure, OSError) as error:
        trial.abandon(params["name"], number, f"the guard could not be started: {error}")
        raise


def defaults(params):
    """The options for all programs of the release."""
    given = {name: params[name] for name in ATTACHMENT if params[name] is not None}
    if given.keys() & {"program", "hook"}:
        raise BadRequest("attachments: auto takes all programs, by their sections", "Leave program and hook out")
    return given


def wanted(params):
    """The Attachments that the arguments name, one inline or a list."""
    single = {name: params[name] for name in ATTACHMENT if params[name] is not None}
    if single and params["attachments"]:
        raise BadRequest("An attachment stands inline and in attachments", "Put all of them in attachments:")
    rows = [single] if single else params["attachments"]
    return tuple(catalogue.attachment_from(row) for row in rows)


if __name__ == "__main__":
    main()
