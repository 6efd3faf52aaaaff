# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""C to object: clang on this host, vmlinux.h from the running kernel's BTF, both cached by content.

The object is the same wherever the source lies and whoever compiles it: paths are mapped away. Loading is not this
room's business.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import subprocess
from typing import Callable, NamedTuple, Optional

from ..errors import BadRequest, CompileError, Damaged, ToolMissing, Unsupported
from ..kernel import files, libbpf, owned, tools
from ..kernel.bpf import KERNEL_BTF
from . import cage

CACHE = "/var/cache/ebpf_deploy"
TARGET_ARCH = {  # uname -m -> the word in __TARGET_ARCH_… of bpf_tracing.h
    "x86_64": "x86",
    "aarch64": "arm64",
    "armv7l": "arm",
    "s390x": "s390",
    "ppc64le": "powerpc",
    "riscv64": "riscv",
    "loongarch64": "loongarch",
}
ERROR_LINE = re.compile(r"^(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): (?:fatal )?error: (?P<message>.*)$", re.M)
INCLUDE = re.compile(rb'^(?:\xef\xbb\xbf)?[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.M)  # Windows marks UTF-8
VMLINUX = re.compile(rb"^[ \t]*#[^\n]*\bvmlinux\.h\b", re.M)  # by a macro, too
ELF_MAGIC = b"\x7fELF"
SYSTEM_HEADERS = ("/usr/include/", "/usr/lib")  # whose assembly is the distribution's


class Source(NamedTuple):
    """C text to compile.

    The file's own name, its bytes, the headers beside it by relative path, clang's further flags.
    """

    file: str
    text: bytes
    headers: tuple = ()
    cflags: tuple = ()

    @property
    def id(self) -> str:
        """What reports compare between hosts: source and flags, compiler and kernel left out."""
        return _digest([self.file, self.text, [list(header) for header in self.headers], list(self.cflags)])

    @property
    def wants_vmlinux(self) -> bool:
        return any(VMLINUX.search(text) for text in (self.text, *(text for dummy, text in self.headers)))


class Compiled(NamedTuple):
    """An object and how it came to be.

    `headers` are [path, digest] of what the host's own folders gave to it.
    """

    object: bytes
    compiler: str
    was_cached: bool
    messages: tuple
    headers: tuple = ()


def headers_beside(path: str, text: bytes, read: Optional[Callable] = None) -> tuple:
    """((relative name, bytes), …) of what the source at `path` includes by "…" from its folder or below, and what
    these do.

    As in C a name is looked for beside the file that includes it, then beside the source; vmlinux.h is ours to make.
    `read` gives the bytes at a path; without it they are the file's.
    """
    folder, found, waiting = os.path.dirname(os.path.abspath(path)), {}, [("", text)]
    while waiting:
        place, text = waiting.pop()
        for include in INCLUDE.findall(text):
            for start in (place, ""):
                name = os.path.normpath(os.path.join(start, os.fsdecode(include)))
                beside = os.path.join(folder, name)
                if os.path.basename(name) == "vmlinux.h" or name.startswith(("/", "..")) or not os.path.isfile(beside):
                    continue
                if name not in found:
                    found[name] = (read or _bytes_of)(beside)
                    waiting.append((os.path.dirname(name), found[name]))
                break
    return tuple(sorted(found.items()))


def _bytes_of(path):
    with open(path, "rb") as stream:
        return stream.read()


def compile_source(source: Source, keep: bool = True) -> Compiled:
    """The object for `source`, from the cache where nothing that went into it changed.

    With keep=False (check mode) nothing is written outside a temporary folder. Raises CompileError, ToolMissing.
    """
    clang = _clang()
    cage.expect_flags(source.cflags)
    cached = os.path.join(CACHE, "objects", _cache_key(source, clang))
    found = _kept(cached)
    if found:
        return found
    with cage.folder() as folder:
        compiled = _compile(source, clang, folder, keep)
    if keep:
        record = {"compiler": compiled.compiler, "headers": compiled.headers, "object": _sha256(compiled.object)}
        with contextlib.suppress(OSError):  # a cache that takes nothing costs the next run a compilation, no more
            keep_record(cached + ".json", record)
            files.write_durably(cached + ".o", compiled.object)
    return compiled


def kept_record(path: str) -> Optional[dict]:
    """The record that keep_record wrote at `path` in the cache, with its very bytes; None where there is no such one,
    or somebody else than root can write to the cache."""
    try:
        record = files.read_json(path) if owned.is_roots(CACHE) else {}
    except (OSError, Damaged):
        return None
    return record if record.pop("digest", None) == _digest(record) else None


def keep_record(path: str, record: dict) -> None:
    """The record is in the cache, with its own digest; nothing is where that is not root's alone. OSError as write."""
    files.make_private_folder(os.path.dirname(path))
    if owned.is_roots(CACHE):
        files.write_json(path, {**record, "digest": _digest(record)})


def _clang():
    found = tools.find("clang")
    if found is None:
        raise ToolMissing(
            "clang is not installed on this host",
            "Install the package clang (and libbpf-dev or libbpf-devel for the headers), or compile elsewhere with "
            "bpf_program state=built and give the object here",
            tool="clang",
        )
    return os.path.realpath(found)


def _kept(cached):
    """What the cache has there, as it was written and where the host's headers that it was made of still are the same;
    else None."""
    record = kept_record(cached + ".json")
    try:
        if record is None or any(_file_digest(path) != digest for path, digest in record["headers"]):
            return None
        data = _bytes_of(cached + ".o")
    except OSError:  # a header is gone, or the object
        return None
    return Compiled(data, record["compiler"], True, ()) if _sha256(data) == record["object"] else None


def _cache_key(source, clang):
    """What decides the object's bytes but for headers; the compiler by path, size, time, which spares starting it."""
    tool = os.stat(clang)
    kernel = _kernel_btf_digest() if source.wants_vmlinux else ""
    return _digest([source.id, clang, tool.st_size, tool.st_mtime_ns, kernel, os.uname().machine])


def _compile(source, clang, folder, keep):
    _write_sources(source, folder)
    name = f"./{source.file}" if source.file.startswith("-") else source.file
    command = [clang, *_flags(source, folder, keep), name]
    said = _run([*command, "-MD", "-MF", "object.d", "-c", "-o", "object.o"], source, folder)
    data, read = _object(source, folder), _read_outside(folder)
    cage.expect_read(read)
    own = [path for path in read if not path.startswith(SYSTEM_HEADERS)]
    flags = " ".join(source.cflags).encode()
    texts = [flags, source.text, *(text for dummy, text in source.headers), *map(_bytes_of, own)]
    if cage.may_assemble(texts):
        _run([*command, "-S", "-o", "object.s"], source, folder)
        cage.expect_no_directive(_bytes_of(os.path.join(folder, "object.s")).decode(errors="replace"))
    headers = tuple([path, _file_digest(path)] for path in read)
    return Compiled(data, _compiler_version(clang), False, tuple(said.splitlines()[:40]), headers)


def _run(command, source, folder):
    """What the compiler said, which ended well; CompileError or DiskRefused otherwise."""
    ended = cage.run(command, folder, source.file)
    if ended.code == 0:
        return ended.said
    if "No space left on device" in ended.said:
        raise files.disk_failure(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder))
    how = f"was ended by signal {-ended.code}" if ended.code < 0 else f"ended with {ended.code}"
    raise compile_error(source, ended.said, f"clang {how}")


def _object(source, folder):
    try:
        with open(os.path.join(folder, "object.o"), "rb") as stream:
            data = stream.read()
    except FileNotFoundError:
        data = b""
    if not data.startswith(ELF_MAGIC):
        raise BadRequest(
            f"clang ended well and made no object of {source.file}: one of cflags asks for something else",
            "Take out what stops it earlier or prints, such as -E, -S, -fsyntax-only, -emit-llvm and --version",
            cflags=list(source.cflags),
        )
    return data


def _read_outside(folder):
    """The files that clang read from outside the folder, out of the rule for make that it wrote."""
    with open(os.path.join(folder, "object.d"), encoding="utf-8", errors="surrogateescape") as stream:
        rule = stream.read().replace("\\\n", " ").partition(":")[2]
    words = [re.sub(r"\\([ #])", r"\1", word).replace("$$", "$") for word in re.findall(r"(?:\\.|\S)+", rule)]
    paths = {os.path.join(folder, word) for word in words}
    return sorted(path for path in paths if not os.path.normpath(path).startswith(folder + os.sep))


def _write_sources(source, folder):
    for name, text in ((source.file, source.text), *source.headers):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(text)


def _flags(source, folder, keep):
    machine = os.uname().machine
    flags = ["-target", "bpf", "-g", "-O2", "-Wall", f"-D__TARGET_ARCH_{TARGET_ARCH.get(machine, machine)}"]
    flags += [f"-ffile-prefix-map={folder}=.", "-fdebug-compilation-dir=.", "-I."]
    if source.wants_vmlinux:
        provide_vmlinux(os.path.join(folder, "vmlinux"), keep)
        flags += ["-Ivmlinux"]
    multiarch = f"/usr/include/{machine}-linux-gnu"  # Debian keeps asm/types.h there, and -target bpf does not look
    if os.path.isdir(multiarch):
        flags += ["-idirafter", multiarch]
    return [*flags, *source.cflags]


def compile_error(source: Source, text: str, otherwise: str) -> CompileError:
    """The CompileError that the compiler's words mean; `otherwise` is said where they hold no error."""
    errors = [
        {
            "file": os.path.normpath(m["file"]),
            "line": int(m["line"]),
            "column": int(m["column"]),
            "message": m["message"],
        }
        for m in ERROR_LINE.finditer(text)
    ]
    output = text.splitlines()[:40]
    if not errors:  # nothing about a line: clang itself does not like how it was called
        said = next((line.partition("error: ")[2] for line in output if "error: " in line), "")
        what = f"{source.file} does not compile: {said or otherwise}"
        return CompileError(what, "Look at cflags, and read the compiler's output", output=output)
    first = errors[0]
    what = f"{source.file} does not compile: {first['file']}:{first['line']}: {first['message']}"
    do = "Mend the source; nothing on the host was changed"
    if "file not found" in first["message"]:
        do = (
            'Headers travel that the text names by #include "…" and that lie in the source\'s folder or below. Put it '
            "there, or have it on the host and give its folder by cflags: [-I/…]"
        )
    if "'bpf/" in first["message"] and "file not found" in first["message"]:
        do = "Install libbpf's headers on the host (Debian and Ubuntu: libbpf-dev, Fedora and RHEL: libbpf-devel)"
    return CompileError(what, do, errors=errors[:20], output=output)


def _compiler_version(clang):
    run = subprocess.run(  # pylint: disable=ansible-bad-function
        [clang, "--version"],
        env=tools.ENVIRONMENT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return run.stdout.splitlines()[0].strip()


# ---- vmlinux.h -----------------------------------------------------------------------------------


def provide_vmlinux(folder: str, keep: bool) -> None:
    """`folder`, where the user's own headers may lie too, holds vmlinux.h of the running kernel, or a link to it.

    One path for the object.
    """
    made = os.path.join(folder, "vmlinux.h")
    cached = os.path.join(CACHE, "vmlinux", _kernel_btf_digest()[:32], "vmlinux.h")
    os.makedirs(folder, exist_ok=True)
    record = kept_record(cached + ".json")
    with contextlib.suppress(OSError):
        if record and _file_digest(cached) == record["vmlinux"]:
            os.symlink(cached, made)
            return
    write_vmlinux(made)
    if keep:
        _keep_vmlinux(made, cached)


def _keep_vmlinux(made, cached):
    """The cache has it too, whole after a power cut, unless it takes nothing: then the next run makes it again."""
    data = _bytes_of(made)
    with contextlib.suppress(OSError):
        files.make_private_folder(os.path.dirname(cached))
        files.write_durably(cached, data)
        keep_record(cached + ".json", {"vmlinux": _sha256(data)})


def write_vmlinux(path: str) -> None:
    """All types of the running kernel as C at `path`, 2.8 MB in 0.1 s (btf_dump__dump_type, libbpf 0.6)."""
    btf = libbpf.call("btf__load_vmlinux_btf" if libbpf.has("btf__load_vmlinux_btf") else "libbpf_find_kernel_btf")
    try:
        _dump(btf, path)
    except OSError as error:  # libbpf writes by our pointer to vfprintf, and looks at no result
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        libbpf.call("btf__free", btf)


def _dump(btf, path):
    out = libbpf.call("fopen", path.encode(), b"w")
    try:
        libbpf.call("fputs", VMLINUX_HEAD, out)
        dump = libbpf.call("btf_dump__new", btf, libbpf.vfprintf(), out, None)
        for number in range(1, libbpf.call("btf__type_cnt", btf)):
            libbpf.call("btf_dump__dump_type", dump, number)
        libbpf.call("btf_dump__free", dump)
        libbpf.call("fputs", VMLINUX_TAIL, out)
        is_torn = libbpf.call("ferror", out)
    finally:
        libbpf.call("fclose", out)
    if is_torn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


# preserve_access_index makes every access through these types a CO-RE relocation, as bpftool's dump does
VMLINUX_HEAD = b"""#ifndef __VMLINUX_H__
#define __VMLINUX_H__
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif
"""
VMLINUX_TAIL = b"""
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif
#endif
"""


def _kernel_btf_digest():
    try:
        return _file_digest(KERNEL_BTF)
    except OSError as error:
        raise Unsupported(
            f"The source includes vmlinux.h, but this kernel shows no BTF at {KERNEL_BTF}",
            "Use a kernel with CONFIG_DEBUG_INFO_BTF=y, or compile on a host that has one (bpf_program state=built), "
            "or put types of your own beside the source under another name",
            kernel=os.uname().release,
        ) from error


def _file_digest(path):
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def _digest(parts):
    """SHA-256 over nested lists of text, numbers and bytes; bytes count by their own digest."""
    text = json.dumps(parts, sort_keys=True, default=lambda data: "bytes:" + hashlib.sha256(data).hexdigest())
    return hashlib.sha256(text.encode()).hexdigest()
