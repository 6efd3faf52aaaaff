# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What there is in this kernel for probes to attach to: functions, events, tracepoints, what its BTF names.

Where it could not be told, the answer is None. Nothing is kept but what stays until the next boot.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import glob
import os
import re

from . import bpf, libbpf

TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
BTF_KIND_TYPEDEF, BTF_KIND_FUNC = 8, 12


def functions():
    """The names of the kernel's functions, modules' included (kallsyms; every reader sees the names)."""
    try:
        with open("/proc/modules", "rb") as stream:
            return _functions(stream.read())
    except FileNotFoundError:  # a kernel without modules
        return _functions(b"")


@functools.lru_cache(maxsize=1)
def _functions(dummy):
    """Those there are while the same modules are loaded. It takes 0.1 s."""
    with open("/proc/kallsyms", encoding="utf-8", errors="replace") as stream:
        return frozenset(re.findall(r"^\S+ [tTwW] (\S+)", stream.read(), re.MULTILINE))


def has_probes(kind):
    """Whether this kernel can place a `kprobe` or `uprobe` at all (CONFIG_KPROBE_EVENTS, CONFIG_UPROBE_EVENTS)."""
    return os.path.exists(os.path.join(bpf.PMUS, kind, "type"))


def has_tracepoint(category, name):
    """Whether there is an event category/name; None where tracefs is not mounted."""
    folder = _events()
    return None if folder is None else os.path.isdir(os.path.join(folder, category, name))


def has_raw_tracepoint(name):
    """Whether raw_tp/name exists: a type btf_trace_NAME in the kernel's BTF, or an event of that name in a module."""
    folder = _events()
    try:
        kernel_btf = libbpf.call("btf__load_vmlinux_btf")
    except OSError:
        return None
    try:
        libbpf.call("btf__find_by_name_kind", kernel_btf, f"btf_trace_{name}".encode(), BTF_KIND_TYPEDEF)
    except OSError:
        return None if folder is None else bool(glob.glob(os.path.join(folder, "*", glob.escape(name))))
    finally:
        libbpf.call("btf__free", kernel_btf)
    return True


def _events():
    return next((path for path in (os.path.join(each, "events") for each in TRACEFS) if os.path.isdir(path)), None)


def matching(pattern, names):
    """Whether one of the names is this one, or matches its wildcards as kprobe.multi has them."""
    return pattern in names or (any(mark in pattern for mark in "*?") and bool(fnmatch.filter(names, pattern)))


def nearest(name, names):
    """Up to three of the names that come next to this one: the same with a compiler's suffix first, then alike ones."""
    stem = name.strip("_")
    start = stem[: max(4, len(stem) // 2)]
    same = sorted(each for each in names if each.partition(".")[0].strip("_") == stem)
    alike = [each for each in names if each.lstrip("_").startswith(start)]
    close = difflib.get_close_matches(name, sorted(alike), 3, 0.75)
    return [*same, *(each for each in close if each not in same)][:3]


def types_unknown_to_btf(names):
    """Those of the names that no BTF of this kernel and its modules has, for whatever it may be. Takes 5 to 15 ms.

    Empty where it shows none: libbpf then looks elsewhere, and so the answer is not known.
    """
    if not names or not os.path.exists(bpf.KERNEL_BTF):
        return set()
    wanted = {b"\0" + name.encode() + b"\0": name for name in names}
    for path in [bpf.KERNEL_BTF, *sorted(glob.glob(os.path.join(os.path.dirname(bpf.KERNEL_BTF), "*")))]:
        if not wanted:
            break
        with open(path, "rb") as stream:
            data = stream.read()
        wanted = {text: name for text, name in wanted.items() if text not in data}
    return set(wanted.values())


@functools.cache
def function_btf_id(name):
    """The id of the function's type in the kernel's own BTF, 0 where it has none, as of a module's function.

    It takes 15 ms, and stays until the next boot.
    """
    try:
        types = libbpf.call("btf__load_vmlinux_btf")
    except OSError:
        return 0
    try:
        return libbpf.call("btf__find_by_name_kind", types, name.encode(), BTF_KIND_FUNC)
    except OSError:
        return 0
    finally:
        libbpf.call("btf__free", types)
