# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Programs, maps, links and BTF as calls over file descriptors; records with bpftool's field names.

Every function is one question to the kernel or one change in it, and raises OSError as the kernel put it. Nothing here
knows what a deployment is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import NamedTuple, Optional

from . import libbpf

# enum bpf_prog_type, bpf_attach_type, bpf_link_type, bpf_map_type: only those that we decide on, by UAPI number
PROG_KPROBE, PROG_SCHED_CLS, PROG_TRACEPOINT, PROG_XDP, PROG_PERF_EVENT, PROG_CGROUP_SKB = 2, 3, 5, 6, 7, 8
PROG_RAW_TRACEPOINT, PROG_FLOW_DISSECTOR, PROG_TRACING, PROG_EXT, PROG_LSM = 17, 22, 26, 28, 29
PROG_SK_LOOKUP, PROG_NETFILTER = 30, 32
ATTACH_CGROUP_INGRESS, ATTACH_CGROUP_EGRESS = 0, 1
ATTACH_TRACE_RAW_TP, ATTACH_TRACE_FENTRY, ATTACH_TRACE_FEXIT, ATTACH_MODIFY_RETURN = 23, 24, 25, 26
ATTACH_LSM_MAC, ATTACH_TRACE_ITER = 27, 28
ATTACH_FLOW_DISSECTOR, ATTACH_SK_LOOKUP, ATTACH_XDP, ATTACH_PERF_EVENT = 17, 36, 37, 41
ATTACH_NETFILTER, ATTACH_TCX_INGRESS, ATTACH_TCX_EGRESS, ATTACH_NETKIT_PRIMARY, ATTACH_NETKIT_PEER = 45, 46, 47, 54, 55
# whose queries tell links, and in what order they run
IN_ORDER = {ATTACH_TCX_INGRESS, ATTACH_TCX_EGRESS, ATTACH_NETKIT_PRIMARY, ATTACH_NETKIT_PEER}
LINK_RAW_TRACEPOINT, LINK_TRACING, LINK_ITER = 1, 2, 4
LINK_CGROUP, LINK_NETNS, LINK_XDP, LINK_PERF_EVENT, LINK_NETFILTER, LINK_TCX, LINK_NETKIT = 3, 5, 6, 7, 10, 11, 13
F_BEFORE, F_AFTER, F_ID = 1 << 3, 1 << 4, 1 << 5  # BPF_F_BEFORE, BPF_F_AFTER, BPF_F_ID
MAP_PER_CPU = {5, 6, 10, 21}  # percpu_hash, percpu_array, lru_percpu_hash, percpu_cgroup_storage
NOEXIST = 1  # BPF_NOEXIST: add the entry, and EEXIST where it is
F_LOCK = 1 << 2  # BPF_F_LOCK
SMALLEST_PACKET = 14  # bytes of an Ethernet header, which BPF_PROG_TEST_RUN wants at the least
KERNEL_BTF = "/sys/kernel/btf/vmlinux"  # where the kernel shows its own types
F_REPLACE = 1 << 2  # BPF_F_REPLACE: update the link only if it runs old_prog_fd
BPF_PROG_QUERY, BPF_LINK_CREATE = 16, 28  # enum bpf_cmd
PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT = 1, 2  # enum perf_type_id
PERF_COUNT_SW_CPU_CLOCK, PERF_BY_FREQUENCY = 0, 1 << 10  # enum perf_sw_ids, perf_event_attr.freq
PERF_EVENT_TRACEPOINT, PERF_EVENT_PROBES = 5, {1: "uprobe", 2: "uretprobe", 3: "kprobe", 4: "kretprobe"}
PMUS = "/sys/bus/event_source/devices"  # what events can be of, as the kernel shows them
IOC_QUERY_BPF, MOST_AT_EVENT = 0xC008240A, 64  # PERF_EVENT_IOC_QUERY_BPF, BPF_TRACE_MAX_PROGS
TC_POINTS = {"ingress": 1, "egress": 2}  # enum bpf_tc_attach_point
TC_REPLACE = 1  # BPF_TC_F_REPLACE
LONGEST_PATH = 4096  # PATH_MAX
PASSES = 4  # over a map whose entries come and go while it is read
ENOTSUPP = 524  # the kernel's own, which libc does not know

# What libbpf before 1.3 cannot spell. Number -> bpftool's name.
NEWER_NAMES = {
    "libbpf_bpf_attach_type_str": {
        45: "netfilter",
        46: "tcx_ingress",
        47: "tcx_egress",
        54: "netkit_primary",
        55: "netkit_peer",
    },
    "libbpf_bpf_link_type_str": {10: "netfilter", 11: "tcx", 12: "uprobe_multi", 13: "netkit", 14: "sockmap"},
    "libbpf_bpf_prog_type_str": {32: "netfilter"},
    "libbpf_bpf_map_type_str": {33: "arena", 34: "insn_array"},
}


# The attach type of program types that have but one, as libbpf sets it by their section
OWN_ATTACH_TYPE = {PROG_XDP: 37, 13: 3, 15: 6, 16: 7, 20: 16, 22: 17, 23: 18, 29: 27, 30: 36, 32: 45}
MOST_TYPES = 128  # numbers to try when all names are wanted; Linux 7.0 has 33 program types and 60 attach types


class Fd:
    """A file descriptor that is closed when its `with` ends."""

    def __init__(self, number):
        self.number = number

    def __enter__(self):
        return self.number

    def __exit__(self, *dummy):
        self.close()

    def close(self):
        if self.number is not None:
            os.close(self.number)
            self.number = None


class Program(NamedTuple):
    """A loaded program as `bpftool prog show` names its fields; sizes in bytes, loaded_at in ns since boot."""

    id: int
    type: str
    name: str
    tag: str
    gpl_compatible: bool
    loaded_at: int
    uid: int
    bytes_xlated: int
    bytes_jited: int
    map_ids: tuple
    btf_id: int
    verified_insns: int
    run_time_ns: int
    run_cnt: int


class Map(NamedTuple):
    """A map as `bpftool map show` names its fields; sizes in bytes; type_number is enum bpf_map_type."""

    id: int
    type: str
    name: str
    flags: int
    bytes_key: int
    bytes_value: int
    max_entries: int
    btf_id: int
    btf_key_type_id: int
    btf_value_type_id: int
    type_number: int


class Link(NamedTuple):
    """A link. ifindex is 0 for a severed xdp or tcx one, cgroup_id for a severed cgroup one, netns_ino for one of a
    network namespace; None where not theirs.

    What is attached without a link is a pinned program, which `kept` tells as one of id 0. Of an attachment with
    several links each has a `part`, and the first one has the `others`.
    """

    id: int
    type: str
    prog_id: int
    ifindex: Optional[int] = None
    cgroup_id: Optional[int] = None
    attach_type: Optional[int] = None
    netns_ino: Optional[int] = None
    netfilter: Optional[tuple] = None  # (family, hook, priority), the kernel's numbers
    tracepoint: str = ""  # the event's name without its category, which the kernel tells since 6.6; of a raw one, 5.8
    probe: Optional[tuple] = None  # (its kind, function or path, offset) of a probe, which the kernel tells since 6.6
    cookie: Optional[int] = None  # of a uprobe, 6.9
    target_btf_id: Optional[int] = None  # of the function that a tracing link is at; 0 before 5.13
    part: str = ""
    others: tuple = ()

    @property
    def is_severed(self):
        """Whether what it was attached to is gone: it holds a program that never runs."""
        return 0 in (self.ifindex, self.cgroup_id, self.netns_ino) or any(link.is_severed for link in self.others)

    @property
    def prog_ids(self):
        """The ids of the programs of all its links: one, but where a change of several was cut."""
        return frozenset((self.prog_id, *(link.prog_id for link in self.others)))


# ---- names ---------------------------------------------------------------------------------------


def prog_type_name(number):
    return _name("libbpf_bpf_prog_type_str", number)


def map_type_name(number):
    return _name("libbpf_bpf_map_type_str", number)


def link_type_name(number):
    return _name("libbpf_bpf_link_type_str", number)


def attach_type_name(number):
    return _name("libbpf_bpf_attach_type_str", number)


def prog_types():
    """{name: number} of the program types that this libbpf has names for."""
    return _numbers("libbpf_bpf_prog_type_str")


def map_types():
    return _numbers("libbpf_bpf_map_type_str")


def attach_types():
    return _numbers("libbpf_bpf_attach_type_str")


def section_type(section):
    """The name of the program type that libbpf reads out of a section's name, or "" where it reads none."""
    number, attach = libbpf.i32(), libbpf.i32()
    try:
        libbpf.call("libbpf_prog_type_by_name", section.encode(), libbpf.byref(number), libbpf.byref(attach))
    except OSError:
        return ""
    return prog_type_name(number.value)


def _numbers(symbol):
    names = {_name(symbol, number): number for number in range(MOST_TYPES)}
    return {name: number for name, number in names.items() if name not in ("unspec", f"type {number}")}


def _name(symbol, number):
    text = libbpf.call(symbol, number) if libbpf.has(symbol) else None
    return text or NEWER_NAMES[symbol].get(number) or f"type {number}"


# ---- objects -------------------------------------------------------------------------------------


def get_pinned(path):
    """The object pinned at `path` (BPF_OBJ_GET)."""
    return Fd(libbpf.call("bpf_obj_get", path.encode()))


def kind(fd):
    """`map`, `prog` or `link`: what is behind a pin (fdinfo, whose fields begin so)."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
        return next((line.partition("_type")[0] for line in lines if "_type:" in line), "")


def pin(fd, path):
    """`fd` is pinned at `path` (BPF_OBJ_PIN); EEXIST where something is."""
    libbpf.call("bpf_obj_pin", fd, path.encode())


def prog_by_id(number):
    return Fd(libbpf.call("bpf_prog_get_fd_by_id", number))


def map_by_id(number):
    return Fd(libbpf.call("bpf_map_get_fd_by_id", number))


def link_by_id(number):
    return Fd(libbpf.call("bpf_link_get_fd_by_id", number))


def prog_ids():
    """All programs of this kernel, from whatever namespace (BPF_PROG_GET_NEXT_ID)."""
    return _ids("bpf_prog_get_next_id")


def map_ids():
    return _ids("bpf_map_get_next_id")


def link_ids():
    """All links of this kernel; none before 5.8, which cannot list them."""
    return _ids("bpf_link_get_next_id")


def _ids(symbol):
    found, following = [], libbpf.u32(0)
    while True:
        try:
            libbpf.call(symbol, following.value, libbpf.byref(following))
        except FileNotFoundError:
            return found
        except OSError as error:
            if error.errno == errno.EINVAL and not found:
                return found
            raise
        found.append(following.value)


def prog_info(fd):
    """What the kernel says of a program (BPF_OBJ_GET_INFO_BY_FD)."""
    count = libbpf.struct_info(fd, libbpf.ProgInfo()).nr_map_ids
    maps = libbpf.numbers(count)
    raw = libbpf.struct_info(fd, libbpf.ProgInfo(nr_map_ids=count, map_ids=libbpf.address(maps)))
    return Program(
        id=raw.id,
        type=prog_type_name(raw.type),
        name=raw.name.decode(errors="replace"),
        tag=bytes(raw.tag).hex(),
        gpl_compatible=bool(raw.gpl_compatible & 1),
        loaded_at=raw.load_time,
        uid=raw.created_by_uid,
        bytes_xlated=raw.xlated_prog_len,
        bytes_jited=raw.jited_prog_len,
        map_ids=tuple(maps[: min(count, raw.nr_map_ids)]),
        btf_id=raw.btf_id,
        verified_insns=raw.verified_insns,
        run_time_ns=raw.run_time_ns,
        run_cnt=raw.run_cnt,
    )


def map_info(fd):
    raw = libbpf.struct_info(fd, libbpf.MapInfo())
    return Map(
        id=raw.id,
        type=map_type_name(raw.type),
        name=raw.name.decode(errors="replace"),
        flags=raw.map_flags,
        bytes_key=raw.key_size,
        bytes_value=raw.value_size,
        max_entries=raw.max_entries,
        btf_id=raw.btf_id,
        btf_key_type_id=raw.btf_key_type_id,
        btf_value_type_id=raw.btf_value_type_id,
        type_number=raw.type,
    )


def link_info(fd):
    raw = libbpf.struct_info(fd, libbpf.LinkInfo())
    where = {}
    if raw.type == LINK_RAW_TRACEPOINT:
        where = {"tracepoint": _event_name(fd, "raw_tracepoint")}
    elif raw.type == LINK_TRACING:
        where = {"attach_type": raw.of.tracing.attach_type, "target_btf_id": raw.of.tracing.target_btf_id}
    elif raw.type == LINK_ITER:
        where = {"attach_type": ATTACH_TRACE_ITER}
    elif raw.type == LINK_XDP:
        where = {"ifindex": raw.of.xdp.ifindex, "attach_type": ATTACH_XDP}
    elif raw.type in (LINK_TCX, LINK_NETKIT):
        where = {"ifindex": raw.of.tcx.ifindex, "attach_type": raw.of.tcx.attach_type}
    elif raw.type == LINK_CGROUP:
        where = {"cgroup_id": raw.of.cgroup.cgroup_id, "attach_type": raw.of.cgroup.attach_type}
    elif raw.type == LINK_NETNS:
        where = {"netns_ino": raw.of.netns.netns_ino, "attach_type": raw.of.netns.attach_type}
    elif raw.type == LINK_NETFILTER:
        of = raw.of.netfilter
        where = {"netfilter": (of.pf, of.hooknum, of.priority), "attach_type": ATTACH_NETFILTER}
    elif raw.type == LINK_PERF_EVENT:
        where = {**_perf_event_of(fd, raw.of.perf_event), "attach_type": ATTACH_PERF_EVENT}
    return Link(raw.id, link_type_name(raw.type), raw.prog_id, **where)


def _perf_event_of(fd, of):
    """The fields of a perf_event link; none before 6.6."""
    if of.type == PERF_EVENT_TRACEPOINT:
        return {"tracepoint": _event_name(fd, "perf_event")}
    if of.type in PERF_EVENT_PROBES:
        kind = PERF_EVENT_PROBES[of.type]
        told = {"probe": (kind, _event_name(fd, "perf_event"), of.offset)}
        return {**told, "cookie": of.cookie} if kind.startswith("u") else told
    return {}


def _event_name(fd, kind):
    """The name that a link of this kind tells, a path of a uprobe; empty where the kernel does not."""
    room, asked = libbpf.buffer(LONGEST_PATH), libbpf.LinkInfo()
    of = getattr(asked.of, kind)
    of.name, of.name_len = libbpf.address(room), len(room)
    libbpf.struct_info(fd, asked)
    return room.value.decode(errors="replace")


def kept(fd):
    """The Link of what is open, a link or a program; None where it is neither."""
    what = kind(fd)
    if what == "prog":
        return Link(0, "", prog_info(fd).id)
    return link_info(fd) if what == "link" else None


def is_link(number):
    """Whether the kernel has a link with this id."""
    try:
        link_by_id(number).close()
        return True
    except FileNotFoundError:
        return False


def program(number):
    """The program with this id; FileNotFoundError where it is gone."""
    with prog_by_id(number) as fd:
        return prog_info(fd)


def type_of(number):
    """The type of the program with this id, "" where it is gone."""
    try:
        return program(number).type
    except FileNotFoundError:
        return ""


def is_named(number, name):
    """Whether the program with this id is a function of this name, as far as the kernel keeps names (15 characters)."""
    try:
        return program(number).name == name[:15]
    except FileNotFoundError:
        return False


def links():
    """All links of this kernel. One that ends meanwhile is left out, and one that somebody is just making (EAGAIN)."""
    found = []
    for number in link_ids():
        try:
            with link_by_id(number) as fd:
                found.append(link_info(fd))
        except (FileNotFoundError, BlockingIOError):
            continue
    return found


def memlock(fd):
    """Bytes of kernel memory that a program or map is charged with (fdinfo, memlock); exact for maps since 6.4."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("memlock:"):
                return int(line.split()[1])
    return 0


def btf_bytes(number):
    """The raw BTF with this id, empty for 0."""
    if not number:
        return b""
    with Fd(libbpf.call("bpf_btf_get_fd_by_id", number)) as fd:
        size = libbpf.struct_info(fd, libbpf.BtfInfo()).btf_size
        room = libbpf.buffer(size)
        libbpf.struct_info(fd, libbpf.BtfInfo(btf=libbpf.address(room), btf_size=size))
        return room.raw[:size]


# ---- hooks ---------------------------------------------------------------------------------------


def link_create(prog_fd, target, attach_type, flags=0):
    """A new link that runs the program at `target`, an ifindex or an fd (BPF_LINK_CREATE).

    It goes with its last fd or pin.
    """
    options = libbpf.LinkCreateOpts(flags=flags)
    return Fd(libbpf.call("bpf_link_create", prog_fd, target, attach_type, libbpf.byref(options)))


def ordered_link(prog_fd, ifindex, attach_type, flags, neighbour=0):
    """As link_create, at tcx or netkit, before or after (F_BEFORE, F_AFTER) the program with the id `neighbour`, or
    with 0 all: bpf(2) itself, since libbpf can from 1.3 on. ENOENT where the neighbour does not sit there."""
    asked = libbpf.OrderedLinkAttr(
        prog_fd=prog_fd,
        target_ifindex=ifindex,
        attach_type=attach_type,
        flags=flags | (F_ID if neighbour else 0),
        relative_id=neighbour,
    )
    return Fd(libbpf.bpf_syscall(BPF_LINK_CREATE, asked))


def netfilter_link(prog_fd, family, hook, priority):
    """As link_create, at netfilter in this thread's network namespace: bpf(2) itself, since libbpf can from 1.3 on."""
    asked = libbpf.NetfilterLinkAttr(
        prog_fd=prog_fd, attach_type=ATTACH_NETFILTER, pf=family, hooknum=hook, priority=priority
    )
    return Fd(libbpf.bpf_syscall(BPF_LINK_CREATE, asked))


def raw_tracepoint_link(prog_fd, name=None):
    """A new link that runs the program at the tracepoint of this name, or else at what it was loaded for: a function, a
    tracepoint or an LSM hook (BPF_RAW_TRACEPOINT_OPEN)."""
    return Fd(libbpf.call("bpf_raw_tracepoint_open", name and name.encode(), prog_fd))


def tracepoint_event(number, cpu):
    """An event of the tracepoint with this id (perf_event_open). A program that is attached to it runs on every CPU."""
    return Fd(libbpf.perf_event_open(libbpf.PerfEventAttr(type=PERF_TYPE_TRACEPOINT, config=number), cpu))


def probe_event(kind, name, offset, cpu):
    """An event of a probe, `kprobe` or `uretprobe` …, at a function, or at the file of this path (perf_event_open). A
    program that is attached to it runs on every CPU."""
    pmu = os.path.join(PMUS, kind.replace("ret", ""))
    with open(os.path.join(pmu, "type"), encoding="ascii") as stream:
        number = int(stream.read())
    room = libbpf.buffer(os.fsencode(name) + b"\0")
    asked = libbpf.PerfEventAttr(type=number, config1=libbpf.address(room), config2=offset)
    if "ret" in kind:
        with open(os.path.join(pmu, "format", "retprobe"), encoding="ascii") as stream:
            asked.config = 1 << int(stream.read().partition(":")[2])
    return Fd(libbpf.perf_event_open(asked, cpu))


def clock_event(frequency, cpu):
    """An event of the clock of this CPU, so often in a second while it is busy (perf_event_open)."""
    asked = libbpf.PerfEventAttr(
        type=PERF_TYPE_SOFTWARE,
        config=PERF_COUNT_SW_CPU_CLOCK,
        sample_period=frequency,
        flags=PERF_BY_FREQUENCY,
    )
    return Fd(libbpf.perf_event_open(asked, cpu))


def perf_event_link(prog_fd, event, cookie):
    """As link_create, at an event, with a number that the link keeps for us."""
    asked = libbpf.PerfLinkAttr(prog_fd=prog_fd, target_fd=event, attach_type=ATTACH_PERF_EVENT, cookie=cookie)
    return Fd(libbpf.bpf_syscall(BPF_LINK_CREATE, asked))


def programs_at_event(event):
    """Ids of the programs that the tracepoint of this event runs, whoever attached them."""
    room = bytearray(struct.pack("=II", MOST_AT_EVENT, 0) + bytes(4 * MOST_AT_EVENT))
    fcntl.ioctl(event, IOC_QUERY_BPF, room)
    return struct.unpack_from(f"={struct.unpack_from('=I', room, 4)[0]}I", room, 8)


def link_update(link_fd, new_fd, expected_fd):
    """The link runs the new program, if it still ran the expected one.

    EPERM otherwise (BPF_LINK_UPDATE, BPF_F_REPLACE).
    """
    options = libbpf.LinkUpdateOpts(flags=F_REPLACE, old_prog_fd=expected_fd)
    libbpf.call("bpf_link_update", link_fd, new_fd, libbpf.byref(options))


def link_detach(link_fd):
    """The link runs nothing any more, whoever else holds it (BPF_LINK_DETACH, 5.9)."""
    libbpf.call("bpf_link_detach", link_fd)


def prog_query(target, attach_type):
    """(program id, link id) of what sits at a tcx, netkit or cgroup hook, in running order; link id 0: without a link.

    target is an ifindex or the fd of a cgroup folder. bpf(2) itself, since bpf_prog_query_opts has the link ids from
    1.3 on. Kernels before 6.6 leave the link ids untouched.
    """
    room = 64
    programs, links_there = libbpf.numbers(room), libbpf.numbers(room)
    query = libbpf.ProgQueryAttr(
        target=target,
        attach_type=attach_type,
        prog_ids=libbpf.address(programs),
        count=room,
        link_ids=libbpf.address(links_there) if attach_type in IN_ORDER else 0,
    )
    libbpf.bpf_syscall(BPF_PROG_QUERY, query)
    return list(zip(programs[: query.count], links_there[: query.count]))


def xdp_query(ifindex):
    """{mode: program id} of an interface's XDP hook, modes native, generic and offload (bpf_xdp_query, netlink)."""
    answer = libbpf.XdpQueryOpts()
    libbpf.call("bpf_xdp_query", ifindex, 0, libbpf.byref(answer))
    modes = {"native": answer.drv_prog_id, "generic": answer.skb_prog_id, "offload": answer.hw_prog_id}
    return {mode: number for mode, number in modes.items() if number}


# ---- classic tc: filters without links, by libbpf ------------------------------------------------


def tc_query(ifindex, direction, handle, priority):
    """The id of the program that the filter with this handle and priority runs; None where there is none."""
    asked = libbpf.TcOpts(handle=handle, priority=priority)
    try:
        libbpf.call("bpf_tc_query", libbpf.byref(_tc_hook(ifindex, direction)), libbpf.byref(asked))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):  # no such filter; no clsact qdisc
            return None
        raise
    return asked.prog_id


def tc_attach(ifindex, direction, handle, priority, prog_fd, is_new):
    """The filter runs the program, direct-action; EEXIST where it is_new and there is one. The clsact qdisc is made
    where there is none."""
    hook = _tc_hook(ifindex, direction)
    try:
        libbpf.call("bpf_tc_hook_create", libbpf.byref(hook))
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    flags = 0 if is_new else TC_REPLACE
    asked = libbpf.TcOpts(prog_fd=prog_fd, flags=flags, handle=handle, priority=priority)
    libbpf.call("bpf_tc_attach", libbpf.byref(hook), libbpf.byref(asked))


def tc_detach(ifindex, direction, handle, priority):
    """The filter is gone; the qdisc stays, since others may count on it."""
    asked = libbpf.TcOpts(handle=handle, priority=priority)
    libbpf.call("bpf_tc_detach", libbpf.byref(_tc_hook(ifindex, direction)), libbpf.byref(asked))


def _tc_hook(ifindex, direction):
    return libbpf.TcHook(ifindex=ifindex, attach_point=TC_POINTS[direction])


# ---- entries -------------------------------------------------------------------------------------


def possible_cpus():
    """How many values an entry of a per-CPU map has."""
    return libbpf.call("libbpf_num_possible_cpus")


def padded(size):
    """Bytes that the kernel keeps for `size`: rounded up to 8."""
    return (size + 7) // 8 * 8


def value_room(info):
    """Bytes that one entry's value takes in a call: per-CPU maps give one value per possible CPU, each padded to 8."""
    if info.type_number in MAP_PER_CPU:
        return padded(info.bytes_value) * possible_cpus()
    return info.bytes_value


def map_lookup(fd, info, key):
    """The value under `key`; FileNotFoundError where there is none."""
    value = libbpf.buffer(value_room(info))
    libbpf.call("bpf_map_lookup_elem", fd, libbpf.byref(libbpf.buffer(key)), libbpf.byref(value))
    return value.raw[: value_room(info)]


def map_update(fd, key, value, flags=0):
    """`value` stands under `key`. E2BIG: the map is full."""
    libbpf.call("bpf_map_update_elem", fd, libbpf.byref(libbpf.buffer(key)), libbpf.byref(libbpf.buffer(value)), flags)


def map_delete(fd, key):
    """Nothing stands under `key`; FileNotFoundError where nothing stood. Arrays cannot: EINVAL."""
    libbpf.call("bpf_map_delete_elem", fd, libbpf.byref(libbpf.buffer(key)))


def map_items(fd, info):
    """Each (key, value), in the kernel's order; entries that come or go meanwhile may or may not be seen.

    Where the last key went meanwhile the kernel starts again at the first one: so many come at the most, not for ever.
    """
    key, following = None, libbpf.buffer(info.bytes_key)
    for dummy in range(PASSES * max(info.max_entries, 1)):
        try:
            libbpf.call("bpf_map_get_next_key", fd, None if key is None else libbpf.byref(key), libbpf.byref(following))
        except FileNotFoundError:
            return
        key = libbpf.buffer(following.raw[: info.bytes_key])
        try:
            yield key.raw[: info.bytes_key], map_lookup(fd, info, key.raw[: info.bytes_key])
        except FileNotFoundError:
            continue


def map_has_lock(fd, info):
    """Whether the map's values hold a bpf_spin_lock: no other map takes BPF_F_LOCK (EINVAL)."""
    key, value = libbpf.buffer(info.bytes_key), libbpf.buffer(value_room(info))
    try:
        libbpf.call("bpf_map_lookup_elem_flags", fd, libbpf.byref(key), libbpf.byref(value), F_LOCK)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


# ---- programs of our own -------------------------------------------------------------------------


def prog_load(type_number, name, instructions):
    """An Fd of a new GPL program made of struct bpf_insn bytes (BPF_PROG_LOAD)."""
    count = len(instructions) // 8
    room = libbpf.buffer(instructions)
    return Fd(libbpf.call("bpf_prog_load", type_number, name.encode(), b"GPL", libbpf.byref(room), count, None))


def prog_test_run(fd, data):
    """What the program returns for a packet that begins with `data` (BPF_PROG_TEST_RUN)."""
    packet = libbpf.buffer(data.ljust(SMALLEST_PACKET, b"\0"))
    options = libbpf.TestRunOpts(data_in=libbpf.address(packet), data_size_in=len(packet), repeat=1)
    libbpf.call("bpf_prog_test_run_opts", fd, libbpf.byref(options))
    return options.retval


def masked(data, bits):
    """`data` with all but its first bits zero: what an LPM trie compares."""
    above = max(len(data) * 8 - bits, 0)
    return (int.from_bytes(data, "big") >> above << above).to_bytes(len(data), "big")
