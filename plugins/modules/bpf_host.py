#!/usr/bin/python
# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bpf_host
short_description: Make a host ready to run eBPF programs without a controller
description:
  - Mounts the BPF and the trace file system where they are not, and puts the collection's code on the host, which the
    command C(ebpf-deploy) and the boot units start.
  - Warns where others than root can make files in C(/sys/fs/bpf), and moves aside what somebody else has put in a
    place of the collection's.
  - It is a part of role P(ebpf.deploy.host#role), which brings the packages, the command and the units, too.
extends_documentation_fragment:
  - ebpf.deploy._common
attributes:
  diff_mode:
    support: none
    description: RV(mounted) says what was missing.
seealso:
  - module: ebpf.deploy.bpf_info
author:
  - the ebpf.deploy contributors (@ebpf-deploy)
"""

EXAMPLES = r"""
---
- name: Mounts and code
  ebpf.deploy.bpf_host:
  become: true
"""

RETURN = r"""
mounted:
  description: The file systems that were not mounted.
  returned: success
  type: list
  elements: str
  sample: [/sys/fs/bpf]
failure:
  description: What is wrong, as data. C(code) names the kind.
  returned: on failure
  type: dict
  sample: {code: unsupported, errno: 1}
"""

from ..module_utils import _module
from ..module_utils._core import command
from ..module_utils._core.deployment import inventory, store
from ..module_utils._core.kernel import files


def main():
    _module.run(work, argument_spec={})


def work(module):
    missing = files.unmounted()
    for point in [] if module.check_mode else missing:
        files.mount(point)
    for text in [*([] if module.check_mode else store.take_places()), *inventory.bpffs_warnings()]:
        module.warn(text)
    return {"changed": command.install(module.check_mode) or bool(missing), "mounted": missing}


if __name__ == "__main__":
    main()
