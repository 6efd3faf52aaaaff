# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What probes and tracing programs are at: names that this kernel lacks, that mean the same, targets that move."""

from __future__ import annotations

import ctypes
import os
import re

import hook_rows
import private_host
import programs
import pytest
from private_host import attachment, counted

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import steps, store, transitions
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest, Failure, NotFound, WrongType
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks.contract import ProgramType
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, targets


def test_raw_tracepoint_that_the_kernel_lacks_is_refused_with_the_nearest(host):
    host.text = programs.text_with(programs.RAW_TRACEPOINT)
    host.stage(1)

    with pytest.raises(NotFound, match=r"no raw tracepoint sched_swich .* Did you mean sched_switch") as refusal:
        host.attach(attachment("raw_tracepoint", programs.RAW_TRACEPOINT, tracepoint="sched_swich"))

    assert refusal.value.detail["tracepoint"] == "sched_swich"


def test_event_of_a_system_call_is_no_raw_tracepoint(host):
    host.text = programs.text_with(programs.RAW_TRACEPOINT)
    host.stage(1)

    with pytest.raises(NotFound, match="There is no raw tracepoint sys_enter_openat"):
        host.attach(attachment("raw_tracepoint", programs.RAW_TRACEPOINT, tracepoint="syscalls/sys_enter_openat"))


def test_raw_tracepoint_may_be_named_with_its_category(host):
    short = attachment("raw_tracepoint", programs.RAW_TRACEPOINT, tracepoint="sys_enter")

    assert attachment("raw_tracepoint", programs.RAW_TRACEPOINT, tracepoint="raw_syscalls:sys_enter") == short


def test_tracing_program_at_another_hook_of_tracing_is_refused(host):
    host.text = programs.text_with(programs.TP_BTF)
    host.stage(1)

    with pytest.raises(WrongType) as refusal:
        host.attach(attachment("fexit", programs.TP_BTF))

    assert refusal.value.what == f"{programs.TP_BTF} is loaded as trace_raw_tp, and hook fexit takes trace_fexit"


def test_iterator_is_read_by_its_pin(host):
    wanted = attachment("iter", programs.ITER)
    host.text = programs.text_with(programs.ITER)
    host.stage(1)
    host.attach(wanted)

    with open(os.path.join(store.home(private_host.NAME).links, catalogue.hook_of(wanted).id(wanted)), "rb") as stream:
        stream.read()

    assert counted(programs.ITER) == {1: 1}


def test_iterator_over_one_map_is_refused():
    wanted = attachment("iter", programs.ITER)

    with pytest.raises(BadRequest, match="goes through the entries of one map"):
        catalogue.hook_of(wanted).place(wanted, ProgramType(bpf.PROG_TRACING, bpf.ATTACH_TRACE_ITER, "bpf_map_elem"))


def test_release_for_another_target_moves_the_attachment_there_and_back(host):
    """The new link is on at the new place before the one at the old place ends."""
    wanted = attachment("tp_btf", programs.TP_BTF)
    host.text = programs.text_with(programs.TP_BTF)
    host.stage(1)
    host.attach(wanted)
    old = host.facts().links[catalogue.hook_of(wanted).id(wanted)]
    host.text = host.text.replace("tp_btf/sys_enter", "tp_btf/sys_exit").replace("ctx[1]", f"{programs.RARE_CALL}")
    host.stage(2)

    outcome = host.attach()

    link = host.facts().links[catalogue.hook_of(wanted).id(wanted)]
    assert [type(step) for step in outcome.steps if step.is_hook_step] == [steps.Replace]
    assert (old.tracepoint, link.tracepoint) == ("sys_enter", "sys_exit")
    assert old.id not in private_host.links()
    os.sched_get_priority_max(os.SCHED_RR)
    assert set(counted(programs.TP_BTF)) == {2}
    transitions.roll_back(private_host.NAME)
    assert host.facts().links[catalogue.hook_of(wanted).id(wanted)].tracepoint == "sys_enter"


# ---- functions of the kernel, whose names are looked up although this one may have no kprobes ------------------------


def function_of(hook, **options):
    wanted = attachment(hook, "program", **options)
    return catalogue.hook_of(wanted).function(wanted)


def test_function_that_the_kernel_lacks_is_refused_with_the_nearest():
    with pytest.raises(NotFound, match="no function vfs_raed, or the compiler inlined") as refusal:
        function_of("kprobe", function="vfs_raed")

    assert "vfs_read" in refusal.value.do


def test_function_that_exists_as_copies_alone_is_refused_with_them():
    known = targets.functions()
    copies = [name for name in known if re.search(r"\.(?:isra|constprop|part)\.\d+$", name)]
    copy = next((name for name in sorted(copies) if name.partition(".")[0] not in known), None)
    if copy is None:
        pytest.skip("this kernel has every function that the compiler copied")

    with pytest.raises(NotFound, match="only as copies that the compiler made") as refusal:
        function_of("kretprobe", function=copy.partition(".")[0])

    assert copy in refusal.value.detail["copies"]


def test_system_call_is_found_by_its_wrapper():
    assert function_of("ksyscall", syscall="openat").endswith("_sys_openat")
    with pytest.raises(NotFound, match=r"no system call opneat\. Did you mean openat"):
        function_of("kretsyscall", syscall="opneat")


def test_function_is_known_by_the_kernels_btf_as_bpftool_reads_it():
    shown = private_host.run("bpftool", "btf", "dump", "id", "1", "format", "raw")
    number = re.search(r"^\[(\d+)\] FUNC 'security_task_getscheduler'", shown, re.MULTILINE)[1]

    assert targets.function_btf_id("security_task_getscheduler") == int(number)
    assert targets.function_btf_id("no_such_function") == 0


# ---- files ---------------------------------------------------------------------------------------


def at_library(host, **options):
    host.text = programs.text_with(programs.UPROBE)
    host.stage(1)
    return attachment("uprobe", programs.UPROBE, **{**hook_rows.library_options(host), **options})


def libc():
    """The path of the C library that this process runs."""
    with open("/proc/self/maps", encoding="utf-8") as lines:
        return next(line.split()[-1] for line in lines if "/libc.so" in line or "/libc-2" in line)


def test_function_of_libc_is_seen_in_a_process_that_begins_later(host):
    wanted = at_library(host, path=libc(), symbol="a64l")
    host.attach(wanted)

    private_host.in_child(lambda: [ctypes.CDLL(None).a64l(b"k") for dummy in range(3)] and None)

    assert counted(programs.UPROBE)[1] >= 3  # anybody may call it


@pytest.mark.parametrize(
    ("options", "what", "do"),
    [
        ({"path": "/usr/lib/no-such-file.so"}, "There is no file /usr/lib/no-such-file.so", "whole path"),
        ({"path": "libc.so.6"}, "There is no file libc.so.6", "whole path"),
        ({"symbol": "countde"}, "has no function countde", "Did you mean counted?"),
        ({"path": "/etc/passwd"}, "tells no functions: it is no ELF file", "offset"),
        ({"path": libc(), "symbol": "strlen"}, "strlen in .* is chosen by the dynamic linker", "offset"),
        ({"path": "/etc/passwd", "symbol": "", "offset": 1 << 20}, "places no uprobe at /etc/passwd", "file's end"),
    ],
)
def test_place_in_a_file_that_is_none_is_refused_by_one_sentence(host, options, what, do):
    with pytest.raises(Failure, match=what) as refusal:
        host.attach(at_library(host, **options))

    assert do in refusal.value.do
    assert host.facts().links == {}


def test_uprobe_needs_a_symbol_or_an_offset(host):
    with pytest.raises(BadRequest, match="needs symbol or offset"):
        attachment("uprobe", programs.UPROBE, path="/usr/bin/true")


def test_same_function_by_another_path_and_by_its_offset_is_the_same_place(host, tmp_path):
    wanted = at_library(host)
    host.attach(wanted)
    other = tmp_path / "alias.so"
    other.symlink_to(hook_rows.library())
    offset = catalogue.hook_of(wanted).place(wanted, None).number

    by_path = host.attach(attachment("uprobe", programs.UPROBE, path=str(other), symbol="counted"))
    by_offset = host.attach(attachment("uprobe", programs.UPROBE, path=hook_rows.library(), offset=offset))

    assert (by_path.steps, by_offset.steps) == ((), ())
    assert offset == int(private_host.run("nm", "-D", hook_rows.library()).split()[0], 16)


@pytest.mark.skipif(hook_rows.version(os.uname().release) < (6, 9), reason="no kernel told a uprobe's cookie")
def test_file_that_was_replaced_gets_the_program_with_the_next_run(host):
    wanted = at_library(host)
    host.attach(wanted)
    old = os.stat(hook_rows.library()).st_ino
    os.rename(hook_rows.library(), hook_rows.library() + ".old")
    hook_rows.make_library(host)
    assert os.stat(hook_rows.library()).st_ino != old
    hook_rows.library_calls(host, 2)
    assert counted(programs.UPROBE) == {}

    outcome = host.attach(wanted)

    assert [type(step) for step in outcome.steps if step.is_hook_step] == [steps.PutOn]
    hook_rows.library_calls(host, 2)
    assert counted(programs.UPROBE) == {1: 2}
