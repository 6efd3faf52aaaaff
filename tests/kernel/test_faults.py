# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Something fails in the middle of a transition: what ran goes on, one sentence says what and one what to do, and the
same operation finishes once the fault is gone.

As in the kill sweep the steps enumerate themselves; every eighth is struck, each one with `-- --thorough`. The disk
that is full and the file systems that turn read-only are real ones. Injected are, since nothing real makes them at a
chosen call: ENOMEM and EBUSY from calls into the kernel.
Real are the foreign holders of test_all_or_none.py, too, and the maps beyond the memory of test_objects.py.
"""

from __future__ import annotations

import errno
import os
import tempfile
import zlib
from typing import Callable, NamedTuple

import private_host
import programs
import pytest
from every_transition import (
    HOOKS,
    TRANSITIONS,
    assert_finished,
    inside_steps,
    moments,
    on_trial,
    reset,
    running,
    shape,
    steps_alone,
)
from private_host import NAME

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    code,
    guard,
    records,
    stage,
    store,
    trial,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import DiskRefused, Failure
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import source


class Fault(NamedTuple):
    """What begins in a child and ends here; `folder` is the mount point it is about."""

    begin: Callable  # (folder)
    end: Callable
    folder: str


def fill(folder):
    """The file system takes not one file and not one byte more."""
    ballast, limit = os.path.join(folder, "ballast"), os.statvfs(folder)
    used = (limit.f_blocks - limit.f_bfree + 1) * limit.f_frsize
    remount(folder, f"size={used},nr_inodes={limit.f_files - limit.f_ffree + 1}")
    with pytest.raises(OSError, match="No space left"), open(ballast, "wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 4096)


def empty(folder):
    files.remove(os.path.join(folder, "ballast"))
    remount(folder, "size=50%,nr_inodes=100000")


def remount(folder, options):
    private_host.run("mount", "-o", f"remount,{options}", folder)


def full(folder):
    return Fault(fill, empty, folder)


def read_only(folder):
    return Fault(lambda folder: remount(folder, "ro"), lambda folder: remount(folder, "rw"), folder)


LASTING = {
    "disk full": full(records.STATE),
    "disk read-only": read_only(records.STATE),
    "/run full": full(records.RUN),
    "/run read-only": read_only(records.RUN),
    "bpffs read-only": read_only(files.BPFFS),
}
DECIDED = [  # each hook for itself
    TRANSITIONS[name]
    for name in (
        "roll back",
        "name what is quarantined",
        "take a trial that cannot be read back",
        "roll back a merge",
        "everything off",
        "boot",
    )
]
# Past their commit when the first hook moves; a disk that fails before that moves none.
DECIDED_AT_HOOKS = {"take a trial back", "take a merge on trial back", "remove", "remove after a merge"}
# The kernel refuses the one while a run holds its lock's file open. In the other nobody can open a link or undo:
# a set that is cut in two by it stays so until the next run, which is told as not_undone.
FROM_THE_BEGINNING = {"/run read-only", "bpffs read-only"}
INTO_THE_KERNEL = ("pin", "link_create", "link_update", "link_detach")


@pytest.fixture
def some_of(request):
    """A function that takes every eighth of a list, beginning elsewhere for each word; all of it with --thorough."""
    step = 1 if request.config.getoption("--thorough") else 8
    return lambda rows, word: rows[zlib.crc32(word.encode()) % step :: step]


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("name", TRANSITIONS)
def test_file_system_fails_before_a_step_and_stays_so(host, name, fault, figures, some_of):
    each = TRANSITIONS[name]
    befores = [moment for moment in moments(host, each, steps_alone) if moment.startswith("before")]
    wanted = shape()
    reset(host)
    failed = 0
    if fault in FROM_THE_BEGINNING or (fault == "/run full" and not any("Deadline" in moment for moment in befores)):
        befores = []  # in the last case no step writes there
    struck = some_of(list(enumerate(befores)), name + fault)
    for number, moment in [(None, "before all"), *struck]:
        each.given(host)
        try:
            told = in_child(host, each, lambda at, left=number: strike_before(at, left), LASTING[fault])
            failed += bool(told)
            assert_goes_on(host, each, told, f"{fault} {moment}")
        finally:
            LASTING[fault].end(LASTING[fault].folder)
        assert_finished(host, each, f"{fault} {moment}", wanted)
        reset(host)
    figures.append(f"{fault}: {name}: from {len(struck) + 1} moments on; {failed} were told, all finished after it")


def strike_before(begin, number):
    """`begin` is called before the step with this number; None: now."""
    if number is None:
        begin()
        return
    left = [number]

    def count_down(moment):
        if moment.startswith("before"):
            if left[0] == 0:
                begin()
            left[0] -= 1

    steps_alone(count_down)


@pytest.mark.parametrize("code", ["ENOMEM", "EBUSY"])
@pytest.mark.parametrize("name", TRANSITIONS)
def test_call_into_the_kernel_fails_once(host, name, code, figures, some_of):
    each = TRANSITIONS[name]
    recorded = moments(host, each, inside_steps)
    wanted = shape()
    reset(host)
    calls = [number for number, moment in enumerate(recorded) if called(moment) in INTO_THE_KERNEL]
    calls = some_of(calls, name + code)
    for number in calls:
        moment = f"{code} {recorded[number]}"
        each.given(host)
        told = in_child(host, each, lambda at, left=number: strike_inside(left, code))
        assert told, moment
        assert_goes_on(host, each, told, moment, is_decided=name in DECIDED_AT_HOOKS)
        assert_finished(host, each, moment, wanted)
        reset(host)
    figures.append(f"{code}: {name}: from {len(calls)} calls into the kernel, finished by the next run each time")


def called(moment):
    """The function's name in a moment of inside_steps."""
    return moment.partition("before ")[2].partition("(")[0]


def strike_inside(number, code):
    """The call with this number is refused by the kernel, as far as the core can tell."""
    left = [number]

    def count_down(moment):
        left[0] -= 1
        if left[0] == -1:
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)), f"bpf_{called(moment)}")

    inside_steps(count_down)


# ---- what is true after it -------------------------------------------------------------------------


def in_child(host, each, put, fault=None):
    """The fields of the Failure that the operation ended with in a child, None where it went well.

    `put(begin)` is to call `begin` where the fault shall strike. No file stays open.
    """

    def work():
        before = private_host.open_fds()
        put(lambda: fault.begin(fault.folder))
        try:
            each.work(host)
            return None
        except Failure as failure:
            return failure.as_fields()
        finally:
            assert private_host.open_fds() <= before

    ended = private_host.in_child(work)
    assert not ended.signal
    return ended.value


def assert_goes_on(host, each, told, moment, is_decided=False):
    """Every hook runs what it ran, or where the change was decided or is on trial, what it is to run."""
    allowed = [[each.ran]]
    if (
        each is TRANSITIONS["remove what cannot be read"]
    ):  # no generation can say that it is decided; told as not_undone
        allowed.append([None])
    elif told is None or "left" in told or is_decided or each in DECIDED or is_on_trial():
        allowed.append([each.runs])
    for program, versions in running(host).items():
        assert (versions or [None]) in allowed, f"{moment}: {program} ran {versions}: {told}"
    if told is not None:
        assert_one_sentence_each(told, moment)


def is_on_trial():
    on_trial = store.pointed(store.home(NAME), "trial")
    return on_trial and on_trial.guarded


def assert_one_sentence_each(told, moment):
    for sentence in (told["what"], told["do"]):
        assert sentence, f"{moment}: {told}"
        assert "\n" not in sentence and ". " not in sentence, f"{moment}: {told}"


def test_folder_in_the_way_is_no_disk_that_refuses_and_keeps_no_hook_from_going_back(host):
    """A guard that waited for the disk would wait for ever: the folder is moved aside, since it is not ours."""
    on_trial(host)
    outcomes = os.path.join(store.home(NAME).folder, "outcomes")
    os.makedirs(os.path.join(outcomes, "2.json.aside", "somebody's"))

    trial.stop(NAME)

    assert running(host) == {program: [1] for program in HOOKS}
    assert host.facts().trial is None
    assert [name for name in os.listdir(outcomes) if os.path.isdir(os.path.join(outcomes, name, "somebody's"))]


# ---- places that are not ours alone ----------------------------------------------------------------


VMLINUX = '#include "vmlinux.h"\n' + programs.TEXT.replace("#include <linux/bpf.h>\n", "")


@pytest.fixture
def cache(host, monkeypatch):
    """The host's own cache, empty."""
    monkeypatch.setattr(source, "CACHE", "/var/cache/ebpf_deploy")
    return "/var/cache/ebpf_deploy"


@pytest.fixture
def small_tmp(host, tmp_path, monkeypatch):
    """A temporary folder of 256 KB, less than vmlinux.h."""
    private_host.run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield str(tmp_path)
    private_host.run("umount", str(tmp_path))


@pytest.mark.parametrize("text", [programs.TEXT, VMLINUX], ids=["plain", "vmlinux"])
def test_full_cache_costs_a_compilation_and_no_rollout(host, cache, text):
    fill(cache)

    stage.stage(NAME, programs.given(1, text))

    assert host.facts().staged
    empty(cache)
    assert private_host.tree(cache) == []


def test_full_tmp_is_told_and_no_half_vmlinux_h_is_kept(host, cache, small_tmp):
    with pytest.raises(DiskRefused, match="No space is left") as refusal:
        stage.stage(NAME, programs.given(1, VMLINUX))

    assert_one_sentence_each(refusal.value.as_fields(), "vmlinux.h")
    assert [path for path in private_host.tree(cache) if "vmlinux.h" in path] == []


def test_compiler_that_finds_no_space_is_told_as_a_full_disk(host, cache, small_tmp):
    def fill_and_compile(*arguments):
        remount(small_tmp, "size=8k")
        return compile_(*arguments)

    compile_ = source._compile
    fill_later = pytest.MonkeyPatch()
    fill_later.setattr(source, "_compile", fill_and_compile)
    with fill_later.context(), pytest.raises(DiskRefused, match="No space is left"):
        host.stage(1)
    fill_later.undo()


def test_guard_without_room_for_its_code_is_told(host):
    host.stage(1)
    os.makedirs(code.FOLDER)
    fill(records.STATE)

    with pytest.raises(DiskRefused, match="No space is left"):
        guard.arm(NAME)

    empty(records.STATE)
