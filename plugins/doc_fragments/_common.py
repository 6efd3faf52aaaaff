# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Documentation that the modules share."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
requirements:
  - Linux 5.8 or newer on the host, root (use C(become))
  - libbpf on the host (Debian and Ubuntu C(libbpf1), Fedora and RHEL C(libbpf))
  - Python 3.9 or newer on the host
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and tells what would be done, without changing anything in the kernel, on
      bpffs or on disk.
  diff_mode:
    support: full
    description: Returns what changes, before and after. Never source or secret values.
  idempotent:
    support: full
    description: Run again with the same input on the same host, it reports no change.
  platform:
    platforms: linux
    support: full
    description: Target operating system.
  action_group:
    support: full
    description: Use C(group/ebpf.deploy.bpf) in C(module_defaults) to set defaults for all modules of this collection.
    membership:
      - ebpf.deploy.bpf
"""

    NAME = r"""
options:
  name:
    description:
      - The deployment. Programs, maps and attachments that belong together.
      - Lower-case letters, digits, C(-) and C(_), beginning with a letter or digit, at most 63 characters.
    type: str
    required: true
"""

    ROLLOUT = r"""
options:
  rollout_id:
    description:
      - Names the rollout that makes the change. It stands in the deployment's generation, with the login and the
        controller. By default it is one run of Ansible, which is the job of AWX, else the controller's hostname with
        the process and its start.
      - A guarded change that waits for its confirmation is superseded by a newer one of the same rollout, and refuses
        those of others, naming whose it is. To go on after a run was interrupted, give the id that the refusal names.
    type: str
    default: ""
  retry_quarantined:
    description:
      - Whether to try what this host threw back before. What a user rolled back, or what was not confirmed in time,
        is quarantined and fails at once until it changes, so that a schedule does not cause one outage per run.
    type: bool
    default: false
"""
