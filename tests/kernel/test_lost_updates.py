# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which stores lose updates: what lint says of a labelled set of programs, and what two CPUs really lose.

lost_updates/racy.bpf.c marks its lines, safe.bpf.c has none to mark. All of them are programs that this kernel loads.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
from collections import Counter

import private_host
import pytest
from private_host import NAME

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import stage, store
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import LostUpdates
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf, lint, source, stores

HERE = pathlib.Path(__file__).parent / "lost_updates"
MARK = re.compile(r"/\* lost: (.*?) \*/")
LEVELS = ("-O1", "-O2")
SEED = """
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
struct {
__uint(type, BPF_MAP_TYPE_ARRAY);
__uint(max_entries, 1);
__type(key, u32);
__type(value, u64);
} packet_count_map SEC(".maps");
SEC("xdp")
int xdp_packet_counter(struct xdp_md *ctx) {
u32 key = 0;
u64 *value = bpf_map_lookup_elem(&packet_count_map, &key);
if (value) {
(*value)++;
}
return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""
RUNS, LENGTH = 2_000_000, 64


def given(name, level="-O2", **more):
    """The file of the labelled set as a user gives it."""
    made = source.Source(name, (HERE / name).read_bytes(), (("maps.h", (HERE / "maps.h").read_bytes()),), (level,))
    return stage.Given(source=made, file=name, **{"lint": "warn", **more})


def seed(text=SEED, level="-O2", **more):
    made = source.Source("counter.bpf.c", text.encode(), cflags=(level,))
    return stage.Given(source=made, file="counter.bpf.c", **{"lint": "warn", **more})


def marked(name):
    """{(line, map or variable)} that the file calls lost."""
    found = set()
    for number, line in enumerate((HERE / name).read_text().splitlines(), 1):
        for words in MARK.findall(line):
            found |= {(number, words.split()[1])} if words.startswith(("bss ", "data ")) else set()
            found |= {(number, each) for each in words.split(", ") if " " not in each}
    return found


def places(built):
    return {(each["source"]["line"], each["variable"] or each["map"]) for each in built.lint}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["racy.bpf.c", "safe.bpf.c"])
def test_lint_finds_the_marked_lines_and_no_others(host, name, level):
    built = stage.build(NAME, given(name, level))

    assert places(built) == marked(name)
    assert {each["program"] for each in built.lint} == {each.name for each in built.spec.programs if marked(name)}
    for each in built.lint:
        assert each["source"]["file"] == name
        assert each["source"]["text"] == (HERE / name).read_text().splitlines()[each["source"]["line"] - 1].strip()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["racy.bpf.c", "safe.bpf.c"])
def test_labelled_programs_are_real_ones(host, name, level):
    """The verifier takes each of them: it looks for other things."""
    built = stage.build(NAME, given(name, level))

    assert elf.load(built.object, NAME).programs.keys() == {each.name for each in built.spec.programs}
    assert len(built.spec.programs) >= 10


@pytest.mark.parametrize("level", LEVELS)
def test_lint_finds_the_plain_counter_at_its_line(host, level):
    (found,) = stage.build(NAME, seed(level=level)).lint

    assert found["source"] == {"file": "counter.bpf.c", "line": 15, "text": "(*value)++;"}
    assert (found["program"], found["map"]) == ("xdp_packet_counter", "packet_count_map")
    assert "__sync_fetch_and_add" in found["do"]
    assert "BPF_MAP_TYPE_PERCPU_ARRAY" in found["do"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("plain", "instead"),
    [
        ("(*value)++", "__sync_fetch_and_add(value, 1)"),
        ("MAP_TYPE_ARRAY", "MAP_TYPE_PERCPU_ARRAY"),
        ("MAP_TYPE_ARRAY", "MAP_TYPE_PERCPU_HASH"),
    ],
)
def test_what_lint_says_to_write_instead_is_silent(host, plain, instead, level):
    assert stage.build(NAME, seed(SEED.replace(plain, instead), level)).lint == ()


@pytest.mark.parametrize("level", LEVELS)
def test_counter_under_a_spin_lock_is_silent(host, level):
    text = SEED.replace("__type(value, u64)", "__type(value, struct counter)")
    text = text.replace("struct {", "struct counter { struct bpf_spin_lock lock; u64 packets; };\nstruct {", 1)
    text = text.replace("u64 *value", "struct counter *value")
    text = text.replace("(*value)++;", "bpf_spin_lock(&value->lock); value->packets++; bpf_spin_unlock(&value->lock);")

    assert stage.build(NAME, seed(text, level)).lint == ()


def test_narrow_field_is_not_told_to_use_an_atomic_that_there_is_not(host):
    built = stage.build(NAME, given("racy.bpf.c"))

    advice = {each["program"]: each["do"] for each in built.lint}
    assert "__u32 or __u64" in advice["racy_small_field"]
    assert "bpf_spin_lock" in advice["racy_average"]
    assert "__sync_fetch_and_add(&hits, n)" in advice["racy_global"]


def test_fail_refuses_before_the_kernel_is_asked(host):
    with pytest.raises(LostUpdates) as refused:
        stage.stage(NAME, seed(lint="fail"))

    assert refused.value.detail["findings"][0]["source"]["line"] == 15
    assert "counter.bpf.c:15" in refused.value.what
    assert not os.path.exists(store.home(NAME).folder)
    assert not os.path.exists(store.home(NAME).pins)


@pytest.mark.parametrize(
    "entry",
    [
        {"map": "packet_count_map", "program": None, "reason": "one queue, one CPU"},
        {"map": None, "program": "xdp_packet_counter", "reason": "one queue, one CPU"},
    ],
)
def test_what_is_accepted_with_a_reason_does_not_fail(host, entry):
    built = stage.stage(NAME, seed(lint="fail", lint_accept=(entry,))).built

    assert [each["accepted"] for each in built.lint] == ["one queue, one CPU"]
    with open(os.path.join(store.home(NAME).folder, "journal.jsonl"), encoding="utf-8") as journal:
        assert "one queue, one CPU" in journal.read()


def test_global_is_accepted_by_its_name_and_other_entries_stay_unused(host):
    named, stale = {"map": "hits", "reason": "about"}, {"map": "gone", "reason": "was here once"}

    built = stage.build(NAME, given("racy.bpf.c", lint_accept=(named, stale)))

    assert {each["variable"] for each in built.lint if each["accepted"]} == {"hits"}
    assert lint.unused(built.lint, (named, stale)) == [stale]


def test_release_that_is_known_is_not_judged_again(host, monkeypatch):
    """What was found stands in the manifest: an unchanged run starts one child, which opens the object."""
    first = stage.stage(NAME, seed())
    children, fork = Counter(), os.fork

    def counted_fork():
        children["all"] += 1
        return fork()

    monkeypatch.setattr(os, "fork", counted_fork)
    again = stage.stage(NAME, seed())

    assert again.steps == ()
    assert again.built.lint == first.built.lint != ()
    assert children["all"] == 1


def test_off_does_not_look(host):
    built = stage.build(NAME, seed(lint="off"))

    assert built.lint == ()
    assert built.release.lint is None


def test_program_with_too_many_paths_says_so(host, monkeypatch):
    monkeypatch.setattr(stores, "STEPS", 5)

    (found,) = stage.stage(NAME, seed()).built.lint

    assert found["code"] == lint.NOT_JUDGED
    assert "too large" in lint.sentence(found)
    with pytest.raises(LostUpdates, match="too large"):
        stage.build(NAME, seed(lint="fail"))


def test_object_without_line_information_names_the_program(host):
    """As after strip: the section with the lines has another name."""
    data = stage.build(NAME, seed()).object.replace(b".BTF.ext\0", b".BTF.not\0")
    built = stage.build(NAME, stage.Given(object=data, file="given.o", lint="warn"))

    (found,) = built.lint
    assert (found["code"], found["source"]) == (lint.LOST_UPDATE, None)
    assert lint.sentence(found).startswith("xdp_packet_counter: ")


# ---- on two CPUs ---------------------------------------------------------------------------------


def lost_by(host, folder, data, program, map_name):
    """How many of the counts of one program are missing after it ran at once on two CPUs."""
    pins = os.path.join(files.BPFFS, program)
    elf.load(data, NAME, [program], pins=pins)
    packet = folder / "packet"
    packet.write_bytes(bytes(LENGTH))
    try:
        command = ["bpftool", "prog", "run", "pinned", f"{pins}/progs/{program}"]
        command += ["data_in", str(packet), "repeat", str(RUNS)]
        cpus = sorted(os.sched_getaffinity(0))[:2]
        running = [subprocess.Popen(["taskset", "-c", str(cpu), *command], stdout=subprocess.DEVNULL) for cpu in cpus]
        assert [each.wait() for each in running] == [0, 0]
        key = ["key", "0", "0", "0", "0"]
        row = private_host.bpftool("map", "lookup", "pinned", f"{pins}/maps/{map_name}", *key)["formatted"]
        values = [each["value"] for each in row["values"]] if "values" in row else [row["value"]]
        return len(cpus) * RUNS - sum(each["packets"] if isinstance(each, dict) else each for each in values)
    finally:
        files.remove_tree(pins)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_flagged_program_really_loses_updates_and_the_others_none(host, tmp_path, figures):
    racy, safe = (stage.build(NAME, given(name)).object for name in ("racy.bpf.c", "safe.bpf.c"))

    plain = lost_by(host, tmp_path, racy, "racy_array", "numbers")
    atomic = lost_by(host, tmp_path, safe, "safe_atomic", "numbers")
    per_cpu = lost_by(host, tmp_path, safe, "safe_per_cpu_array", "own_numbers")

    figures.append(f"of {2 * RUNS:,} counts on two CPUs: plain lost {plain:,}, atomic {atomic}, per-CPU {per_cpu}")
    assert plain > 0
    assert (atomic, per_cpu) == (0, 0)
