# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verifier's figures beside the kernel's bounds, the user's limits and the release that runs."""

from __future__ import annotations

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BeyondLimits
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import cost

SMALL = {"processed_insns": 250, "limit": 1_000_000, "total_states": 3, "stack_depth": 64}
MAPS = {"flows": {"bytes": 1300}, "counts": {"bytes": 200}}
LARGE = {"processed_insns": 500_000, "limit": 1_000_000, "total_states": 9_000, "stack_depth": 384}


def test_share_of_the_kernels_bounds():
    assert cost.shares(LARGE) == {"insns_share": 0.5, "stack_share": 0.75}
    assert cost.shares({"tag": "b63b4fc4f3b5d0f8"}) == {}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"insns": 499_999}, "500000 instructions were verified, and 499999 are allowed"),
        ({"states": 8_999}, "9000 states were held, and 8999 are allowed"),
        ({"stack": 383}, "384 bytes of stack are used by one function, and 383 are allowed"),
    ],
)
def test_figure_beyond_a_limit_is_refused_with_program_and_figure(limits, said):
    with pytest.raises(BeyondLimits, match=said) as refused:
        cost.expect_within(limits, {"small": SMALL, "large": LARGE}, {})

    (word, allowed) = next(iter(limits.items()))
    assert refused.value.detail["program"] == "large"
    assert (refused.value.detail["limit"], refused.value.detail["allowed"]) == (word, allowed)


def test_figure_at_its_limit_is_allowed():
    cost.expect_within({"insns": 500_000, "states": 9_000, "stack": 384}, {"large": LARGE}, {})
    cost.expect_within({"insns": None, "stack": None}, {"large": LARGE}, {})
    cost.expect_within({"insns": 1}, {"counted by nobody": {}}, {})


def test_maps_beyond_their_limit_name_the_largest():
    with pytest.raises(BeyondLimits, match="1500 bytes, and 1000 are allowed") as refused:
        cost.expect_within({"map_bytes": 1000}, {}, MAPS)

    assert refused.value.detail["map"] == "flows"
    cost.expect_within({"map_bytes": 1500}, {}, MAPS)
    cost.expect_within({"map_bytes": None}, {}, MAPS)
    cost.expect_within({"map_bytes": 0}, {}, {})


def test_section_beyond_the_limit_is_not_told_to_have_fewer_entries():
    with pytest.raises(BeyondLimits) as refused:
        cost.expect_within({"map_bytes": 1000}, {}, {"rodata": {**MAPS["flows"]}})

    assert "Make the variables smaller in map rodata" in refused.value.do


def test_comparison_has_the_programs_of_both_with_the_figures_of_both():
    before = {"counter": SMALL, "gone": SMALL, "bare": {"processed_insns": 1}}
    after = {"counter": LARGE, "new": LARGE, "bare": LARGE}

    assert cost.compared(before, after) == {
        "bare": {"insns": {"before": 1, "after": 500_000}},
        "counter": {
            "insns": {"before": 250, "after": 500_000},
            "states": {"before": 3, "after": 9_000},
            "stack": {"before": 64, "after": 384},
        },
    }
