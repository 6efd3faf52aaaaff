# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image all machines start from: one Debian with every kernel of the lab in it, so any of them can boot a disk.

It is made once per recipe, from the package sources that this machine's own apt uses, and kept:

    images/lock          held by whoever builds or removes one
    images/DIGEST/
      disk.raw           ext4, the whole device, sparse
      6.1/, 6.12/        vmlinuz and initrd: qemu starts the kernel, there is no boot loader
      build.log
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from base import HOME, KEY, SOURCE, Problem, die_with_parent, last_lines, locked, run, say

IMAGES = HOME / "images"
KERNELS = ("6.1", "6.12")
DISK_SIZE = "8G"

PACKAGES = (
    *("systemd-sysv", "dbus", "udev", "kmod", "openssh-server", "sudo", "ca-certificates"),
    *("iproute2", "iputils-ping", "procps", "ethtool"),
    *("python3", "python3-apt", "python3-pytest", "python3-pyroute2", "python3-bpfcc"),
    *("clang", "libbpf1", "libbpf-dev", "bpftool", "xdp-tools", "libxdp1"),
)

# Its mounts are nobody else's: an unfinished root may be removed, and with `unshare` dies all that it started.
ALONE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")

# Documentation is a tenth of the unpacking; a power cut during the build only means building again.
DPKG_OPTIONS = ["force-unsafe-io", "path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*"]

# Timers that would work on their own, prompts that nobody answers, drivers for what a machine does not have.
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer"),
    *("serial-getty@ttyS0.service", "getty@tty1.service", "systemd-pstore.service", "systemd-binfmt.service"),
    *("proc-sys-fs-binfmt_misc.automount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount"),
    *("modprobe@%s.service" % module for module in ("configfs", "dm_mod", "drm", "efi_pstore", "fuse", "loop")),
)


def ensure():
    """The folder of the image for today's recipe, built if it is not there."""
    folder = IMAGES / _digest()
    with locked(IMAGES):
        if not folder.exists():
            start = time.monotonic()
            say("building the image: once, some minutes (%s)" % folder)
            _forget_others()
            _build_aside(folder)
            say("the image is built, in %d s" % (time.monotonic() - start))
        os.utime(folder)
    return folder


def kernel(folder, version):
    """vmlinuz and initrd of this kernel."""
    return folder / version / "vmlinuz", folder / version / "initrd"


def _digest():
    recipe = hashlib.sha256(KEY.with_suffix(".pub").read_bytes())
    for file in [SOURCE / "image.py", *sorted((SOURCE / "guest").rglob("*"))]:
        if file.is_file():
            recipe.update(str(file.relative_to(SOURCE)).encode() + b"\0" + file.read_bytes())
    return recipe.hexdigest()[:16]


def _forget_others():
    """Unfinished images are gone, and those nobody asked for in two days, unless a machine's disk builds upon one."""
    used = {file.read_text().strip() for file in HOME.glob("machines/*/image")}
    for folder in filter(Path.is_dir, IMAGES.iterdir()):
        old = folder.stat().st_mtime < time.time() - 2 * 86400
        if folder.suffix == ".unfinished" or (old and str(folder) not in used):
            shutil.rmtree(folder)


def _build_aside(folder):
    """What `folder` names is whole or absent: `rename` is the commit. An unfinished build may always be deleted."""
    aside = folder.with_name(folder.name + ".unfinished")
    aside.mkdir(parents=True)
    try:
        _make_root(aside / "root", aside / "build.log")
        _take_kernels(aside)
        run("mke2fs", "-q", "-t", "ext4", "-L", "lab", "-d", aside / "root", aside / "disk.raw", DISK_SIZE, timeout=120)
    finally:
        shutil.rmtree(aside / "root", ignore_errors=True)
    aside.rename(folder)


def _make_root(root, log):
    codename, sources = _package_sources()
    wanted = [*PACKAGES, *(name for version in KERNELS for name in _kernel_packages(version))]
    words = [*ALONE, "mmdebstrap", "--mode=root", "--variant=minbase", "--include=" + " ".join(wanted)]
    words += ["--dpkgopt=" + option for option in DPKG_OPTIONS]
    words += ["--aptopt=" + line for line in _apt_options()]
    # The guest's files go in before the kernels do: one of them says what an initrd is made of.
    words += ["--essential-hook=sync-in %s /" % _quoted(SOURCE / "guest")]
    words += ["--customize-hook=" + line for line in _finish(KEY.with_suffix(".pub"))]
    log.with_name("sources.list").write_text("".join(line + "\n" for line in sources))
    with open(log, "w") as output:
        words += [codename, str(root), str(log.with_name("sources.list"))]
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        if subprocess.run(words, timeout=1200, check=False, preexec_fn=die_with_parent, **streams).returncode:
            raise Problem("mmdebstrap failed:\n%s" % last_lines(log.read_text()))


def _finish(public_key):
    """The last touches, as shell lines with the new root in $1."""
    return [
        'install -d -m 700 "$1/root/.ssh"',
        'install -m 600 %s "$1/root/.ssh/authorized_keys"' % _quoted(public_key),
        'chroot "$1" systemctl -q enable systemd-networkd lab-data ssh',
        'chroot "$1" systemctl -q mask %s' % " ".join(MASKED),
        'rm -f "$1/etc/hostname" "$1/etc/resolv.conf" "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        'echo nameserver 10.0.2.3 > "$1/etc/resolv.conf"',
        'echo 127.0.0.1 localhost > "$1/etc/hosts"',
        'touch "$1/etc/.updated" "$1/var/.updated"',  # newer than /usr: no boot thinks that it is the first
    ]


def _take_kernels(aside):
    boot = aside / "root" / "boot"
    for version in KERNELS:
        found = sorted(boot.glob("vmlinuz-%s.*" % version))
        if len(found) != 1:
            raise Problem("expected one kernel %s in the image, found %s" % (version, found))
        (aside / version).mkdir()
        shutil.copy(found[0], aside / version / "vmlinuz")
        shutil.copy(boot / found[0].name.replace("vmlinuz", "initrd.img"), aside / version / "initrd")


# ---- what this machine's apt knows


def _package_sources():
    """The codename and one line per Debian source, as configured here: a mirror or proxy stays the user's own."""
    row = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    text = run("apt-get", "indextargets", "--format", row, "Created-By: Packages")
    rows = sorted({tuple(line.split("|")) for line in text.splitlines() if line.startswith("Debian|")})
    codenames = {row[2].partition("-")[0] for row in rows}
    if len(codenames) != 1:
        raise Problem("the image is made from this machine's Debian sources; apt knows %s" % (codenames or "none"))
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    return codenames.pop(), ["deb [signed-by=%s] %s %s %s" % (keys, *row[1:]) for row in rows]


def _kernel_packages(version):
    """The newest cloud kernel of this series, and its headers: BCC compiles against them."""
    known = _installable(run("apt-cache", "pkgnames", "linux-image-%s." % version).split())
    numbers = re.compile(r"linux-image-(%s\.[^-]+(?:-\d+)?)-cloud-amd64(?:-unsigned)?" % re.escape(version))
    kernels = [match for match in map(numbers.fullmatch, known) if match]
    if not kernels:
        raise Problem("apt knows no linux-image-%s.*-cloud-amd64. Is Debian's security suite configured?" % version)
    newest = max(kernels, key=lambda match: ([int(n) for n in re.findall(r"\d+", match[1])], -len(match[0])))
    return [newest[0], *_installable(["linux-headers-%s-cloud-amd64" % newest[1]])]


def _installable(packages):
    """Those of the names that a source offers; apt also knows names that it has only seen mentioned."""
    policy = run("apt-cache", "policy", *packages) if packages else ""
    return re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (?!\(none\))", policy, re.MULTILINE)


def _apt_options():
    """How this machine reaches its sources, and whether it lets them be old (a snapshot's are)."""
    wanted = re.compile(r"(?i)Acquire::(https?::(.*::)?(Proxy|CaInfo)|Check-Valid-Until|Check-Date|Retries)\b.*;")
    return [line for line in run("apt-config", "dump").splitlines() if wanted.match(line)]


def _quoted(path):
    return "'%s'" % str(path).replace("'", "'\\''")
