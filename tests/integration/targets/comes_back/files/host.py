# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a machine's interface and service, and which packets are counted then, by bpftool. JSON on stdout.

host.py receive            {receive}: the versions that counted five frames, and none of the four from a blocked network
host.py count              and {leave}: one start of the service
host.py recreate           the interface deleted and made anew: seconds until a frame is counted again
host.py rename             made under another name, then given its own: the same
host.py flap               deleted and made anew eight times in a row: the same
host.py restart | crash    the service restarted, or killed and started again by systemd: as count, for `leave`
host.py started            versions that counted a packet since the programs were loaded
host.py order              what the boot unit was done before, by systemd's own clock
"""

from __future__ import annotations

import glob
import json
import subprocess
import sys
import time

MAP = "/sys/fs/bpf/ebpf_deploy/comes-back/loads/*/maps/seen"
SERVICE = "comes-back.service"
INTERFACE, PEER, NETNS, ADDRESS = "data0", "data1", "peer", "10.44.0.1/24"
FRAMES, BLOCKED_FRAMES = 5, 4
PATIENCE = 30
ROWS = {"receive": 0, "leave": 1}
FRAMES_SENT = (  # interface, how many, from which address
    "import socket, sys, time; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 0))\n"
    "frame = b'\\xff' * 6 + bytes(6) + b'\\x88\\xb5' + bytes(12) + socket.inet_aton(sys.argv[3]) + bytes(30)\n"
    "for n in range(int(sys.argv[2])): s.send(frame); time.sleep(0.02)"
)


def count():
    return {**receive(), **restart()}


def receive():
    before = counted()
    send(FRAMES)
    send(BLOCKED_FRAMES, source="10.3.247.9")  # in the last of a thousand networks
    return {"receive": since(before, counted())["receive"]}


def restart():
    return leaving(lambda: run("systemctl", "restart", SERVICE))


def crash():
    return leaving(lambda: run("systemctl", "kill", "--signal=KILL", SERVICE))


def leaving(work):
    """What the service's next start was counted by: its one packet, and no other."""
    before, starts = counted(), main_pid()
    work()
    wait(lambda: main_pid() not in (starts, "0"))
    wait(lambda: since(before, counted())["leave"])
    time.sleep(0.5)  # a second packet would be wrong
    return {"leave": since(before, counted())["leave"]}


def started():
    wait(lambda: since({}, counted())["leave"])
    return since({}, counted())


def recreate():
    run("ip", "link", "del", INTERFACE)
    make(INTERFACE)
    return until_counted()


def rename():
    run("ip", "link", "del", INTERFACE)
    make("other0")
    run("ip", "link", "set", "other0", "down")
    run("ip", "link", "set", "other0", "name", INTERFACE)
    run("ip", "link", "set", INTERFACE, "up")
    return until_counted()


def flap():
    for dummy in range(8):
        run("ip", "link", "del", INTERFACE)
        make(INTERFACE)
    return until_counted()


def order():
    names = ("ebpf-deploy-boot.service", "network-pre.target", "systemd-networkd.service", SERVICE)
    times = {name: int(shown(name, "ActiveEnterTimestampMonotonic")) for name in names}
    return {name: times[name] > times[names[0]] > 0 for name in names[1:]}


def make(name):
    """The lab's pair anew, as its own lab-data makes it."""
    run("ip", "link", "add", name, "type", "veth", "peer", "name", PEER, "netns", NETNS)
    run("ip", "link", "set", name, "addrgenmode", "none")
    run("ip", "addr", "add", ADDRESS, "dev", name)
    run("ip", "link", "set", name, "up")
    run("ip", "-n", NETNS, "link", "set", PEER, "addrgenmode", "none", "up")


def until_counted():
    """Seconds until a frame that came in was counted, and by which versions, while they come all the time."""
    begun, before = time.monotonic(), counted()
    with subprocess.Popen(sending(50 * PATIENCE)) as sender:
        wait(lambda: since(before, counted())["receive"])
        seconds = round(time.monotonic() - begun, 1)
        sender.kill()
    return {"seconds": seconds, "receive": sorted(since(before, counted())["receive"])}


def send(frames, source="0.0.0.0"):
    run(*sending(frames, source))


def sending(frames, source="0.0.0.0"):
    return ("ip", "netns", "exec", NETNS, sys.executable, "-c", FRAMES_SENT, PEER, str(frames), source)


def counted():
    """{key: packets} of the deployment's map."""
    pinned = sorted(glob.glob(MAP))
    rows = json.loads(run("bpftool", "-j", "map", "dump", "pinned", pinned[0])) if pinned else []
    return {row["formatted"]["key"]: sum(each["value"] for each in row["formatted"]["values"]) for row in rows}


def since(before, after):
    """{program: {version: packets}} that were counted in between."""
    more = {key: packets - before.get(key, 0) for key, packets in after.items()}
    return {
        program: {f"v{key // 2}": packets for key, packets in more.items() if key % 2 == row and packets}
        for program, row in ROWS.items()
    }


def main_pid():
    return shown(SERVICE, "MainPID")


def shown(unit, what):
    return run("systemctl", "show", "--value", "-p", what, unit).strip()


def wait(condition):
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


print(json.dumps(globals()[sys.argv[1]](), sort_keys=True))
