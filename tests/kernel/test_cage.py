# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can get into an object beside its signed source: flags, variables, headers of others, files taken in; and how
long, and how large, a compiler may be."""

from __future__ import annotations

import os
import pathlib
import tempfile
import time

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest, CompileError, NotRootsAlone
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import bcc, cage, source

STRANGER = 4777
TEXT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
%s
#ifndef RESULT
#define RESULT XDP_PASS
#endif
SEC("xdp") int ok(struct xdp_md *ctx) { return RESULT; }
char _license[] SEC("license") = "GPL";
"""
HARMLESS = """
-DX=1|-UX|-D|X=a b|-O2|-O3|-g|-gdwarf-4|-Wall|-Wno-unused-value|-Werror=format|-w|-std=gnu11|-mcpu=v3|-mcpu=probe
|-fno-builtin|-fno-stack-protector|-fno-jump-tables|-fno-unroll-loops|-nostdinc|-mllvm|-bpf-expand-memcpy-in-order|-I|sub|-Isub|-mlittle-endian
""".replace("\n", "").split("|")
HARMFUL = """
-include|-imacros|@/tmp/flags|-fplugin=/tmp/x.so|-fpass-plugin=/tmp/x.so|-Xclang|-Xpreprocessor|-o|-o/tmp/x|-MF|-MD|--config|--config=/tmp/x
|-working-directory|-fprofile-use=/tmp/x|-fprofile-generate|-B/tmp|-Wp,-MD,/tmp/x|-Wa,-a|-Wl,x|-ftime-trace|-save-temps|--sysroot=/tmp
|-isysroot|-fsanitize-ignorelist=/tmp/x|-fmodules-cache-path=/tmp|-fcrash-diagnostics-dir=/tmp|-fno-integrated-as|-specs=/tmp/x|-target
|-E|-S|-c|-emit-llvm|-fsyntax-only|--version|-x|-iprefix|-F/tmp|-include-pch|-fmodule-file=/tmp/x|/tmp/other.c|other.c|-|-resource-dir|-v
|-foptimization-record-file=/tmp/x|-fsave-optimization-record|-dependency-file|--serialize-diagnostics|-fdebug-prefix-map=a=b|-gsplit-dwarf=x
""".replace("\n", "").split("|")


def compiled(more="", headers=(), cflags=()):
    return source.compile_source(source.Source("ok.bpf.c", (TEXT % more).encode(), tuple(headers), tuple(cflags)))


@pytest.fixture
def his(host, tmp_path):
    """A folder of the stranger's, with a header in it."""
    folder = tmp_path / "his"
    folder.mkdir()
    (folder / "x.h").write_text("#define RESULT XDP_DROP\n")
    for path in (folder, folder / "x.h"):
        os.chown(path, STRANGER, STRANGER)
    return folder


# ---- flags and variables -------------------------------------------------------------------------


def test_harmless_flags_are_taken(host):
    flags = [each for each in HARMLESS if each != "-nostdinc"]
    assert compiled(cflags=flags).object
    cage.expect_flags(["-nostdinc"])


@pytest.mark.parametrize("flag", HARMFUL)
def test_flag_that_reads_writes_or_runs_something_is_refused_by_name(flag):
    with pytest.raises(BadRequest) as refusal:
        cage.expect_flags(["-DX", flag, "/tmp/x"])
    assert str(refusal.value).startswith(f"{flag} is no flag that a source is compiled with here")


def test_llvm_loads_no_plugin():
    with pytest.raises(BadRequest):
        cage.expect_flags(["-mllvm", "-load=/tmp/x.so"])


@pytest.mark.parametrize("flag", cage.FOLDER_FLAGS)
def test_folder_of_somebody_elses_is_refused_by_name(his, flag):
    for flags in ([f"{flag}{his}"], [flag, str(his)]):
        with pytest.raises(NotRootsAlone, match=f"{his} is not root's alone: it is owned by uid {STRANGER}"):
            compiled('#include "x.h"', cflags=flags)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CPATH", "{}"),
        ("C_INCLUDE_PATH", "{}"),
        ("CCC_OVERRIDE_OPTIONS", "+-DRESULT=XDP_DROP"),
        ("COMPILER_PATH", "{}"),
    ],
)
def test_callers_environment_changes_nothing(his, monkeypatch, name, value):
    more = "" if "{}" not in value else "#if __has_include(<x.h>)\n#include <x.h>\n#endif"
    before = compiled(more, cflags=[f"-DNAME={name}"]).object
    monkeypatch.setenv(name, value.format(his))

    assert compiled(more, cflags=[f"-DNAME={name}", "-DAGAIN"]).object == before


# ---- files ---------------------------------------------------------------------------------------


def test_header_above_the_folder_that_anybody_can_write_is_not_taken(his):
    """As /tmp/x.h was, by "../x.h", in a signed release."""
    place = pathlib.Path(tempfile.gettempdir())
    place.chmod(0o1777)
    os.rename(his / "x.h", place / "x.h")
    for levels in (1, 2):
        with pytest.raises((CompileError, NotRootsAlone)):
            compiled(f'#include "{"../" * levels}x.h"')
    os.unlink(place / "x.h")
    place.chmod(0o700)


@pytest.mark.parametrize("way", ["absolute", "symlink of his", "symlink of root's", "header of a header", "macro"])
def test_header_of_somebody_elses_is_refused_by_name(his, tmp_path, way):
    path = his / "x.h"
    if "symlink" in way:
        path = tmp_path / "link.h"
        path.symlink_to(his / "x.h")
        if way == "symlink of his":
            os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    if way == "header of a header":
        (tmp_path / "mine.h").write_text(f'#include "{path}"\n')
        path = tmp_path / "mine.h"
    with pytest.raises(NotRootsAlone, match="is not root's alone"):
        compiled(f'#define HIS "{path}"\n#include HIS' if way == "macro" else f'#include "{path}"')


def test_roots_header_in_a_folder_where_all_can_write_is_refused(host, tmp_path):
    """Another of his could have been read there before root looked."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    (tmp_path / "open" / "x.h").write_text("")
    with pytest.raises(NotRootsAlone):
        compiled(f'#include "{tmp_path}/open/x.h"')


def test_roots_header_is_taken(host, tmp_path):
    (tmp_path / "mine.h").write_text("#define RESULT XDP_DROP\n")
    assert compiled(f'#include "{tmp_path}/mine.h"').object != compiled().object


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ('asm(".incbin \\"/etc/passwd\\"");', ()),
        ('asm(".section x\\n.inc" "bin \\"/etc/passwd\\"");', ()),
        ('asm("\\x2eincbin \\"/etc/passwd\\"");', ()),
        (
            '__attribute__((used)) void f(void) { __asm__(".incbin \\"/etc/passwd\\""); }',
            (),
        ),
        ("X(.incbin)", ('-DX(x)=asm(#x "\\"/etc/passwd\\"");',)),
        ('asm(".include \\"/etc/passwd\\"");', ()),
        ('asm(".macro m a\\n.\\\\a \\"/etc/passwd\\"\\n.endm\\nm incbin");', ()),
    ],
)
def test_file_taken_in_by_assembly_is_refused(host, text, flags):
    with pytest.raises((BadRequest, CompileError)) as refusal:
        compiled(text, cflags=flags)
    if "include" not in text:  # which clang does not find to be BPF assembly
        assert "files would become part of the program" in str(refusal.value)


def test_file_taken_in_by_a_header_that_travels_is_refused(host):
    headers = [("mine.h", b'asm(".incbin \\"/etc/passwd\\"");\n')]
    with pytest.raises(BadRequest, match="incbin"):
        compiled('#include "mine.h"', headers=headers)


@pytest.mark.parametrize("text", ["#embed </etc/passwd>", " # embed \\\n<x>", "#em\\\nbed </etc/passwd>"])
def test_embedded_file_is_refused(host, text):
    with pytest.raises(BadRequest, match="#embed"):
        compiled(f"#if 0\n{text}\n#endif")


def test_assembly_without_files_is_taken(host):
    assert compiled('static int f(int a) { asm volatile("%0 += 1" : "+r"(a)); return a; }').object


# ---- limits --------------------------------------------------------------------------------------


def test_fifo_for_a_header_hangs_nothing(host, tmp_path, monkeypatch):
    monkeypatch.setattr(cage, "SECONDS", 1)
    os.mkfifo(tmp_path / "x.h")
    began = time.monotonic()
    with pytest.raises(CompileError, match=r"ok\.bpf\.c was not compiled within 1 s"):
        compiled(f'#include "{tmp_path}/x.h"')
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("which", ["MEMORY", "OUTPUT"])
def test_compiler_that_takes_too_much_is_ended_and_told(host, monkeypatch, which):
    monkeypatch.setattr(cage, which, {"MEMORY": 1 << 26, "OUTPUT": 1 << 9}[which])
    with pytest.raises(CompileError):
        compiled(cflags=[f"-DNEVER_{which}"])


# ---- the cache -----------------------------------------------------------------------------------


def kept(ending):
    folder = pathlib.Path(source.CACHE) / "objects"
    return next(each for each in folder.iterdir() if each.name.endswith(ending))


@pytest.fixture
def cached(host, tmp_path, monkeypatch):
    """An object in a cache of its own."""
    monkeypatch.setattr(source, "CACHE", str(tmp_path / "cache"))
    made = compiled()
    assert compiled().was_cached
    return made


@pytest.mark.parametrize("ending", [".o", ".json"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "a bit", "gone"])
def test_damaged_object_is_compiled_anew(cached, ending, damage):
    path, data = kept(ending), kept(ending).read_bytes()
    changed = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    path.unlink()
    if damage != "gone":
        path.write_bytes({"truncated": data[:-9], "empty": b"", "a bit": changed}[damage])

    again = compiled()

    assert (again.was_cached, again.object) == (False, cached.object)
    assert compiled().was_cached


def test_damaged_vmlinux_h_is_made_anew(host, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "CACHE", str(tmp_path / "cache"))
    text = b'typedef int x;\n#include "vmlinux.h"\nint ok;\n'
    first = source.compile_source(source.Source("v.bpf.c", text, (), ("-DA",)))
    (header,) = (tmp_path / "cache" / "vmlinux").glob("*/vmlinux.h")
    header.write_bytes(header.read_bytes()[:1000])

    again = source.compile_source(source.Source("v.bpf.c", text, (), ("-DA", "-DB")))

    assert again.object == first.object


def test_cache_that_others_can_write_is_not_believed(cached):
    os.chmod(source.CACHE, 0o777)
    assert not compiled().was_cached
    assert not compiled().was_cached
    os.chmod(source.CACHE, 0o700)
    assert compiled().was_cached


# ---- BCC's dialect -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ['#include "{his}/x.h"\n', 'asm(".incbin \\"/etc/passwd\\"");\n', "#embed </etc/passwd>\n"]
)
def test_bcc_takes_in_nothing_of_others(his, text):
    with pytest.raises((BadRequest, NotRootsAlone)):
        bcc.inspect(source.Source("x.c", text.replace("{his}", str(his)).encode()))
    with pytest.raises(BadRequest):
        bcc.inspect(source.Source("x.c", b"", (), ("-include", "/tmp/x")))
