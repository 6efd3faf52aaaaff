# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users give us that is no good object, and what must not matter: folder, time, umask, home, two runs at once.

Whatever is refused leaves nothing in the kernel, on bpffs or on the disk, and the program that runs goes on counting.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import struct
import sys
import tempfile

import private_host
import programs
import pytest
from private_host import NAME, attachment, counted

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    lock,
    records,
    stage,
    store,
    transitions,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import (
    BadObject,
    Busy,
    CompileError,
    Failure,
    VerifierRefused,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf, source

SEED = 8
DAMAGED_PLACES = 200


@pytest.fixture
def counting(host):
    """A host where version 1 counts at XDP."""
    host.stage(1)
    host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))
    return host


def listing(host):
    """All that a run could leave: each file with its inode, size and time, and what of ours the kernel has.

    Of bpffs and the temporary folder only what is in them: something may come there and go again. Nor the logs of
    refusals: they are kept on purpose, see test_features.
    """
    folders = [records.STATE, records.RUN, source.CACHE]
    logs = os.path.join(source.CACHE, "logs")
    os.makedirs(logs, exist_ok=True)
    looked_into = [*folders, files.BPFFS, tempfile.gettempdir()]
    paths = [*folders, *(path for folder in looked_into for path in private_host.tree(folder))]
    return {path: _marks(path) for path in paths if not path.startswith(logs)}, sorted(private_host.ours_in_kernel())


def _marks(path):
    stat = os.lstat(path)
    return (stat.st_mode, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@contextlib.contextmanager
def nothing_changes(host):
    """What is done inside leaves the listing as it is, and version 1 counting."""
    before = listing(host)
    yield
    private_host.eventually(lambda: listing(host)[1] == before[1])
    after = listing(host)
    assert {path: marks for path, marks in after[0].items() if before[0].get(path) != marks} == {}
    assert before[0].keys() - after[0].keys() == set()
    assert after[1] == before[1]


@contextlib.contextmanager
def nothing_but_the_lock_changes(host):
    """The same, where the lock may be taken."""
    lock = os.path.join(records.RUN, NAME + ".lock")
    stat = os.stat(lock)
    with nothing_changes(host):
        yield
        os.utime(lock, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def assert_still_counts(host):
    earlier = counted(programs.XDP).get(1, 0)
    host.receive(2)
    assert counted(programs.XDP) == {1: earlier + 2}


# ---- objects that are none -----------------------------------------------------------------------


def bytes_of_a_file(path):
    with open(path, "rb") as stream:
        return stream.read()


GOOD_FOR_NOTHING = {
    "empty": lambda: b"",
    "cut in the ELF header": lambda: programs.object_of(2)[:40],
    "cut in the middle": lambda: programs.object_of(2)[: len(programs.object_of(2)) // 2],
    "its last byte cut": lambda: programs.object_of(2)[:-1],
    "random bytes": lambda: random.Random(SEED).randbytes(20_000),
    "random bytes behind an ELF header": lambda: programs.object_of(2)[:64] + random.Random(SEED).randbytes(20_000),
    "an ELF for another machine": lambda: bytes_of_a_file("/bin/true"),
    "a shared library": lambda: bytes_of_a_file(private_host.run("sh", "-c", "ls /lib/*/libbpf.so.1*").split()[0]),
    "C source under the name of an object": programs.TEXT.encode,
}


def test_folder_that_is_made_is_roots_alone(counting):
    """Whatever the umask; those above them are the host's."""
    places = (records.STATE, records.RUN, records.PINS, source.CACHE)

    made = [path for place in places for path in [place, *private_host.tree(place)]]

    folders = [path for path in made if os.path.isdir(path) and not os.path.islink(path)]
    assert store.home(NAME).loads in folders and os.path.join(store.home(NAME).folder, "releases") in folders
    assert [path for path in folders if os.stat(path).st_mode & 0o077] == []


@pytest.mark.parametrize("kind", GOOD_FOR_NOTHING)
def test_file_that_is_no_object_is_refused_in_a_sentence(counting, kind):
    data = GOOD_FOR_NOTHING[kind]()

    with nothing_changes(counting), pytest.raises(BadObject) as refusal:
        stage.stage(NAME, stage.Given(object=data, file="given.o"))

    assert refusal.value.do
    assert "\n" not in str(refusal.value)
    assert_still_counts(counting)


@pytest.fixture
def quiet_crashes():
    """A child that libbpf crashes writes no traceback into the tests' output."""
    was_enabled = faulthandler.is_enabled()
    faulthandler.disable()
    yield
    if was_enabled:
        faulthandler.enable(sys.__stderr__)


def test_object_damaged_at_random_places_is_refused_or_loaded_whole(counting, figures, quiet_crashes):
    """Sixteen random bytes each time, outside the debug sections. Where nobody reads them the object still loads.

    Whatever comes of it: this process lives, nothing is left, and version 1 counts. Some end libbpf by a signal: that
    is why it works in a child.
    """
    good, places = programs.object_of(2, programs.TEXT.replace("MARK_", "damaged_")), random.Random(SEED)
    read_by_somebody = bytes_that_are_read(good)
    outcomes = {}
    before = listing(counting)[1]
    for dummy in range(DAMAGED_PLACES):
        at = places.choice(read_by_somebody)
        data = (good[:at] + places.randbytes(16) + good[at + 16 :])[: len(good)]
        outcome = what_comes_of(data)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    assert private_host.eventually(lambda: listing(counting)[1] == before)
    assert not [each for each in private_host.bpftool("prog", "show") if each.get("name", "").startswith("damaged_")]
    assert outcomes.keys() >= {"bad_object", "verifier_refused", "loaded"}
    assert_still_counts(counting)
    words = ", ".join(f"{number} {word}" for word, number in sorted(outcomes.items()))
    figures.append(f"object damaged at {DAMAGED_PLACES} places: {words}; this process and the old program live")


def what_comes_of(data):
    """`loaded`, or the code of the Failure. A map that the damage made huge is not tried: it would cost gigabytes."""
    try:
        built = stage.build(NAME, stage.Given(object=data, file="given.o"))
        if any(shape.max_entries > 4096 for shape in built.spec.maps):
            return "of another size"
        stage.verify(NAME, built)
        return "loaded"
    except Failure as failure:
        assert failure.what
        assert "\n" not in failure.what
        return failure.code


def bytes_that_are_read(data):
    """The places in the object's bytes that belong to no debug section (Elf64_Ehdr, Elf64_Shdr)."""
    (table,), (count, names) = struct.unpack_from("<Q", data, 40), struct.unpack_from("<HH", data, 60)
    rows = [struct.unpack_from("<IIQQQQ", data, table + 64 * number) for number in range(count)]
    places = set(range(len(data)))
    for name, kind, *dummy, offset, size in rows:
        text = data[rows[names][4] + name :].partition(b"\0")[0]
        if b".debug" in text and kind != 8:
            places -= set(range(offset, offset + size))
    return sorted(places)


def test_damaged_object_that_loads_is_another_release(counting):
    """A byte in the debug information is no harm, but it is not the same object either."""
    good = programs.object_of(1)
    at = good.index(programs.FILE.encode())
    other = good[:at] + b"C" + good[at + 1 :]

    result = stage.stage(NAME, stage.Given(object=other, file="given.o"))

    assert result.built.release.id != counting.facts().confirmed.release


# ---- programs that are refused -------------------------------------------------------------------

BAD_ACCESS = programs.TEXT.replace(
    "    seen(0);\n", "    seen(0);\n    if (*(__u32 *)(long)(ctx->data + 4000)) return XDP_DROP;\n"
)
BAD_SYNTAX = programs.TEXT.replace("    seen(0);\n", "    seen(0;\n")
REFUSED = {"out of bounds": (BAD_ACCESS, VerifierRefused), "syntax error": (BAD_SYNTAX, CompileError)}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_source_leaves_nothing_and_the_old_program_counting(counting, kind):
    text, expected = REFUSED[kind]
    assert text != programs.TEXT
    with contextlib.suppress(Failure):  # compiled once, so that the cache is as it will be
        stage.build(NAME, programs.given(2, text))

    with nothing_changes(counting), pytest.raises(expected):
        stage.stage(NAME, programs.given(2, text))

    assert_still_counts(counting)


def test_refused_first_release_leaves_no_deployment(host):
    with contextlib.suppress(Failure):
        stage.build(NAME, programs.given(1, BAD_ACCESS))

    with nothing_changes(host), pytest.raises(VerifierRefused):
        stage.stage(NAME, programs.given(1, BAD_ACCESS))

    assert store.deployments() == []


def test_refusal_does_not_take_away_what_another_run_pinned_meanwhile(host, monkeypatch):
    """Two first runs at once: one is refused after the other has staged."""
    load = elf.load

    def overtaken(data, *arguments):
        monkeypatch.setattr(elf, "load", load)
        assert not private_host.in_child(lambda: host.stage(2) and None).failure
        return load(data, *arguments)

    monkeypatch.setattr(elf, "load", overtaken)
    with pytest.raises(VerifierRefused):
        stage.stage(NAME, programs.given(1, BAD_ACCESS))

    assert host.facts().staged is not None
    host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))
    host.receive()
    assert counted(programs.XDP) == {2: 1}


def test_release_has_the_same_id_whatever_libbpf_reads_out_of_its_sections(host, monkeypatch):
    """From 1.3 on libbpf gives a program in SEC("tcx/ingress") the attach type 46, before neither that nor a type."""
    here, call = stage.build(NAME, programs.given(1)).release, elf.libbpf.call

    def as_another_version(symbol, *arguments):
        result = call(symbol, *arguments)
        if symbol == "bpf_object__open_mem":
            program = call("bpf_object__next_program", result, None)
            while program:
                if call("bpf_program__section_name", program).startswith("tcx/"):
                    call("bpf_program__set_type", program, bpf.PROG_SCHED_CLS)
                    call("bpf_program__set_expected_attach_type", program, bpf.ATTACH_TCX_INGRESS)
                program = call("bpf_object__next_program", result, program)
        return result

    monkeypatch.setattr(elf.libbpf, "call", as_another_version)

    assert stage.build(NAME, programs.given(1)).release == here
    assert here.program_types[programs.TCX] == (bpf.PROG_SCHED_CLS, 0, "")


# ---- check mode ----------------------------------------------------------------------------------


def test_check_mode_leaves_no_trace(counting):
    wanted = attachment("tcx", programs.TCX, interface=private_host.DEVICE, direction="egress")

    with nothing_changes(counting):
        staged = counting.stage(2, check_mode=True)
        added = transitions.attach(NAME, transitions.Wish((wanted,)), check_mode=True)
        gone = transitions.remove(NAME, check_mode=True)

    assert staged.figures.programs[programs.XDP]["tag"], "the verifier was really asked"
    assert [type(step).__name__ for step in staged.steps] == ["WriteRelease", "PinLoad", "WriteStaged"]
    assert added.steps and gone.steps


def test_check_mode_of_a_way_back_leaves_no_trace(counting):
    counting.stage(2)
    counting.attach()

    with nothing_changes(counting):
        outcome = transitions.roll_back(NAME, check_mode=True)

    assert outcome.changed
    assert counting.facts().confirmed.number == 2


def test_check_mode_on_an_empty_host_leaves_no_trace(host):
    wanted = attachment("xdp", programs.XDP, interface=private_host.DEVICE)

    with nothing_changes(host):
        staged = host.stage(1, check_mode=True)
        added = transitions.attach(NAME, transitions.Wish((wanted,)), check_mode=True)

    assert staged.figures.programs
    assert [step.attachment for step in added.steps] == [wanted]


def test_check_mode_of_a_refused_program_asks_the_verifier_and_leaves_no_trace(counting):
    with nothing_changes(counting), pytest.raises(VerifierRefused):
        stage.stage(NAME, programs.given(2, BAD_ACCESS), check_mode=True)


def test_second_run_changes_nothing_but_the_lock_file(counting):
    wanted = attachment("xdp", programs.XDP, interface=private_host.DEVICE)

    with nothing_but_the_lock_changes(counting):
        assert counting.stage(1).steps == ()
        assert counting.attach(wanted).steps == ()


# ---- what must not matter ------------------------------------------------------------------------


def test_release_id_is_the_same_wherever_and_by_whomever_it_is_made(host, tmp_path, monkeypatch):
    """Another temporary folder, working folder, HOME, user name and umask; an empty cache each time."""
    ids = set()
    for place, mask in (("a", 0o022), ("some/longer path", 0o077)):
        folder = tmp_path / place
        (folder / "tmp").mkdir(parents=True)
        monkeypatch.setattr(source, "CACHE", str(folder / "cache"))
        monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        for name in ("HOME", "PWD", "USER", "LOGNAME"):
            monkeypatch.setenv(name, str(folder))
        monkeypatch.chdir(folder)
        before = os.umask(mask)
        built = stage.build(NAME, programs.given(1))
        os.umask(before)
        assert not built.compiled.was_cached
        ids.add(built.release.id)

    assert len(ids) == 1


def test_object_and_source_of_the_same_bytes_are_one_release(host):
    compiled = stage.build(NAME, programs.given(1))

    given = stage.build(NAME, stage.Given(object=compiled.object, file="elsewhere.o"))

    assert given.release.id == compiled.release.id


def test_release_id_differs_with_flags_text_and_chosen_programs(host):
    given = (
        programs.given(1),
        programs.given(2),
        programs.given(1, programs.TEXT.replace("XDP_PASS", "XDP_DROP")),
        programs.given(1, programs=(programs.XDP,)),
    )

    assert len({stage.build(NAME, each).release.id for each in given}) == len(given)


# ---- two runs at once ----------------------------------------------------------------------------


def test_two_runs_at_once_end_well_or_say_busy_and_the_state_is_whole(counting, figures):
    outcomes = []
    for turn in range(8):
        first = 2 + 2 * (turn % 4)  # versions before 10 share their map
        versions = (first, first + 1)
        for version in versions:
            programs.object_of(version)
        both = [private_host.begin_child(lambda version=version: roll_out(counting, version)) for version in versions]
        ended = [each() for each in both]

        for each in ended:
            assert not each.failure or each.can_retry, each.failure
        outcomes += [each.code or "well" for each in ended]
        assert_whole(counting, range(1, 10))
    assert "well" in outcomes
    figures.append(
        f"two runs at once, 8 times: {outcomes.count('well')} ended well, {outcomes.count('busy')} said busy"
    )


def roll_out(host, version):
    host.stage(version)
    host.attach()


def assert_whole(host, versions):
    """One version runs, what is confirmed is what runs, and no half-made load stays."""
    before = counted(programs.XDP)
    host.receive(2)
    now = counted(programs.XDP)
    (running,) = [version for version in now if now[version] != before.get(version, 0)]
    assert running in versions
    assert now[running] == before.get(running, 0) + 2
    assert transitions.confirm(NAME).steps == ()
    seen = host.facts()
    assert (seen.trial, seen.debris) == (None, ())
    assert not [name for name in os.listdir(store.home(NAME).loads) if name.endswith("-tmp")]


def test_loser_of_a_race_for_the_maps_says_busy_and_leaves_nothing(counting, monkeypatch):
    """Between loading and the lock another run attaches another release: the load just made shares the wrong maps."""
    locked = lock.locked
    other = programs.TEXT.replace("MARK_seen", "MARK_other")

    def overtaken(*arguments):
        monkeypatch.setattr(lock, "locked", locked)

        def roll_out_another():
            stage.stage(NAME, programs.given(3, other))
            counting.attach()

        assert not private_host.in_child(roll_out_another).failure
        return locked(*arguments)

    monkeypatch.setattr(lock, "locked", overtaken)
    with pytest.raises(Busy) as refusal:
        counting.stage(2)

    assert refusal.value.can_retry
    assert not [name for name in os.listdir(store.home(NAME).loads) if name.endswith("-tmp")]
    assert counting.stage(2).steps


def test_lock_that_is_held_is_waited_for_and_then_named(counting):
    with lock.locked(NAME):
        ended = private_host.in_child(lambda: lock.locked(NAME, 0.2).__enter__() and None)

    assert (ended.code, ended.can_retry) == ("busy", True)
    assert str(os.getpid()) in ended.failure


def test_removal_while_another_run_loads_leaves_that_run_its_pins(counting, monkeypatch):
    """The load under way is not the removed deployment's: it becomes the first one of a new life."""
    locked = lock.locked

    def overtaken(*arguments):
        monkeypatch.setattr(lock, "locked", locked)
        assert not private_host.in_child(lambda: transitions.remove(NAME) and None).failure
        return locked(*arguments)

    monkeypatch.setattr(lock, "locked", overtaken)
    with contextlib.suppress(Busy):
        counting.stage(2)

    counting.stage(2)
    counting.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))
    counting.receive(2)
    assert counted(programs.XDP) == {2: 2}


def test_removal_between_looking_and_loading_is_told_as_busy(counting, monkeypatch):
    """The maps that were to be shared are gone: not a refusal of the program."""
    load = elf.load

    def overtaken(*arguments):
        monkeypatch.setattr(elf, "load", load)
        assert not private_host.in_child(lambda: transitions.remove(NAME) and None).failure
        return load(*arguments)

    monkeypatch.setattr(elf, "load", overtaken)
    with pytest.raises(Busy):
        counting.stage(2)

    assert counting.stage(2).state == "staged"


def test_facts_can_be_read_while_another_run_moves_everything(counting):
    """bpf_info, check mode and the guard look without the lock."""
    for version in (2, 3):
        programs.object_of(version)

    def change():
        for dummy in range(6):
            for version in (2, 3):
                roll_out(counting, version)

    ended = private_host.begin_child(change)
    for dummy in range(400):
        seen = counting.facts()
        assert all(seen.generations.values())
    assert not ended().failure


# ---- entries -------------------------------------------------------------------------------------


def test_map_that_changes_while_it_is_read_is_read_to_an_end(counting):
    """Keys that go while they are the last one read send the kernel back to the first: not for ever."""
    pinned = f"{files.BPFFS}/churn"
    private_host.run(
        *f"bpftool map create {pinned} type hash key 4 value 8 entries 64 name {programs.MARK}_churn flags 1".split()
    )
    with bpf.get_pinned(pinned) as fd:
        info = bpf.map_info(fd)
        keys = [number.to_bytes(4, "little") for number in range(64)]
        for key in keys:
            bpf.map_update(fd, key, b"\0" * 8)
        seen = 0
        for key, dummy in bpf.map_items(fd, info):
            seen += 1
            bpf.map_delete(fd, key)  # the next question finds no such key, and starts again
            bpf.map_update(fd, key, b"\0" * 8)
            bpf.map_delete(fd, key)
            bpf.map_update(fd, keys[seen % 64], b"\0" * 8)
    os.unlink(pinned)

    assert 0 < seen <= bpf.PASSES * 64


def test_empty_vmlinux_h_in_the_cache_is_made_anew(host, tmp_path):
    """A power cut left one, and every source that includes it failed to compile for good."""
    source.provide_vmlinux(str(tmp_path / "first"), keep=True)
    cached = os.path.join(source.CACHE, "vmlinux")
    (folder,) = os.listdir(cached)
    with open(os.path.join(cached, folder, "vmlinux.h"), "w", encoding="ascii"):
        pass

    source.provide_vmlinux(str(tmp_path / "second"), keep=True)

    assert os.path.getsize(tmp_path / "second" / "vmlinux.h") > 1_000_000
    assert os.path.getsize(os.path.join(cached, folder, "vmlinux.h")) > 1_000_000
