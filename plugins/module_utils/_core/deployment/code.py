# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The core on the host's disk, for processes that start without a module: the guard, the units, the command.

    /var/lib/ebpf_deploy/.code/SOURCES-BYTES.zip  as some process had it; a guard names its own on its command line
    /var/lib/ebpf_deploy/.code/current            symlink to the zip that `run` starts
    /var/lib/ebpf_deploy/.code/run                what the units and the command ebpf-deploy call

SOURCES is the digest of the sources, BYTES that of the file. Whoever starts a zip compares BYTES first, and imports
nothing from a damaged one. What the processes do is not this room's business.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import os
import py_compile
import re
import sys
import tempfile
import time
import zipfile
from typing import NamedTuple, Optional

from ..kernel import files, tools
from . import records, store

FOLDER = os.path.join(records.STATE, ".code")
CURRENT = os.path.join(FOLDER, "current")
SCRIPT = os.path.join(FOLDER, "run")
PACKAGE = "ebpf_deploy"  # the core's name in its zip
COMMAND, GUARD = "command.py", "deployment/guard.py"  # what is started
HERE = "deployment/code.py"  # this file in the package
IMPORT = re.compile(r"^ *from (\.+)([\w.]*) import (\([^)]*\)|.*)$", re.MULTILINE)  # of ours, from anywhere in a room
DIGEST_LENGTH = 16  # hex digits
UNUSED_SECONDS = 3600  # nobody is between writing a zip and starting it for so long

# On some hosts interfaces come and go by the hundred: those that no deployment names cost a grep, not a Python.
_START = """
import glob, hashlib, os, sys
def is_whole(path):
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()[:{length}] == path[-4 - {length} : -4]
    except OSError:
        return False
first = os.path.realpath({first})
found = [path for path in (first, *sorted(glob.glob("{others}"), key=os.path.getmtime)[::-1]) if is_whole(path)]
if found[:1] != [first]:
    sys.stderr.write(first + " is damaged or lost. Run role ebpf.deploy.host, which writes it anew." + chr(10))
if not found:
    sys.exit(1)
sys.path.insert(0, found[0])
"""

RUN = """#!/bin/sh
# What the units and the command ebpf-deploy start; written by ebpf.deploy.
PATH={path}
export PATH
if [ "$1" = back ]; then
    case $2 in
        *[!A-Za-z0-9._@:/-]*) ;; # JSON may write it otherwise
        *) grep -qsF "\\"target\\": \\"$2\\"" {state}/*/confirmed {state}/*/trial || exit 0 ;;
    esac
fi
exec {python} -I -c '{start}
from {package} import command
sys.exit(command.main())' "$@"
"""


def written(start: str) -> str:
    """The path of a zip that holds the room `start` and all that it imports, as they lie where this process has its
    rooms from.

    Made where there is none yet, or a damaged one.
    """
    sources = reached(start)
    path = _whole(sources)
    if path:
        os.utime(path)
        return path
    files.make_private_folder(FOLDER)
    data = _zipped({**sources, **_compiled(sources)})
    path = os.path.join(FOLDER, f"{_digest(sources)}-{_digest_of_bytes(data)}.zip")
    files.write_durably(path, data)
    _prune(path)
    return path


def starting(first: str, others: str = "") -> str:
    """Python text after which modules are imported from the zip that the expression `first` names.

    Where that one is damaged or lost, it says so, and takes the newest whole one of FOLDER whose name matches `others`;
    the process ends with 1 where there is none.
    """
    return _START.format(first=first, others=os.path.join(FOLDER, others) if others else "", length=DIGEST_LENGTH)


class Own(NamedTuple):
    """The zip that this process was started from, as it was then."""

    path: str
    data: bytes


def own() -> Optional[Own]:
    """The Own of this process, None where it was not started from a zip here."""
    path = __file__.partition(".zip")[0] + ".zip"
    data = _content(path) if os.path.dirname(path) == FOLDER else None
    return Own(path, data) if data is not None and _holds(path, data) else None


def keep(what: Optional[Own]) -> None:
    """The zip (an Own, or None) is on the disk, whole, for this process's next life, as far as the disk takes it."""
    if what and not files.sha256_of(what.path).startswith(_digest_of_bytes(what.data)):
        with contextlib.suppress(OSError):
            files.make_private_folder(FOLDER)
            files.write_durably(what.path, what.data)


def _whole(sources):
    """The path of the zip of these sources whose bytes are as they were written, or None; `current` before others."""
    found = glob.glob(os.path.join(FOLDER, _digest(sources) + "-*.zip"))
    current = os.path.realpath(CURRENT)
    for path in sorted(found, key=lambda each: (each != current, each)):
        if _holds(path, _content(path) or b""):
            return path
    return None


def _holds(path, data):
    return path.endswith(f"-{_digest_of_bytes(data)}.zip")


@files.disk_told()
def install(check_mode: bool = False) -> bool:
    """`run` starts the command as this process has it, with this process's interpreter. Whether that was otherwise."""
    store.expect_private()
    words = {"state": records.STATE, "python": sys.executable, "start": starting(f'"{CURRENT}"'), "package": PACKAGE}
    script = RUN.format(path=tools.ENVIRONMENT["PATH"], **words)
    is_current = _current() == _whole(reached(COMMAND))
    if check_mode:
        return not is_current or _content(SCRIPT) != script.encode()
    path = written(COMMAND)
    if not is_current:
        files.point_symlink(CURRENT, os.path.basename(path))
    is_same = _content(SCRIPT) == script.encode()
    if not is_same:
        files.write_durably(SCRIPT, script.encode())
    return not (is_current and is_same)


def _current():
    return os.path.realpath(CURRENT) if os.path.exists(CURRENT) else ""


def _content(path):
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, IsADirectoryError):  # write_durably makes room for what belongs there
        return None


def reached(start: str) -> dict:
    """{path in the package: bytes} of `start` and all that it imports, in functions, too, loaded or not. What else this
    process has imported makes no other zip of it."""
    found, waiting = {}, [start]
    while waiting:
        name = waiting.pop()
        source = None if name in found else _source(name)
        if source is not None:
            found[name] = source
            for dots, room, names in IMPORT.findall(source.decode()):
                base = os.path.join(os.path.dirname(name), *[".."] * (len(dots) - 1), room.replace(".", "/"))
                there = [base, *(os.path.join(base, each) for each in re.findall(r"\w+", names))]
                waiting += [os.path.normpath(each) + ".py" for each in there]
    folders = {os.path.dirname(name) for name in found} | {""}  # zipimport wants an __init__.py in each
    return {**found, **{os.path.join(folder, "__init__.py"): b"" for folder in folders}}


def _source(name):
    """The bytes of the core's file, from where this one came from, a zip or a folder; None where there is none."""
    here = re.sub(r"\.pyc$", ".py", __file__)  # in a process that was started from such a zip
    try:
        return __spec__.loader.get_data(os.path.join(here[: -len(HERE)], name))
    except OSError:
        return None


def _digest(sources):
    """Equal for equal sources and interpreters; compiled code need not be the same bytes twice."""
    found = hashlib.sha256(sys.implementation.cache_tag.encode())
    for name, data in sorted(sources.items()):
        found.update(b"%s\0%d\0%s" % (name.encode(), len(data), data))
    return found.hexdigest()[:DIGEST_LENGTH]


def _digest_of_bytes(data):
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]


def _compiled(sources):
    """{path in the package: bytes} as this interpreter compiles them; another one takes the sources instead.

    Compiling is three quarters of what it takes to start (4.7 s against 1.5 s on an emulated machine), each time.
    """
    found = {}
    with tempfile.TemporaryDirectory(dir=FOLDER, suffix=".aside") as folder:
        source, target = os.path.join(folder, "source.py"), os.path.join(folder, "source.pyc")
        for name, data in sources.items():
            with open(source, "wb") as stream:
                stream.write(data)
            shown, mode = os.path.join(PACKAGE, name), py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(source, target, shown, doraise=True, invalidation_mode=mode)
            found[name + "c"] = _content(target)
    return found


def _zipped(contents):
    room = io.BytesIO()
    with zipfile.ZipFile(room, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(contents.items()):
            archive.writestr(zipfile.ZipInfo(os.path.join(PACKAGE, name)), data, zipfile.ZIP_DEFLATED)
    return room.getvalue()


# ---- what nobody uses any more -------------------------------------------------------------------


def _prune(own):
    """Zips that neither `run` nor any process starts from are gone, and half-written ones.

    None while a trial is under way on this host: between a guard's death and its restart nobody names its zip.
    """
    if any(name.endswith(".deadline") for name in files.names_in(records.RUN)):
        return
    used = {own, os.path.realpath(CURRENT), *_on_command_lines()}
    for name in files.names_in(FOLDER):
        path = os.path.join(FOLDER, name)
        if name.endswith((".zip", ".aside")) and path not in used and _is_old(path):
            files.remove_tree(path) if os.path.isdir(path) else files.remove(path)


def _on_command_lines():
    found = set()
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            found |= {os.fsdecode(word) for word in (_content(path) or b"").split(b"\0")}
    return found


def _is_old(path):
    try:
        return os.lstat(path).st_mtime < time.time() - UNUSED_SECONDS
    except FileNotFoundError:
        return False
