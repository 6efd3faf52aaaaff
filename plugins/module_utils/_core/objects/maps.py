# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A map's shape against the pinned one: may the new release go on with the entries of the old?

libbpf compares type, sizes, entries and flags before it uses a pinned map again, and not what the bytes of keys and
values mean: {packets, bytes} over {bytes, packets} passes there. What to do about a difference (copy, merge, refuse) is
the caller's decision; entries are the business of entries.py.
"""

from __future__ import annotations

import mmap
from typing import Any, NamedTuple, Optional

from ..kernel import bpf, btf

# enum bpf_map_type: by number, because libbpf before 1.0 has no names for them
ARRAY, PROG_ARRAY, PERF_EVENT_ARRAY, PERCPU_ARRAY, LPM_TRIE = 2, 3, 4, 6, 11
DEVMAP, DEVMAP_HASH, RINGBUF, USER_RINGBUF = 14, 25, 27, 31
OF_MAPS = {12, 13}  # array_of_maps, hash_of_maps
OF_OTHERS = OF_MAPS | {PROG_ARRAY}
WITHOUT_SIZE = {19, 21, 24, 28, 29, 32}  # storage of cgroups, sockets, inodes, tasks: it grows with these, and says 0
MAY_SAY_0 = WITHOUT_SIZE | {4, 26}  # libbpf knows better for perf_event_array and struct_ops
# libbpf creates these without BTF, whatever the object says (bpf_object__create_map): perf_event_array, stack_trace,
# cgroup_array, array_of_maps, hash_of_maps, devmap, sockmap, cpumap, xskmap, sockhash, queue, stack, devmap_hash, arena
MADE_WITHOUT_BTF = {4, 7, 8, 12, 13, 14, 15, 16, 17, 18, 22, 23, 25, 33}

NO_LAYOUT = {"kind": "void"}  # what btf.layout gives for type id 0

RDONLY_PROG, MMAPABLE = 1 << 7, 1 << 10
FLAGS = {
    1 << 0: "BPF_F_NO_PREALLOC",
    1 << 1: "BPF_F_NO_COMMON_LRU",
    1 << 2: "BPF_F_NUMA_NODE",
    1 << 3: "BPF_F_RDONLY",
    1 << 4: "BPF_F_WRONLY",
    1 << 5: "BPF_F_STACK_BUILD_ID",
    1 << 6: "BPF_F_ZERO_SEED",
    RDONLY_PROG: "BPF_F_RDONLY_PROG",
    1 << 8: "BPF_F_WRONLY_PROG",
    1 << 9: "BPF_F_CLONE",
    MMAPABLE: "BPF_F_MMAPABLE",
    1 << 11: "BPF_F_PRESERVE_ELEMS",
    1 << 12: "BPF_F_INNER_MAP",
    1 << 13: "BPF_F_LINK",
}
INTERNAL = {"data", "bss", "rodata", "kconfig"}


class Shape(NamedTuple):
    """What two maps must share for one to take the other's place. Sizes in bytes; a layout is None without BTF.

    `is_filled`: the object says what programs or maps lie in it (`.values = …`), and each load puts them there.
    """

    name: str
    type: int
    type_name: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    key_layout: Any = None
    value_layout: Any = None
    is_filled: bool = False


def of_kernel(fd: int, name: str) -> Shape:
    """The Shape of a map that is in the kernel, under its own name: the kernel's is cut to 15 letters."""
    info = bpf.map_info(fd)
    data = bpf.btf_bytes(info.btf_id)
    types = btf.parse(data) if data else None
    return Shape(
        name=name,
        type=info.type_number,
        type_name=info.type,
        key_size=info.bytes_key,
        value_size=info.bytes_value,
        max_entries=info.max_entries,
        flags=info.flags,
        key_layout=layout_of(types, info.btf_key_type_id),
        value_layout=layout_of(types, info.btf_value_type_id),
    )


def is_own(shape: Shape) -> bool:
    """Whether the map belongs to its load, and no other may share it: what lies in it is of one release.

    libbpf writes what an object fills into a map that it uses again, too: loading alone would change what runs.
    """
    return shape.is_filled or shape.type == PROG_ARRAY


def layout_of(types: Optional[btf.Btf], type_id: int) -> Optional[dict]:
    """The layout of a map's key or value; None without BTF (types None, id 0)."""
    return btf.layout(types, type_id) if types is not None and type_id else None


def differences(old: Shape, new: Shape, cpus: int = 0, page_size: int = mmap.PAGESIZE) -> list:
    """What keeps `new` from using the entries of `old`, a sentence each: "max_entries: 2048, was 1024"; empty: nothing.

    What libbpf and the kernel change by themselves at creation is no difference: a ring's size is rounded up, a
    perf_event_array of 0 entries has one for each CPU (`cpus`; 0: not known, not compared), some flags are added, and
    some kinds of map lose their BTF.
    """
    lines = []
    if old.type != new.type:
        lines.append(f"type: {new.type_name}, was {old.type_name}")
    comparable = _layouts_are_comparable(old, new)
    for part in ("key", "value"):
        lines += _part_differences(old, new, part, comparable)
    before, after = (entries_in_kernel(shape, cpus, page_size) for shape in (old, new))
    if before != after and None not in (before, after):
        lines.append(f"max_entries: {after}, was {before}")
    if _flags(old) != _flags(new):
        lines.append(f"flags: {_flag_names(_flags(new))}, was {_flag_names(_flags(old))}")
    return lines


def entries_in_kernel(shape: Shape, cpus: int, page_size: int) -> Optional[int]:
    """max_entries as the kernel has it in the end; None where that cannot be told."""
    if shape.type == PERF_EVENT_ARRAY and not shape.max_entries:
        return cpus or None
    if shape.type in (RINGBUF, USER_RINGBUF):
        return _ring_size(shape.max_entries, page_size)
    return shape.max_entries


def as_record(shape: Shape) -> dict:
    """The shape as plain data, for a manifest."""
    return shape._asdict()


def from_record(record: dict) -> Shape:
    """The shape that was written down; fields that a later version added are left out."""
    return Shape(**{key: value for key, value in record.items() if key in Shape._fields})


def _part_differences(old, new, part, comparable):
    lines = []
    if comparable:
        layouts = (getattr(shape, f"{part}_layout") or NO_LAYOUT for shape in (old, new))
        lines = btf.differences(*layouts, path=part)
    before, after = (getattr(shape, f"{part}_size") for shape in (old, new))
    if before != after and not lines:
        lines = [f"{part}: {after} bytes, was {before}"]
    return lines


def _layouts_are_comparable(old, new):
    """Whether a missing layout says something: not where the other map would have lost its own at creation too."""
    bare = [_is_bare(shape) for shape in (old, new)]
    if all(bare):
        return False
    return not any(bare) or not _loses_btf(new if bare[0] else old)


def _is_bare(shape):
    return shape.key_layout is None and shape.value_layout is None


def _loses_btf(shape):
    """Whether a map is made without the BTF that its object has for it.

    The kernel takes BTF only for arrays whose key is an int of 32 bits and for tries whose key is a struct
    (array_map_check_btf, trie_check_btf). An enum as an array's key is EINVAL, and libbpf tries again without BTF.
    """
    key = shape.key_layout
    if shape.type in (ARRAY, PERCPU_ARRAY):
        if key is None:
            return shape.max_entries != 1  # .data and its like: a value, no key
        return key["kind"] != "int" or key["size"] != 4
    if shape.type == LPM_TRIE:
        return key is None or key["kind"] != "struct"
    return shape.type in MADE_WITHOUT_BTF


def _ring_size(size, page_size):
    rounded = page_size
    while rounded < size:
        rounded *= 2
    return rounded if size else 0


def _flags(shape):
    """The flags that the author chose, without those that come by themselves."""
    if shape.type in (DEVMAP, DEVMAP_HASH):
        return shape.flags & ~RDONLY_PROG  # dev_map_init_map: lookups give a pointer into the kernel's own entry
    is_internal = shape.type == ARRAY and shape.max_entries == 1 and _section(shape.name) in INTERNAL
    return shape.flags & ~(RDONLY_PROG | MMAPABLE) if is_internal else shape.flags


def _section(name):
    """The section behind an internal map's name: "rodata" for .rodata.str1, prog.rodata and rodata."""
    return next((part for part in name.split(".") if part in INTERNAL), "")


def _flag_names(flags):
    names = [name for bit, name in FLAGS.items() if flags & bit]
    rest = flags & ~sum(FLAGS)
    return " | ".join(names + ([hex(rest)] if rest else [])) or "none"
