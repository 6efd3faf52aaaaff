# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real programs that this kernel really refuses, each with its mended form beside it, against code, line and fix.

refusals/expected.json says of each: the code; `at`, a piece of the culprit line (`also_at`: what other kernels blame);
`fix`, a piece of the advice; and `mended`, a piece of what the mended source changed, so that it differs as the advice
says. `drop` takes capabilities from the loader; `mended_refused_on` is a kernel too old for the mended source.
"""

from __future__ import annotations

import difflib
import gzip
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from refusals import compile

from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadObject, VerifierRefused
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import (
    bytecode,
    diagnosis,
    elf,
    preflight,
    requires,
)

HERE = pathlib.Path(__file__).parent / "refusals"
EXPECTED = json.loads((HERE / "expected.json").read_text())
ANOTHER_HAND = HERE.parent / "refusals_by_another_hand"
BY_ANOTHER_HAND = json.loads((ANOTHER_HAND / "expected.json").read_text())
REFUSED_OTHERWISE = {  # by what comes before: the forecast of memory; or for a loader with fewer capabilities alone
    "map_no_memory",
    *(name for name, expected in EXPECTED.items() if "drop" in expected),
}
DEFINITIONS = [  # (a map's definition that the kernel refuses with a bare EINVAL, a piece of the advice)
    ("__uint(type, BPF_MAP_TYPE_TASK_STORAGE); __type(key, int); __type(value, int);", "BPF_F_NO_PREALLOC"),
    (
        "__uint(type, BPF_MAP_TYPE_SK_STORAGE); __type(key, __u64); __type(value, int);"
        "__uint(map_flags, BPF_F_NO_PREALLOC);",
        "__type(key, int);",
    ),
    (
        "__uint(type, BPF_MAP_TYPE_CGRP_STORAGE); __type(key, int); __type(value, int); __uint(max_entries, 9);"
        "__uint(map_flags, BPF_F_NO_PREALLOC);",
        "without max_entries",
    ),
    ("__uint(type, BPF_MAP_TYPE_CGROUP_STORAGE); __type(key, __u32); __type(value, int);", "bpf_cgroup_storage_key"),
    (
        "__uint(type, BPF_MAP_TYPE_LPM_TRIE); __type(key, __u64); __type(value, int); __uint(max_entries, 9);",
        "BPF_F_NO_PREALLOC",
    ),
    (
        "__uint(type, BPF_MAP_TYPE_LPM_TRIE); __type(key, __u32); __type(value, int); __uint(max_entries, 9);"
        "__uint(map_flags, BPF_F_NO_PREALLOC);",
        "prefixlen",
    ),
    (
        "__uint(type, BPF_MAP_TYPE_LRU_HASH); __type(key, int); __type(value, int); __uint(max_entries, 9);"
        "__uint(map_flags, BPF_F_NO_PREALLOC);",
        "without that flag",
    ),
    (
        "__uint(type, BPF_MAP_TYPE_HASH); __type(key, int); __type(value, int); __uint(max_entries, 9);"
        "__uint(map_flags, BPF_F_NO_COMMON_LRU);",
        "without that flag",
    ),
    (
        "__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __type(key, int); __type(value, int); __uint(max_entries, 9);"
        "__uint(map_flags, BPF_F_MMAPABLE);",
        "BPF_MAP_TYPE_ARRAY",
    ),
    ("__uint(type, BPF_MAP_TYPE_QUEUE); __type(key, int); __type(value, int); __uint(max_entries, 9);", "__type(value"),
    ("__uint(type, BPF_MAP_TYPE_RINGBUF); __type(value, int); __uint(max_entries, 4096);", "max_entries alone"),
    ("__uint(type, BPF_MAP_TYPE_ARRAY); __type(key, __u64); __type(value, int); __uint(max_entries, 9);", "key, __u32"),
    (
        "__uint(type, BPF_MAP_TYPE_PROG_ARRAY); __type(key, int); __type(value, __u64); __uint(max_entries, 9);",
        "value, __u32",
    ),
    (
        "__uint(type, BPF_MAP_TYPE_SOCKHASH); __type(key, int); __type(value, __u16); __uint(max_entries, 9);",
        "value, __u32",
    ),
    (
        "__uint(type, BPF_MAP_TYPE_STACK_TRACE); __type(key, int); __uint(value_size, 20); __uint(max_entries, 9);",
        "127 * sizeof(__u64)",
    ),
]
LARGEST_MENDING = 30  # lines: a map's definition moved into place takes that many

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("clang") or not shutil.which("bpftool"),
    reason="needs root, clang and bpftool",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with this kernel's vmlinux.h; or with the objects that compile.py made elsewhere, for slow machines."""
    if (HERE / "objects").is_dir():
        return HERE / "objects"
    path = tmp_path_factory.mktemp("refusals")
    types = subprocess.run(
        ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"], check=True, stdout=subprocess.PIPE
    ).stdout
    (path / "vmlinux.h").write_bytes(types)
    return path


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_refusal_gives_code_line_and_fix(folder, name):
    expected = EXPECTED[name]
    if is_configured(expected.get("refused_without")):
        pytest.skip("this kernel has what the program asks for: " + expected["refused_without"])

    answer = load(compiled(folder, name), expected.get("drop", ()))

    assert answer["errno"] != 0, "the kernel took it"
    found = diagnose(answer)
    assert found.code == expected["code"], found
    assert expected["fix"] in found.fix
    assert culprit(name, found) == expected["at"]
    assert len(found.log_excerpt) <= 40
    assert found.log_excerpt
    if "register" in expected:
        register, kind = expected["register"]
        assert found.registers[register].startswith(kind)


@pytest.mark.parametrize("name", sorted(set(EXPECTED) - REFUSED_OTHERWISE))
def test_loading_it_for_a_deployment_says_the_same(folder, name):
    """The collection's own loader, with what it asks of the host beside the log."""
    expected = EXPECTED[name]
    if is_configured(expected.get("refused_without")):
        pytest.skip("this kernel has what the program asks for: " + expected["refused_without"])

    with pytest.raises((VerifierRefused, BadObject)) as refusal:
        elf.load(compiled(folder, name).read_bytes(), name)

    fields = refusal.value.as_fields()
    assert fields["diagnosis"] == expected["code"]
    assert expected["fix"] in fields["do"]
    if expected["at"]:
        line = (HERE / f"{name}.bpf.c").read_text().splitlines()[fields["source"]["line"] - 1]
        assert any(piece in line for piece in (expected["at"], *expected.get("also_at", ()))), line


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_mended_source_differs_as_the_fix_says_and_loads(folder, name):
    expected = EXPECTED[name]
    if os.uname().release.startswith(expected.get("mended_refused_on", "no kernel")):
        pytest.skip("without CAP_PERFMON this kernel lets no part of a constant on the stack be overwritten")
    mended_by = expected.get("mended_by")
    if not mended_by:
        changed = difference(name)
        assert expected["mended"] in "\n".join(changed)
        assert len(changed) <= LARGEST_MENDING

    answer = load(compiled(folder, name + ".mended"), () if mended_by else expected.get("drop", ()))

    assert answer["errno"] == 0, answer
    expect_nothing_missing(folder, name + ".mended")


@pytest.mark.parametrize("name", sorted(BY_ANOTHER_HAND))
def test_refusal_by_another_hand(folder, name):
    """Sources by people who had seen neither code nor table, with the lines and words that one would accept.

    `code` is ours. A map that cannot be created has no line.
    """
    expected = BY_ANOTHER_HAND[name]
    source = ANOTHER_HAND / f"{name}.bpf.c"
    for form in ("", ".mended"):
        target = folder / f"{name}{form}.o"
        compile.compiled(ANOTHER_HAND / f"{name}{form}.bpf.c", (), target, folder)

    with pytest.raises(VerifierRefused) as refusal:
        elf.load((folder / f"{name}.o").read_bytes(), name)

    fields = refusal.value.as_fields()
    assert fields["diagnosis"] == expected["code"]
    if expected["at"] is None:
        assert not fields["source"]
    else:
        line = source.read_text().splitlines()[fields["source"]["line"] - 1]
        assert any(piece in line for piece in (expected["at"], *expected["also_at"])), line
    assert any(word in fields["do"].lower() for word in expected["fix"]), fields["do"]
    elf.load((folder / f"{name}.mended.o").read_bytes(), name)


@pytest.mark.parametrize(("definition", "advice"), DEFINITIONS)
def test_definition_that_its_map_type_forbids(folder, tmp_path, definition, advice):
    source = tmp_path / "forbidden.bpf.c"
    source.write_text(
        f'#include "vmlinux.h"\n#include <bpf/bpf_helpers.h>\nstruct {{ {definition} }} forbidden SEC(".maps");\n'
        'SEC("socket") int none(void *ctx) { return 0; }\nchar LICENSE[] SEC("license") = "GPL";\n'
    )
    compile.compiled(source, (), tmp_path / "forbidden.o", folder)

    with pytest.raises(VerifierRefused) as refusal:
        elf.load((tmp_path / "forbidden.o").read_bytes(), "itest")

    fields = refusal.value.as_fields()
    assert fields["diagnosis"] == "map_shape", fields
    assert advice in fields["do"]


def test_trace_that_would_take_too_long_is_given_up_and_the_verdict_kept(folder, monkeypatch):
    monkeypatch.setattr(elf, "TRACE_SECONDS", 0.1)

    with pytest.raises(VerifierRefused) as refusal:
        elf.load(compiled(folder, "too_many_instructions").read_bytes(), "itest")

    fields = refusal.value.as_fields()
    assert (fields["diagnosis"], fields["source"]["file"]) == ("too_many_instructions", "too_many_instructions.bpf.c")
    assert "processed 1000001" in "".join(fields["log"])


def test_log_without_places_finds_the_line_through_line_at(folder):
    """The loader beside this file has another reader of the object's lines than the collection."""
    answer = load(compiled(folder, "null_not_checked"))
    (program,) = answer["programs"].values()
    new = diagnose(answer)

    program["log"] = re.sub(r"(?m)^(; .*) @ \S+:\d+$", r"\1", program["log"])
    old = diagnose(answer)

    assert (old.code, old.source, old.instruction) == (new.code, new.source, new.instruction)


@pytest.mark.parametrize("name", ["null_not_checked", "stack_too_large", "reference_leak", "too_complex.mended"])
def test_lines_of_the_object_are_those_that_the_kernel_prints(folder, name):
    """Kernels before 6.8 write the source's text alone; behind the program's own code stands what it calls."""
    path = compiled(folder, name)
    image = bytecode.Image(path.read_bytes())
    ((program, answer),) = load(path)["programs"].items()

    shown = re.findall(r"(?m)^; (.*) @ (\S+):([1-9]\d*)\n(\d+): \(", answer["log"])  # 0 is the compiler's own

    found = [image.line_as_loaded(program, answer["section"], int(number)) for *dummy, number in shown]
    assert [(line.text, line.file, str(line.line)) for line in found] == [
        (text, *place) for text, *place, dummy in shown
    ]
    if "@" in answer["log"]:
        assert shown


def test_every_source_is_in_the_table():
    names = {path.name.partition(".")[0] for path in HERE.glob("*.bpf.c")}
    assert names == set(EXPECTED)


def compiled(folder, name):
    target = folder / f"{name}.o"
    if not target.exists():
        compile.compiled(*compile.source_and_flags(HERE, name, EXPECTED), target, folder)
    return target


def load(path, drop=()):
    less = [f"--{which}=" + ",".join("-" + name for name in drop) for which in ("bounding-set", "inh-caps")]
    command = [sys.executable, str(HERE / "loader.py"), str(path)]
    done = subprocess.run(
        ["setpriv", *less, *command] if drop else command, check=True, stdout=subprocess.PIPE, timeout=120
    )
    return json.loads(done.stdout)


def expect_nothing_missing(folder, name):
    """What the kernel takes is never told to be missing."""
    data = compiled(folder, name).read_bytes()
    preflight.expect_offered(requires.names(data, elf.inspect(data, name)), data)


def diagnose(answer):
    """What diagnosis.diagnose makes of a loader's answer, about the program that libbpf named last."""
    programs = answer["programs"]
    named = [name for name in programs if any(f"prog '{name}'" in line for line in answer["libbpf"])]
    name = (named or list(programs) or [""])[-1]
    spec = programs.get(name, {"log": "", "section": "", "lines": []})

    def line_at(instruction):
        before = [row for row in spec["lines"] if row[0] <= instruction and row[2]]
        return (os.path.basename(before[-1][1]), before[-1][2], before[-1][3]) if before else None

    return diagnosis.diagnose(
        spec["log"],
        errno=answer["errno"],
        program=name,
        section=spec["section"],
        libbpf_log=answer["libbpf"],
        kernel=answer["kernel"],
        line_at=line_at,
    )


def culprit(name, found):
    """The piece of text that expected.json has for the line found, after its number was compared with the file's."""
    if found.source is None:
        return None
    line = (HERE / f"{name}.bpf.c").read_text().splitlines()[found.source["line"] - 1]
    assert found.source["file"] == f"{name}.bpf.c"
    assert found.source["text"] == line.strip()
    assert f"{name}.bpf.c:{found.source['line']}" in found.summary
    at = EXPECTED[name]["at"]
    return at if at and at in line else line


def difference(name):
    """The lines that the mended source has more or less, without their mark."""
    both = [(HERE / f"{name}{form}.bpf.c").read_text().splitlines() for form in ("", ".mended")]
    return [
        line[1:]
        for line in difflib.unified_diff(*both, lineterm="", n=0)
        if line[0] in "+-" and line[1:3] not in ("++", "--")
    ]


def is_configured(option):
    if not option or not os.path.exists("/proc/config.gz"):
        return False
    with gzip.open("/proc/config.gz", "rt") as file:
        return any(line.startswith(option + "=") for line in file)
