# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send exactly so many packets, and say how many went.

python3 - frames itest1 100            raw Ethernet frames of a protocol that nobody answers (0x88b5, for experiments)
python3 - udp 192.0.2.2 100            UDP datagrams to the discard port
python3 - udp 192.0.2.2 100 /folder    the same from the cgroup with this folder; what it refuses is not sent
"""

from __future__ import annotations

import os
import socket
import sys
import time


def main(kind, where, number, cgroup=""):
    if cgroup:
        with open(os.path.join(cgroup, "cgroup.procs"), "w", encoding="ascii") as procs:
            procs.write(str(os.getpid()))
    print({"frames": frames, "udp": datagrams}[kind](where, int(number)))


def frames(interface, number):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as peer:
        peer.bind((interface, 0))
        frame = b"\xff" * 6 + peer.getsockname()[4] + b"\x88\xb5" + b"itest".ljust(46, b"\0")
        return paced(lambda: peer.send(frame), number)


def datagrams(address, number):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return paced(lambda: sender.sendto(b"itest", (address, 9)), number)


def paced(send, number):
    """How many were sent: a pause now and then, since a veth's ring holds 256 packets and drops the next."""
    sent = 0
    for count in range(number):
        try:
            send()
            sent += 1
        except PermissionError:
            pass
        if count % 64 == 63:
            time.sleep(0.005)
    return sent


main(*sys.argv[1:])
