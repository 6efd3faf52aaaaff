# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""BCC dialect to loaded programs: the distribution's BCC compiles and loads, in a child of the distribution's Python.

The child hands over the file descriptors of what it made, so that programs and maps outlive it; pins and what is read
of them are this side's. BCC gives no object: every load compiles again. It creates the maps while it compiles, so
that memory can be asked for once a source was inspected, and not before. What the programs are attached to is not this
room's business.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from typing import NamedTuple, Optional

from ..errors import BadRequest, CompileError, NoMemory, ToolMissing, Unsupported
from ..kernel import bpf, features, tools
from . import cage, child, cost, diagnosis, elf, maps, memory, refusals, source

PYTHONS = ("/usr/libexec/platform-python", "/usr/bin/python3")  # that BCC's packages are made for; RHEL 8 has the first
PACKAGES = "python3-bpfcc (Debian, Ubuntu) or python3-bcc (Fedora, RHEL, SUSE)"
SECONDS = 120  # 4 s here for a first compilation, with LLVM not in memory yet
RECORD = 1 << 17  # bytes of the longest packet: all functions' names
VIRTUAL = "/virtual/main.c"  # what BCC calls the text it is given
KERNEL_HEADERS = "/sys/kernel/kheaders.tar.xz"  # BCC takes them from there (CONFIG_IKHEADERS)
TYPES = {  # BCC's own names for functions say these types: prefix -> enum bpf_prog_type
    "kprobe__": 2,
    "kretprobe__": 2,
    "tracepoint__": 5,
    "raw_tracepoint__": 17,
}
BY_FUNCTION = (bpf.PROG_TRACING, bpf.PROG_EXT, bpf.PROG_LSM)
LOG_LINE = re.compile(r"^; (?P<text>.*) @ main\.c:\d+$", re.M)
NAMED = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[\"<]([^\">]+)[\">]", re.M)
DIRECTIVES = re.compile(r"\b(incbin)\b")
NO_MAP = re.compile(r"could not open bpf map: (?P<map>[^,\s]+), error: (?P<why>.*)")


class Inspected(NamedTuple):
    """What a source holds, which BCC said so, and what it printed."""

    spec: elf.ObjectSpec
    compiler: str
    was_cached: bool
    messages: tuple


class _Made(NamedTuple):
    """File descriptors of what the child made, by name."""

    version: str
    functions: list
    maps: dict
    programs: dict
    words: str


def inspect(text: source.Source, keep: bool = True) -> Inspected:
    """The Inspected of a source.Source, its programs without type unless their names say one; from the cache where
    this kernel was asked before.

    Raises CompileError, ToolMissing, and what load raises for maps.
    """
    cached = os.path.join(source.CACHE, "bcc", hashlib.sha256(f"{text.id} {os.uname().release}".encode()).hexdigest())
    _expect_caged(text)
    record = source.kept_record(cached + ".json")
    if record:
        return _inspected(record, ())
    with _made(text, {}, {}, keep) as made:
        shapes = [maps.as_record(maps.of_kernel(fd, name)) for name, fd in sorted(made.maps.items())]
        found = {"functions": made.functions, "maps": shapes, "compiler": f"BCC {made.version}"}
    if keep:
        with contextlib.suppress(OSError):  # as with source.py's cache: the next run compiles once more
            source.keep_record(cached + ".json", found)
    return _inspected(found, tuple(made.words.splitlines()[:40]))._replace(was_cached=False)


def load(
    text: source.Source,
    types: dict,
    shared: Optional[dict] = None,
    pins: Optional[str] = None,
    log_folder: Optional[str] = None,
    limits: Optional[dict] = None,
) -> elf.Loaded:
    """The elf.Loaded, after this kernel accepted the programs {name: (type, attach type, …)} of a source.Source.

    `shared`, `pins`, `log_folder` and `limits` are elf.load's; without a log_folder no cache is written either.
    Raises CompileError, ToolMissing, VerifierRefused, BeyondLimits; then nothing is pinned.
    """
    with contextlib.ExitStack() as stack:
        onto = {name: stack.enter_context(bpf.get_pinned(path)) for name, path in (shared or {}).items()}
        made = stack.enter_context(_made(text, types, onto, bool(log_folder), log_folder))
        loaded = elf.Loaded(_figures(made.programs), _map_rows(made.maps, onto), os.uname().release)
        cost.expect_within(limits or {}, loaded.programs, loaded.maps)
        if pins is not None:
            _pin(pins, progs=made.programs, maps=made.maps)
        return loaded


def expect_loadable(types: dict) -> None:
    """BadRequest where a program's type is loaded for one function: BCC knows that by the program's name alone."""
    for name, (number, *dummy) in types.items():
        if number in BY_FUNCTION:
            raise BadRequest(
                f"{name} is to be of type {bpf.prog_type_name(number)}, which compiler: bcc does not load",
                "Write it for libbpf, with a section, and take compiler: clang",
                program=name,
            )


def _inspected(found, messages):
    programs = [elf.ProgramSpec(name, "", _type_by_name(name), 0) for name in found["functions"]]
    shapes = [maps.from_record(record) for record in found["maps"]]
    return Inspected(elf.ObjectSpec(tuple(programs), tuple(shapes), ()), found["compiler"], True, messages)


def _type_by_name(name):
    return next((number for prefix, number in TYPES.items() if name.startswith(prefix)), 0)


def _figures(programs):
    figures = {}
    for name, fd in programs.items():
        info = bpf.prog_info(fd)
        figures[name] = {"tag": info.tag, "bytes_xlated": info.bytes_xlated}
        if info.verified_insns:  # Linux 5.16
            figures[name]["processed_insns"] = info.verified_insns
    return figures


def _map_rows(descriptors, shared):
    rows = {}
    for need in memory.needs([maps.of_kernel(fd, name) for name, fd in descriptors.items()]):
        told, fd = need.forecast, shared.get(need.name, descriptors[need.name])
        rows[need.name] = {
            "bytes": bpf.memlock(fd),
            "predicted": told and told.created,
            "bytes_full": told and told.full,
            "shared": need.name in shared,
        }
    return rows


def _pin(pins, **kinds):
    os.mkdir(pins, 0o700)
    for kind, descriptors in kinds.items():
        os.mkdir(os.path.join(pins, kind), 0o700)
        for name, fd in descriptors.items():
            bpf.pin(fd, os.path.join(pins, kind, name))


# ---- the child -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _made(text, types, shared, keep, log_folder=None):
    """The _Made of a child, its file descriptors closed in the end. A map in `shared` {name: fd} is that one."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(cage.folder())
        environment, flags = _headers(text, folder, keep)
        given = {
            "text": text.text.decode(errors="surrogateescape"),
            "cflags": [*text.cflags, *flags],
            "programs": [[name, *kind[:2]] for name, kind in sorted(types.items())],
            "shared": shared,
        }
        records, words, code = _answers(stack, given, environment)
        _expect_made(text, records, words, code, types, bool(flags), log_folder)
        said = {key: value for row, dummy in records for key, value in row.items()}
        yield _Made(
            said["version"],
            said["functions"],
            {row["map"]: shared.get(row["map"], fd) for row, fd in records if "map" in row},
            {row["program"]: fd for row, fd in records if "program" in row},
            _named(words, text),
        )


def _expect_caged(text):
    """The flags, and what the source names by itself, add nothing that somebody else could have put there.

    BCC lists no file that it read: a header of a header, or one named by a macro, is not looked at.
    """
    cage.expect_flags(text.cflags)
    cage.may_assemble([text.text])
    cage.expect_no_directive("".join(f"\n.{word}" for word in DIRECTIVES.findall(text.text.decode(errors="replace"))))
    for name in NAMED.findall(text.text.decode(errors="surrogateescape")):
        if os.path.isabs(name) or ".." in name.split("/"):
            with contextlib.suppress(FileNotFoundError):
                cage.expect_read([os.path.normpath(os.path.join("/virtual", name))])


def _answers(stack, given, environment):
    """([(record, its file descriptor or None)], what was printed, how the child ended)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, tempfile.TemporaryFile() as printed:
        started = _started(theirs, given, environment, printed)
        try:
            with contextlib.suppress(BrokenPipeError), started.stdin as stdin:
                stdin.write(json.dumps({**given, "socket": theirs.fileno()}).encode())
            theirs.close()
            records = list(_received(ours, stack, time.monotonic() + SECONDS))
            code = started.wait(SECONDS)
        except (socket.timeout, subprocess.TimeoutExpired) as error:  # TimeoutError since Python 3.10
            raise CompileError(f"BCC did not end within {SECONDS} s", "Look at the load of this host") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        printed.seek(0)
        return records, printed.read().decode(errors="replace"), code


def _started(theirs, given, environment, printed):
    python = next((path for path in PYTHONS if os.path.exists(path)), None)
    if python is None:
        raise _unusable("missing", "", f"there is no {PYTHONS[-1]}")
    return subprocess.Popen(  # pylint: disable=ansible-bad-function
        [python, "-I", "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=printed,
        stderr=printed,
        cwd="/",
        env={**tools.ENVIRONMENT, **environment},
        start_new_session=True,
        preexec_fn=cage.limit,
        pass_fds=[theirs.fileno(), *given["shared"].values()],
    )


def _received(ours, stack, deadline):
    while True:
        ours.settimeout(max(0.001, deadline - time.monotonic()))
        data, descriptors, dummy, dummy = socket.recv_fds(ours, RECORD, 1, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        yield json.loads(data), next(iter(descriptors), None)


def _expect_made(text, records, words, code, types, has_shim, log_folder):
    last = records[-1][0] if records else {}
    if "unusable" in last:
        raise _unusable(last["unusable"], last["file"], last["why"])
    if "refused" in last:
        child.answer_of(lambda: _refuse(text, last, words, types, log_folder), "load")
    if "uncompiled" in last:
        raise _uncompiled(text, words, has_shim)
    if "done" not in last:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
        raise CompileError(
            f"BCC {how} while it had {text.file}",
            "Read what it printed, and the end of dmesg on this host",
            output=_named(words, text).splitlines()[-40:],
        )


def _unusable(kind, file, why):
    install = f"Install the package {PACKAGES}; never pip install bcc, which is another project"
    if kind == "impostor":
        what = f"The module bcc at {file} is not BCC: PyPI's bcc is another project"
        install = f"Remove it (pip uninstall bcc), and have the package {PACKAGES}"
    elif kind == "broken":
        what = f"BCC at {file} cannot be used: {why}"
        install = f"Install the package {PACKAGES} again"
    else:
        what = f"BCC is not installed on this host for its own Python ({why})"
    return ToolMissing(what, install, tool="bcc", reason=kind)


def _uncompiled(text, words, has_shim):
    found = NO_MAP.search(words)
    if found and os.strerror(12) in found["why"]:
        return NoMemory(f"There is no memory for map {found['map']}", "Make it smaller in the source", map=found["map"])
    if found:
        return Unsupported(
            f"This kernel does not create map {found['map']}: {found['why']}",
            "Look at its type, sizes and flags in the source",
            map=found["map"],
        )
    failure = source.compile_error(text, _named(words, text), "BCC gave no reason")
    if has_shim and "file not found" in failure.what:
        failure.do = f"This host has no kernel headers, only its kernel's types. {_install_headers()}"
    return failure


def _refuse(text, record, words, types, log_folder):
    """Raises the VerifierRefused; in a child, as features.lockdown asks."""
    name, log = record["refused"], _with_lines(words, text)
    found = diagnosis.diagnose(
        log,
        errno=record["errno"],
        program=name,
        kernel=os.uname().release,
        capabilities=features.capabilities(),
        lockdown=features.lockdown(),
        told=refusals.program_type_facts(types[name][0]),
    )
    raise refusals.as_failure(found, name, log, record["errno"], log_folder)


def _named(words, text):
    return words.replace(VIRTUAL, text.file)


def _with_lines(words, text):
    """The log with lines of the source as it was given: the numbers are those of the text that BCC made of it.

    What BCC rewrote is found nowhere, or in several places; then no line is named.
    """
    places = {}
    for number, line in enumerate(text.text.decode(errors="replace").splitlines(), 1):
        places.setdefault(line.strip(), []).append(number)

    def placed(found):
        lines = places.get(found["text"].strip(), ())
        return f"; {found['text']}" + (f" @ {text.file}:{lines[0]}" if len(lines) == 1 else "")

    return LOG_LINE.sub(placed, words)


# ---- kernel headers ------------------------------------------------------------------------------


def _headers(text, folder, keep):
    """(environment, flags) that give BCC the kernel's types: nothing where its headers are installed, which also have
    the macros; else headers of ours in `folder`, around a vmlinux.h."""
    modules = f"/lib/modules/{os.uname().release}"
    places = (f"{modules}/build", f"{modules}/source", KERNEL_HEADERS)
    if any(os.path.exists(path) for path in places):
        return {}, []
    if not os.path.exists(source.KERNEL_BTF):
        raise ToolMissing(
            f"BCC finds no headers of this kernel ({os.uname().release}), and the kernel shows no types at "
            f"{source.KERNEL_BTF} to make them of",
            _install_headers(),
            tool="kernel headers",
        )
    source.provide_vmlinux(os.path.join(folder, "vmlinux"), keep)
    wanted = {name: HEADER for name in (*OWN_HEADERS, *INCLUDE.findall(text.text.decode(errors="replace")))}
    for name, content in {**wanted, **SHIM}.items():
        path = os.path.join(folder, "include", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as stream:
            stream.write(content.replace("MACHINE", os.uname().machine.upper()).replace("RELEASE", _release()))
    return {"BCC_KERNEL_SOURCE": folder}, [f"-I{folder}/vmlinux"]


def _release():
    """The kernel's release as three numbers, as KERNEL_VERSION takes them."""
    numbers = re.findall(r"\d+", os.uname().release.partition("-")[0])
    return ", ".join([*numbers, "0", "0"][:3])


def _install_headers():
    release = os.uname().release
    fedora = f"kernel-devel-{release} (Fedora, RHEL) or kernel-devel (SUSE)"
    return f"Install linux-headers-{release} (Debian, Ubuntu), {fedora}"


# What a source includes of the kernel, and BCC's own headers do: vmlinux.h has all types, and few macros.
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*<((?:uapi/)?(?:linux|net|asm|asm-generic)/[\w./-]+\.h)>", re.M)
OWN_HEADERS = (
    "linux/bpf.h",
    "linux/if_ether.h",
    "linux/in.h",
    "linux/ip.h",
    "linux/log2.h",
    "linux/perf_event.h",
    "linux/ptrace.h",
    "linux/sched.h",
    "linux/types.h",
    "uapi/linux/bpf.h",
    "uapi/linux/bpf_perf_event.h",
    "uapi/linux/if_packet.h",
    "uapi/linux/ip.h",
    "uapi/linux/ptrace.h",
)
HEADER = "#include <linux/kconfig.h>\n"
SHIM = {
    # the guards keep out BCC's own copy of bpf.h, whose types vmlinux.h has already
    "linux/kconfig.h": """#ifndef EBPF_DEPLOY_KCONFIG_H
#define EBPF_DEPLOY_KCONFIG_H
#define _UAPI__LINUX_BPF_H__ 1
#define __LINUX_BPF_H__ 1
#define CONFIG_BPF_SYSCALL 1
#define CONFIG_64BIT 1
#define CONFIG_MACHINE 1
#define BPF_NO_PRESERVE_ACCESS_INDEX 1
#pragma clang diagnostic ignored "-Wmissing-declarations"
#include <vmlinux.h>
#define AF_INET 2
#define AF_INET6 10
#define ETH_ALEN 6
#define ETH_HLEN 14
#define ETH_P_IP 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_8021Q 0x8100
#define ETH_P_IPV6 0x86DD
#endif
""",
    "linux/version.h": """#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#define LINUX_VERSION_CODE KERNEL_VERSION(RELEASE)
""",
    "asm/page.h": "#define PAGE_SHIFT 12\n#define PAGE_SIZE 4096UL\n",
}

# The child's program, for any Python 3 that a distribution has. It answers in packets, each with one file descriptor.
CHILD = r"""
import array, ctypes, importlib.util, inspect, json, os, socket, sys

given = json.load(sys.stdin)
answer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, given["socket"])


def say(record, *descriptors):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    answer.sendmsg([json.dumps(record).encode()], rights)


def unusable(error):
    # BCC's package has libbcc.py in it; a folder that is left of a removed one has no file of its own
    found = importlib.util.find_spec("bcc")
    file = found.origin if found else None
    is_real = file and os.path.exists(os.path.join(os.path.dirname(file), "libbcc.py"))
    kind = "broken" if is_real else "impostor" if file else "missing"
    say({"unusable": kind, "file": file, "why": str(error)})
    sys.exit()


try:
    import bcc
    from bcc import BPF, lib
except Exception as error:
    unusable(error)

for symbol, result, arguments in (
    ("bpf_num_functions", ctypes.c_size_t, [ctypes.c_void_p]),
    ("bpf_function_name", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_size_t]),
    ("bpf_num_tables", ctypes.c_size_t, [ctypes.c_void_p]),
    ("bpf_table_name", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_size_t]),
    ("bpf_table_fd_id", ctypes.c_int, [ctypes.c_void_p, ctypes.c_size_t]),
):
    getattr(lib, symbol).restype, getattr(lib, symbol).argtypes = result, arguments


class Unattached(BPF):
    def _trace_autoload(self):
        pass  # BCC would attach what its name says, until this process ends


try:
    made = Unattached(text=given["text"].encode(errors="surrogateescape"), cflags=given["cflags"])
except Exception as error:
    say({"uncompiled": str(error)})
    sys.exit()

module = made.module
functions = [lib.bpf_function_name(module, number).decode() for number in range(lib.bpf_num_functions(module))]
say({"version": bcc.__version__})
say({"functions": functions})
for number in range(lib.bpf_num_tables(module)):
    name, descriptor = lib.bpf_table_name(module, number).decode(), lib.bpf_table_fd_id(module, number)
    if name in given["shared"]:
        os.dup2(given["shared"][name], descriptor)  # the instructions name the map by this number
    say({"map": name}, descriptor)
more = "attach_type" in inspect.signature(BPF.load_func).parameters
for name, kind, attach in given["programs"]:
    try:
        options = {"attach_type": attach} if attach and more else {}
        say({"program": name}, made.load_func(name.encode(), kind, **options).fd)
    except Exception as error:
        say({"refused": name, "errno": ctypes.get_errno(), "why": str(error)})
        sys.exit()
say({"done": True})
"""
