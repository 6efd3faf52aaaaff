# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many cheap hosts on this machine's kernel: each a cgroup, its namespaces, and an sshd in them.

    fleet/owner          the process with which the fleet comes down (base.identity), if there is one
    fleet/HOST/
      log                what fleet-host.sh and sshd said
      scratch            mount point of the host's memory, in its own mount namespace
    CGROUP2/ebpf-lab/HOST/
                         every process of the host, however it was started there: killing them takes the host down

A host has its own interfaces (eth0 to the controller, data0 and behind it the namespace "peer"), bpffs, tracefs,
cgroup2 and a private view of the file system. It shares the kernel: programs and maps of all hosts are in one list of
ids, and PIDs are the controller's. There is no systemd in it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from base import HOME, KEY, SOURCE, Problem, answers, last_lines, run, say, wait_until
from machine import DATA

FOLDER = HOME / "fleet"
CONTROLLER = "10.213.0.1"
LARGEST = 200
VARIABLES = {**DATA, "management_interface": "eth0"}


class Host:
    """The host of this number, counted from 1."""

    def __init__(self, number):
        self.number = number
        self.name = "h%02d" % number
        self.address = "10.213.0.%d" % (number + 10)
        self.link = "lab-%s" % self.name
        self.folder = FOLDER / self.name
        self.cgroup = _cgroup2() / "ebpf-lab" / self.name

    def alive(self):
        return self.cgroup.exists() and "populated 1" in (self.cgroup / "cgroup.events").read_text()

    def answers(self):
        return answers(self.address, 22)

    def state(self):
        if not self.alive():
            return "dead: no process left in it"
        return "answers" if self.answers() else "runs, does not answer"

    def start(self):
        """Its sshd is about to listen; nothing of an earlier host of this name is left."""
        self.stop()
        (self.folder / "scratch").mkdir(parents=True)
        shutil.copy(KEY.with_suffix(".pub"), self.folder / "scratch.key.pub")
        self.cgroup.mkdir(parents=True)
        with open(self.folder / "log", "w") as log:
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "text": True}
            process = subprocess.Popen(self._command(), start_new_session=True, **streams)
        with process.stdin, process.stdout:
            if process.stdout.readline() != "unshared\n":
                raise self._failed("no namespaces")
            self._connect(process.pid)
            process.stdin.write("go\n")

    def wait_ready(self):
        no_sshd = "%s: no sshd, see %s" % (self.name, self.folder / "log")
        wait_until(lambda: self.answers() or not self.alive(), 60, no_sshd)
        if not self.alive():
            raise self._failed("ended")

    def stop(self):
        """Nothing of it is left. Its namespaces, mounts and pins go with its processes."""
        if self.cgroup.exists():
            (self.cgroup / "cgroup.kill").write_text("1")
            wait_until(lambda: not self.alive(), 20, "%s: processes survive SIGKILL" % self.name, pause=0.02)
            wait_until(lambda: _remove_cgroup(self.cgroup), 20, "%s stays" % self.cgroup, pause=0.05)
        if Path("/sys/class/net", self.link).exists():
            subprocess.run(["ip", "link", "del", self.link], stderr=subprocess.DEVNULL, timeout=20, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self):
        """The shell enters the cgroup first, so that the new cgroup namespace has it as its root."""
        enter = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
        unshare = ["unshare", "--mount", "--net", "--uts", "--cgroup", "--propagation", "private"]
        inside = ["sh", SOURCE / "fleet-host.sh", self.name, self.address, CONTROLLER, self.folder / "scratch", SOURCE]
        return ["sh", "-ec", enter, "sh", str(self.cgroup), *unshare, *map(str, inside)]

    def _connect(self, pid):
        """A link of two ends, no bridge: hosts do not see each other, and nothing but the links has to be removed."""
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", pid)
        run("ip", "addr", "add", CONTROLLER, "peer", self.address, "dev", self.link)
        run("ip", "link", "set", self.link, "up")

    def _failed(self, what):
        log = self.folder / "log"
        return Problem("%s: %s\n%s" % (self.name, what, last_lines(log.read_text()) if log.exists() else ""))


def scale(count):
    """Exactly the hosts h01 to h<count> answer; those that do already are left alone."""
    if not 0 <= count <= LARGEST:
        raise Problem("a fleet has 0 to %d hosts" % LARGEST)
    _expect_free_addresses()
    for host in everyone():
        if host.number > count or not host.alive():
            host.stop()
    new = [host for host in map(Host, range(1, count + 1)) if not host.alive()]
    for host in new:
        host.start()
    for host in new:
        host.wait_ready()
    say("fleet: %d hosts answer" % count)


def everyone():
    """Every host of which something is left, on disk or as a cgroup."""
    places = (FOLDER, _cgroup2() / "ebpf-lab")
    names = {entry.name for place in places if place.exists() for entry in place.iterdir() if entry.is_dir()}
    return [Host(int(name[1:])) for name in sorted(names) if re.fullmatch(r"h\d+", name)]


def stop():
    """Nothing of the fleet is left."""
    for host in everyone():
        host.stop()
    shutil.rmtree(FOLDER, ignore_errors=True)
    parent = _cgroup2() / "ebpf-lab"
    if parent.exists():
        parent.rmdir()


def own(process):
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "owner").write_text(process)


def owner():
    return (FOLDER / "owner").read_text() if (FOLDER / "owner").exists() else ""


def _cgroup2():
    """Where cgroup v2 is mounted: beside v1 (hybrid) or alone."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    found = [Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"]
    if not found:
        raise Problem("no cgroup v2 is mounted here; the fleet needs one")
    return found[0]


def _remove_cgroup(folder):
    """Remove it with those that were made in it, the inner ones first; false while the kernel still holds one."""
    inner = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    try:
        for path in [*inner, folder]:
            path.rmdir()
    except OSError:
        return False
    return True


def _expect_free_addresses():
    used = run("ip", "-o", "-4", "addr").splitlines()
    foreign = [line.split()[1] for line in used if " 10.213.0." in line and " lab-h" not in line]
    if foreign:
        raise Problem("the fleet's addresses (10.213.0.0/24) are in use on %s" % ", ".join(foreign))
