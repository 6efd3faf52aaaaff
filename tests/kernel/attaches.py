# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What test_way_in.py has sshd start: attach what the argument lists, one after the other, and print what became of
each."""

from __future__ import annotations

import json
import sys

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import transitions
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Failure
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue

found = {}
for row in json.loads(sys.argv[1]):
    target = row.get("interface") or row.get("cgroup")
    try:
        transitions.attach("counted", transitions.Wish(attachments=(catalogue.attachment_from(row),)))
        found[target] = "attached"
    except Failure as failure:
        found[target] = failure.code
sys.stdout.write(json.dumps(found) + "\n")
