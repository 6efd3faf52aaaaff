# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of kernels, and how a name that a kernel lacks leads to one that it has."""

from __future__ import annotations

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import features, targets

FUNCTIONS = {
    "vfs_read",
    "vfs_readv",
    "vfs_write",
    "__x64_sys_read",
    "migrate_misplaced_folio",
    "try_to_wake_up",
    "blk_account_io_start.constprop.0",
    "__blk_account_io_done",
}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("vfs_raed", ["vfs_read", "vfs_readv"]),
        ("migrate_misplaced_page", ["migrate_misplaced_folio"]),
        ("blk_account_io_start", ["blk_account_io_start.constprop.0"]),
        ("blk_account_io_done", ["__blk_account_io_done"]),
        ("dummy_fentry", []),
    ],
)
def test_nearest_names(wanted, found):
    """A typing error, a renamed function, one that the compiler cloned, one that became inner; and nothing at all."""
    assert targets.nearest(wanted, FUNCTIONS)[: len(found) or 1] == found


@pytest.mark.parametrize(
    ("pattern", "matches"), [("vfs_read", True), ("vfs_*", True), ("vfs_rea?", True), ("vfs", False), ("nfs_*", False)]
)
def test_probe_of_many_functions_matches_by_wildcards(pattern, matches):
    assert targets.matching(pattern, FUNCTIONS) is matches


@pytest.mark.parametrize(
    ("release", "traits", "actions"),
    [
        ("6.18.44-fc-v669", {"huge per-CPU array"}, ["refuse"]),
        ("6.18.44", {"masked loop"}, ["warn"]),
        ("6.18.44", {"uprobe"}, []),
        ("6.18.45", {"masked loop", "huge per-CPU array"}, []),
        ("7.0.0-14-generic", {"uprobe"}, ["warn"]),
        ("7.0.1", {"uprobe"}, []),
        ("6.12-rc3", {"masked loop", "huge per-CPU array", "uprobe"}, []),
        ("what is this", {"masked loop"}, []),
    ],
)
def test_known_bad_kernels(release, traits, actions):
    assert [row.action for row in features.known_bad(release, traits)] == actions


def test_known_bad_kernels_state_where_it_is_known_from():
    for row in features.KNOWN_BAD:
        assert row.source.startswith(("https://", "measured by"))
        assert row.action in ("warn", "refuse")
        assert row.first <= row.last
