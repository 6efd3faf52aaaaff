# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which programs are chosen, what sections may have been meant, and what of it is a release's identity."""

from __future__ import annotations

import hashlib
import json

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import release, stage
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadObject, BadRequest
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf, maps, tuning

COUNT = elf.ProgramSpec("count", "xdp", 6, 37)
GUARD = elf.ProgramSpec("guard", "cgroup/connect4", 18, 10)
DEBUG = elf.ProgramSpec("debug", "xdp", 6, 37, False)
FLOWS = maps.Shape("flows", 1, "hash", 4, 8, 1024)
SPEC = elf.ObjectSpec((COUNT, GUARD, DEBUG), (FLOWS,), ())


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        ([], ("count", "guard")),
        (["*"], ("count", "guard", "debug")),
        (["debug"], ("debug",)),
        (["count", "g*"], ("count", "guard")),
        ([{"name": "guard"}], ("guard",)),
        ([{"name": "guard", "autoload": False}], ("count",)),
        (["*", {"name": "guard", "autoload": "false"}], ("count", "debug")),
        ([{"name": "count", "type": "xdp"}, {"name": "g*", "autoload": "no"}], ("count",)),
    ],
)
def test_entries_choose_programs(entries, chosen):
    assert tuning.choose(SPEC, entries) == (chosen, ())


def test_all_programs_are_none_in_particular():
    """So that an object's release keeps its id whether or not the programs are listed by hand."""
    spec = SPEC._replace(programs=(COUNT, GUARD))

    assert tuning.choose(spec, []) == (None, ())


def test_later_entries_win_and_the_type_brings_its_attach_type():
    entries = ["*", {"name": "*", "type": "sched_cls"}, {"name": "guard", "type": "lsm", "target": "file_open"}]

    rows = tuning.choose(SPEC, entries)[1]

    assert rows == (("count", 3, 0, "", ""), ("debug", 3, 0, "", ""), ("guard", bpf.PROG_LSM, 27, "file_open", ""))


@pytest.mark.parametrize(
    "entry", [{"name": 5}, {"name": "count", "type": ["xdp"]}, {"name": "count", "target": {"a": 1}}, {"name": True}]
)
def test_word_about_a_program_that_is_no_text_is_refused(entry):
    with pytest.raises(BadRequest, match="must be text"):
        tuning.choose(SPEC, [entry])


@pytest.mark.parametrize("target", ["file_open", "bpf_lsm_file_open"])
def test_lsm_hook_may_be_named_as_its_function_in_the_kernel(target):
    rows = tuning.choose(SPEC, [{"name": "guard", "type": "lsm", "target": target}])[1]

    assert rows == (("guard", bpf.PROG_LSM, 27, "file_open", ""),)


@pytest.mark.parametrize(
    ("section", "close"),
    [
        ("xpd", "xdp"),
        ("kprob/do_unlinkat", "kprobe/do_unlinkat"),
        ("cgroup/conect4", "cgroup/connect4"),
        ("tracepiont/sched/sched_switch", "tracepoint/sched/sched_switch"),
        ("sock_ops", "sockops"),
    ],
)
def test_section_that_is_none_has_close_ones(section, close):
    assert tuning.close_sections(section)[0] == close


def test_section_that_only_newer_libbpf_knows_is_no_typing_error():
    spec = SPEC._replace(programs=(elf.ProgramSpec("count", "netkit/primary", 0, 0),))

    with pytest.raises(BadRequest) as refusal:
        tuning.choose(spec, [])

    assert "Update libbpf" in refusal.value.do
    assert "Did you mean" not in refusal.value.do


def test_target_of_a_program_that_takes_none_is_refused():
    with pytest.raises(BadRequest, match="count is of type xdp"):
        tuning.choose(SPEC, [{"name": "count", "target": "vfs_read"}])


def test_section_like_no_other_has_no_close_ones():
    assert tuning.close_sections("my_own_functions") == []


def test_every_section_of_the_list_is_known_to_this_libbpf_or_newer_than_it():
    newer = {"kprobe.session/", "uprobe.session/", "uprobe.multi/", "uretprobe.multi/", "struct_ops.s/", "netfilter"}
    newer |= {"tcx/ingress", "tcx/egress", "tc/ingress", "tc/egress", "netkit/primary", "netkit/peer"}
    newer |= {name for name in tuning.SECTIONS if name.endswith("_unix")}

    unknown = {name for name in tuning.SECTIONS if not bpf.section_type(name if name[-1] != "/" else name + "a/b")}

    assert unknown <= newer


def test_size_that_is_the_objects_own_is_no_tuning():
    assert tuning.set_sizes(SPEC, {"flows": {"max_entries": 1024}}) == ()
    assert tuning.set_sizes(SPEC, {"flows": {"max_entries": "0x800"}}) == (("flows", 2048),)


def test_applied_spec_has_the_sizes_and_types_that_will_be():
    tuned = elf.Tuning(maps=(("flows", 2048),), programs=(("count", 3, 0, "", ""),))

    spec = tuning.applied(SPEC, tuned)

    assert spec.maps[0].max_entries == 2048
    assert (spec.programs[0].type, spec.programs[1]) == (3, GUARD)


def test_globals_need_the_objects_types():
    with pytest.raises(BadObject):
        tuning.set_globals(None, {}, {"step": 1})


# ---- identity ------------------------------------------------------------------------------------

EVERYTHING = elf.Tuning(
    globals=((".rodata", 4, b"\x0a\0"),),
    maps=(("flows", 2048),),
    programs=(("count", 3, 0, "", "/sys/fs/bpf/x"),),
    btf=b"\x9f\xeb\x01",
)


def identity(tuned=elf.UNTUNED):
    more = {"source": "x.c", "compiler": "", "cflags": (), "globals": {}}
    return release.identify(b"object", tuning.applied(SPEC, tuned), [], tuning=tuned.as_record(), **more)


def test_release_of_an_untuned_object_keeps_the_id_it_had_before_there_was_tuning():
    assert identity().id == "622f60caac60fcfc"


def test_each_part_of_a_tuning_is_part_of_the_id():
    parts = [elf.UNTUNED._replace(**{field: getattr(EVERYTHING, field)}) for field in elf.Tuning._fields]

    assert len({identity(each).id for each in (elf.UNTUNED, *parts, EVERYTHING)}) == len(parts) + 2


def test_tuning_survives_the_manifest():
    made = identity(EVERYTHING)

    read = release.Release.from_record(json.loads(json.dumps(made.as_record())))

    assert read == made
    assert elf.Tuning.from_record(read.tuning, EVERYTHING.btf) == EVERYTHING


def test_manifest_without_tuning_is_read_as_before():
    record = {field: value for field, value in identity().as_record().items() if field not in ("tuning", "globals")}

    read = release.Release.from_record(record)

    assert (read.id, read.tuning) == (identity().id, None)
    assert elf.Tuning.from_record(read.tuning or {}) == elf.UNTUNED


def test_source_id_covers_what_is_set_and_not_what_is_chosen():
    plain = stage.Given(object=b"object")
    own = hashlib.sha256(b"object").hexdigest()
    different = [
        plain._replace(globals={"step": 1}),
        plain._replace(globals={"step": 2}),
        plain._replace(maps={"flows": {"max_entries": 1}}),
        plain._replace(programs=({"name": "count", "type": "xdp"},)),
    ]

    assert plain.source_id == plain._replace(programs=("count",)).source_id == own
    assert len({each.source_id for each in (plain, *different)}) == len(different) + 1


@pytest.mark.parametrize("entry", [None, 5, [], {"name": ""}, {"nmae": "count"}])
def test_entry_that_means_nothing_is_refused(entry):
    with pytest.raises(BadRequest):
        tuning.choose(SPEC, [entry])
