# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pattern for interfaces stands for those whose names match at that run."""

from __future__ import annotations

import programs
import pytest
from private_host import NAME, attachment, run

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import transitions
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import NotFound


def wanted(pattern, **options):
    return attachment("xdp", programs.XDP, interface=pattern, **options)


@pytest.fixture(autouse=True)
def pairs(host):
    host.stage(1)
    run("ip", "link", "add", "wan0", "type", "veth", "peer", "name", "lan0")


def at(outcome):
    return sorted(each.option("interface") for each in outcome.generation.attachments.values())


def attach(host, *attachments, **wish):
    return host.attach(*attachments, allow_management_path=True, **wish)


def test_what_has_come_since_is_attached_and_the_rest_stays(host):
    assert at(attach(host, wanted("wan*"))) == ["wan0"]
    assert not attach(host, wanted("wan*")).changed
    run("ip", "link", "add", "wan1", "type", "veth", "peer", "name", "lan1")

    outcome = attach(host, wanted("wan*"))

    assert at(outcome) == ["wan0", "wan1"]
    assert [step.attachment.option("interface") for step in outcome.steps if step.is_hook_step] == ["wan1"]


def test_all_that_match_in_several_ways(host):
    assert at(attach(host, wanted("[wl]an?"))) == ["lan0", "wan0"]


def test_what_went_is_told_and_kept(host):
    run("ip", "link", "add", "wan1", "type", "veth", "peer", "name", "lan1")
    attach(host, wanted("wan*"))
    run("ip", "link", "del", "wan1")

    outcome = attach(host, wanted("wan*"))

    assert (outcome.changed, len(outcome.gone), at(outcome)) == (False, 1, ["wan0", "wan1"])


def test_detached_by_a_pattern_is_what_the_deployment_has(host):
    attach(host, wanted("wan*"), wanted("lan0"))

    assert at(attach(host, wanted("wan*"), detach=True)) == ["lan0"]
    with pytest.raises(NotFound, match="No attachment of the deployment matches"):
        attach(host, wanted("wan*"), detach=True)


def test_nothing_that_matches_is_refused_with_what_there_is(host):
    with pytest.raises(NotFound, match="No interface on this host matches eth") as refusal:
        attach(host, wanted("eth*"))
    assert "wan0" in refusal.value.do


def test_everything_at_all_that_match(host):
    wish = transitions.Wish(everything={"interface": "*an0"}, allow_management_path=True)
    outcome = transitions.attach(NAME, wish)
    assert at(outcome) == ["lan0", "lan0", "wan0", "wan0"]
