# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role and playbook rollout say of the names that they are given, and in whose words."""

from __future__ import annotations

import pytest
from ansible.parsing.dataloader import DataLoader

from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest
from ansible_collections.ebpf.deploy.plugins.plugin_utils import rollout

OURS = rollout.known(DataLoader())


def test_known_variables_are_those_of_the_role_and_the_two_of_the_playbook():
    assert {"rollout_name", "rollout_checks", "rollout_hosts", "rollout_serial"} <= set(OURS)
    assert all(name.startswith("rollout_") for name in OURS)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("rollout_confirm_whithin", "rollout_confirm_within"),
        ("rollout_check", "rollout_checks"),
        ("rollout_interfaces", "rollout_interface"),
        ("rollout_host", "rollout_hosts"),
        ("rollout_allow_managment_path", "rollout_allow_management_path"),
    ],
)
def test_name_that_nearly_is_one_of_ours_is_refused(name, meant):
    with pytest.raises(BadRequest, match=f"{name}, and {meant} is nearly its name") as refused:
        rollout.unknown([*OURS, "inventory_hostname", name], OURS)
    assert refused.value.detail == {"variable": name, "near": meant}


def test_other_name_that_begins_as_ours_do_is_told_and_no_more():
    names = [*OURS, "rollout_result", "__rollout_attach", "our_rollout_name", "rollout"]

    assert rollout.unknown(names, OURS) == ["rollout_result"]


@pytest.mark.parametrize(
    ("modules", "roles"),
    [
        (
            "Add confirm_within: 60 (or allow_management_path: true)",
            "Add rollout_confirm_within: 60 (or rollout_allow_management_path: true)",
        ),
        ("or set retry_quarantined: true to try", "or set rollout_retry_quarantined: true to try"),
        (
            "say for example programs: [{name: a, type: xdp}]",
            "say for example rollout_programs: [{name: a, type: xdp}]",
        ),
        ("Size it: maps: { flows: { max_entries: 9 } }", "Size it: rollout_maps: { flows: { max_entries: 9 } }"),
        ("Give the values by cflags, as -DN=V", "Give the values by rollout_cflags, as -DN=V"),
        ("compiler: bcc takes no globals", "rollout_compiler: bcc takes no globals"),
        ("Add the option interface.", "Add the variable rollout_interface."),
        ("These maps: a, b do not fit; a name: x", "These maps: a, b do not fit; a name: x"),
        ("rollout_confirm_within is 0", "rollout_confirm_within is 0"),
    ],
)
def test_sentence_of_a_module_names_the_roles_variables(modules, roles):
    assert rollout.in_its_words(modules, OURS) == roles
