# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""How much memory the kernel takes for a map, told before it is created: what fdinfo's memlock will say of it, exactly.

Each sum is the kernel's own (map_mem_usage of its kind, since 6.4), with the sizes of its structs out of its BTF. Where
the kernel keeps no such sums, or a kind is not known here, nothing is told, and `least` remains. Whether there is so
much memory is asked at the end.
"""

from __future__ import annotations

import mmap
from collections.abc import Container, Sequence
from typing import NamedTuple, Optional

from ..errors import NoMemory
from ..kernel import available, bpf, btf
from . import cost, maps

POINTER = 8
LOCKS = 8 * 4  # HASHTAB_MAP_LOCK_COUNT ints, for each CPU
NO_PREALLOC, NO_COMMON_LRU, MMAPABLE = 1 << 0, 1 << 1, 1 << 10

# enum bpf_map_type, as maps.py has some of them
HASH, ARRAY, PROG_ARRAY, PERF_EVENT_ARRAY, PERCPU_HASH, PERCPU_ARRAY, STACK_TRACE, CGROUP_ARRAY = range(1, 9)
LRU_HASH, LRU_PERCPU_HASH, LPM_TRIE, ARRAY_OF_MAPS, HASH_OF_MAPS, DEVMAP, SOCKMAP, CPUMAP, XSKMAP = range(9, 18)
SOCKHASH, CGROUP_STORAGE, REUSEPORT, PERCPU_CGROUP_STORAGE, QUEUE, STACK, SK_STORAGE, DEVMAP_HASH = range(18, 26)
RINGBUF, INODE_STORAGE, TASK_STORAGE, USER_RINGBUF, CGRP_STORAGE = 27, 28, 29, 31, 32
GROWING = {LPM_TRIE, SOCKHASH, DEVMAP, DEVMAP_HASH}
HASHES = {HASH, PERCPU_HASH, HASH_OF_MAPS}  # with BPF_F_NO_PREALLOC
PER_CPU_HASHES, LRU_HASHES = {PERCPU_HASH, LRU_PERCPU_HASH}, {LRU_HASH, LRU_PERCPU_HASH}


class Forecast(NamedTuple):
    """Bytes of a map once it is created, and once it is full where it grows with its entries.

    `uncharged` of the first are per-CPU memory that no cgroup is charged with: a per-CPU array of 168 MB was created in
    a cgroup limited to 64 MB (6.18).
    """

    created: int
    full: int
    uncharged: int = 0


class Need(NamedTuple):
    """What a map that is to be created takes of this host. Without a forecast `created` is the least that it takes."""

    name: str
    created: int
    uncharged: int
    forecast: Optional[Forecast]


class Kernel:
    """What the sums are made with: sizes from the kernel's BTF, possible CPUs, the size of a page."""

    def __init__(self, types, cpus, page):
        self.types, self.cpus, self.page = types, cpus, page
        ops = types.find("bpf_map_ops", "struct")
        self.keeps_sums = ops is not None and "map_mem_usage" in types.members(ops)  # 6.4, 90a5527d7686

    def size(self, struct: str) -> int:
        """Bytes of a struct; LookupError where this kernel has none."""
        found = self.types.find(struct, "struct")
        if found is None:
            raise LookupError(struct)
        return self.types.size(found)

    def has_function(self, name: str) -> bool:
        return self.types.find(name, "func") is not None


def of_this_host() -> Optional[Kernel]:
    """The Kernel that runs here, or None where it has no BTF. Reading it costs 50 ms."""
    try:
        with open(bpf.KERNEL_BTF, "rb") as stream:
            return Kernel(btf.parse(stream.read()), bpf.possible_cpus(), mmap.PAGESIZE)
    except (OSError, ValueError):
        return None


def needs(shapes: Sequence) -> list:
    """The Need of each map that is to be created on this host."""
    kernel = of_this_host() if shapes else None
    return [_need(shape, forecast(shape, kernel)) for shape in shapes]


def _need(shape, told):
    if told is not None:
        return Need(shape.name, told.created, told.uncharged, told)
    return Need(shape.name, *least(shape, bpf.possible_cpus()), None)


def admitted(shapes: Sequence, shared: Container = (), limits: Optional[dict] = None) -> list:
    """The needs of all maps, after those that are not `shared` fit this host, and all of them the user's limits.

    Raises BeyondLimits (cost.py) by what is told exactly, so that the kernel's own figure decides the rest.
    """
    wanted = needs(shapes)
    cost.expect_maps_within(limits or {}, {need.name: need.created for need in wanted if need.forecast})
    expect_room([need for need in wanted if need.name not in shared])
    return wanted


def expect_room(wanted: Sequence) -> None:
    """The maps fit what memory the host has, and what this process's cgroups leave it; NoMemory names the largest.

    A map far beyond the memory is not always refused by the kernel: 6.18 oopses in array_map_alloc for a per-CPU array
    of 2^31 entries and keeps what it had taken by then; a 4.8 GB array is granted and the OOM killer called later.
    """
    needed, host = sum(need.created for need in wanted), available.memory()
    if needed > host:
        raise _no_room(wanted, needed, f"this host has {_mib(host)} available", bytes_available=host)
    charged, limit = needed - sum(need.uncharged for need in wanted), available.limit()
    if limit and charged > limit.available:
        raise _no_room(wanted, charged, _left_by(limit), cgroup=limit.cgroup, bytes_available=limit.available)


def outgrowing(shapes: Sequence) -> list:
    """A sentence on the maps that take memory with each entry, where full they need more than there is; none else.

    Created they are small, and what comes later is ENOMEM for a program's update, or the OOM killer.
    """
    growing = [
        shape for shape in shapes if shape.type in GROWING or (shape.type in HASHES and shape.flags & NO_PREALLOC)
    ]
    room, where = _room() if growing else (0, "")
    if sum(map(_at_most, growing)) <= room:
        return []
    kernel = of_this_host()
    told = {shape.name: forecast(shape, kernel) for shape in growing}
    full = {name: row.full for name, row in told.items() if row}
    if sum(full.values()) <= room:
        return []
    largest = max(full, key=full.get)
    together = f", together with the others that grow {_mib(sum(full.values()))}" if len(full) > 1 else ""
    return [f"Map {largest} grows with its entries: full it takes {_mib(full[largest])}{together}, and {where}"]


def _room():
    """(bytes that are left, in words where): of the host or of the narrowest cgroup."""
    host, limit = available.memory(), available.limit()
    if limit and limit.available < host:
        return limit.available, _left_by(limit)
    return host, f"this host has {_mib(host)} available"


def _left_by(limit):
    return f"cgroup {limit.cgroup}, in which Ansible works, leaves {_mib(limit.available)} of its {_mib(limit.limit)}"


def _at_most(shape):
    """Bytes that a map never exceeds: with heads, links and buckets of each entry that are larger than any kernel's."""
    return shape.max_entries * (512 + bpf.padded(shape.key_size) + bpf.padded(shape.value_size) * bpf.possible_cpus())


def _no_room(wanted, needed, but, **detail):
    largest = max(wanted, key=lambda need: need.created)
    exactly = "" if all(need.forecast for need in wanted) else "at least "
    return NoMemory(
        f"The object's maps need {exactly}{_mib(needed)}, and {but}",
        f"Lower max_entries of map {largest.name}, which needs {_mib(largest.created)}",
        map=largest.name,
        bytes_needed=needed,
        **detail,
    )


def _mib(size):
    return f"{size / (1 << 20):.1f} MiB" if size < 100 << 20 else f"{size >> 20} MiB"


def forecast(shape: maps.Shape, kernel: Optional[Kernel]) -> Optional[Forecast]:
    """The Forecast of a map (maps.Shape), None where it cannot be told exactly."""
    if kernel is None or not kernel.keeps_sums or shape.type not in SUMS:
        return None
    entries = maps.entries_in_kernel(shape, kernel.cpus, kernel.page)
    try:
        return SUMS[shape.type](shape._replace(max_entries=entries), kernel)
    except LookupError:
        return None


# ---- the sums, by kind ---------------------------------------------------------------------------


def _array(shape, kernel):
    head, element = kernel.size("bpf_array"), bpf.padded(shape.value_size)
    if shape.type == PERCPU_ARRAY:
        values = shape.max_entries * element * kernel.cpus
        return _fixed(head + shape.max_entries * POINTER + values, values)
    if shape.flags & MMAPABLE:
        return _fixed(_rounded(head, kernel.page) + _rounded(shape.max_entries * element, kernel.page))
    return _fixed(head + shape.max_entries * element)


def _hash(shape, kernel):
    is_per_cpu, is_lru = shape.type in PER_CPU_HASHES, shape.type in LRU_HASHES
    count = _lru_entries(shape, kernel.cpus) if is_lru else shape.max_entries
    value = bpf.padded(shape.value_size)
    element = kernel.size("htab_elem") + bpf.padded(shape.key_size) + (POINTER if is_per_cpu else value)
    values = value * kernel.cpus if is_per_cpu else 0
    head = kernel.size("bpf_htab") + kernel.size("bucket") * _power_of_two(count) + LOCKS * kernel.cpus
    if shape.flags & NO_PREALLOC:
        links = POINTER if not is_per_cpu else POINTER + POINTER + POINTER  # struct llist_node, and a pointer
        return Forecast(head, head + count * (element + links + values))
    if not is_per_cpu and not is_lru:
        head += POINTER * kernel.cpus
    if not is_per_cpu and not is_lru and not _updates_in_place(shape, kernel):
        count += kernel.cpus  # one more for each CPU, for updates
    return _fixed(head + count * (element + values), count * values)


def _updates_in_place(shape, kernel):
    """Whether a hash of maps needs no more elements for updates: since 6.15."""
    return shape.type == HASH_OF_MAPS and kernel.has_function("htab_map_update_elem_in_place")


def _lru_entries(shape, cpus):
    if not shape.flags & NO_COMMON_LRU:
        return shape.max_entries
    return _rounded(shape.max_entries, cpus)


def _trie(shape, kernel):
    element = kernel.size("lpm_trie_node") + shape.key_size - 4 + shape.value_size  # the key begins with its length
    return Forecast(0, element * shape.max_entries)


def _ring(shape, kernel):
    ring = kernel.types.find("bpf_ringbuf", "struct")
    if ring is None:
        raise LookupError("bpf_ringbuf")
    first = kernel.types.members(ring)["consumer_pos"].first_bit // 8 // kernel.page
    control, data = first + 2, shape.max_entries // kernel.page  # RINGBUF_NR_META_PAGES; the data is mapped twice
    pages = (control + data) * kernel.page
    return _fixed(kernel.size("bpf_ringbuf_map") + pages + (control + 2 * data) * POINTER)


def _queue(shape, kernel):
    return _fixed(kernel.size("bpf_queue_stack") + (shape.max_entries + 1) * shape.value_size)


def _stack_trace(shape, kernel):
    bucket, count = kernel.size("stack_map_bucket"), shape.max_entries
    head = kernel.size("bpf_stack_map") + _power_of_two(count) * POINTER
    return _fixed(head + count * (bucket + shape.value_size))


def _pointers(struct):
    """The sum of a kind that is a struct and a pointer for each entry."""
    return lambda shape, kernel: _fixed(kernel.size(struct) + shape.max_entries * POINTER)


def _devmap(shape, kernel):
    slots = _power_of_two(shape.max_entries) if shape.type == DEVMAP_HASH else shape.max_entries
    head = kernel.size("bpf_dtab") + slots * POINTER
    return Forecast(head, head + shape.max_entries * kernel.size("bpf_dtab_netdev"))


def _sockhash(shape, kernel):
    head = kernel.size("bpf_shtab") + _power_of_two(shape.max_entries) * kernel.size("bpf_shtab_bucket")
    return Forecast(head, head + shape.max_entries * (kernel.size("bpf_shtab_elem") + bpf.padded(shape.key_size)))


SUMS = {
    **dict.fromkeys((ARRAY, PERCPU_ARRAY, PROG_ARRAY, PERF_EVENT_ARRAY, CGROUP_ARRAY, ARRAY_OF_MAPS), _array),
    **dict.fromkeys((HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH, HASH_OF_MAPS), _hash),
    **dict.fromkeys((RINGBUF, USER_RINGBUF), _ring),
    **dict.fromkeys((QUEUE, STACK), _queue),
    **dict.fromkeys((DEVMAP, DEVMAP_HASH), _devmap),
    LPM_TRIE: _trie,
    STACK_TRACE: _stack_trace,
    SOCKHASH: _sockhash,
    SOCKMAP: _pointers("bpf_stab"),
    CPUMAP: _pointers("bpf_cpu_map"),
    XSKMAP: _pointers("xsk_map"),
    REUSEPORT: _pointers("reuseport_array"),
}


def least(shape: maps.Shape, cpus: int) -> tuple:
    """(bytes that the kernel takes at the least, those that no cgroup is charged with), whatever kernel it is."""
    value, element = bpf.padded(shape.value_size), 48 + bpf.padded(shape.key_size)  # struct htab_elem on 64 bit
    shared, own = {
        ARRAY: (value, 0),
        PERCPU_ARRAY: (POINTER, value * cpus),
        HASH: (element + value, 0),
        LRU_HASH: (element + value, 0),
        PERCPU_HASH: (element + POINTER, value * cpus),
        LRU_PERCPU_HASH: (element + POINTER, value * cpus),
        PROG_ARRAY: (POINTER, 0),
        PERF_EVENT_ARRAY: (POINTER, 0),
        ARRAY_OF_MAPS: (POINTER, 0),
        RINGBUF: (1, 0),
    }.get(shape.type, (0, 0))
    count = 0 if shape.type in (HASH, PERCPU_HASH) and shape.flags & NO_PREALLOC else shape.max_entries
    return count * (shared + own), count * own


def _fixed(size, uncharged=0):
    return Forecast(size, size, uncharged)


def _rounded(size, to):
    return (size + to - 1) // to * to


def _power_of_two(number):
    return 1 << max(0, number - 1).bit_length()
