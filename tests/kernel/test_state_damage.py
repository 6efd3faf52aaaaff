# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Something of a deployment's state is damaged while a trial runs, when its time is over, or while there is none:
afterwards no hook runs the trial unless whoever asks is told so, none is empty that was not, and nothing ends with a
traceback.

Damage is generated: every file, folder, pointer and pin of the deployment, in /var/lib, /run and on bpffs, is cut
short, altered, swapped with another, deleted, renamed, made anybody's, or replaced by a symlink. What runs at a hook is
asked of the kernel by other words than the collection's.

15 pieces of damage by default, and what was found once. `./dev test kernel test_state_damage -- --mutations 1000`
for more; with `--damage-seed S --first N --mutations 1` the one that a failure names.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import random
import re
import shutil
import signal
import socket
import tempfile
import time
import traceback
from collections import Counter
from typing import NamedTuple

import private_host
import programs
from conftest import private
from every_transition import attached
from private_host import NAME
from test_guard_killed import sessions

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    boot,
    code,
    guard,
    held,
    inventory,
    lock,
    records,
    store,
    transitions,
    units,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Failure
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files, libbpf, tools

START = """
import os, sys
os.dup2(os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
sys.path.insert(0, sys.argv[1])
from ebpf_deploy.deployment import guard, lock
guard.GRACE, guard.TICK, guard.LOOK_SECONDS, guard.NOT_BACK_SECONDS = 0, 0.05, 0.2, (0.2, 1)
lock.PATIENCE, lock.FREED_WITHIN = 0.5, 0.5
guard.main(sys.argv[2])
"""
LEFT = 0.7  # s of the trial's time that are left when the damage is done
SLOW = 20  # s past the deadline that a guard has on a busy machine
SIDE_BY_SIDE = 10  # hosts


# ---- damage --------------------------------------------------------------------------------------


class Damage(NamedTuple):
    """What was done, in words that are the same for all releases."""

    what: str
    where: str

    def __str__(self):
        return f"{self.what} {self.where}"


def places():
    """Every path of the deployment: {what kind of place: paths}."""
    home, found = store.home(NAME), {}
    run = [os.path.join(records.RUN, name) for name in files.names_in(records.RUN)]
    for top in (records.STATE, home.pins):
        run += [top, *private_host.tree(top)]
    run += [records.PINS, records.RUN]
    for path in sorted({path for path in run if os.path.lexists(path)}):
        found.setdefault(_kind_of(path), []).append(path)
    return found


def _kind_of(path):
    path = re.sub(r"[0-9a-f]{64}|[0-9a-f]{16}(-\d+)?|[0-9a-f]{12}", "X", path)
    return re.sub(r"(generations|outcomes)/\d+", r"\1/N", re.sub(r"k[0-9a-f]+_", "", path))


def damaged(chance):
    """The Damage that was done, of those that this file, folder, pointer or pin can suffer."""
    while True:
        found = places()
        kind = chance.choice(sorted(found))
        path = chance.choice(found[kind])
        others = [each for paths in found.values() for each in paths if each != path and _shape(each) == _shape(path)]
        ways = WAYS["pin" if path.startswith(files.BPFFS) else "file"][_shape(path)]
        what = chance.choice([delete, chmod] if os.path.ismount(path) else ways)
        other = chance.choice(others or [path])
        with contextlib.suppress(OSError):  # not between two file systems, not into itself: another one
            what(path, other, chance)
            return Damage(what.__name__.replace("_", " "), kind + (f" by {_kind_of(other)}" if what in PAIRS else ""))


def _shape(path):
    return "link" if os.path.islink(path) else "folder" if os.path.isdir(path) else "file"


def truncate(path, other, chance):
    os.truncate(path, chance.randrange(max(1, os.path.getsize(path))))


def alter_bytes_of(path, other, chance):
    with open(path, "r+b") as stream:
        data = bytearray(stream.read())
        for dummy in range(min(len(data), chance.choice((1, 1, 8)))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        stream.seek(0)
        stream.write(data)


def swap(path, other, chance):
    """Whole, each under the other's name."""
    aside = path + "-swapped"
    os.rename(path, aside)
    try:
        os.rename(other, path)
    except OSError:
        os.rename(aside, path)
        raise
    os.rename(aside, other)


def copy_of(path, other, chance):
    with open(other, "rb") as stream:
        data = stream.read()
    with open(path, "wb") as stream:
        stream.write(data)


def delete(path, other, chance):
    _gone(path)


def rename(path, other, chance):
    os.rename(path, path + chance.choice(("~", "1", "-tmp", "-next", "-old")))  # bpffs takes no dots


def chmod(path, other, chance):
    os.chmod(path, chance.choice((0, 0o777, 0o400)))


def symlink_elsewhere(path, other, chance):
    """To nothing, to what is not ours, to another of ours, or to itself moved away."""
    target = chance.choice(("/nowhere/at/all", decoy(), other, path + "-moved"))  # to nothing real of this machine
    if target == path + "-moved":
        os.rename(path, target)
    else:
        _gone(path)
    os.symlink(target, path)


def decoy():
    """A folder that is nobody's: what leads to it may not cost its files."""
    return os.path.join(tempfile.gettempdir(), f"decoy-{os.getpid()}")


DECOYS = (
    "keep",
    "1.json",
    "trial",
    "progs/keep",
    "generations/1.json",
    "outcomes/2.json",
    "k-123-tmp/keep",
    "progs/no_pin",
)


def make_decoy():
    for name in DECOYS:
        path = os.path.join(decoy(), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as stream:
            stream.write("{}")


def decoys_lost():
    return [name for name in DECOYS if files.size_of(os.path.join(decoy(), name)) != 2]


def retarget(path, other, chance):
    named = ["generations/1.json", "generations/2.json", "generations/7.json", ".", os.readlink(other)]
    if path.endswith("/confirmed"):  # it is a confirmation, by whosever hand, that this pointer names the trial
        named = ["generations/7.json", "."]
    target = chance.choice(named)
    os.unlink(path)
    os.symlink(target, path)


def replace_by_a_folder(path, other, chance):
    _gone(path)
    os.mkdir(path)


def replace_by_a_file(path, other, chance):
    _gone(path)
    with open(path, "w", encoding="ascii") as stream:
        stream.write("{}")


def _gone(path):
    if os.path.ismount(path):
        for name in os.listdir(path):
            _gone(os.path.join(path, name))
    else:
        shutil.rmtree(path) if _shape(path) == "folder" else os.unlink(path)


PAIRS = (swap, copy_of)
ANY = (delete, delete, rename, symlink_elsewhere)
WAYS = {
    "file": {
        "file": (*ANY, truncate, truncate, alter_bytes_of, alter_bytes_of, swap, copy_of, chmod, replace_by_a_folder),
        "link": (*ANY, retarget, retarget, swap, replace_by_a_folder, replace_by_a_file),
        "folder": (*ANY, chmod, swap, replace_by_a_file),
    },
    "pin": {
        "file": (*ANY, swap, chmod, replace_by_a_folder),
        "link": (delete, rename),
        "folder": (*ANY, swap, chmod),
    },
}


# ---- what runs, by ip, bpftool and BPF_PROG_QUERY ------------------------------------------------


class Query(ctypes.Structure):  # union bpf_attr, BPF_PROG_QUERY: bpftool knows tcx since 7.3 alone
    _fields_ = (
        ("target", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("query_flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
        ("prog_ids", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("room", ctypes.c_uint32 * 16),
    )


PROG_QUERY, TCX_INGRESS = 16, 46


def at_tcx(device):
    """The ids of the programs at the device's ingress."""
    numbers = (ctypes.c_uint32 * 16)()
    asked = Query(socket.if_nametoindex(device), TCX_INGRESS, prog_ids=ctypes.addressof(numbers), count=16)
    syscall = private_host.LIBC.syscall
    if syscall(libbpf.BPF_SYSCALL[os.uname().machine], PROG_QUERY, ctypes.byref(asked), ctypes.sizeof(asked)) != 0:
        raise OSError(ctypes.get_errno(), "BPF_PROG_QUERY")
    return list(numbers[: asked.count])


class Witness:
    """{hook: the tag of the program there, or None}."""

    def __init__(self, host):
        self.host, self.tags = host, {}

    def __call__(self):
        while True:
            with contextlib.suppress(private_host.Gone):
                return self._now()

    def _now(self):
        (net,) = json.loads(private_host.run("ip", "-j", "-details", "link", "show", private_host.DEVICE))
        group = private_host.run("bpftool", "-j", "cgroup", "show", self.host.cgroup).strip()
        return {
            "xdp": self._tag([net["xdp"]["prog"]["id"]] if "xdp" in net else []),
            "tcx": self._tag(at_tcx(private_host.DEVICE)),
            "cgroup": self._tag(each["id"] for each in (json.loads(group) if group else ())),
        }

    def _tag(self, numbers):
        found = [self._tag_of(number) for number in numbers]
        assert len(found) <= 1, f"several programs at a hook: {found}"
        return found[0] if found else None

    def _tag_of(self, number):
        if number not in self.tags:  # an id means no other program later
            self.tags[number] = private_host.bpftool("prog", "show", "id", str(number))["tag"]
        return self.tags[number]


# ---- a round -------------------------------------------------------------------------------------


SAYS_SO = ("not_back", "confirmed")


class Round(NamedTuple):
    """One piece of damage and what came of it: `faults` is what must not be, in words."""

    number: int
    state: str
    damage: Damage
    faults: tuple
    told: str


class Scene:
    """A host with version 1 confirmed, and what a round asks of it."""

    def __init__(self, host, chance, folder, number=0):
        self.host, self.chance, self.running, self.number = host, chance, Witness(host), number
        self.errors = os.path.join(folder, f"errors-{os.getpid()}")
        self.faults = []
        attached(host)
        self.old = self.running()

    def damaged(self):
        if self.number >= 0:
            return damaged(self.chance)
        found, home = FOUND_ONCE[self.number], store.home(NAME)
        loads, links = (
            sorted(os.path.join(each, name) for name in os.listdir(each)) for each in (home.loads, home.links)
        )
        found.work(Paths(home, loads[0], *links[:2]))
        return Damage("found once:", found.what)

    def settled(self):
        """What runs once the kernel has let go of links whose pins are lost: the damage's own doing."""
        before, now = None, self.running()
        while now != before:
            time.sleep(0.3)
            before, now = now, self.running()
        return now

    def who(self, *others):
        """Comes after the damage."""
        return self.chance.choice(others) if self.number >= 0 else FOUND_ONCE[self.number].who

    def on_trial(self):
        self.host.stage(2)
        self.host.attach(confirm_within=60)

    def start_guard(self):
        command = tools.python(START, code.written(code.GUARD), NAME, self.errors)
        guard._as_process(NAME, command)

    def await_switch(self):
        end = time.monotonic() + SLOW
        while time.monotonic() < end:
            with contextlib.suppress(Failure):
                transitions.look(NAME, 2)
                break
            time.sleep(0.05)
        self.new = self.running()
        assert all(self.new[hook] not in (None, self.old[hook]) for hook in self.old), f"never switched: {self.new}"

    def end_in(self, seconds):
        with lock.locked(NAME) as home:
            store.write_deadline(home, store.deadline(home)._replace(end=records.boottime() + seconds))

    def await_guard(self):
        """Its end, as far as it comes: one that goes on has something to bring back yet."""
        end = time.monotonic() + LEFT + SLOW
        while sessions() and time.monotonic() < end and not self.says_not_back():
            time.sleep(0.1)

    def says_not_back(self):
        return self.asked(lambda: transitions.look(NAME, 2) and None).endswith("not_back")

    def asked(self, work, name=""):
        """How it ended: `done`, the code of a Failure, or a fault, which is kept."""
        try:
            ended = private_host.in_child(work)
        except AssertionError as error:
            last = str(error).strip().splitlines()
            where = [line.strip() for line in last if "_core/" in line or "File" in line][-1:]
            self.faults.append(f"traceback: {last[-1]} {' '.join(where)}")
            return "traceback"
        return ended.code if ended.failure else "done"

    def judge(self, moment, before, told):
        now = self.running()
        for hook, tag in now.items():
            if tag is None and before[hook] is not None:
                self.faults.append(f"{moment}: {hook} is empty, told: {told}")
            if hasattr(self, "new") and tag == self.new[hook] and told not in SAYS_SO:
                self.faults.append(f"{moment}: {hook} runs the trial, told: {told}")
        if hasattr(self, "new") and told == "not_back" and now == self.old:
            self.faults.append(f"{moment}: all hooks are back, told: {told}")

    def read_errors(self):
        if os.path.exists(self.errors):
            with open(self.errors, encoding="utf-8", errors="replace") as stream:
                text = stream.read()
            os.unlink(self.errors)
            if "Traceback" in text:
                lines = text.strip().splitlines()
                where = [line.strip() for line in lines if "File" in line][-1:]
                self.faults.append(f"the guard's traceback: {lines[-1]} {' '.join(where)}")


RUNS = {
    "attach": lambda host: host.attach() and None,
    "confirm": lambda host: transitions.confirm(NAME) and None,
    "restore": lambda host: boot.restore(NAME) and None,
    "inventory": lambda host: inventory.deployments() and None,
    "roll back": lambda host: transitions.roll_back(NAME, number=2) and None,
    "stage": lambda host: host.stage(3) and None,
    "upgrade": lambda host: host.stage(3) and host.attach() and None,
}
ENDS = ("attach", "confirm", "restore", "roll back")  # whoever finds a trial whose time is over, takes it back


def live(scene):
    scene.on_trial()
    scene.start_guard()
    scene.await_switch()
    scene.end_in(LEFT)
    damage = scene.damaged()
    scene.await_guard()
    told = scene.asked(lambda: transitions.look(NAME, 2) and None)
    scene.judge("after the guard", scene.new, told)
    return damage, told


def expired(scene):
    """Nobody was there when the trial's time was over; then a run comes, or its guard again."""
    scene.on_trial()
    scene.start_guard()
    scene.await_switch()
    kill(sessions())
    scene.end_in(0)
    damage = scene.damaged()
    before = scene.settled()
    who = scene.who("guard", *ENDS)
    if who == "guard":
        with contextlib.suppress(Failure):
            scene.start_guard()
        scene.await_guard()
        told = "done"
    else:
        told = scene.asked(lambda: RUNS[who](scene.host))
    if who == "confirm" and told == "done":  # a user who says so where all records are lost
        told = "confirmed"
    told = "not_back" if scene.says_not_back() else told
    scene.judge(f"after {who}", before, told)
    return damage, f"{who}: {told}"


def no_trial(scene):
    damage = scene.damaged()
    before = scene.settled()
    who = scene.who(*sorted(RUNS))
    told = scene.asked(lambda: RUNS[who](scene.host))
    scene.judge(f"after {who}", before, told)
    return damage, f"{who}: {told}"


STATES = (live, live, live, expired, expired, no_trial)


# ---- what was found once -------------------------------------------------------------------------


class Paths(NamedTuple):
    home: records.Home
    load: str
    link: str
    another: str


class Found(NamedTuple):
    """Damage that once left a trial running or brought a traceback; `who` comes after it."""

    state: object
    who: str
    what: str
    work: object


RECORD_OF_2 = "/generations/2.json"
FOUND_ONCE = (
    Found(live, "", "a deadline of another year", lambda at: _alter(DEADLINE, b'"end": ', b'"end": 9')),
    Found(live, "", "the deadline for what is held", lambda at: swap(DEADLINE, held.record_path(NAME), None)),
    Found(live, "", "a folder for the deadline", lambda at: _folder(DEADLINE)),
    Found(live, "", "a folder for a pin", lambda at: _folder(at.link)),
    Found(live, "", "a folder for a record", lambda at: _folder(at.home.folder + "/generations/1.json")),
    Found(live, "", "a folder for a pointer", lambda at: _folder(at.home.folder + "/trial")),
    Found(live, "", "a file for a folder", lambda at: replace_by_a_file(at.home.folder + "/generations", "", None)),
    Found(live, "", "one pointer for the other", lambda at: swap(*_pointers(at.home), None)),
    Found(
        expired, "attach", "a pointer to what was", lambda at: _lead(at.home.folder + "/trial", "generations/1.json")
    ),
    Found(expired, "roll back", "a pin of another name", lambda at: os.rename(at.link, at.link + "-moved")),
    Found(expired, "roll back", "another link for a link", lambda at: _lead(at.link, at.another)),
    Found(expired, "attach", "a pin for the deadline", lambda at: _lead(DEADLINE, at.link)),
    Found(expired, "attach", "a file for all state", lambda at: replace_by_a_file(at.home.folder, "", None)),
    Found(expired, "restore", "a symlink for a pin", lambda at: _lead(at.link, "/nowhere/at/all")),
    Found(expired, "confirm", "programs for maps", lambda at: swap(at.load + "/maps", at.load + "/progs", None)),
    Found(expired, "attach", "no state", lambda at: os.rename(at.home.folder, at.home.folder + "-old")),
    Found(expired, "restore", "anybody's /run", lambda at: os.chmod(records.RUN, 0o777)),
    Found(expired, "restore", "a symlink for the load before", lambda at: _lead(_load_before(at.home), at.home.pins)),
    Found(expired, "restore", "a program of the load before", lambda at: os.unlink(_program_before(at.home))),
    Found(
        expired, "attach", "another record for the trial's", lambda at: _lead(at.home.folder + RECORD_OF_2, "1.json")
    ),
    Found(expired, "attach", "one pointer for the other", lambda at: swap(*_pointers(at.home), None)),
    Found(expired, "roll back", "no state of any deployment", lambda at: _gone(records.STATE)),
    Found(live, "", "a decoy for the generations", lambda at: _lead(at.home.folder + "/generations", decoy())),
    Found(
        no_trial, "restore", "all pins under another name", lambda at: os.rename(records.PINS, records.PINS + "-old")
    ),
    Found(no_trial, "stage", "loads on another file system", lambda at: _lead(at.home.loads, decoy())),
    Found(no_trial, "attach", "a symlink for a release", lambda at: _moved_and_led_to(_release_before(at.home))),
    Found(expired, "roll back", "a decoy for a load", lambda at: _lead(at.load, decoy())),
    Found(live, "", "a decoy for all pins", lambda at: _lead(records.PINS, decoy())),
    Found(
        expired,
        "guard",
        "folders for the code",
        lambda at: [_folder(each) for each in glob.glob(code.FOLDER + "/*.zip")],
    ),
    Found(no_trial, "upgrade", "a link for a map", lambda at: swap(_a_map(at.load), _tcx_link(at.home), None)),
    Found(no_trial, "stage", "a decoy for the releases", lambda at: _lead(at.home.folder + "/releases", decoy())),
)
DEADLINE = store.deadline_path(NAME)


def _alter(path, old, new):
    with open(path, "rb") as stream:
        data = stream.read()
    with open(path, "wb") as stream:
        stream.write(data.replace(old, new))


def _lead(path, target):
    _gone(path)
    os.symlink(target, path)


def _release_before(home):
    return os.path.join(home.folder, "releases", store.generation(home, 1).release)


def _moved_and_led_to(path):
    os.rename(path, path + "-moved")
    os.symlink(path + "-moved", path)


def _a_map(load):
    return os.path.join(load, "maps", min(os.listdir(load + "/maps")))


def _tcx_link(home):
    for name in files.names_in(home.links):
        with bpf.get_pinned(os.path.join(home.links, name)) as fd:
            if bpf.link_info(fd).type == "tcx":
                return os.path.join(home.links, name)
    raise AssertionError("nothing is at tcx")


def _pointers(home):
    return [os.path.join(home.folder, each) for each in ("trial", "confirmed")]


def _load_before(home):
    return os.path.join(home.loads, store.generation(home, 1).load)


def _program_before(home):
    return os.path.join(_load_before(home), "progs", programs.XDP)


def _folder(path):
    replace_by_a_folder(path, "", None)


def one_round(host, seed, number, folder):
    chance = random.Random(f"{seed}:{number}")
    state = chance.choice(STATES) if number >= 0 else FOUND_ONCE[number].state
    damage, told = Damage("none", "yet"), "nothing"
    make_decoy()
    scene = Scene(host, chance, folder, number)
    try:
        damage, told = state(scene)
        before = scene.running()
        for who in chance.sample(sorted(RUNS), 2):
            if who != "roll back":
                then = scene.asked(lambda who=who: RUNS[who](host))
                scene.judge(f"and then {who}", before, then if then == "not_back" else "confirmed")
        scene.asked(lambda: transitions.remove(NAME) and None)
        scene.read_errors()
        scene.faults += [f"a file that is not ours is lost: {name}" for name in decoys_lost()]
        return Round(number, state.__name__, damage, tuple(scene.faults), told)
    except Exception:  # of this test's own: one more fault, and the other rounds go on
        scene.faults.append(traceback.format_exc())
        return Round(number, state.__name__, damage, tuple(scene.faults), told)
    finally:
        wiped(host)


def kill(pids):
    """A guard's parent first, which would start it again."""
    for pid in sorted(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wiped(host):
    """The host as at first, whatever was damaged."""
    kill(sessions())
    assert private_host.eventually(lambda: not sessions())
    for folder in (files.BPFFS, records.STATE, records.RUN, units.FOLDER):
        os.chmod(folder, 0o700)
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if not path.endswith(".debug"):
                os.chmod(path, 0o700) if _shape(path) == "folder" else None
                _gone(path)
    witness = Witness(host)
    assert private_host.eventually(lambda: not any(witness().values()))


# ---- the test ------------------------------------------------------------------------------------


def test_damaged_state_leaves_no_trial_no_empty_hook_and_no_traceback(
    request, shared_cache, this_kernel, tmp_path, figures
):
    number, first, seed = (request.config.getoption(each) for each in ("--mutations", "--first", "--damage-seed"))
    numbers = [*range(-len(FOUND_ONCE) if number > 1 else 0, 0), *range(first, first + number)]
    beside = min(SIDE_BY_SIDE, max(1, number // 5))

    def work(mine):
        with private(shared_cache, this_kernel, str(tmp_path)) as (host, dummy):
            return [written(one_round(host, seed, each, str(tmp_path)))._asdict() for each in mine]

    def written(done):
        """Beside the answer: what a host that is lost had done until then can be read while it goes on, too."""
        with open(tmp_path / "rounds", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(done._asdict()) + "\n")
        return done

    begun = time.monotonic()
    waiting = [private_host.begin_child(lambda mine=numbers[at::beside]: work(mine)) for at in range(beside)]
    ended = [wait() for wait in waiting]
    assert not any(each.failure for each in ended), [each.failure for each in ended]
    rounds = [Round(**each) for done in ended for each in done.value]

    states = Counter(each.state for each in rounds)
    told = Counter(f"{each.state}, {each.told}" for each in rounds)
    figures.append(
        f"state damage: {len(rounds)} pieces, seed {seed}: "
        f"{', '.join(f'{count} {state}' for state, count in sorted(states.items()))}; "
        f"{len({str(each.damage) for each in rounds})} different ones in {time.monotonic() - begun:.0f} s; "
        f"{sum(bool(each.faults) for each in rounds)} with a fault"
    )
    figures.append(f"state damage, what was told: {json.dumps(dict(told.most_common()))}")
    faulty = [each for each in rounds if each.faults]
    shown = [
        f"--damage-seed {seed} --first {each.number} --mutations 1: {each.state}, {each.damage}: {each.faults}"
        for each in faulty
    ]
    assert not faulty, "\n".join(shown)
