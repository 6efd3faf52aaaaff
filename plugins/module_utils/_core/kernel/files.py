# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Files as we need them: the kernel's file systems found or mounted, durable writes, pins moved.

What the files mean is not this room's business.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import stat
import time
from typing import NamedTuple

from ..errors import Damaged, DiskRefused, Failure, Unsupported
from . import libbpf

BPFFS = "/sys/fs/bpf"
TRACEFS = "/sys/kernel/tracing"
MEMBARRIER = {"x86_64": 324, "aarch64": 283, "ppc64le": 365, "s390x": 356, "riscv64": 283}  # __NR_membarrier
MOUNTED = {BPFFS: "bpf", TRACEFS: "tracefs"}


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo: the file system's root seen at `point`."""

    point: str
    root: str
    type: str


def mounts(kind=""):
    """All mounts of this process's namespace, or those of a type, later ones last (proc(5), mountinfo)."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, dummy, right = line.partition(" - ")
            if kind and not right.startswith(kind + " "):  # a host may have hundreds, and each cgroup asks
                continue
            fields = left.split()
            found.append(Mount(_unescaped(fields[4]), _unescaped(fields[3]), right.split()[0]))
    return found


def _unescaped(text):
    for code, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(code, character)
    return text


def unmounted():
    """Those of our file systems that this kernel has and nobody has mounted: paths out of MOUNTED."""
    there = {(mount.point, mount.type) for mount in mounts()}
    return [point for point, kind in MOUNTED.items() if os.path.isdir(point) and (point, kind) not in there]


def has_bpffs():
    """Whether a BPF file system is mounted at /sys/fs/bpf."""
    points = [mount for mount in mounts() if mount.point == BPFFS]
    return bool(points) and points[-1].type == "bpf"


def mount_bpffs():
    """A BPF file system is mounted at /sys/fs/bpf, as iproute2 and bpftool do it too."""
    if not has_bpffs():
        mount(BPFFS)


def mount(point):
    """The kernel's file system is mounted at its place, a key of MOUNTED."""
    kind = MOUNTED[point]
    try:
        libbpf.call("mount", kind.encode(), point.encode(), kind.encode(), 0, b"mode=0700")
    except OSError as error:
        raise Unsupported(
            f"No {kind} file system is mounted at {point}, and mounting one failed: {error.strerror}",
            f"Run as root on the host: mount -t {kind} {kind} {point}",
            errno=error.errno,
        ) from error


def cgroup2_root():
    """Where the cgroup v2 hierarchy is mounted, /sys/fs/cgroup on most hosts; Unsupported where there is none."""
    found = mounts("cgroup2")
    if found:
        return found[-1].point
    raise Unsupported(
        "No cgroup v2 hierarchy is mounted on this host",
        "Mount one (mount -t cgroup2 none /sys/fs/cgroup/unified) or boot with systemd.unified_cgroup_hierarchy=1",
    )


def cgroup_paths():
    """{cgroup id: path below the cgroup v2 mount, "/" for its root}; empty where none is mounted."""
    try:
        root = cgroup2_root()
    except Unsupported:
        return {}
    found = {}
    for folder, *dummy in os.walk(root):
        with contextlib.suppress(FileNotFoundError):  # it went meanwhile
            found[os.stat(folder).st_ino] = folder[len(root) :] or "/"
    return found


def membarrier():
    """Every BPF program that was running has ended: MEMBARRIER_CMD_GLOBAL waits for a grace period of RCU.

    Where the kernel has none (nohz_full) or its number is not known here, a tenth of a second stands in.
    """
    number = MEMBARRIER.get(os.uname().machine)
    try:
        if number is None:
            raise OSError
        libbpf.call("syscall", number, 1, 0, 0, 0, 0)
    except OSError:
        time.sleep(0.1)


def make_private_folder(path):
    """`path` is a folder; what is made for that, parents too, root alone can enter. A folder that was there stays as it
    is, what is none is moved aside."""
    if _is_folder(path):
        return
    make_private_folder(os.path.dirname(path))  # os.makedirs gives its mode to the last one alone
    if os.path.lexists(path) and not _is_folder(path):
        _move_aside(path)
    with contextlib.suppress(FileExistsError):  # another run was faster
        os.mkdir(path, 0o700)


def _is_folder(path):
    """Pins lie in real folders alone: what a symlink leads to may be no bpffs, which takes no pins."""
    return os.path.isdir(path) and not (os.path.islink(path) and path.startswith(BPFFS + "/"))


def _move_aside(path):
    """What somebody put in the place of ours keeps no run from its work, and is not removed: it is not ours."""
    aside = f"{path}-{time.monotonic_ns():016x}-aside"  # without a dot, which bpffs does not take
    os.rename(path, aside)
    return aside


def was_moved_aside(name):
    """Whether the name is one that what was not ours was given."""
    return re.search(r"-[0-9a-f]{16}-aside$", name) is not None


def move_link_aside(path):
    """The symlink is at `path` no more; a sentence says where it is, or, out of bpffs, where it led to."""
    target = os.readlink(path)
    if not path.startswith(BPFFS + "/"):
        return f"{path} led to {target}: it is {_move_aside(path)} now"
    os.unlink(path)  # each name there may be taken for a load's
    return f"{path} led to {target}: it is removed"


def write_durably(path, data, mode=0o600):
    """`path` holds `data`, or what it held before: aside, fsync, rename, fsync of the folder."""
    aside = path + ".aside"
    _make_room(path, aside)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.rename(aside, path)
    except OSError as error:
        remove(aside)
        raise _at(path, error) from error
    sync_folder(os.path.dirname(path))


def _make_room(*paths):
    """A rename takes the place of a file or a symlink, but of no folder; what is written aside is a file of ours."""
    for path in paths:
        if not is_plain(path) and (path.endswith(".aside") or not os.path.islink(path)):
            remove(path)


def write_json(path, value):
    """As write_durably, for plain data: keys sorted, so that equal data are equal bytes."""
    write_durably(path, json.dumps(value, sort_keys=True, indent=1).encode() + b"\n")


def read_json(path):
    """The record (a dict of plain data) in `path`; Damaged where it is none; FileNotFoundError as it is."""
    try:
        with open(path, "rb") as stream:
            record = json.loads(stream.read())
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not readable as JSON", path=behind(path), error=str(error)) from error
    except OSError as error:
        if error.errno not in NO_FILE_ERRNOS and not (error.errno == errno.EIO and _leads_away(path)):
            raise
        raise Damaged(f"{path} is no file: {error.strerror}", path=behind(path), errno=error.errno) from error
    if not isinstance(record, dict):
        raise Damaged(f"{path} holds no record", path=behind(path))
    return record


NO_FILE_ERRNOS = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP)


def _leads_away(path):
    """Whether it is a symlink to what is not ours, or to a pin, which nobody can read (EIO)."""
    return os.path.islink(path) and behind(path) == path


def behind(path):
    """What the symlink `path` leads to where that lies in its folder or below; else `path`, which alone is ours: what
    cannot be read may be removed next."""
    try:
        target, folder = os.path.realpath(path), os.path.realpath(os.path.dirname(path))
    except OSError:  # a symlink went while it was read
        return path
    return target if target.startswith(folder + "/") else path


def point_symlink(path, target):
    """The symlink `path` names `target`: one rename."""
    aside = path + ".aside"
    remove(aside)
    _make_room(path)
    try:
        os.symlink(target, aside)
        os.rename(aside, path)
    except OSError as error:
        raise _at(path, error) from error
    sync_folder(os.path.dirname(path))


def sync_folder(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path, text):
    """One line more at the end of `path`, on the disk when this returns. A torn last line is the reader's to skip."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, text.encode() + b"\n")
        os.fsync(descriptor)
    except OSError as error:
        raise _at(path, error) from error
    finally:
        os.close(descriptor)


def remove(path):
    """No file or symlink at `path`; a folder in its place was moved aside."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if os.path.isdir(path) and not os.path.islink(path):
            _move_aside(path)
        else:
            os.unlink(path)


def remove_tree(path):
    """No folder at `path`, nor a symlink; a file in its place was moved aside. On bpffs this is the unpinning of all
    below it."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            os.unlink(path)
        elif os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            _move_aside(path)


def remove_whole(path, aside):
    """As remove_tree; what a kill leaves lies at `aside`, and `path` is whole or not there."""
    remove_tree(aside)
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
    remove_tree(aside)


def remove_if_empty(*folders):
    """None of the folders is there, from the first on until one that holds something."""
    for folder in folders:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return


def is_plain(path):
    """Whether a regular file is at `path`, or nothing."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True


def is_at(descriptor, path):
    """Whether the open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def size_of(path):
    """Bytes of the file, 0 where there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def sha256_of(path):
    """The file's digest in hex, "" where it cannot be read. Read again only if the file changed since."""
    try:
        now = os.stat(path)
        return _sha256(path, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    except OSError:
        return ""


@functools.lru_cache(maxsize=64)
def _sha256(path, *dummy):
    found = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def names_in(path):
    """The sorted names in the folder `path`; none where there is no folder, but a file or a symlink in its place.

    What a link leads to is not ours, and who lists it may remove it next; nor is what was moved aside: it is left out.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) or os.path.islink(path):
            return []
        raise
    try:
        return sorted(name for name in os.listdir(descriptor) if not was_moved_aside(name))
    finally:
        os.close(descriptor)


def _at(path, error):
    """The same OSError, about `path`: writing to a descriptor names none, and a symlink names its target."""
    return OSError(error.errno, error.strerror, path)


DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@contextlib.contextmanager
def disk_told():
    """What a file system refuses in this block (or function) is told as DiskRefused."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRNOS or (_is_call(error) and error.errno != errno.EROFS):
            raise
        raise disk_failure(error) from error


def disk_failure(error):
    """The Failure that an OSError means which no room above has a better word for: a call's, or a file's."""
    if _is_call(error) and error.errno == errno.EROFS:  # no program and no link is opened there, let alone pinned
        what, do = (
            f"The BPF file system at {BPFFS} is mounted read-only",
            f"Run on the host: mount -o remount,rw {BPFFS}",
        )
        return DiskRefused(what, do, path=BPFFS, errno=error.errno)
    if _is_call(error):
        return Failure(f"{error.filename} failed: {error.strerror}", "Read the kernel's log (dmesg)", errno=error.errno)
    path = error.filename or "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what, do = f"No space is left on the disk for {path}", "Free some space, then run again"
    elif error.errno in DISK_ERRNOS:
        what = f"{path} cannot be written: {error.strerror}"
        do = "Look at that file system (mount, dmesg), then run again"
    else:
        return Failure(f"{path}: {error.strerror}", "Look at what is there on the host", path=path, errno=error.errno)
    return DiskRefused(what, do, path=path, errno=error.errno)


def _is_call(error):
    """libbpf.py puts the call's name where others have a path."""
    return error.filename is not None and "/" not in str(error.filename)
