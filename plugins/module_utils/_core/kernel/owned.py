# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Whose a path is: root's alone, from / down to the last name, or somebody else can change what root reads there.

Each name is opened by the descriptor of the folder before it, so that nobody swaps one between the look and the use.
What the files mean is not this room's business.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat

from ..errors import NotRootsAlone

TRIES = 100  # to be faster than somebody who makes a folder as fast as root moves it aside
LINKS = 40  # symlinks on one way, as many as the kernel follows (path_resolution(7))
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextlib.contextmanager
def opened(path: str, flags: int = os.O_RDONLY):
    """A descriptor of `path`, which nobody but root can change or put another in the place of; closed in the end.

    NotRootsAlone names the part of the way that somebody else owns or writes; OSError as open. A FIFO does not block.
    """
    reached = _walked(path)
    try:
        descriptor = os.open(f"/proc/self/fd/{reached}", flags | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(reached)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read(path: str) -> bytes:
    """The content of the file at `path`, root's alone on the whole way."""
    with opened(path) as descriptor, open(descriptor, "rb", closefd=False) as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        return stream.read()


def expect(path: str) -> None:
    """Nobody but root can change `path` or put another in its place; NotRootsAlone otherwise, OSError as stat."""
    os.close(_walked(path))


def is_roots(path: str) -> bool:
    """Whether `path` is there and root's alone on the whole way."""
    try:
        expect(path)
    except (NotRootsAlone, OSError):
        return False
    return True


def take_folder(path: str) -> str:
    """`path` is a folder of root's (0700 where it had to be made), or a Failure says why not.

    What somebody else has put there first is moved aside to a name that he could not know, and a sentence tells of it;
    else it is empty. Of a folder that is sticky, as /tmp, he cannot take away what is root's.
    """
    told, facts = "", os.lstat(os.path.dirname(path))
    for dummy in range(TRIES):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        try:
            facts = os.lstat(path)
        except FileNotFoundError:  # he has just taken his own away
            continue
        if facts.st_uid == 0 and os.path.isdir(path):
            return told
        told = _moved_aside(path, facts) or told
    raise refusal(path, path, facts)


def _moved_aside(path, facts):
    """Root's own folder, made beside it, takes the name at once, before somebody else can."""
    mark = secrets.token_hex(8)
    ours, aside = f"{path}-{mark}", f"{path}-of-{facts.st_uid}-{mark}"
    os.mkdir(ours, 0o700)
    try:
        os.rename(path, aside)
    except OSError:  # he took it away himself, or it is a mount
        os.rmdir(ours)
        return ""
    try:
        os.rename(ours, path)
    except OSError:  # he was faster: the next try sees what is there now
        os.rmdir(ours)
    return f"{path} was owned by {_name_of(facts.st_uid)} and is root's now; what was there is {aside}"


def make_sticky(path: str) -> str:
    """In the folder `path`, which is root's, nobody takes away or renames what is another's. A sentence where that was
    otherwise, else empty."""
    facts = os.lstat(path)
    if facts.st_uid or not facts.st_mode & OTHERS_WRITE or facts.st_mode & stat.S_ISVTX:
        return ""
    os.chmod(path, stat.S_IMODE(facts.st_mode) | stat.S_ISVTX)
    return f"Others could rename what is root's in {path} (mode {_mode(facts)}): it is sticky now, as /tmp is"


def _walked(path):
    """The descriptor (O_PATH) of what `path` leads to, by links too."""
    waiting, links, at = os.path.join(os.getcwd(), path).split("/"), 0, "/"
    folder = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        while waiting:
            name = waiting.pop(0)
            if name in ("", "."):
                continue
            at = os.path.normpath(os.path.join(at, name))
            above, folder = folder, _opened_in(folder, name, path)
            facts = os.fstat(folder)
            if not stat.S_ISLNK(facts.st_mode):
                os.close(above)
                _expect_roots(path, at, facts, any(waiting))
                continue
            links += 1
            target = os.readlink("", dir_fd=folder)
            os.close(folder)
            folder = above
            _expect_roots(path, at, facts, True)
            if links > LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            waiting, at = [*target.split("/"), *waiting], os.path.dirname(at)
            if target.startswith("/"):
                os.close(folder)
                folder, at = os.open("/", os.O_PATH | os.O_CLOEXEC), "/"
        return folder
    except BaseException:
        os.close(folder)
        raise


def _opened_in(folder, name, path):
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _expect_roots(path, at, facts, is_on_the_way):
    """In a sticky folder nobody renames or removes what is root's (/tmp); what is in there is looked at next."""
    is_harmless = stat.S_ISLNK(facts.st_mode) or (is_on_the_way and facts.st_mode & stat.S_ISVTX)
    if facts.st_uid == 0 and (is_harmless or not facts.st_mode & OTHERS_WRITE):
        return
    raise refusal(path, at, facts)


def refusal(path: str, at: str, facts: os.stat_result) -> NotRootsAlone:
    """The NotRootsAlone of `path`, because of `at` on its way, which has these facts (os.stat)."""
    whose = "is owned by " + _name_of(facts.st_uid) if facts.st_uid else "is not root's alone to write"
    mode = _mode(facts)
    where = "it" if at == path else at
    return NotRootsAlone(
        f"{path} is not root's alone: {where} {whose} (mode {mode})",
        f"Look at what is there, then: chown root:root {at}; chmod go-w {at}",
        path=at,
        uid=facts.st_uid,
        mode=mode,
    )


def _mode(facts):
    return format(stat.S_IMODE(facts.st_mode), "04o")


def _name_of(uid):
    """The user's name where the host's own file has one: asking a directory service could take its time."""
    with contextlib.suppress(OSError), open("/etc/passwd", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            fields = line.split(":")
            if fields[2:3] == [str(uid)]:
                return f"{fields[0]} ({uid})"
    return f"uid {uid}"
