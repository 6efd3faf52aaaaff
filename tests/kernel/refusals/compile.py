# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`compile.py vmlinux.h SOURCES OBJECTS`: every source of one folder into an object in the other.

For machines where compiling takes minutes: test_refusals.py takes what it finds in refusals/objects.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


def source_and_flags(folder, name, expected):
    """What `name` is compiled from: what flags mend has no mended source."""
    source = folder / f"{name}.bpf.c"
    if source.exists():
        return source, expected.get(name, {}).get("cflags", ())
    return folder / f"{name.partition('.')[0]}.bpf.c", ()


def compiled(source, cflags, target, types):
    """The object `target` of `source`; vmlinux.h lies in the folder `types`."""
    machine = {"x86_64": "x86", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    command = ["clang", "-O2", "-g", "-target", "bpf", "-D__TARGET_ARCH_" + machine, f"-I{types}", *cflags]
    subprocess.run([*command, "-c", source.name, "-o", str(target)], check=True, cwd=source.parent)


def main(types, folder, objects):
    folder, types, objects = (pathlib.Path(each).absolute() for each in (folder, types, objects))
    expected = json.loads((folder / "expected.json").read_text())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name in [name + form for name in expected for form in ("", ".mended")]:
            source, cflags = source_and_flags(folder, name, expected)
            pool.submit(compiled, source, cflags, objects / f"{name}.o", types.parent)


if __name__ == "__main__":
    main(*sys.argv[1:])
