# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each hook is tested with: a row, or two where it has modes or directions. Suites and sweeps take it from here.

A further hook adds its row and, if its programs are of a new type, its function in programs.MORE.
"""

from __future__ import annotations

import ctypes
import os
import socket
import tempfile
import time
from typing import Callable, NamedTuple, Optional

import private_host
import programs
import pytest
from private_host import Host, attachment, counted

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import observe
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Failure, NoSuchHook
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, targets

LIBBPF = ctypes.CDLL("libbpf.so.1")


class Row(NamedTuple):
    """What differs between hooks. `options` gives bpf_attach's, all else acts on a private_host.Host."""

    hook: str
    program: str
    options: Callable
    traffic: Callable  # (host, count): that many packets pass the place, or that many events come
    destroy: Optional[Callable] = None  # of a place that can go
    make: Optional[Callable] = None
    text: str = ""  # of its source, where that is not programs.TEXT and MORE


def version(text):
    """(major, minor) of a kernel's release."""
    return tuple(int(part) for part in text.split("-")[0].split(".")[:2])


def interface_row(hook, program, traffic, **options):
    return Row(
        hook,
        program,
        lambda host: {"interface": private_host.DEVICE, **options},
        traffic,
        Host.destroy_interface,
        Host.make_interface,
    )


def netkit(host):
    """A pair of netkit interfaces whose primary one speaks IPv4, where this kernel has them."""
    try:
        private_host.run("ip", "link", "add", NETKIT, "type", "netkit")
    except AssertionError as error:
        LACKING["netkit"] = f"{error} on Linux {os.uname().release}".replace("\n", " ")
        pytest.skip(LACKING["netkit"])
    make_netkit_speak()
    return {"interface": NETKIT}


def make_netkit_speak():
    private_host.run("ip", "addr", "add", "10.77.0.1/24", "dev", NETKIT)
    private_host.run("ip", "link", "set", NETKIT, "up")


def make_netkit(host):
    private_host.run("ip", "link", "add", NETKIT, "type", "netkit")
    make_netkit_speak()


def send_by_netkit(host, count):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        for dummy in range(count):
            door.sendto(b"x", ("10.77.0.2", 9))


def cgroup_row(program, event):
    """`event` is what a process in the cgroup does once."""

    def traffic(host, count):
        host.in_cgroup(lambda: [event() for dummy in range(count)])

    return Row(
        "cgroup",
        program,
        lambda host: {"cgroup": host.cgroup},
        traffic,
        lambda host: os.rmdir(host.cgroup),
        lambda host: os.mkdir(host.cgroup),
    )


def udp():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def listen():
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.bind(("127.0.0.1", 0))
    door.listen()


def read_a_sysctl():
    sysctl = os.open("/proc/sys/kernel/ostype", os.O_RDONLY)
    os.read(sysctl, 64)


def receive_into_a_fanout(host, count):
    """AF_PACKET's fanout by hash has each packet dissected: two sockets share those that come in."""
    doors = [socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) for dummy in range(2)]
    try:
        for door in doors:
            door.bind((private_host.DEVICE, 0x0800))
            door.setsockopt(263, 18, 7)  # SOL_PACKET, PACKET_FANOUT: by hash (0), in group 7
        host.receive(count)
    finally:
        for door in doors:
            door.close()


NETKIT = "k4"


def library_row(hook, program):
    """At a function of a library of our own. Before 6.9 nothing tells that it was replaced."""
    is_told = version(os.uname().release) >= (6, 9)
    return Row(
        hook,
        program,
        library_options,
        library_calls,
        (lambda host: os.unlink(library())) if is_told else None,
        make_library if is_told else None,
    )


def library():
    return os.path.join(tempfile.gettempdir(), "libcounted.so")


def library_options(host):
    if not os.path.exists(library()):
        make_library(host)
    return {"path": library(), "symbol": "counted"}


def make_library(host):
    command = f"clang -shared -nostdlib -fPIC -x c - -o {library()}".split()
    private_host.run(*command, input="int counted(void) { return 1; }")


def library_calls(host, count):
    """By a process that did not have it mapped before."""
    path = library()
    private_host.in_child(lambda: [ctypes.CDLL(path).counted() for dummy in range(count)])


def rare_calls(host, count):
    for dummy in range(count):
        os.sched_get_priority_max(os.SCHED_RR)


def readings(host, count):
    """Each reads what every such link gives: those of strangers are pinned nowhere."""
    for link in bpf.links():
        if link.type == "iter" and bpf.is_named(link.prog_id, programs.ITER):
            for dummy in range(count):
                with bpf.link_by_id(link.id) as fd, os.fdopen(LIBBPF.bpf_iter_create(fd), "rb") as stream:
                    stream.read()


def busy_under_names(host, count):
    """This process is busy for a while, each time under a name that it never had."""
    with open("/proc/self/comm", encoding="ascii") as stream:
        before = stream.read().strip()
    for dummy in [*range(count), None]:
        with open("/proc/self/comm", "w", encoding="ascii") as stream:
            stream.write(before if dummy is None else f"#{time.monotonic_ns() % 10**13:x}")
        end = time.process_time() + 0.02
        while dummy is not None and time.process_time() < end:
            pass


ASKED = "security_task_getscheduler"


def scheduler_reads(host, count):
    """Each asks every LSM whether it may."""
    for dummy in range(count):
        os.sched_getscheduler(0)


ROWS = {
    "xdp native": interface_row("xdp", programs.XDP, Host.receive, mode="native"),
    "xdp generic": interface_row("xdp", programs.XDP, Host.receive, mode="generic"),
    "tcx ingress": interface_row("tcx", programs.TCX, Host.receive, direction="ingress"),
    "tcx egress": interface_row("tcx", programs.TCX, Host.send, direction="egress"),
    "cgroup": Row(
        "cgroup",
        programs.CGROUP,
        lambda host: {"cgroup": host.cgroup},
        Host.send_from_cgroup,
        lambda host: os.rmdir(host.cgroup),
        lambda host: os.mkdir(host.cgroup),
    ),
    "cgroup sock_create": cgroup_row(programs.SOCK, udp),
    "cgroup connect4": cgroup_row(programs.CONNECT, lambda: udp().connect(("127.0.0.1", 9))),
    "cgroup sendmsg4": cgroup_row(programs.SENDMSG, lambda: udp().sendto(b"x", ("127.0.0.1", 9))),
    "cgroup device": cgroup_row(programs.DEV, lambda: os.open("/dev/null", os.O_RDONLY)),
    "cgroup sysctl": cgroup_row(programs.SYSCTL, read_a_sysctl),
    "cgroup setsockopt": cgroup_row(
        programs.SETSOCKOPT, lambda: udp().setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    ),
    "cgroup sock_ops": cgroup_row(programs.OPS, listen),
    "flow_dissector": Row("flow_dissector", programs.FLOW, lambda host: {}, receive_into_a_fanout),
    "netkit": Row(
        "netkit",
        programs.TCX,
        netkit,
        send_by_netkit,
        lambda host: private_host.run("ip", "link", "del", NETKIT),
        make_netkit,
    ),
    "tc ingress": interface_row("tc", programs.TCX, Host.receive, direction="ingress"),
    "tc egress": interface_row("tc", programs.TCX, Host.send, direction="egress", priority=7),
    "netfilter": Row(
        "netfilter",
        programs.NETFILTER,
        lambda host: {"family": "ipv4", "netfilter_hook": "input", "priority": -100},
        Host.receive,
    ),
    "sk_lookup": Row("sk_lookup", programs.SK_LOOKUP, lambda host: {}, Host.receive),
    "tracepoint": Row(
        "tracepoint",
        programs.TRACEPOINT,
        lambda host: {"tracepoint": "syscalls/sys_enter_sched_get_priority_max"},
        rare_calls,
    ),
    "raw_tracepoint": Row(
        "raw_tracepoint", programs.RAW_TRACEPOINT, lambda host: {"tracepoint": "sys_enter"}, rare_calls
    ),
    "tp_btf": Row("tp_btf", programs.TP_BTF, lambda host: {}, rare_calls),
    "fentry": Row("fentry", programs.FENTRY, lambda host: {}, scheduler_reads),
    "fexit": Row("fexit", programs.FEXIT, lambda host: {}, scheduler_reads),
    "fmod_ret": Row("fmod_ret", programs.FMOD_RET, lambda host: {}, scheduler_reads),
    "lsm": Row("lsm", programs.LSM, lambda host: {}, scheduler_reads),
    "kprobe": Row("kprobe", programs.KPROBE, lambda host: {"function": ASKED}, scheduler_reads),
    "kretprobe": Row("kretprobe", programs.KRETPROBE, lambda host: {"function": ASKED}, scheduler_reads),
    "ksyscall": Row("ksyscall", programs.KSYSCALL, lambda host: {"syscall": "sched_get_priority_max"}, rare_calls),
    "kretsyscall": Row(
        "kretsyscall", programs.KRETSYSCALL, lambda host: {"syscall": "sched_get_priority_max"}, rare_calls
    ),
    "uprobe": library_row("uprobe", programs.UPROBE),
    "perf_event": Row("perf_event", programs.PERF_EVENT, lambda host: {"frequency": 1000}, busy_under_names),
    "iter": Row("iter", programs.ITER, lambda host: {}, readings),
    "uretprobe": library_row("uretprobe", programs.URETPROBE),
}


def without_kprobes():
    return "register_kprobe" not in targets.functions()


def without_bpf_lsm():
    with open("/sys/kernel/security/lsm", encoding="ascii") as stream:
        return "bpf" not in stream.read().split(",")


# What a kernel can be built or booted without, by a witness of the tests' own
BUILT_WITHOUT = {
    **dict.fromkeys(("kprobe", "kretprobe", "ksyscall", "kretsyscall"), without_kprobes),
    "lsm": without_bpf_lsm,
}
LACKING = {}  # {hook: why}: a kernel that lacks one is asked once in a run


def rows_whose(question):
    """Names of the rows whose hook answers yes."""
    return sorted(name for name, row in ROWS.items() if question(catalogue.HOOKS[row.hook]))


class Case(NamedTuple):
    """A row on a host of its own, with version 1 of the source staged."""

    row: Row
    host: Host
    wanted: object
    key: str

    def attach(self, *attachments, **wish):
        """Without a guard, wherever it is."""
        return self.host.attach(*attachments, allow_management_path=True, **wish)

    def counts(self):
        return counted(self.row.program)

    def place(self):
        hook = catalogue.HOOKS[self.row.hook]
        types = next(iter(self.host.facts().releases.values())).program_types
        return hook.place(self.wanted, types[self.row.program])

    def seat(self):
        """What of ours is at the place, None where nothing is pinned for it."""
        seen = self.host.facts()
        return observe.scene(seen, seen.confirmed).seats.get(self.key)

    def kept(self):
        """What keeps the program there, by id: it stays through an update, and is another one after an overlap."""
        return self.host.facts().links[self.key].id

    def stranger(self):
        """A foreign process holds the place by a link."""
        return private_host.stranger(self.wanted, self.place(), self.host.text)


def made(name, host):
    """The Case of a row, or a skip where this kernel is older than its hook."""
    row = ROWS[name]
    if row.hook in LACKING:
        pytest.skip(LACKING[row.hook])
    wanted = attachment(row.hook, row.program, **row.options(host))
    host.text = row.text or programs.text_with(row.program)
    stage_where_it_loads(host, row)
    case = Case(row, host, wanted, catalogue.hook_of(wanted).id(wanted))
    skip_without_hook(case)
    return case


def stage_where_it_loads(host, row):
    """A kernel older than the program's type refuses it, and one that is locked down some types."""
    try:
        host.stage(1)
    except Failure as refusal:
        skip_if_older(row, refusal)
        if refusal.detail.get("diagnosis") == "lockdown":
            LACKING[row.hook] = f"no {row.hook}: {refusal}"
            pytest.skip(LACKING[row.hook])
        raise


def skip_without_hook(case):
    """A kernel older than the hook says so by itself; on a newer one the same answer is a failure, but where it was
    built or booted without the hook."""
    try:
        catalogue.HOOKS[case.row.hook].holders(case.place())
    except NoSuchHook as refusal:
        if not BUILT_WITHOUT.get(case.row.hook, lambda: False)():
            raise
        LACKING[case.row.hook] = f"no {case.row.hook}: {refusal}"
        pytest.skip(LACKING[case.row.hook])
    except OSError as error:
        skip_if_older(case.row, f"errno {error.errno}")
        raise


def skip_if_older(row, said):
    hook, release = catalogue.HOOKS[row.hook], os.uname().release
    if version(release) < version(hook.since):
        LACKING[row.hook] = f"no {hook.kind}: {said} on Linux {release}, it came with {hook.since}"
        pytest.skip(LACKING[row.hook])
