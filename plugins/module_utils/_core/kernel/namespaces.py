# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Which namespaces and names this process sees: network namespaces entered, interfaces by name, the kernel's release.

What is attached to an interface is not this room's business.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import socket

from ..errors import NotFound, Unprivileged
from . import libbpf

CLONE_NEWNET = 0x40000000
NAMED = "/run/netns"  # where `ip netns add` keeps them


@contextlib.contextmanager
def network(name):
    """The calling thread is in the network namespace (a name of `ip netns`, or a path; empty: where it is), and back
    after.

    The mount namespace stays: pins and /sys are the same inside.
    """
    if not name:
        yield
        return
    path = path_of(name)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(path, name)
        yield
    finally:
        libbpf.call("setns", home, CLONE_NEWNET)
        os.close(home)


def is_own(name):
    """Whether the name, as network() takes it, means the namespace that this thread is in; None where none is there."""
    if not name:
        return True
    try:
        there, here = os.stat(path_of(name)), os.stat("/proc/thread-self/ns/net")
    except OSError:
        return None
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def path_of(name):
    """Where the network namespace is found: a name of `ip netns`, a path, or that of the process with this id."""
    if name.startswith("/"):
        return name
    path = os.path.join(NAMED, name)
    return f"/proc/{name}/ns/net" if name.isdigit() and not os.path.exists(path) else path


def inode(name):
    """What the kernel knows the network namespace by, 0 where there is none of that name; empty: this thread's own."""
    try:
        return os.stat(path_of(name) if name else "/proc/thread-self/ns/net").st_ino
    except OSError:
        return 0


def _enter(path, name):
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"There is no network namespace {name} on this host", "See ip netns list", netns=name) from error
    try:
        libbpf.call("setns", there, CLONE_NEWNET)
    except OSError as error:
        raise Unprivileged(
            f"Network namespace {name} cannot be entered: {error.strerror}", "Add become: true", errno=error.errno
        ) from error
    finally:
        os.close(there)


def ifindex(name):
    """The interface's index in the namespace of this thread, None where there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def interface_name(number):
    """The name of the interface with this index in the namespace of this thread, None where there is none."""
    try:
        return socket.if_indextoname(number)
    except OSError:
        return None


def interfaces():
    """{name: ifindex} of the namespace of this thread."""
    return {name: number for number, name in socket.if_nameindex()}


def did_you_mean(word, known):
    """A sentence that offers the nearest of the known names, or lists them where none is near."""
    near = difflib.get_close_matches(word, known, 1)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known here: {', '.join(sorted(known))}." if known else "There are none here."


def kernel_release():
    return os.uname().release


def boot_id():
    """The kernel's own id of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()
