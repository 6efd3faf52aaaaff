# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A map was not created: libbpf says which, the kernel an errno alone."""

from __future__ import annotations

from . import facts
from .form import START, Rule

CREATE_EINVAL = (
    r"map '(?P<map>[^']*)': failed to create[^\n]*: (?:Invalid argument|-?EINVAL|-22\b|[^\n]*\b524\b"
    r"|Operation not supported)"
)

RULES = (
    Rule(
        "memlock",
        r"failed to create: (?:Operation not permitted|-1\b|-?EPERM)|RLIMIT_MEMLOCK|ulimit -l",
        "the limit for locked memory is too small for this map or program",
        "Before Linux 5.11 maps and programs count against RLIMIT_MEMLOCK.",
        "Raise it for the loader: LimitMEMLOCK=infinity in its unit, or ulimit -l unlimited.",
        when=(facts.BEFORE_5_11, facts.errno("EPERM")),
        blame=START,
    ),
    Rule(
        "map_too_big",
        r"map '(?P<map>[^']*)': failed to create[^\n]*: (?:Argument list too long|-?E2BIG|-7\b)",
        "map {map} is larger than the kernel allows",
        "Its key or value is over the kernel's size limit (a few MiB; 32 KiB where per CPU), or entries times "
        "size overflow.",
        "Make the value smaller: split it over several entries; or set a smaller max_entries.",
        blame=START,
    ),
    Rule(
        "map_no_memory",
        r"map '(?P<map>[^']*)': failed to create[^\n]*: (?:Cannot allocate memory|-?ENOMEM|-12\b)",
        "there is not enough memory for map {map}",
        "Entries times size, times possible CPUs for per-CPU maps, is more than the host or its memory cgroup has.",
        "Set a smaller max_entries, or BPF_F_NO_PREALLOC for a hash that stays nearly empty; or give the host more "
        "memory.",
        blame=START,
    ),
    Rule(
        "missing_capability",
        r"map '(?P<map>[^']*)': failed to create[^\n]*: (?:Operation not permitted|-?EPERM|-1\b)",
        "the process may not create map {map}: {capabilities} needed",
        "Maps need CAP_BPF (some kinds CAP_NET_ADMIN or CAP_SYS_ADMIN). libbpf's advice about ulimit -l is wrong since "
        "Linux 5.11.",
        "Give the loader {capabilities}, or load as root outside a container that drops them.",
        blame=START,
    ),
    Rule(
        "map_shape",
        CREATE_EINVAL,
        "map {map} is not defined as its type {type} demands: {demand}",
        "Each type of map has rules of its own; of a breach the kernel says only that the request is invalid.",
        "Define it so: {write}",
        when=(
            facts.demanded("(?P<demand>.+)", "(?P<write>.+)"),
            facts.map_type(r"(?P<type>\w+)"),
        ),
        blame=START,
    ),
    Rule(
        "map_unsized",
        CREATE_EINVAL,
        "map {map} has no max_entries: the object leaves it to the loader",
        "Whoever wrote the program sizes this map before the load, by the number of CPUs, tasks or rules on the host.",
        "Size it: maps: {{ {map}: {{ max_entries: 10240 }} }}; or write __uint(max_entries, 10240) in its definition.",
        when=(facts.unsized("max_entries"),),
        blame=START,
    ),
    Rule(
        "map_unsized",
        CREATE_EINVAL,
        "map {map} has no {size}: the object leaves it to the loader",
        "Whoever wrote the program sets it before the load, such as the depth of the stacks that the map keeps.",
        "Write it into the map's definition: __uint({size}, 127 * sizeof(__u64)) for stack traces, or __type(…).",
        when=(facts.unsized("(?P<size>(?:key|value)_size)"),),
        blame=START,
    ),
    Rule(
        "inner_map_undefined",
        CREATE_EINVAL,
        "map {map} holds maps, and nothing says of what kind",
        "A map of maps is created with one inner map as the pattern of all; its definition lacks the inner one.",
        "Define it in the outer: __array(values, struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); "
        "__type(key, __u32); __type(value, __u64); }});",
        when=(facts.map_type(r"\w+_of_maps"),),
        blame=START,
    ),
    Rule(
        "unsupported_map_type",
        CREATE_EINVAL,
        "this kernel has no maps of type {type}, which map {map} is",
        "A small map of this type was tried as well and refused: the type is newer than the kernel or not configured.",
        "Use a type that this kernel has, such as BPF_MAP_TYPE_HASH, or another kernel.",
        when=(facts.map_type(r"(?P<type>\w+)"), facts.MAP_TYPE_REFUSED),
        blame=START,
    ),
    Rule(
        "unsupported_map_type",
        CREATE_EINVAL,
        "this kernel does not create map {map}: its type is unknown here, or a size or flag does not suit the type",
        "The kernel says no more than that the request is invalid. A map of maps also needs its inner map defined.",
        "Use a type that this kernel has, such as BPF_MAP_TYPE_HASH, with max_entries above 0 (a ring buffer's: pages, "
        "a power of two).",
        blame=START,
    ),
)
