# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into an object: the user's files, the host's headers, the compiler's flags; nothing is loaded."""

from __future__ import annotations

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest, CompileError, Unsupported
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import source

TEXT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
%s
SEC("xdp") int ok(struct xdp_md *ctx) { return RESULT; }
char _license[] SEC("license") = "GPL";
"""
LOCAL = '#include "mine.h"'


def compiled(include=LOCAL, file="ok.bpf.c", headers=(), cflags=()):
    return source.compile_source(source.Source(file, (TEXT % include).encode(), tuple(headers), tuple(cflags)))


@pytest.fixture
def folder(host, tmp_path):
    """A folder of headers on the host, with mine.h in it."""
    (tmp_path / "of mine").mkdir()
    (tmp_path / "of mine" / "mine.h").write_text("#define RESULT XDP_PASS\n")
    return tmp_path / "of mine"


def test_changed_header_of_the_host_is_compiled_anew_and_an_equal_one_is_not(folder):
    how = {"cflags": [f"-I{folder}"]}

    first, again = compiled(**how), compiled(**how)
    (folder / "mine.h").write_text("#define RESULT XDP_DROP\n")
    changed = compiled(**how)

    assert (first.was_cached, again.was_cached, changed.was_cached) == (False, True, False)
    assert first.object == again.object != changed.object


def test_header_that_is_gone_fails_though_the_object_is_in_the_cache(folder):
    compiled(cflags=[f"-I{folder}"])
    (folder / "mine.h").unlink()

    with pytest.raises(CompileError):
        compiled(cflags=[f"-I{folder}"])


def test_users_folder_may_be_called_vmlinux(host):
    text = TEXT.replace("<linux/bpf.h>", '"vmlinux.h"') % '#include "vmlinux/extra.h"'
    given = source.Source("ok.bpf.c", text.encode(), (("vmlinux/extra.h", b"#define RESULT XDP_PASS\n"),))

    assert not source.compile_source(given).was_cached
    assert source.compile_source(given._replace(cflags=("-DOTHER",))).object, "with vmlinux.h out of the cache, too"


def test_file_may_be_named_like_an_option(host):
    assert compiled("#define RESULT XDP_PASS", file="-x.bpf.c").object


def test_comment_about_vmlinux_h_needs_no_types_of_the_kernel(host, monkeypatch):
    monkeypatch.setattr(source, "KERNEL_BTF", "/nonexistent")

    assert compiled("#define RESULT XDP_PASS\n/* no vmlinux.h here */").object
    with pytest.raises(Unsupported):
        compiled('#define RESULT XDP_PASS\n#include "vmlinux.h"')


@pytest.mark.parametrize("include", ['#include "../mine.h"', '#define MINE "mine.h"\n#include MINE'])
def test_header_that_does_not_travel_is_told_so(host, include):
    with pytest.raises(CompileError) as refusal:
        compiled(include)

    assert "Headers travel" in refusal.value.do


@pytest.mark.parametrize("flag", ["-E", "-S", "-fsyntax-only", "-emit-llvm", "--version"])
def test_flag_that_makes_no_object_is_refused_by_a_sentence(host, flag):
    with pytest.raises(BadRequest) as refusal:
        compiled("#define RESULT XDP_PASS", cflags=[flag])

    assert flag in refusal.value.detail["cflags"]
