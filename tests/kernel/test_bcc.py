# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Source in BCC's dialect, compiled and loaded by the distribution's BCC: its programs count real packets after BCC's
process has ended, and from there the release is like any other."""

from __future__ import annotations

import os
import pathlib

import private_host
import programs
import pytest
from private_host import NAME, attachment, bpftool, counted

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import boot, stage, steps, store, transitions
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import (
    BadRequest,
    BeyondLimits,
    CompileError,
    LostUpdates,
    MapChanged,
    ToolMissing,
    VerifierRefused,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import bcc, memory, source

PACKAGE = "/usr/lib/python3/dist-packages/bcc"
TEXT = """
#include <uapi/linux/bpf.h>
#include <linux/if_ether.h>

#if VERSION < 10
#define ROWS 256
#else
#define ROWS 512
#endif
BPF_PERCPU_ARRAY(MARK_seen, u64, ROWS);

int MARK_xdp(struct xdp_md *ctx)
{
    u32 key = 4 * VERSION;
    u64 *packets = MARK_seen.lookup(&key);

    if (packets)
        *packets += 1;
    return XDP_PASS;
}
"""
XDP = ({"name": programs.XDP, "type": "xdp"},)


def keeps_sums():
    kernel = memory.of_this_host()
    return kernel is not None and kernel.keeps_sums


def given(version=1, text=TEXT, kinds=XDP, **more):
    return programs.given(version, text, "counters.c", kinds)._replace(compiler="bcc", **more)


def staged(version=1, **more):
    return stage.stage(NAME, given(version, **more))


def attached(host, version=1, **more):
    result = staged(version, **more)
    host.attach(*(() if host.facts().links else (attachment("xdp", programs.XDP, interface=private_host.DEVICE),)))
    return result


def map_of(load):
    """The id of the load's map, by bpftool."""
    path = os.path.join(store.home(NAME).loads, load, "maps", programs.SEEN)
    return bpftool("map", "show", "pinned", path)["id"]


def refused(kind, **asked):
    with pytest.raises(kind) as refusal:
        staged(**asked)
    assert files.names_in(store.home(NAME).loads) == []
    return refusal.value


# ---- a release like any other --------------------------------------------------------------------


def test_program_counts_after_the_process_that_compiled_it_has_ended(host):
    result = attached(host)

    host.receive(3)

    assert counted(programs.XDP) == {1: 3}
    assert result.built.release.dialect == "bcc"
    assert result.built.release.compiler.startswith("BCC ")
    assert result.figures.programs[programs.XDP]["processed_insns"] > 0


def test_same_source_is_compiled_once_and_other_flags_are_another_release(host):
    first, again, other = staged(), staged(), staged(2)

    assert (again.steps, again.load, again.built.compiled.was_cached) == ((), first.load, True)
    assert other.built.release.id != first.built.release.id
    assert other.built.release.source_id != first.built.release.source_id


def test_source_id_is_not_that_of_clang(host):
    assert given().source_id != given()._replace(compiler="clang").source_id


def test_equal_map_is_shared_on_an_upgrade(host):
    first = attached(host)
    host.receive(2)
    second = attached(host, 2)
    host.receive(3)

    assert counted(programs.XDP) == {1: 2, 2: 3}
    assert map_of(second.load) == map_of(first.load)
    assert second.figures.maps[programs.SEEN]["shared"]


def test_other_map_is_refused_and_merge_moves_its_counts(host):
    attached(host)
    host.receive(2)
    with pytest.raises(MapChanged) as refusal:
        staged(10)
    assert refusal.value.detail["differences"] == ["max_entries: 512, was 256"]

    second = attached(host, 10, maps={programs.SEEN: {"on_change": "merge"}})
    host.receive(3)

    path = os.path.join(store.home(NAME).loads, second.load, "maps", programs.SEEN)
    assert private_host.counted_in("pinned", path)[programs.XDP] == {1: 2, 10: 3}


def test_rollback_needs_no_bcc(host):
    attached(host)
    attached(host, 2)
    hide_bcc(host)

    transitions.roll_back(NAME)
    host.receive(4)

    assert counted(programs.XDP) == {1: 4}


def test_boot_compiles_again(host, reboot):
    attached(host)
    reboot()

    assert [type(step) for step in boot.restore(NAME)] == [steps.PutOn]
    host.receive(2)

    assert counted(programs.XDP) == {1: 2}


def test_boot_without_bcc_says_so_and_keeps_the_release_for_when_it_is_back(host, reboot):
    attached(host)
    reboot()
    hide_bcc(host)

    with pytest.raises(ToolMissing, match="python3-bpfcc"):
        boot.restore(NAME)

    private_host.run("umount", PACKAGE)
    assert [type(step) for step in boot.restore(NAME)] == [steps.PutOn]


def test_verify_in_check_mode_leaves_nothing(host, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "CACHE", str(tmp_path))
    built = stage.build(NAME, given(), keep=False)

    figures, warnings = stage.verify(NAME, built, check_mode=True)

    assert figures.programs[programs.XDP]["tag"]
    assert warnings == ()
    assert private_host.tree(source.CACHE) == []
    private_host.eventually(lambda: not private_host.ours_in_kernel())
    assert private_host.ours_in_kernel() == []


# ---- refusals ------------------------------------------------------------------------------------


def test_program_without_a_type_is_refused_and_told_how_to_give_one(host):
    failure = refused(BadRequest, kinds=())

    assert f"programs: [{{name: {programs.XDP}, type: xdp}}]" in failure.do


def test_name_by_bccs_own_rule_tells_the_type(host):
    text = TEXT.replace("int MARK_xdp(struct xdp_md *ctx)", "int raw_tracepoint__MARK(void *ctx)")
    built = stage.build(NAME, given(text=text.replace("XDP_PASS", "0").replace("__MARK", "__sched_switch"), kinds=()))

    figures, dummy = stage.verify(NAME, built)

    assert built.release.program_types == {"raw_tracepoint__sched_switch": (17, 0, "")}
    assert figures.programs["raw_tracepoint__sched_switch"]["tag"]


@pytest.mark.parametrize(
    ("word", "asked"),
    [
        ("globals", {"globals": {"step": 2}}),
        ("max_entries", {"maps": {programs.SEEN: {"max_entries": 8}}}),
        ("btf", {"btf": b"\x9f\xeb"}),
        ("limits.stack", {"limits": {"stack": 8}}),
        ("headers", {"source": source.Source("counters.c", b"", (("mine.h", b""),))}),
        ("object", {"source": None, "object": b"\x7fELF"}),
    ],
)
def test_what_bcc_cannot_do_is_refused_by_name(host, word, asked):
    assert word in refused(BadRequest, **asked).what


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        ({"nowhere": {"on_change": "fresh"}}, "has no map nowhere"),
        ({programs.SEEN: 5}, "must be a mapping"),
        ({programs.SEEN: {"on_change": "nonsense"}}, "there is no 'nonsense'"),
    ],
)
def test_wrong_map_is_refused_by_name(host, maps, said):
    assert said in refused(BadRequest, maps=maps).what


def test_type_for_one_function_is_refused(host):
    kind = {"name": programs.XDP, "type": "tracing", "attach_type": "trace_fentry", "target": "vfs_read"}

    assert "does not load" in refused(BadRequest, kinds=(kind,)).what


def test_verifiers_refusal_is_diagnosed_with_the_line_as_it_was_written(host):
    line = "    return *(char *)(long)ctx->data;"
    failure = refused(VerifierRefused, text=TEXT.replace("    return XDP_PASS;", line))

    assert failure.detail["diagnosis"] == "packet_out_of_bounds"
    assert failure.detail["program"] == programs.XDP
    assert failure.detail["source"] == {"file": "counters.c", "line": 19, "text": line.strip()}


def test_what_does_not_compile_names_file_and_line(host):
    failure = refused(CompileError, text=TEXT.replace("XDP_PASS", "nosuch"))

    assert failure.what == "counters.c does not compile: counters.c:19: use of undeclared identifier 'nosuch'"


def test_limits_hold(host):
    assert refused(BeyondLimits, limits={"insns": 1}).detail["program"] == programs.XDP


@pytest.mark.skipif("not keeps_sums()", reason="before 6.4 the kernel has an estimate only")
def test_limit_of_memory_is_judged_before_the_programs_are_loaded(host):
    """By a program that the verifier would refuse: it never sees it."""
    faulty = TEXT.replace("    return XDP_PASS;", "    return *(char *)(long)ctx->data;")

    failure = refused(BeyondLimits, text=faulty, limits={"map_bytes": 1000})

    assert failure.detail["map"] == programs.SEEN
    assert failure.detail["counted"] > 256 * 8


def test_lint_says_that_it_did_not_judge(host):
    (finding,) = staged(lint="warn").built.lint

    assert (finding["code"], finding["program"]) == ("not_judged", programs.XDP)
    with pytest.raises(LostUpdates):
        staged(2, lint="fail")


# ---- BCC itself ----------------------------------------------------------------------------------


def hide_bcc(host):
    """An empty folder where the package was, as one that was removed leaves it: this host's namespace alone sees it."""
    private_host.run("mount", "-t", "tmpfs", "tmpfs", PACKAGE)


def package(folder, **texts):
    """Another module where the distribution's is: this host's namespace alone sees it."""
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    private_host.run("mount", "--bind", str(folder), PACKAGE)


def test_missing_bcc_names_the_packages(host):
    hide_bcc(host)

    failure = refused(ToolMissing, text=TEXT + "/* not in the cache */\n")

    assert failure.detail["reason"] == "missing"
    assert "python3-bpfcc (Debian, Ubuntu) or python3-bcc (Fedora, RHEL, SUSE)" in failure.do


@pytest.mark.parametrize("text", ["from .lattice import Lattice\n", "class Lattice:\n    pass\n"])
def test_impostor_from_pypi_is_named(host, tmp_path, text):
    """It wants numpy, which may be there or not."""
    package(tmp_path, __init__=text)

    failure = refused(ToolMissing, text=TEXT + "/* not in the cache */\n")

    assert failure.detail["reason"] == "impostor"
    assert f"{PACKAGE}/__init__.py" in failure.what
    assert "pip uninstall bcc" in failure.do


def test_bcc_whose_library_is_gone_is_named(host, tmp_path):
    texts = {path.stem: path.read_text(encoding="utf-8") for path in pathlib.Path(PACKAGE).glob("*.py")}
    texts["libbcc"] = texts["libbcc"].replace("libbcc.so.0", "libbcc.so.99")
    package(tmp_path, **texts)

    failure = refused(ToolMissing, text=TEXT + "/* not in the cache */\n")

    assert failure.detail["reason"] == "broken"
    assert "libbcc.so.99" in failure.what


@pytest.mark.parametrize(
    ("text", "seconds", "sentence"),
    [
        ("import os\nos.kill(os.getpid(), 11)\n", 60, "BCC was ended by signal 11 while it had counters.c"),
        ("import time\ntime.sleep(600)\n", 1, "BCC did not end within 1 s"),
    ],
)
def test_bcc_that_crashes_or_hangs_is_told_so_and_ended(host, tmp_path, monkeypatch, text, seconds, sentence):
    package(tmp_path, __init__=text)
    monkeypatch.setattr(bcc, "SECONDS", seconds)

    assert refused(CompileError, text=TEXT + "/* not in the cache */\n").what == sentence


def test_no_headers_and_no_types_names_the_package(host, monkeypatch):
    if os.path.isdir("/lib/modules"):
        private_host.run("mount", "-t", "tmpfs", "tmpfs", "/lib/modules")
    monkeypatch.setattr(bcc, "KERNEL_HEADERS", "/nowhere")
    monkeypatch.setattr(source, "KERNEL_BTF", "/nowhere")

    failure = refused(ToolMissing, text=TEXT + "/* not in the cache */\n")

    assert f"linux-headers-{os.uname().release}" in failure.do
