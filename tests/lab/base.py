# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every room of the lab stands on: its folders, processes known by more than a number, waits that end, commands.

Everything lies under one folder of the user's cache, never in the checkout:

    lab/
      key, key.pub       what the controller logs in with, everywhere; made once
      images/DIGEST/     one image per recipe (image.py)
      packages.log       apt-get's words when the lab installed something
      inventory.yml      Ansible's view of what is up (inventory.py)
      consoles/HOST.log  the last console of a machine that was taken down
      lock               held by whoever brings hosts up or down
      accelerator        "BOOT tcg|kvm": what the probe found since this machine booted
      machines/HOST/     a machine that is up (machine.py)
      fleet/HOST/        a host of the fleet (fleet.py)
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ebpf.deploy" / "lab"
KEY = HOME / "key"
CONSOLES = HOME / "consoles"
SOURCE = Path(__file__).resolve().parent

SSH_OPTIONS = (
    "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
    "-o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
)


class Problem(Exception):
    """One or two sentences for whoever called the lab; shown without a traceback."""


def say(text):
    print("lab: " + text, file=sys.stderr, flush=True)


# ---- commands


def run(*words, timeout=60):
    """Run a command and return what it printed; its own words are the Problem when it fails."""
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    try:
        done = subprocess.run([str(word) for word in words], timeout=timeout, check=True, **streams)
    except subprocess.TimeoutExpired as slow:
        raise Problem("%s did not end within %d s" % (words[0], timeout)) from slow
    except subprocess.CalledProcessError as failed:
        raise Problem("%s: %s" % (words[0], last_lines(failed.stderr or failed.stdout or str(failed), 5))) from failed
    return done.stdout


def last_lines(text, count=30):
    return "\n".join(text.rstrip().splitlines()[-count:])


PACKAGES = {
    "machines": {
        "qemu-system-x86_64": "qemu-system-x86",
        "qemu-img": "qemu-utils",
        "mmdebstrap": "mmdebstrap",
        "mke2fs": "e2fsprogs",
        "ssh": "openssh-client",
    },
    "fleet": {"ip": "iproute2", "sshd": "openssh-server", "ssh": "openssh-client", "unshare": "util-linux"},
}


def need(part):
    """Every command of this part is installed; what was missing comes from apt, in one line."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = sorted({package for command, package in PACKAGES[part].items() if not shutil.which(command)})
    if os.geteuid():
        raise Problem("The lab needs root: it makes file systems and namespaces. Run it with sudo.")
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise Problem("missing (by Debian's names): %s" % " ".join(missing))
    say("installing with apt-get: %s" % " ".join(missing))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300"]
    with open(HOME / "packages.log", "w") as log:
        for words in (["update"], ["install", "--no-install-recommends", *missing]):
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            if subprocess.run(apt + words, env=environment, check=False, **streams).returncode:
                raise Problem("apt-get %s failed:\n%s" % (words[0], last_lines(Path(log.name).read_text())))


def make_key():
    """The lab's key pair exists; both the image and the fleet take its public half."""
    if not KEY.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ebpf.deploy lab", "-f", KEY)


# ---- one at a time, and never for ever


@contextmanager
def locked(folder=HOME, seconds=900):
    """Only one at a time changes what is in this folder; the kernel lets go of it when the holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        wait_until(lambda: _try_lock(lock), seconds, "another `lab` still holds %s" % lock.name, pause=0.5)
        yield


def _try_lock(lock):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_until(true, seconds, otherwise, pause=0.2):
    """Return the first true answer; when there is none in time, a Problem with these words, or the one this makes."""
    end = time.monotonic() + seconds
    while True:
        answer = true()
        if answer:
            return answer
        if time.monotonic() > end:
            raise otherwise() if callable(otherwise) else Problem("%s (waited %d s)" % (otherwise, seconds))
        time.sleep(pause)


def answers(address, port, seconds=5):
    """Whether an SSH server greets there. qemu accepts for its guest, so a connection alone says nothing."""
    try:
        with socket.create_connection((address, port), seconds) as connection:
            connection.settimeout(seconds)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- processes: a number alone is no identity, it may be somebody else's by now


def boot_id():
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity(pid):
    """PID, start time and boot as one line; empty when there is no such process, or only its remains."""
    try:
        fields = Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else "%d %s %s" % (pid, fields[19], boot_id())


def living(file):
    """The PID that this file names, if that very process lives."""
    try:
        kept = file.read_text().strip()
    except OSError:
        return None
    pid = int(kept.split()[0]) if kept else 0
    return pid if pid and identity(pid) == kept else None


def kill(file, seconds=10):
    """The process that this file names is gone."""
    pid = living(file)
    if pid:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not living(file), seconds, "process %d survives SIGKILL" % pid, pause=0.05)


def die_with_parent():
    """For a child before its exec: it does not outlive us, not even when we are killed (PR_SET_PDEATHSIG is 1)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def detach(*words, log):
    """Start a verb of the lab as a process of its own session, which outlives us; return its PID."""
    with open(log, "a") as output:
        command = [sys.executable, "-B", str(SOURCE), *words]
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        return subprocess.Popen(command, start_new_session=True, cwd="/", **streams).pid
