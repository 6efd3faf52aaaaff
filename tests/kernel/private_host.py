# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of its own for a test: namespaces, bpffs, state folders, a cgroup, an interface with a peer that sends.

Also what tests do there: packets that really flow, children that are killed, strangers that hold a hook. All questions
to the kernel here go through bpftool and ip, so that the collection's own reading has a second witness.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import signal
import socket
import subprocess
import time
import traceback
from typing import NamedTuple

import programs
import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    edit,
    observe,
    records,
    stage,
    store,
    transitions,
    units,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Failure
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf

NEWNS, NEWNET = 0x00020000, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
STATE_FOLDERS = (records.STATE, "/var/cache/ebpf_deploy", records.RUN, units.FOLDER)
WRITABLE = ("/tmp", "/run")  # of the machine: tests have their files in one, ip netns in the other
NAME = "counted"  # the deployment in these tests
DEVICE, ADDRESS, MAC = "k0", "10.99.0.1", "02:00:00:00:99:01"
PEER_DEVICE, PEER_ADDRESS, PEER_MAC = "k1", "10.99.0.2", "02:00:00:00:99:02"
PORT = 9999
PATIENCE = 5  # seconds for what the kernel does later: a packet's delivery, the freeing of a program


class Host:
    """This process as on a host of its own, from `enter` to `leave`."""

    def enter(self):
        self.fds_before = open_fds()
        self.home = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("mnt", "net")]
        _unshare(NEWNS | NEWNET)
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "bpf", "-o", "mode=0700", "bpf", files.BPFFS)
        for folder in STATE_FOLDERS:
            os.makedirs(folder, exist_ok=True)
        self.shield_machine()
        for folder in STATE_FOLDERS:
            run("mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", folder)
        self.cgroup = os.path.join(files.cgroup2_root(), f"{programs.MARK}-{time.monotonic_ns():x}.service")
        os.mkdir(self.cgroup)
        self.make_peer()
        self.make_interface()
        return self

    def shield_machine(self):
        """The machine's own files cannot be written here: a fault that followed a symlink once cost an /etc."""
        for folder in WRITABLE:
            run("mount", "--bind", folder, folder)
        run("mount", "-o", "remount,bind,ro", "/")

    def make_peer(self):
        """A network namespace that lives as long as a process that waits in it, and a socket of ours in there."""
        self.peer = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up; echo there; read never"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.peer.stdout.readline()

    def make_interface(self):
        """k0 here and k1 at the peer, both speaking IPv4 alone and knowing each other: no packet but ours."""
        quiet = (
            "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"
        )
        run(
            "sh",
            "-ec",
            f"""{quiet}; ip -batch - <<END
link set lo up
link add {DEVICE} address {MAC} type veth peer name {PEER_DEVICE} address {PEER_MAC} netns {self.peer.pid}
addr add {ADDRESS}/24 dev {DEVICE}
link set {DEVICE} up
neigh add {PEER_ADDRESS} lladdr {PEER_MAC} dev {DEVICE} nud permanent
END
nsenter -t {self.peer.pid} -n sh -ec '{quiet}; ip -batch -' <<END
addr add {PEER_ADDRESS}/24 dev {PEER_DEVICE}
link set {PEER_DEVICE} up
neigh add {ADDRESS} lladdr {MAC} dev {PEER_DEVICE} nud permanent
END""",
        )
        self.receiver = _bound(ADDRESS)
        with self.at_peer():
            self.sender = _bound(PEER_ADDRESS)

    def destroy_interface(self):
        self.receiver.close()
        self.sender.close()
        run("ip", "link", "del", DEVICE)

    @contextlib.contextmanager
    def at_peer(self):
        here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(f"/proc/{self.peer.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there, NEWNET)
            yield
        finally:
            _setns(here, NEWNET)
            os.close(here)
            os.close(there)

    def leave(self):
        """Back on the machine, and what was left here in words: an empty list where the test and the collection
        cleaned up."""
        try:
            left = self.leftovers()
        finally:
            self.receiver.close()
            self.sender.close()
            self.peer.communicate()
            if os.path.isdir(self.cgroup):
                os.rmdir(self.cgroup)
            for namespace, kind in zip(self.home, (NEWNS, NEWNET)):
                _setns(namespace, kind)
                os.close(namespace)
        return left + [f"open file: {path}" for path in sorted(open_fds() - self.fds_before)]

    def leftovers(self):
        """What is still there after each deployment was removed; its serial and quarantine alone may stay."""
        for name in store.deployments():
            transitions.remove(name)
        left = [path for path in tree(files.BPFFS) if not path.endswith(".debug")]
        for path in tree(records.STATE):
            parts = os.path.relpath(path, records.STATE).split("/")
            if len(parts) > 1 and parts[1] not in ("serial", "quarantine"):
                left.append(path)
        left += [path for path in tree(records.RUN) if not path.endswith(".lock")]
        left += tree(units.FOLDER)
        return left

    # ---- packets ---------------------------------------------------------------------------------

    def receive(self, count=1):
        """The peer sends `count` packets and the host has got them: each passed ingress."""
        for dummy in range(count):
            self.sender.sendto(b"x", (ADDRESS, PORT))
        for dummy in range(count):
            self.receiver.recv(16)

    def send(self, count=1):
        """The host sends `count` packets and the peer has got them: each passed egress."""
        for dummy in range(count):
            self.receiver.sendto(b"x", (PEER_ADDRESS, PORT))
        for dummy in range(count):
            self.sender.recv(16)

    def send_from_cgroup(self, count=1):
        """A process in the host's cgroup sends `count` packets."""

        def send():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                for dummy in range(count):
                    out.sendto(b"x", ("127.0.0.1", PORT + 1))

        self.in_cgroup(send)

    def in_cgroup(self, work):
        """A process of its own in the host's cgroup does the work."""
        child = os.fork()
        if child == 0:
            try:
                with open(os.path.join(self.cgroup, "cgroup.procs"), "w", encoding="ascii") as stream:
                    stream.write("0")
                work()
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    # ---- deployments -----------------------------------------------------------------------------

    text = programs.TEXT  # what `stage` deploys

    def stage(self, version, on_change="", **more):
        """Version 60 and above have another shape of map: `on_change` says what becomes of its entries."""
        wish = {programs.SEEN: {"on_change": on_change}} if on_change else {}
        return stage.stage(NAME, programs.given(version, self.text)._replace(maps=wish), **more)

    def attach(self, *attachments, **wish):
        return transitions.attach(NAME, transitions.Wish(attachments=attachments, **wish))

    def declare(self, *entries, map=programs.SEEN, **asked):
        """As bpf_map does: these entries are in the deployment's map, and declared."""
        return edit.deployed(NAME, map, edit.Asked(list(entries), **{"persist": True, **asked}))

    def facts(self):
        return observe.facts(store.home(NAME))


def attachment(hook, program, **options):
    return catalogue.attachment_from({"hook": hook, "program": program, **options})


def counted(program):
    """{version: packets} that the program counted, by bpftool; the versions of a deployment share the map."""
    loads = os.path.join(store.home(NAME).loads)
    load = next(name for name in sorted(os.listdir(loads)) if not name.endswith("-tmp"))
    rows = {program: 3} if program in programs.MORE else programs.ROWS
    return counted_in("pinned", os.path.join(loads, load, "maps", programs.SEEN), rows=rows)[program]


def counted_in(*which, rows=None):
    """{program: {version: packets}} in a map as bpftool names it."""
    rows = rows or programs.ROWS
    found = {program: {} for program in rows}
    for row in bpftool("map", "dump", *which):
        version, number = divmod(row["formatted"]["key"], 4)
        packets = sum(each["value"] for each in row["formatted"]["values"])
        for program, row in rows.items():
            if packets and row == number:
                found[program][version] = packets
    return found


def bpftool(*words):
    """bpftool's answer as data. It gives up at a link that somebody else's process is just making (EAGAIN)."""
    for dummy in range(20):
        with contextlib.suppress(Unsettled):
            return json.loads(run("bpftool", "-j", *words))
        time.sleep(0.05)
    raise Unsettled(words)


def links():
    """{link id: bpftool's record} of the links in this kernel."""
    return {each["id"]: each for each in bpftool("link", "show")}


def program_of_link(link_id):
    """The name of the program that the link runs, by bpftool."""
    return bpftool("prog", "show", "id", str(links()[link_id]["prog_id"]))["name"]


# ---- other processes -----------------------------------------------------------------------------


class Ended(NamedTuple):
    """How a child ended: `signal` where it was killed, else what its work returned, or the Failure it raised."""

    signal: int
    value: object = None
    failure: str = ""
    code: str = ""
    can_retry: bool = False


def in_child(work):
    """Ended, once `work` was done in a process of its own. What is none of our Failures is raised here with its
    traceback."""
    return begin_child(work)()


def begin_child(work):
    """Start `work` in a process of its own; the result, called, waits for it and is its Ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _report(work, reading, writing)
    os.close(writing)

    def ended():
        with os.fdopen(reading, "rb") as stream:
            answer = stream.read()
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            return Ended(os.WTERMSIG(status))
        kind, *fields = pickle.loads(answer)
        assert kind != "bug", fields[0]
        return Ended(0, *fields)

    return ended


def _report(work, reading, writing):
    try:
        os.close(reading)
        try:
            answer = ("value", work())
        except Failure as failure:
            answer = ("failure", None, str(failure), failure.code, failure.can_retry)
        except BaseException:
            answer = ("bug", traceback.format_exc())
        with os.fdopen(writing, "wb") as stream:
            stream.write(pickle.dumps(answer))
    finally:
        os._exit(0)


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def memory_cgroup(host):
    """The path of a cgroup in whichever hierarchy accounts for memory; it is gone afterwards."""
    old = "/sys/fs/cgroup/memory"
    folder = os.path.join(
        old if os.path.isdir(old) else files.cgroup2_root(), os.path.basename(host.cgroup) + "-memory"
    )
    os.mkdir(folder)
    try:
        if not os.path.exists(os.path.join(folder, "memory.stat")):
            pytest.skip("no cgroup here accounts for memory")
        yield folder
    finally:
        eventually(lambda: not text_of(folder, "cgroup.procs"))
        os.rmdir(folder)


def in_cgroup(folder, work):
    """What `work` ended with in a child that lives in the cgroup."""

    def entered():
        with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as stream:
            stream.write("0")
        return work()

    return in_child(entered)


def kernel_memory(folder):
    """Bytes that the kernel holds for the cgroup's processes and cannot give back: the least of what is seen in a
    second, because much of what processes leave is freed a grace period later."""
    found = []
    for dummy in range(5):
        found.append(_kernel_memory(folder))
        time.sleep(0.2)
    return min(found)


def _kernel_memory(folder):
    old, new = os.path.join(folder, "memory.force_empty"), os.path.join(folder, "memory.reclaim")
    with (
        contextlib.suppress(BlockingIOError),
        open(old if os.path.exists(old) else new, "w", encoding="ascii") as stream,
    ):
        stream.write("1G")  # of the new one: so much, or else as much as there is, and EAGAIN
    if os.path.exists(old):
        return int(text_of(folder, "memory.kmem.usage_in_bytes"))
    return int(text_of(folder, "memory.stat").partition("\nkernel ")[2].split()[0])


def text_of(folder, name):
    with open(os.path.join(folder, name), encoding="ascii") as stream:
        return stream.read()


class Stranger(NamedTuple):
    """A process that is not ours, and the program and link it holds a hook with."""

    pid: int
    comm: str
    program: str
    prog_id: int
    link_id: int
    pin: str


@contextlib.contextmanager
def stranger(wanted, place, text=programs.TEXT):
    """A process named `stranger` has the program of the Attachment `wanted` at the place, by a link of its own."""
    pins, program = os.path.join(files.BPFFS, "stranger"), wanted.program
    elf.load(programs.object_of(0, text), "stranger", [program], pins=pins)
    ready, ending = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        _hold(wanted, place, os.path.join(pins, "progs", program), ready, ending)
    os.close(ready[1])
    os.close(ending[0])
    try:
        answer = os.read(ready[0], 64).split()
        assert answer, "the stranger could not attach"
        yield Stranger(child, "stranger", program, int(answer[0]), int(answer[1]), os.path.join(pins, "progs", program))
    finally:
        os.close(ready[0])
        os.close(ending[1])
        os.waitpid(child, 0)
        files.remove_tree(pins)


def stranger_at_xdp():
    """A stranger at the host's own interface."""
    wanted = attachment("xdp", programs.XDP, interface=DEVICE)
    return stranger(wanted, catalogue.hook_of(wanted).place(wanted, (bpf.PROG_XDP, bpf.ATTACH_XDP)))


class KeptOpen:
    """What a hook takes for a hold: all is kept open by this process alone."""

    def __init__(self):
        self.fds = []

    @contextlib.contextmanager
    def before(self, part=""):
        yield None

    def put(self, fd, part=""):
        self.fds.append(os.dup(fd))


def _hold(wanted, place, pinned, ready, ending):
    try:
        with open("/proc/self/comm", "w", encoding="ascii") as stream:
            stream.write("stranger")
        os.close(ending[1])
        hook = catalogue.hook_of(wanted)
        with bpf.get_pinned(pinned) as program:
            kept = KeptOpen()
            hook.put_on(wanted, place, program, kept)
            info = bpf.link_info(kept.fds[0])
            os.write(ready[1], f"{info.prog_id} {info.id}".encode())
            os.read(ending[0], 1)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def forget_filters():
    """The host's interface has no classic tc filter: these stay without any pin."""
    subprocess.run(["tc", "qdisc", "del", "dev", DEVICE, "clsact"], check=False, capture_output=True)


@contextlib.contextmanager
def agent(link_id):
    """The pid of a process that has the link open, as one that monitors does."""
    ready, ending = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ending[1])
        with bpf.link_by_id(link_id):
            os.write(ready[1], b"x")
            os.read(ending[0], 1)
        os._exit(0)
    os.close(ending[0])
    try:
        assert os.read(ready[0], 1)
        yield child
    finally:
        for fd in (*ready, ending[1]):
            os.close(fd)
        os.waitpid(child, 0)


# ---- the machine ---------------------------------------------------------------------------------


class Gone(Exception):
    """What was asked for went meanwhile."""


class Unsettled(Exception):
    """What was asked for is not finished yet."""


def run(*command, **options):
    """What the command wrote; its own words are in the error where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0 and "No such file or directory" in done.stdout + done.stderr:
        raise Gone(done.stdout + done.stderr)
    if done.returncode != 0 and "Resource temporarily unavailable" in done.stdout + done.stderr:
        raise Unsettled(done.stdout + done.stderr)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def tree(folder):
    """Every path below the folder."""
    return sorted(os.path.join(root, name) for root, dirs, names in os.walk(folder) for name in (*dirs, *names))


def open_fds():
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return {f"{number} {path}" for number, path in found if not path.startswith("/proc/")}


def ours_in_kernel():
    """Programs, maps and links of this test run that the kernel still has, in words, by bpftool.

    But for prog_arrays: one that is opened by its id just when its last user has closed it, as bpftool does here, stays
    in the kernel for ever, empty (97 of 100 on 6.18: prog_array_map_clear takes a reference for work that is queued
    already).
    """
    progs = {each["id"]: each["name"] for each in bpftool("prog", "show") if _is_ours(each)}
    found = [f"program {number} {name}" for number, name in progs.items()]
    found += [f"map {each['id']} {each['name']}" for each in _maps_shown() if _is_ours(each)]
    return found + [f"link {each['id']}" for each in bpftool("link", "show") if each.get("prog_id") in progs]


def _maps_shown():
    return [each for each in bpftool("map", "show") if each["type"] != "prog_array"]


def _is_ours(record):
    return record.get("name", "").startswith(programs.MARK + "_")


def eventually(condition):
    """Whether the condition comes true: the kernel frees programs and leaves cgroups a grace period later."""
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def _bound(address):
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.bind((address, PORT))
    end.settimeout(PATIENCE)
    return end


def _unshare(flags):
    if LIBC.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def _setns(namespace, kind):
    if LIBC.setns(namespace, kind) != 0:
        raise OSError(ctypes.get_errno(), "setns")
