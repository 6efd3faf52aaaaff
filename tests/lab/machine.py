# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with a kernel of its own: one qemu, one disk, and a keeper that sees how each boot ends.

    machines/HOST/
      disk.qcow2         what differs from the image
      image              the image's folder
      port               of the controller's 127.0.0.1, forwarded to the guest's sshd
      kernel             what the next boot starts
      words              what else its kernel's command line says from the next boot on, where that was asked for
      erst               memory that outlives a panic, where that was asked for: pstore's last words lie there
      booted             "N KERNEL": the boot that runs, or ran last
      console.log        all boots, each under a line of the keeper's
      keeper, qemu       processes (base.identity)
      keeper.log         the keeper's and qemu's own words
      owner              the process with which it comes down (base.identity), if there is one
      cut                there when it was `lab kill` that killed qemu
      ended              why nothing runs any more, written by the keeper as its last act

A guest that reboots in order is started again by its keeper, with the kernel that `kernel` then names. Everything else
is an end: switched off, panicked (`panic=1` and qemu's `-no-reboot` turn that into an exit), qemu killed. Whoever waits
for a machine looks at its end too, and shows the console's last lines.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

import image
from base import (
    CONSOLES,
    HOME,
    KEY,
    SSH_OPTIONS,
    Problem,
    answers,
    boot_id,
    detach,
    die_with_parent,
    free_port,
    identity,
    kill,
    last_lines,
    living,
    run,
    say,
    wait_until,
)

FOLDER = HOME / "machines"
MEMORY = "768"
CPUS = "2"
BOOT_SECONDS = 240  # alone 11 to 25; others may load the same cores
SILENT_SECONDS = 180  # longer than any guard of a test that cuts the management network

DATA = {
    "data_interface": "data0",
    "data_address": "10.44.0.1",
    "data_peer_netns": "peer",
    "data_peer_interface": "data1",
    "peer_address": "10.44.0.2",
}
VARIABLES = {
    **DATA,
    "management_interface": "eth0",
    "wire_interface": "eth1",
    "wire_address": "10.0.3.15",
    "wire_peer_address": "10.0.3.2",
}


class Ended(Problem):
    """A machine is not there any more, or does not answer; with its console's last lines."""

    def __init__(self, machine, why):
        super().__init__("%s: %s\n%s" % (machine.name, why, machine.console_tail()))


class Machine:
    """One machine by its name; everything known about it is on disk, so every `lab` sees the same."""

    def __init__(self, name):
        self.name = name
        self.folder = FOLDER / name

    def read(self, fact, otherwise=""):
        file = self.folder / fact
        return file.read_text().strip() if file.exists() else otherwise

    def write(self, fact, value):
        (self.folder / fact).write_text("%s\n" % value)

    @property
    def port(self):
        return int(self.read("port", "0"))

    @property
    def boots(self):
        return int(self.read("booted", "0 none").split()[0])

    @property
    def kernel(self):
        """The kernel that runs or ran last; before the first boot the one to start."""
        return self.read("booted").partition(" ")[2] or self.read("kernel")

    def alive(self):
        return bool(living(self.folder / "keeper"))

    def answers(self):
        return self.alive() and answers("127.0.0.1", self.port)

    def console_tail(self):
        console = self.folder / "console.log"
        if not console.exists():
            return "(no console)"
        text = console.read_bytes().decode(errors="replace").replace("\r", "")
        return "--- last lines of %s\n%s" % (console, last_lines(text))

    def end(self):
        """Why it does not run: "off: ..." when that was asked for, "dead: ..." when not; empty while it runs."""
        return "" if self.alive() else self.read("ended", "dead: its keeper was killed")

    def state(self):
        return self.end() or ("answers" if self.answers() else "runs, does not answer")

    # ---- bringing up and down

    def create(self, image_folder, kernel):
        """A fresh disk over the image; what was under this name before is gone."""
        self.clear()
        self.folder.mkdir(parents=True)
        backing = ["-b", image_folder / "disk.raw", "-F", "raw"]
        run("qemu-img", "create", "-q", "-f", "qcow2", *backing, self.folder / "disk.qcow2")
        self.write("image", image_folder)
        self.write("kernel", kernel)
        self.write("port", free_port())

    def start(self):
        """Its keeper runs and boots the disk as it is."""
        accelerator(Path(self.read("image")))
        for left in ("ended", "cut"):
            (self.folder / left).unlink(missing_ok=True)
        boots = self.boots
        detach("_keep", self.name, log=self.folder / "keeper.log")
        wait_until(lambda: self.boots > boots or self.read("ended"), 20, "%s: its keeper does not start" % self.name)

    def wait_ready(self):
        """sshd answers and systemd has finished booting; Ended as soon as that cannot come true any more."""
        late = "no sshd within %d s" % BOOT_SECONDS
        wait_until(self._greets_or_ended, BOOT_SECONDS, lambda: Ended(self, late), pause=0.5)
        state = self.ssh("systemctl is-system-running --wait; uname -r", timeout=BOOT_SECONDS).split()
        if not state or state[0] not in ("running", "degraded"):
            raise Ended(self, "systemd says %s" % (state or "nothing"))
        return state[-1]

    def _greets_or_ended(self):
        if not self.alive():
            raise Ended(self, self.end())
        return self.answers()

    def ssh(self, command, timeout=60):
        """What the command printed on the host. It may fail there: is-system-running does, when degraded."""
        words = ["ssh", *ssh_words("127.0.0.1", self.port), command]
        streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        try:
            done = subprocess.run(words, timeout=timeout, check=False, **streams)
        except subprocess.TimeoutExpired as slow:
            raise Ended(self, "ssh did not end within %d s" % timeout) from slow
        if done.returncode == 255:
            raise Ended(self, "ssh: %s" % last_lines(done.stderr, 2))
        return done.stdout

    def reboot(self):
        """An orderly reboot into the kernel that `kernel` names, and ready again."""
        boots = self.boots
        self.ssh("systemctl reboot")
        late = "does not go down"
        wait_until(lambda: self.boots > boots or not self.alive(), 90, lambda: Ended(self, late))
        return self.wait_ready()

    def cut_power(self):
        """qemu is gone without a word to the guest; the disk holds what the guest had flushed."""
        (self.folder / "cut").touch()
        kill(self.folder / "qemu")
        wait_until(lambda: not self.alive(), 10, "%s: its keeper stays" % self.name)

    def clear(self):
        """Nothing is left of it but its console."""
        kill(self.folder / "keeper")
        kill(self.folder / "qemu")
        if (self.folder / "console.log").exists():
            CONSOLES.mkdir(parents=True, exist_ok=True)
            shutil.move(self.folder / "console.log", CONSOLES / (self.name + ".log"))
        shutil.rmtree(self.folder, ignore_errors=True)


def name_of(kernel):
    return "vm" + kernel.replace(".", "")


def everyone():
    return [Machine(folder.name) for folder in sorted(FOLDER.iterdir())] if FOLDER.exists() else []


def ssh_words(address, port):
    return [*SSH_OPTIONS.split(), "-o", "BatchMode=yes", "-i", str(KEY), "-p", str(port), "root@" + address]


# ---- the keeper: a process beside each qemu


def keep(name):
    """Start qemu, again after every orderly reboot, until it ends otherwise; write down why."""
    machine = Machine(name)
    machine.write("keeper", identity(os.getpid()))
    why = "dead: the keeper failed, see keeper.log"
    try:
        why = _boot(machine)
        while why == "reboot":
            why = _boot(machine)
    finally:
        machine.write("ended", why)


def _boot(machine):
    """One boot, from qemu's start to its end; "reboot", or why nothing should follow."""
    boots, kernel, console = machine.boots + 1, machine.read("kernel"), machine.folder / "console.log"
    with open(console, "a") as log:
        log.write("\n--- boot %d, kernel %s, %s\n" % (boots, kernel, time.strftime("%F %T")))
    seen = console.stat().st_size
    qemu = subprocess.Popen(_qemu(machine, kernel), stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
    machine.write("qemu", identity(qemu.pid))
    machine.write("booted", "%d %s" % (boots, kernel))
    code = qemu.wait()
    if (machine.folder / "cut").exists():
        return "off: power cut"
    if code > 0:
        return "dead: qemu failed: %s" % last_lines((machine.folder / "keeper.log").read_text(), 1)
    return _reason(code, console.read_bytes()[seen:].decode(errors="replace"))


def _reason(code, console):
    """What an exit of qemu means: Linux says how it goes down, and a panic says something else."""
    if code < 0:
        return "dead: qemu was killed by %s" % signal.Signals(-code).name
    panic = re.search("Kernel panic.*", console)
    if panic:
        return "dead: " + panic[0].strip()
    if "reboot: Restarting system" in console:
        return "reboot"
    return "off: shut down" if "reboot: Power down" in console else "dead: the machine reset itself"


def _qemu(machine, kernel):
    vmlinuz, initrd = image.kernel(Path(machine.read("image")), kernel)
    return [
        *_hardware(accelerator(Path(machine.read("image")))),
        *("-kernel", vmlinuz, "-initrd", initrd, "-append", _command_line(machine)),
        *("-drive", "if=virtio,format=qcow2,file=%s" % str(machine.folder / "disk.qcow2").replace(",", ",,")),
        *("-netdev", "user,id=management,hostfwd=tcp:127.0.0.1:%d-10.0.2.15:22" % machine.port),
        *("-device", "virtio-net-pci,netdev=management,romfile="),
        *("-netdev", "user,id=wire,net=10.0.3.0/24,restrict=on"),
        *("-device", "virtio-net-pci,netdev=wire,romfile="),
        *(_pstore(machine.folder / "erst") if (machine.folder / "erst").exists() else ()),
        *("-chardev", "file,id=console,append=on,path=%s" % str(machine.folder / "console.log").replace(",", ",,")),
        *("-serial", "chardev:console"),
    ]


def _pstore(path):
    backend = "memory-backend-file,id=erst,size=64K,share=on,mem-path=%s" % path
    return ["-object", backend, "-device", "acpi-erst,memdev=erst"]


def _hardware(accel):
    accel += ",tb-size=192" if accel == "tcg" else ""  # MB of translated code: the default grows to a GB
    words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    return [*words, "-M", "q35", "-cpu", "max", "-accel", accel, "-m", MEMORY, "-smp", CPUS]


def _command_line(machine):
    """`panic=1` ends a panicked machine. An oops counts as one: it must fail the test that caused it."""
    identity_of_host = uuid.uuid5(uuid.NAMESPACE_DNS, machine.name).hex
    return (
        "root=/dev/vda rw fsck.mode=skip console=ttyS0 loglevel=5 TERM=dumb panic=1 oops=panic net.ifnames=0 "
        "systemd.hostname=%s systemd.machine_id=%s %s" % (machine.name, identity_of_host, machine.read("words"))
    )


# ---- hardware virtualisation, if it works


def accelerator(image_folder):
    """kvm when a guest was seen printing under it since this machine booted; otherwise tcg, slow and true anywhere."""
    kept = HOME / "accelerator"
    if not kept.exists() or kept.read_text().split()[0] != boot_id():
        kept.write_text("%s %s\n" % (boot_id(), "kvm" if _kvm_prints(image_folder) else "tcg"))
    return kept.read_text().split()[1]


def _kvm_prints(image_folder):
    """/dev/kvm may exist and take every call while a guest never gets to print a byte: only a boot tells."""
    if not Path("/dev/kvm").exists():
        return False
    say("trying KVM for up to 10 s")
    vmlinuz, dummy = image.kernel(image_folder, image.KERNELS[0])
    words = [*_hardware("kvm"), "-kernel", vmlinuz, "-append", "console=ttyS0 panic=1", "-serial", "stdio"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as qemu:
        readable, dummy, dummy = select.select([qemu.stdout], [], [], 10)
        printed = bool(readable and qemu.stdout.read(1))
        qemu.kill()
    return printed
