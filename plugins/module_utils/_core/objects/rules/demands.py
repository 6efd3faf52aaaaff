# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What the kernel demands of each map type's definition, and refuses with a bare EINVAL."""

from __future__ import annotations

import mmap

# What the kernel demands of each type's definition (map_alloc_check and map_alloc in kernel/bpf, net/core/sock_map.c)
# and refuses with a bare EINVAL: types, how a breach shows, what is demanded, what to write. Sizes of 0 are not among
# them: whoever leaves a size out most often means the loader to set it.
NO_PREALLOC, NO_COMMON_LRU, MMAPABLE = 1 << 0, 1 << 1, 1 << 10  # map_flags
STORAGE = "(?:sk|inode|task|cgrp)_storage"
INDEXED = (
    r"(?:percpu_)?array|(?:prog|perf_event|cgroup)_array|array_of_maps|devmap\w*|cpumap|xskmap|sockmap"
    r"|reuseport_sockarray|stack_trace"
)
DEMANDS = (
    (
        STORAGE,
        lambda shape: not shape.flags & NO_PREALLOC,
        "it needs the flag BPF_F_NO_PREALLOC",
        "__uint(map_flags, BPF_F_NO_PREALLOC);",
    ),
    (STORAGE, lambda shape: shape.key_size not in (0, 4), "its key is an int", "__type(key, int);"),
    (
        STORAGE + "|(?:percpu_)?cgroup_storage",
        lambda shape: shape.max_entries,
        "it has no max_entries, because it grows with what it belongs to",
        "it without max_entries",
    ),
    (
        "(?:percpu_)?cgroup_storage",
        lambda shape: shape.key_size not in (0, 8, 16),
        "its key is the cgroup",
        "__type(key, struct bpf_cgroup_storage_key);",
    ),
    (
        "lpm_trie",
        lambda shape: not shape.flags & NO_PREALLOC,
        "it needs the flag BPF_F_NO_PREALLOC",
        "__uint(map_flags, BPF_F_NO_PREALLOC);",
    ),
    (
        "lpm_trie",
        lambda shape: shape.key_size and not 5 <= shape.key_size <= 260,
        "its key is a __u32 with the prefix's length, then 1 to 256 bytes",
        "__type(key, struct { __u32 prefixlen; __u8 address[4]; });",
    ),
    (
        r"lru_\w+|(?!arena)\w*array\w*|queue|stack|stack_trace|(?:user_)?ringbuf|devmap\w*|cpumap|xskmap|sock\w+",
        lambda shape: shape.flags & NO_PREALLOC,
        "it cannot have the flag BPF_F_NO_PREALLOC",
        "it without that flag",
    ),
    (
        r"(?!lru_)\w+",
        lambda shape: shape.flags & NO_COMMON_LRU,
        "only LRU hashes can have the flag BPF_F_NO_COMMON_LRU",
        "it without that flag",
    ),
    (
        r"(?!array$|arena$|struct_ops$)\w+",
        lambda shape: shape.flags & MMAPABLE,
        "only a plain array can have the flag BPF_F_MMAPABLE",
        "it without that flag, or with type BPF_MAP_TYPE_ARRAY",
    ),
    ("queue|stack|bloom_filter", lambda shape: shape.key_size, "it has no key", "__type(value, …); alone"),
    (
        "(?:user_)?ringbuf",
        lambda shape: shape.key_size or shape.value_size,
        "it has neither key nor value",
        "type and max_entries alone",
    ),
    (
        "(?:user_)?ringbuf",
        lambda shape: shape.max_entries & (shape.max_entries - 1) or shape.max_entries % mmap.PAGESIZE,
        "its max_entries are bytes: pages, in a power of two",
        "__uint(max_entries, 256 * 1024);",
    ),
    (INDEXED, lambda shape: shape.key_size not in (0, 4), "its key is an index of 4 bytes", "__type(key, __u32);"),
    (
        r"(?:prog|perf_event|cgroup)_array|\w+_of_maps|xskmap",
        lambda shape: shape.value_size not in (0, 4),
        "its value is a __u32",
        "__type(value, __u32);",
    ),
    (
        r"devmap\w*|cpumap|sockmap|sockhash|reuseport_sockarray",
        lambda shape: shape.value_size not in (0, 4, 8),
        "its value has 4 or 8 bytes",
        "__type(value, __u32);",
    ),
    (
        "stack_trace",
        lambda shape: shape.value_size % 8,
        "its value is an array of addresses",
        "__uint(value_size, 127 * sizeof(__u64));",
    ),
)
