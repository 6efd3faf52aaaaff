# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The cage that a compiler works in: a folder below one that is root's alone, few flags, limits, and what it read.

Source that came with a signature says by its bytes what it is made of. What a flag, a variable or somebody's file would
add is kept out, or root alone could have put it there. Which compiler it is is not this room's business.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from ..errors import BadRequest, CompileError
from ..kernel import owned, tools

SECONDS = 120  # 0.3 s here; an emulated machine took 20
MEMORY = 2 << 30  # bytes of address space: LLVM takes 0.3 GiB of it here
OUTPUT = 64 << 20  # bytes of each file that it writes, what it says included
SAID = 1 << 20  # bytes of that which are read

FOLDER_FLAGS = ("-I", "-iquote", "-isystem", "-idirafter")
ALLOWED = re.compile(
    r"-[DU]\w.*|-O[0-3gsz]?|-g[0-3]?|-gdwarf(-[2-5])?|-gno-[\w-]+|-w|-W[\w+-]*(=[\w+-]+)?|-pedantic(-errors)?"
    r"|-std=[\w:]+|-ansi|-mcpu=\w+|-m(little|big)-endian|-nostdinc|-ferror-limit=\d+|-ffp-contract=\w+"
    r"|-f(no-)?(builtin(-\w+)?|common|freestanding|hosted|ident|inline(-functions)?|jump-tables|math-errno|fast-math"
    r"|merge-all-constants|ms-extensions|omit-frame-pointer|short-enums|signed-char|unsigned-char|stack-protector"
    r"|strict-aliasing|strict-overflow|trapv|wrapv|unroll-loops|vectorize|slp-vectorize|tree-vectorize|unwind-tables"
    r"|asynchronous-unwind-tables|data-sections|function-sections|delete-null-pointer-checks|gnu89-inline"
    r"|standalone-debug|eliminate-unused-debug-types|optimize-sibling-calls|zero-initialized-in-bss|char8_t"
    r"|color-diagnostics|diagnostics-show-option|caret-diagnostics|asm-blocks|gnu-inline-asm)",
    re.DOTALL | re.ASCII,
)
LLVM_ALLOWED = re.compile(r"-bpf-[a-z-]+(=\w+)?", re.ASCII)  # after -mllvm, which could also load a plugin
WORDS = "-D, -U, -I (-iquote, -isystem, -idirafter), -O, -g, -W, -w, -std=, -mcpu=, -nostdinc, -pedantic, -mllvm -bpf-…"

SPLICE = re.compile(rb"(\\|\?\?/)[ \t]*\r?\n")
ASSEMBLES = re.compile(rb"asm|##|%:%:|\?\?=")  # asm, also pasted together
EMBED = re.compile(rb"^[ \t]*(#|%:|\?\?=)[ \t]*embed\b", re.M)
DIRECTIVE = re.compile(r"(?:^|[;:])[ \t]*(\.(?:incbin|include|macro|altmacro|irpc?|rept))\b", re.M)


class Ended(NamedTuple):
    """How the compiler ended, and the beginning of what it said."""

    code: int
    said: str


@contextlib.contextmanager
def folder() -> Iterator[str]:
    """The path of an empty folder to work in, gone afterwards. What lies above it, as far as ours, is empty too."""
    with tempfile.TemporaryDirectory(prefix="ebpf_deploy-") as outer:
        owned.expect(outer)
        inside = os.path.join(outer, "work")
        os.mkdir(inside, 0o700)
        yield inside


def run(command: list, inside: str, file: str) -> Ended:
    """The compiler has ended, within the limits; CompileError, about the source `file`, where it had to be ended.

    Whatever it started is ended with it.
    """
    with open(os.memfd_create("said"), "w+b") as said:  # a full disk could not take that it is full
        child = subprocess.Popen(  # pylint: disable=ansible-bad-function  # the core knows no AnsibleModule
            command,
            cwd=inside,
            env={**tools.ENVIRONMENT, "TMPDIR": inside},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=limit,
        )
        try:
            code = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise CompileError(
                f"{file} was not compiled within {SECONDS} s",
                "Look for a header that is no ordinary file (a FIFO, a device), and at the load of this host",
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        said.seek(0)
        words = said.read(SAID).decode(errors="replace")
    return Ended(code, words)


def limit() -> None:
    """This process takes no more time, memory and room on the disk than a compiler needs."""
    for which, most in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, OUTPUT),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (most, most))


# ---- flags ---------------------------------------------------------------------------------------


def expect_flags(flags: Collection) -> None:
    """Each of the user's flags is one that reads and writes no file but headers, from folders that are root's alone.

    BadRequest names the first other one, NotRootsAlone a folder that is somebody else's.
    """
    waiting = list(flags)
    while waiting:
        flag = waiting.pop(0)
        place = next((each for each in FOLDER_FLAGS if flag.startswith(each)), None)
        if (flag in ("-D", "-U") and waiting) or (flag == "-mllvm" and waiting and LLVM_ALLOWED.fullmatch(waiting[0])):
            waiting.pop(0)
        elif place and (flag != place or waiting):
            _expect_folder(flag[len(place) :] or waiting.pop(0))
        elif not ALLOWED.fullmatch(flag):
            raise BadRequest(
                f"{flag} is no flag that a source is compiled with here: it could read, write or run other files",
                f"Flags are {WORDS}, and such -f… as change the code alone",
                cflags=list(flags),
                flag=flag,
            )


def _expect_folder(path):
    """A relative one lies among what travelled with the source, or nowhere."""
    if os.path.isabs(path):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            owned.expect(path)


# ---- what was read -------------------------------------------------------------------------------


def expect_read(paths: Iterable) -> None:
    """Each file that the compiler read lies where root alone can have put it; NotRootsAlone names the first other.

    Nor does one lie in a folder such as /tmp itself: its owner could have put another there since.
    """
    folders = set()
    for path in paths:
        owned.expect(path)
        folders.add(os.path.dirname(os.path.realpath(path)))
    for path in folders:
        owned.expect(path)


def may_assemble(texts: Iterable) -> bool:
    """Whether any of the texts may have assembly in it, whose own includes no list of headers names.

    BadRequest where one embeds a file.
    """
    plain = [SPLICE.sub(b"", text) for text in texts]
    if any(EMBED.search(text) for text in plain):
        raise _included("#embed")
    return any(ASSEMBLES.search(text) for text in plain)


def expect_no_directive(assembly: str) -> None:
    """The assembly that the compiler made takes in no file, nor hides how it could; BadRequest otherwise."""
    found = DIRECTIVE.search(assembly)
    if found:
        raise _included(found[1])


def _included(word):
    return BadRequest(
        f"The source has {word}, by which bytes of this host's files would become part of the program",
        "Have the bytes in the source or in a header, as an array",
        directive=word,
    )
