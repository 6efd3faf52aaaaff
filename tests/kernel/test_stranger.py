# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody with a login on the host (uid 4777) tries to have root run, read or lose what is his doing."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import time
from typing import NamedTuple

import private_host
import programs
import pytest
from private_host import NAME, attachment
from test_signers import SOURCE, signed  # noqa: F401  # pylint: disable=unused-import

from ansible_collections.ebpf.deploy.plugins.module_utils._core import command
from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    boot,
    code,
    guard,
    inventory,
    records,
    store,
    transitions,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import (
    BadRequest,
    CompileError,
    Failure,
    NotRootsAlone,
    SignatureRefused,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files, tools
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import bcc, signature, source

STRANGER = 4777
ROLE = pathlib.Path(__file__).parents[2] / "roles" / "host" / "files"
MODULES = ("json", "os", "signal", "shlex", "zipfile", "bcc", "sitecustomize", "usercustomize", "ebpf_deploy")
TOOLS = ("clang", "ssh-keygen", "systemd-run", "systemctl", "ip", "grep", "id", "sh", "python3")


@pytest.fixture
def planted(host, tmp_path, monkeypatch):
    """What root has run of the stranger's, as a function.

    His modules and tools lie in the current folder, in PYTHONPATH, in PATH, and among the packages of the home folder
    that root has kept from him (sudo).
    """
    ran = tmp_path / "ran"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    places = {
        "cwd": tmp_path / "cwd",
        "PYTHONPATH": tmp_path / "path",
        "PATH": tmp_path / "bin",
        "HOME": tmp_path / "home" / ".local" / "lib" / version / "site-packages",
    }
    for way, folder in places.items():
        folder.mkdir(parents=True)
        for name in MODULES:
            (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write('{way} {name}\\n')\n")
        for name in TOOLS:
            (folder / name).write_text(f"#!/bin/sh\necho {way} {name} >>{ran}\nexit 1\n")
            (folder / name).chmod(0o755)
    monkeypatch.chdir(places["cwd"])
    monkeypatch.setenv("PYTHONPATH", str(places["PYTHONPATH"]))
    monkeypatch.setenv("PATH", f"{places['PATH']}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return lambda: ran.read_text().splitlines() if ran.exists() else []


def real(name):
    """The host's own program, whatever PATH says."""
    return tools.find(name)


def started(*words):
    """Nothing but Python's own ways in is left to `words`: root calls the shell by its path."""
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_command_runs_nothing_of_a_strangers(planted):
    command.install()
    script = (ROLE / "ebpf-deploy").read_text()

    ended = started(real("sh"), "-c", script, "ebpf-deploy", "status")
    started(real("sh"), code.SCRIPT, "back", "other0")

    assert (ended.returncode, ended.stderr, planted()) == (0, "", [])
    files.remove_tree(code.FOLDER)


def test_guard_and_its_questions_run_nothing_of_a_strangers(host, planted):
    host.stage(1)
    outcome = host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE), confirm_within=4)

    assert private_host.in_child(lambda: guard.arm(NAME)).value["how"] == "process"
    answers = [started(*shlex.split(line)) for line in guard.questions(NAME, outcome.generation.number).values()]
    while store.pointed(store.home(NAME), "trial"):
        time.sleep(0.1)

    assert [(each.returncode, each.stderr) for each in answers] == [(0, "")] * 2
    assert store.ended(store.home(NAME), outcome.generation.number).outcome == records.ROLLED_BACK
    assert planted() == []
    files.remove_tree(code.FOLDER)


def test_compilers_run_nothing_of_a_strangers(planted):
    text = b'#include <linux/bpf.h>\nchar _license[] __attribute__((section("license"))) = "GPL";\n'

    assert source.compile_source(source.Source("planted.bpf.c", text)).object
    if os.path.isdir("/usr/lib/python3/dist-packages/bcc"):
        bcc.inspect(source.Source("planted.c", b"int counts(void *ctx) { return 0; }\n"))

    assert planted() == []


# ---- folders of ours -----------------------------------------------------------------------------


def as_stranger(work):
    """What `work` ended with in a process of the stranger's."""

    def became():
        os.setgroups([])
        os.setresgid(STRANGER, STRANGER, STRANGER)
        os.setresuid(STRANGER, STRANGER, STRANGER)
        return work()

    return private_host.in_child(became)


def squat(path):
    """The stranger makes a folder with something in it at `path`, wherever he may. Whether he could."""

    def made():
        try:
            os.makedirs(os.path.join(path, "counted", "links"))
        except OSError:
            return False
        return True

    return as_stranger(made).value


def attached_xdp(host):
    return host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))


@pytest.fixture(params=[0o1777, 0o777])
def open_bpffs(host, request):
    """A host whose BPF file system everybody may write to."""
    os.chmod(files.BPFFS, request.param)
    yield host
    for name in files.names_in(files.BPFFS):
        if "-of-" in name:
            files.remove_tree(os.path.join(files.BPFFS, name))


def test_strangers_folder_in_the_place_of_ours_is_moved_aside_and_told(open_bpffs):
    assert squat(records.PINS)

    told = open_bpffs.stage(1).warnings
    attached_xdp(open_bpffs)

    assert os.lstat(records.PINS).st_uid == 0
    assert os.lstat(records.PINS).st_mode & 0o777 == 0o700
    assert any(f"was owned by uid {STRANGER} and is root's now" in text for text in told)
    open_bpffs.receive(3)
    assert private_host.counted(programs.XDP) == {1: 3}
    assert not as_stranger(lambda: renamed(records.PINS)).value
    assert not squat(records.PINS + "/x")


def renamed(path):
    try:
        os.rename(path, path + "-his")
    except OSError:
        return False
    return True


def test_boot_goes_on_where_a_stranger_was_first(open_bpffs, reboot):
    open_bpffs.stage(1)
    attached_xdp(open_bpffs)
    reboot()
    assert squat(records.PINS)

    assert boot.restore_all() == [(NAME, None)]

    open_bpffs.receive(2)
    assert private_host.counted(programs.XDP) == {1: 2}
    assert "moved_aside" in (pathlib.Path(records.STATE) / NAME / "journal.jsonl").read_text()


def test_what_is_in_a_strangers_folder_is_none_of_ours(open_bpffs):
    squat(records.PINS)

    assert store.deployments() == []
    assert not open_bpffs.facts().exists
    files.remove_tree(records.PINS)


@pytest.mark.parametrize("place", ["STATE", "RUN", "PINS"])
def test_folder_of_ours_that_others_can_write_is_refused_by_name(host, place):
    host.stage(1)
    attached_xdp(host)
    path = getattr(store, place)
    os.chmod(path, 0o777)

    with pytest.raises(NotRootsAlone) as refusal:
        host.stage(2)

    assert str(refusal.value).startswith(f"{path} is not root's alone: it is not root's alone to write (mode 0777)")
    transitions.roll_back(NAME, everything_off=True, why="the way back asks nobody")
    os.chmod(path, 0o700)


def test_bpffs_that_others_can_write_is_said(open_bpffs):
    assert inventory.host()["bpffs_is_roots"] is False
    assert "chmod 0700 /sys/fs/bpf" in inventory.bpffs_warnings()[0]
    os.chmod(files.BPFFS, 0o700)
    assert inventory.host()["bpffs_is_roots"] is True
    assert inventory.bpffs_warnings() == []


def test_bpffs_of_somebody_elses_is_refused_by_name(host):
    os.chown(files.BPFFS, STRANGER, STRANGER)

    with pytest.raises(NotRootsAlone, match=f"/sys/fs/bpf is owned by uid {STRANGER}"):
        host.stage(1)

    os.chown(files.BPFFS, 0, 0)


@pytest.mark.parametrize("which", ["loads", "links", "carry", "pins", "folder", "releases", "generations"])
def test_nothing_is_removed_behind_a_symlink_in_the_place_of_a_folder(host, tmp_path, which):
    """As a restored backup may have them. What is there was taken for loads that nobody needs."""
    host.stage(1)
    attached_xdp(host)
    place = store.home(NAME)
    path = getattr(place, which, None) or os.path.join(place.folder, which)
    for name in ("x-1-tmp", "x-2", "x.gone.aside", "9.json"):
        (tmp_path / "others" / name / "progs").mkdir(parents=True)
    if os.path.lexists(path):
        os.rename(path, path + "-before")
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(tmp_path / "others", path)
    before = private_host.tree(tmp_path / "others")

    for work in (
        boot.restore_all,
        lambda: host.stage(2),
        lambda: attached_xdp(host),
        lambda: transitions.roll_back(NAME, everything_off=True, why="a test"),
        lambda: transitions.remove(NAME),
    ):
        with contextlib.suppress(Failure, OSError):
            work()

    assert not set(before) - set(private_host.tree(tmp_path / "others"))
    if os.path.islink(path):
        os.unlink(path)
    for root in (records.PINS, os.path.join(records.STATE, NAME)):
        files.remove_tree(root)


# ---- all of it, again and again ------------------------------------------------------------------

# As fast as he can: he is first in our place, takes it away, and swaps what he has on the ways that root goes.
HIS = """
import itertools, os, shutil, sys, time

work, pins, his, everybodys, roots_header, roots_list, his_list = sys.argv[1:]

def attempt(work, *arguments):
    try:
        return work(*arguments)
    except OSError:
        pass

def swap(path, target):
    attempt(os.unlink, path + "-next")
    attempt(os.symlink, target, path + "-next")
    attempt(os.rename, path + "-next", path)

def be_first(number):
    for first in (lambda: os.makedirs(pins + "/counted/links"), lambda: os.symlink(his, pins)):
        attempt(first)
        time.sleep(number % 7 / 200)
        attempt(os.rename, pins, f"{pins}-his")
        attempt(shutil.rmtree, f"{pins}-his")
        attempt(os.unlink, f"{pins}-his")

def swap_links(number):
    for header, signers in ((roots_header, roots_list), (his + "/his.h", his_list)):
        swap(his + "/x.h", header)
        swap(his + "/list", signers)
        swap(everybodys + "/x.h", header)
        swap(his + "/folder", os.path.dirname(header))

for number in itertools.count():
    globals()[work](number)
"""
MARK = "STRANGERS_DOING"


class Ways(NamedTuple):
    """What the stranger has: his folder, one where all can write, the signature that he made."""

    his: pathlib.Path
    everybodys: pathlib.Path
    seal: signature.Seal


@pytest.fixture
def at_work(host, signed, tmp_path):  # noqa: F811
    """The stranger at work in the background, from now to the end of the test."""
    os.chmod(files.BPFFS, 0o1777)
    ways = Ways(tmp_path / "his", tmp_path / "everybodys", signed.stranger)
    roots = tmp_path / "roots"
    for folder in (ways.his, ways.everybodys, roots):
        folder.mkdir()
    for folder in tmp_path, signed.folder:
        for each in (folder, *folder.parents):
            if str(each).startswith("/tmp/pytest"):
                each.chmod(0o755)
    ways.everybodys.chmod(0o1777)
    (roots / "x.h").write_text("")
    (ways.his / "his.h").write_text(f'const char his[] = "{MARK}";\n')
    for path in (ways.his, ways.his / "his.h"):
        os.chown(path, STRANGER, STRANGER)
    lists = [signed.folder / name / "list" for name in ("root", "stranger")]
    words = [records.PINS, ways.his, ways.everybodys, roots / "x.h", *lists]
    children = [
        subprocess.Popen(
            [sys.executable, "-I", "-c", HIS, work, *map(str, words)], user=STRANGER, group=STRANGER, extra_groups=[]
        )
        for work in ("be_first", "swap_links")
    ]
    assert private_host.eventually(lambda: os.path.lexists(ways.his / "list"))
    yield ways
    gave_up = [child for child in children if child.poll() is not None]
    for child in children:
        child.kill()
        child.wait()
    assert gave_up == []
    for name in files.names_in(files.BPFFS):
        path = os.path.join(files.BPFFS, name)
        if os.lstat(path).st_uid:
            os.unlink(path) if os.path.islink(path) else files.remove_tree(path)


def keeps_a_hook_off(host, number, ways):
    """By being first where our pins are to be, at a rollout or at a boot."""
    if number % 2:
        files.remove_tree(records.PINS)  # as a reboot does, which leaves him the time to be first
        device = socket.if_nametoindex(private_host.DEVICE)
        assert private_host.eventually(lambda: not bpf.xdp_query(device)), (
            "the kernel ends a link a while after its pin"
        )
        end = time.monotonic() + 0.1
        while not os.path.lexists(records.PINS) and time.monotonic() < end:
            time.sleep(0.0005)
        kept = [failure for dummy, failure in boot.restore_all() if failure]
    else:
        kept = []
        host.stage(1 + number // 2 % 2)
        attached_xdp(host)
    running = bpf.xdp_query(socket.if_nametoindex(private_host.DEVICE))
    folder = os.lstat(records.PINS)
    if kept:
        raise Failure(f"the boot failed: {kept[0]!r}")
    return bool(not running or folder.st_uid or folder.st_mode & 0o077)


def gets_his_header_in(host, number, ways):
    """By a folder or file of his, or where all can write, that is another when root looks at it."""
    way = (
        ([f'"{ways.his}/x.h"'], ()),
        ([f'"{ways.everybodys}/x.h"'], ()),
        ([f'"{ways.his}/folder/his.h"'], ()),
        (['"x.h"'], (f"-I{ways.his}",)),
        (['"../../everybodys/x.h"'], ()),
        (["<x.h>"], ("-isystem", str(ways.everybodys))),
    )[number % 6]
    text = "".join(f"#include {name}\n" for name in way[0]) + "int ok;\n"
    try:
        made = source.compile_source(source.Source("x.bpf.c", text.encode(), (), (*way[1], f"-DROUND={number}")))
    except (NotRootsAlone, CompileError):
        return False
    return MARK.encode() in made.object


def gets_his_signature_accepted(host, number, ways):
    """By swapping a link to the list of signers."""
    try:
        return bool(signature.signer(SOURCE, ways.seal, str(ways.his / "list")))
    except (SignatureRefused, BadRequest):
        return False


def has_something_run(host, number, ways):
    """By a module or a program where root is."""
    ended = started(real("sh"), "-c", (ROLE / "ebpf-deploy").read_text(), "ebpf-deploy", "status")
    return ended.returncode != 0  # and what ran is asked for in the end


ATTACKS = (keeps_a_hook_off, gets_his_header_in, gets_his_signature_accepted, has_something_run)


def test_stranger_who_never_tires_succeeds_in_nothing(at_work, host, planted, request, figures):
    command.install()
    successes, tried = [], dict.fromkeys(ATTACKS, 0)
    for number in range(request.config.getoption("--stranger-rounds")):
        attack = ATTACKS[number % len(ATTACKS)]
        tried[attack] += 1
        try:
            if attack(host, tried[attack] - 1, at_work):
                successes.append(f"round {number}: he {attack.__name__}")
        except Failure as failure:
            successes.append(f"round {number}: he stops what {attack.__name__} is about: {failure}")
    told = (pathlib.Path(records.STATE) / NAME / "journal.jsonl").read_text().count("moved_aside")
    figures.append(f"stranger: {sum(tried.values())} rounds, {len(successes)} successes, moved aside {told} times")
    assert (successes, planted()) == ([], [])
    files.remove_tree(code.FOLDER)
