# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody else's tcx program: attach the pinned program at an interface's ingress, and pin the link.

python3 - PROGRAM INTERFACE LINK. Prints {"link_id": …}, or {"errno": …, "kernel": …} where the kernel refuses.
Debian 12's bpftool has no tcx, and this shall not be our own code.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import sys

SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
BPF_OBJ_PIN, BPF_OBJ_GET, BPF_OBJ_GET_INFO_BY_FD, BPF_LINK_CREATE = 6, 7, 15, 28
BPF_TCX_INGRESS = 46


def main(program, interface, link):
    try:
        made = bpf(
            BPF_LINK_CREATE, struct.pack("=IIII", get(program), socket.if_nametoindex(interface), BPF_TCX_INGRESS, 0)
        )
    except OSError as error:
        print(json.dumps({"errno": error.errno, "kernel": os.uname().release}))
        return
    path = ctypes.create_string_buffer(link.encode())
    bpf(BPF_OBJ_PIN, struct.pack("=QII", ctypes.addressof(path), made, 0))
    info = ctypes.create_string_buffer(256)
    bpf(BPF_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", made, len(info), ctypes.addressof(info)))
    print(json.dumps({"link_id": struct.unpack_from("=II", info)[1]}))


def get(pinned):
    path = ctypes.create_string_buffer(pinned.encode())
    return bpf(BPF_OBJ_GET, struct.pack("=QII", ctypes.addressof(path), 0, 0))


def bpf(command, attributes):
    libc = ctypes.CDLL(None, use_errno=True)
    room = ctypes.create_string_buffer(attributes, 128)
    result = libc.syscall(SYS_BPF, command, room, len(room))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


main(*sys.argv[1:])
