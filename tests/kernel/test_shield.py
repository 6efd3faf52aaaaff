# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a private host nobody writes the machine's own files, whatever symlink a fault of ours may follow."""

from __future__ import annotations

import errno
import os

import pytest


@pytest.mark.parametrize("folder", ["/etc", "/root", "/work", "/usr", "/var/lib", "/home"])
def test_machine_is_read_only_from_a_host(host, folder):
    if not os.path.isdir(folder):
        pytest.skip(f"this machine has no {folder}")
    with pytest.raises(OSError) as refusal:
        os.mkdir(os.path.join(folder, "ebpf-deploy-was-here"))
    assert refusal.value.errno == errno.EROFS
