# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is set before an object is loaded, as the kernel then has it: bpftool reads it, packets are treated by it."""

from __future__ import annotations

import errno
import os
import re

import private_host
import programs
import pytest
from private_host import NAME, attachment, bpftool, counted

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    boot,
    edit,
    records,
    stage,
    store,
    transitions,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import (
    BadObject,
    BadRequest,
    MapChanged,
    NotFound,
    Quarantined,
    Unsupported,
    VerifierRefused,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf, entries, source

GLOBALS = """
enum mood { CALM, ALERT = 5 };
struct limits { __u16 burst; struct { __u8 low; __u8 high; } range; __s64 debt; };

const volatile __u32 step = 1;
const volatile __u16 packet_limit = 100;
const volatile _Bool enabled = 1;
const volatile enum mood mood = CALM;
const volatile char uplink[16] = "lo";
const volatile __u8 ports[4] = {1, 2, 3, 4};
const volatile struct limits limits = {.burst = 8, .range = {.low = 1, .high = 9}, .debt = -1};
static const volatile __u32 hidden = 6;
const __u32 built_in = 3;
__u64 start = 7;
__u64 later;
__u32 mine SEC(".data.mine") = 11;

static __always_inline void seen(__u32 row)
"""
USE = """
    later += start + packet_limit + enabled + mood + uplink[0] + ports[row & 3] + limits.debt;
    later += hidden + built_in + mine;
    if (packets)
        *packets += step;
"""
TEXT = programs.TEXT.replace("\nstatic __always_inline void seen(__u32 row)\n", GLOBALS).replace(
    "\n    if (packets)\n        *packets += 1;\n", USE
)


def given(version=1, text=TEXT, **set_before):
    return programs.given(version, text)._replace(**set_before)


def staged(**set_before):
    return stage.stage(NAME, given(**set_before))


def attached(host, **set_before):
    result = staged(**set_before)
    host.attach(attachment("xdp", programs.XDP, interface=private_host.DEVICE))
    return result


def dumped(load, section):
    """{variable: value} of a section, as bpftool reads it from the pin."""
    path = os.path.join(store.home(NAME).loads, load, "maps", section)
    (row,) = bpftool("map", "dump", "pinned", path)
    ((dummy, variables),) = row["formatted"]["value"].items()
    return {name: value for each in variables for name, value in each.items()}


# ---- globals -------------------------------------------------------------------------------------

EVERY_KIND = {
    "step": "0x3",
    "packet_limit": 65535,
    "enabled": False,
    "mood": "ALERT",
    "uplink": "eth0",
    "ports": [9, 8],
    "limits": {"burst": 16, "range": {"high": 200}},
    "hidden": 60,
    "start": 2**64 - 1,
    "later": 5,
    "mine": 12,
}


def test_globals_of_every_kind_are_what_the_kernel_has(host):
    result = staged(globals=EVERY_KIND)

    rodata, data, bss = (dumped(result.load, section) for section in ("rodata", "data", "bss"))
    assert (rodata["step"], rodata["packet_limit"], rodata["enabled"], rodata["hidden"]) == (3, 65535, False, 60)
    assert rodata["mood"] in ("ALERT", 5)
    assert "".join(rodata["uplink"]).rstrip("\0") == "eth0"
    assert rodata["ports"] == [9, 8, 0, 0]
    assert rodata["limits"]["burst"] == 16
    assert rodata["limits"]["range"] == {"low": 1, "high": 200}, "what is not named stays as the source has it"
    assert rodata["limits"]["debt"] == -1
    assert data["start"] == 2**64 - 1
    assert bss["later"] == 5
    assert dumped(result.load, "mine") == {"mine": 12}
    assert rodata["built_in"] == 3


def test_global_decides_what_happens_to_packets(host):
    attached(host, globals={"step": 10})

    host.receive(3)

    assert counted(programs.XDP) == {1: 30}


def test_other_global_is_another_release_that_starts_with_its_own_data(host):
    first = attached(host, globals={"step": 10})
    second = attached(host, globals={"step": 100})
    host.receive()

    assert second.built.release.id != first.built.release.id
    assert second.built.release.object_sha256 == first.built.release.object_sha256
    assert second.built.release.source_id != first.built.release.source_id
    assert counted(programs.XDP) == {1: 100}
    assert dumped(first.load, "bss")["later"] == 0, "the second counts in its own .bss"


def test_same_globals_again_change_nothing(host):
    first = attached(host, globals=EVERY_KIND)

    again = staged(globals=EVERY_KIND)

    assert again.steps == ()
    assert again.load == first.load


def test_global_as_the_source_has_it_anyway_is_no_other_release(host):
    assert staged(globals={"step": 1}).built.release.id == staged().built.release.id


def test_rollback_gives_the_old_value(host):
    attached(host, globals={"step": 10})
    attached(host, globals={"step": 100})

    transitions.roll_back(NAME)
    host.receive()

    assert counted(programs.XDP) == {1: 10}


def test_thrown_back_globals_are_quarantined_and_others_are_not(host):
    attached(host, globals={"step": 10})
    attached(host, globals={"step": 100})
    transitions.roll_back(NAME)

    with pytest.raises(Quarantined):
        staged(globals={"step": 100})
    assert staged(globals={"step": 1000}).steps


def reboot():
    """A boot takes all pins, and /run with them."""
    files.remove_tree(records.PINS)
    for name in files.names_in(records.RUN):
        files.remove(f"{records.RUN}/{name}")


def test_boot_gives_the_same_values_sizes_and_types(host):
    """From the manifest alone: neither source nor compiler, nor what the user gave."""
    result = attached(host, globals=EVERY_KIND, maps={programs.SEEN: {"max_entries": 512}})
    before = {section: dumped(result.load, section) for section in ("rodata", "data")}
    files.remove_tree(source.CACHE)
    reboot()

    boot.restore(NAME)

    assert {section: dumped(result.load, section) for section in ("rodata", "data")} == before
    assert shown_map(result.load)["max_entries"] == 512
    host.receive()
    assert counted(programs.XDP) == {1: 3}


def test_manifest_from_before_there_were_globals_still_loads(host):
    attached(host)
    (folder,) = [f"{store.home(NAME).folder}/releases/{number}" for number in store.releases(store.home(NAME))]
    record = files.read_json(f"{folder}/manifest.json")
    files.write_json(f"{folder}/manifest.json", {k: v for k, v in record.items() if k not in ("tuning", "globals")})
    reboot()

    boot.restore(NAME)
    host.receive()

    assert counted(programs.XDP) == {1: 1}
    assert staged().steps == (), "it is the same release still"


@pytest.mark.parametrize(
    ("globals_", "said"),
    [
        ({"packet_limit": 70000}, r"packet_limit: 70000 does not fit __u16 \(0 to 65535\)"),
        ({"packet_limit": -1}, r"packet_limit: -1 does not fit __u16"),
        ({"limits": {"range": {"low": 256}}}, r"limits.range.low: 256 does not fit __u8 \(0 to 255\)"),
        ({"limits": {"brust": 1}}, "limits: struct limits has no brust. Did you mean burst"),
        ({"mood": "ALRET"}, "mood: enum mood has no ALRET. Did you mean ALERT"),
        ({"uplink": "a name of more than 16"}, "uplink has 22 bytes, and 16 fit"),
        ({"ports": [1, 2, 3, 4, 5]}, "ports has 5 elements, and 4 fit"),
        ({"enabled": "maybe"}, "enabled must be true or false"),
        ({"pakcet_limit": 1}, "The object has no global pakcet_limit. Did you mean packet_limit"),
        ({"built_in": 4}, "built_in is const but not volatile.* Declare it const volatile __u32 built_in"),
    ],
)
def test_wrong_global_is_refused_by_name_and_type(host, globals_, said):
    with pytest.raises(BadRequest, match=said):
        staged(globals=globals_)

    assert store.deployments() == []


def test_secret_global_stands_only_in_a_file_of_root(host):
    """Neither in the journal nor where others may read. Of what a module returns: see the target globals."""
    secret = 0x5EC2E7C0DE15BAD5
    result = attached(host, globals={"start": secret, "step": 2}, secrets=frozenset({"start"}))

    assert dumped(result.load, "data")["start"] == secret
    assert result.built.release.globals == {"start": "(secret)", "step": 2}
    shapes = (str(secret), hex(secret)[2:], secret.to_bytes(8, "little").hex())
    found = [path for path in private_host.tree(records.STATE) if os.path.isfile(path) and any_in(path, shapes)]
    assert [os.path.basename(path) for path in found] == ["manifest.json"]
    assert all(os.stat(path).st_mode & 0o077 == 0 for path in (records.STATE, *found))


@pytest.mark.parametrize("section", ["data", "rodata"])
def test_secret_global_is_not_shown_by_its_map_either(host, section):
    """By the deployment's name, and by the pin's path."""
    secrets = {"start": 0x5EC2E7C0DE15BAD5, "step": 0x5EC2E7}
    load = attached(host, globals=secrets, secrets=frozenset(secrets)).load
    path = os.path.join(store.home(NAME).loads, load, "maps", section)

    by_name, by_path = edit.deployed(NAME, section, edit.Asked()), edit.pinned(path, edit.Asked())

    for result in (by_name, by_path):
        ((entry,),) = [entries.unpack(result.form, result.after, result.secrets)]
        hidden = {name for name, value in entry["value"].items() if value == "(secret)"}
        assert hidden == {{"data": "start", "rodata": "step"}[section]}
        assert section == "data" or entry["value"]["packet_limit"] == 100
        assert not any(str(secret) in str(entry) for secret in secrets.values())


def test_global_that_becomes_secret_is_hidden_in_what_is_on_the_disk_already(host):
    """It is another release, whose id tells nothing of the value; the manifest that shows it changes, once."""
    first = attached(host, globals={"start": 54321, "step": 2})

    told = stage.stage(NAME, given(globals={"start": 54321}, secrets=frozenset({"start"})), check_mode=True)
    second, third = (staged(globals={"start": 54321, "step": 2}, secrets=frozenset({"start"})) for dummy in range(2))

    for result in (told, second):
        assert "HideGlobals" in [type(step).__name__ for step in result.steps]
    assert (second.load != first.load, second.load, third.steps) == (True, third.load, ())
    assert [each.globals for each in third.after.releases.values()] == [{"start": "(secret)", "step": 2}] * 2
    shown = edit.deployed(NAME, "data", edit.Asked())
    assert shown.secrets == {"start"}


def any_in(path, shapes):
    with open(path, encoding="latin-1") as stream:
        text = stream.read()
    return any(shape in text for shape in shapes)


@pytest.mark.parametrize("value", [2**64 + 5, "5ecret", [5], {"x": "5ecret"}])
def test_error_about_a_secret_does_not_quote_it(host, value):
    with pytest.raises(BadRequest) as refusal:
        staged(globals={"start": value}, secrets=frozenset({"start"}))

    assert "start" in str(refusal.value)
    assert not any(part in str(refusal.value.as_fields()) for part in (str(2**64 + 5), "5ecret", "[5]"))


OUT_OF_BOUNDS = TEXT.replace(
    "    later += start", "    if (packets)\n        later += ((__u8 *)packets)[packet_limit];\n    later += start"
)


def test_refusal_of_a_secret_tells_no_figure_of_the_log(host):
    """Neither in its sentences nor in its fields, and where nothing is secret it does."""
    with pytest.raises(VerifierRefused) as told:
        staged(text=OUT_OF_BOUNDS, globals={"packet_limit": 54321})
    with pytest.raises(VerifierRefused) as hidden:
        staged(text=OUT_OF_BOUNDS, globals={"packet_limit": 54321}, secrets=frozenset({"packet_limit"}))

    assert "54321" in told.value.what
    assert hidden.value.detail["source"] == told.value.detail["source"]
    assert not re.search(r"5432\d", str(hidden.value.as_fields()))


def test_object_without_debug_information_has_no_globals_to_set(host):
    bare = programs.given(1, TEXT)
    bare = bare._replace(source=bare.source._replace(cflags=(*bare.source.cflags, "-g0")))

    with pytest.raises(BadObject):
        stage.stage(NAME, bare._replace(globals={"step": 2}))


# ---- maps ----------------------------------------------------------------------------------------

UNSIZED = re.sub(r"    __uint\(max_entries, .*\n", "", programs.TEXT)


def shown_map(load, name=programs.SEEN):
    return bpftool("map", "show", "pinned", os.path.join(store.home(NAME).loads, load, "maps", name))


def test_map_is_made_in_the_size_that_is_given(host):
    result = stage.stage(NAME, given(maps={programs.SEEN: {"max_entries": 300}}))

    assert shown_map(result.load)["max_entries"] == 300
    assert [shape.max_entries for shape in result.built.spec.maps] == [300]
    assert result.built.release.id != stage.build(NAME, given()).release.id


def test_map_without_a_size_says_how_to_give_one_and_loads_with_it(host):
    with pytest.raises(
        BadRequest, match=f"Map {programs.SEEN} has no size.*maps: .{programs.SEEN}: .max_entries: 1024"
    ):
        stage.stage(NAME, given(text=UNSIZED))

    result = stage.stage(NAME, given(text=UNSIZED, maps={programs.SEEN: {"max_entries": "16"}}))

    assert shown_map(result.load)["max_entries"] == 16


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        ({"nowhere": {"max_entries": 1}}, f"The object has no map nowhere. .*{programs.SEEN}"),
        ({programs.SEEN[:-1]: {"max_entries": 1}}, f"Did you mean {programs.SEEN}"),
        ({programs.SEEN: {"max_entires": 1}}, "takes no max_entires. Did you mean max_entries"),
        ({programs.SEEN: 5}, "must be a mapping of max_entries"),
        ({programs.SEEN: {"max_entries": 0}}, r"max_entries: 0 does not fit __u32 \(1 to 4294967295\)"),
        ({programs.SEEN: {"max_entries": 2**32}}, "max_entries: 4294967296 does not fit __u32"),
        ({programs.SEEN: {"max_entries": "many"}}, "max_entries: 'many' does not fit __u32"),
    ],
)
def test_wrong_map_is_refused_by_name(host, maps, said):
    with pytest.raises(BadRequest, match=said):
        stage.stage(NAME, given(maps=maps))


def test_other_size_than_the_attached_map_has_is_a_changed_map(host):
    attached(host)

    with pytest.raises(MapChanged, match="max_entries: 300, was 256"):
        staged(maps={programs.SEEN: {"max_entries": 300}})


def test_other_size_takes_the_entries_along_where_the_user_says_so(host):
    attached(host, globals={"step": 10})
    host.receive(2)

    attached(host, globals={"step": 1}, maps={programs.SEEN: {"max_entries": 300, "on_change": "merge"}})
    host.receive(3)

    load = host.facts().confirmed.load
    assert shown_map(load)["max_entries"] == 300
    path = os.path.join(store.home(NAME).loads, load, "maps", programs.SEEN)
    assert private_host.counted_in("pinned", path)[programs.XDP] == {1: 2 * 10 + 3 * 1}


MAPS = """
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); };
struct {
    __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
    __uint(max_entries, 3);
    __type(key, __u32);
    __array(values, struct inner);
} MARK_outer SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 3);
    __uint(pinning, LIBBPF_PIN_BY_NAME);
    __type(key, __u32);
    __type(value, __u32);
} MARK_by_name SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
} MARK_ring SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, __u32);
} MARK_of_sockets SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} MARK_events SEC(".maps");

SEC("xdp")
"""
MORE_MAPS = programs.TEXT.replace('\nSEC("xdp")\n', MAPS, 1)
RING, OUTER, BY_NAME = (f"{programs.MARK}_{name}" for name in ("ring", "outer", "by_name"))


def test_maps_of_maps_rings_and_storages_are_made_as_declared(host):
    result = stage.stage(NAME, given(text=MORE_MAPS, maps={RING: {"max_entries": 4096}, OUTER: {"max_entries": 7}}))

    assert (shown_map(result.load, OUTER)["type"], shown_map(result.load, OUTER)["max_entries"]) == ("hash_of_maps", 7)
    assert shown_map(result.load, RING)["max_entries"] == 4096
    assert shown_map(result.load, f"{programs.MARK}_of_sockets")["max_entries"] == 0
    assert shown_map(result.load, f"{programs.MARK}_events")["max_entries"] == bpf.possible_cpus()


def test_map_that_pins_itself_by_name_is_pinned_in_our_folder_alone(host):
    before = set(private_host.tree(files.BPFFS))
    result = stage.stage(NAME, given(text=MORE_MAPS, maps={RING: {"max_entries": 4096}}))

    new = set(private_host.tree(files.BPFFS)) - before
    assert {path for path in new if not path.startswith(records.PINS)} == set()
    assert os.path.join(store.home(NAME).loads, result.load, "maps", BY_NAME) in new


def test_size_of_a_map_that_has_none_is_refused(host):
    name = f"{programs.MARK}_of_sockets"
    with pytest.raises(BadRequest, match=f"Map {name} is a sk_storage, which has no size"):
        stage.stage(NAME, given(text=MORE_MAPS, maps={RING: {"max_entries": 4096}, name: {"max_entries": 4}}))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    __array(values, struct inner);\n", "    __uint(value_size, 4);\n", "does not say what these are like"),
        ("__uint(max_entries, 4); __type(key", "__type(key", "The maps within .*_outer have no size"),
    ],
)
def test_map_of_maps_that_declares_no_inner_map_is_refused(host, old, new, said):
    assert old in MORE_MAPS
    with pytest.raises(BadObject, match=said):
        stage.build(NAME, given(text=MORE_MAPS.replace(old, new), maps={RING: {"max_entries": 4096}}))


@pytest.mark.parametrize(
    ("more", "both"),
    [
        (
            '__u32 one SEC(".data.same") = 1; const volatile __u32 two SEC(".rodata.same") = 2;',
            r"\.data\.same.*\.rodata\.same",
        ),
        (
            "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, int); "
            '} data SEC(".maps");',
            "The map data and the section .data",
        ),
    ],
)
def test_maps_that_would_be_pinned_under_one_name_are_refused_by_both(host, more, both):
    with pytest.raises(BadRequest, match=both):
        stage.build(NAME, given(text=TEXT.replace("\nSEC", f"\n{more}\nSEC", 1)))


def test_program_with_a_dot_in_its_name_is_refused(host):
    dotted = TEXT.replace(
        "int MARK_xdp(struct xdp_md *ctx)\n",
        'int MARK_xdp(struct xdp_md *ctx) __asm__("MARK_xdp.v2");\nSEC("xdp") int MARK_xdp(struct xdp_md *ctx)\n',
    )
    with pytest.raises(BadRequest, match=f"The program {programs.XDP}.v2 has a dot"):
        stage.build(NAME, given(text=dotted))


# ---- programs ------------------------------------------------------------------------------------

ODD_SECTIONS = programs.TEXT.replace('SEC("xdp")', 'SEC("xpd")').replace('SEC("cgroup_skb/egress")', 'SEC("?cgroup/x")')


def test_unknown_section_names_the_close_ones_and_the_override(host):
    with pytest.raises(BadRequest) as refusal:
        stage.stage(NAME, given(text=ODD_SECTIONS))

    assert refusal.value.what == f"{programs.XDP}: libbpf does not know the section xpd"
    assert "Did you mean xdp" in refusal.value.do
    assert f"programs: [{{name: {programs.XDP}, type: xdp}}]" in refusal.value.do


def test_override_loads_what_the_section_does_not_name_and_it_counts(host):
    """As the sentence says; `?` keeps the third one out until somebody chooses it."""
    wish = (programs.TCX, {"name": programs.XDP, "type": "xdp"})
    result = attached(host, text=ODD_SECTIONS, programs=wish)
    host.receive(2)

    assert counted(programs.XDP) == {1: 2}
    assert sorted(result.figures.programs) == [programs.TCX, programs.XDP]
    reboot()
    boot.restore(NAME)
    host.receive()
    assert counted(programs.XDP) == {1: 1}


def test_override_gives_type_and_attach_type_as_bpftool_names_them(host):
    wish = ({"name": programs.CGROUP, "type": "cgroup_skb", "attach_type": "cgroup_inet_egress"},)
    result = stage.stage(NAME, given(text=ODD_SECTIONS, programs=wish))

    pinned = os.path.join(store.home(NAME).loads, result.load, "progs", programs.CGROUP)
    assert bpftool("prog", "show", "pinned", pinned)["type"] == "cgroup_skb"
    assert result.built.release.program_types == {programs.CGROUP: (8, 1, "")}


def test_same_type_as_the_section_says_is_no_other_release(host):
    wish = ("*", {"name": programs.XDP, "type": "xdp"})

    assert stage.build(NAME, given(programs=wish)).release.id == stage.build(NAME, given()).release.id


def test_program_is_left_out_by_autoload_or_by_its_author(host):
    by_user = stage.build(NAME, given(programs=({"name": "*_tcx", "autoload": "no"},)))
    by_author = stage.build(NAME, given(text=ODD_SECTIONS.replace("xpd", "xdp")))

    assert by_user.chosen == (programs.XDP, programs.CGROUP)
    assert by_author.chosen == (programs.XDP, programs.TCX)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": programs.XDP, "type": "xpd"}, "'xpd' does not give .* a program type.* Did you mean xdp"),
        ({"name": programs.XDP, "attach_type": "tcx_igress"}, "Did you mean tcx_ingress"),
        ({"name": programs.XDP, "kind": "xdp"}, "programs takes no kind"),
        ({"type": "xdp"}, "An entry of programs has no name"),
        ({"name": programs.XDP, "autoload": "perhaps"}, "autoload must be true or false"),
        ({"name": "*", "autoload": False}, "No program of the object is left to load"),
        ({"name": programs.XDP, "type": "tracing"}, "needs an attach type.*trace_fentry"),
        ({"name": programs.XDP, "type": "lsm"}, "nor you name a function"),
        ({"name": programs.XDP, "type": "ext", "target": "seen"}, "nothing says of which"),
        (5, "programs must be a mapping of name"),
    ],
)
def test_wrong_entry_of_programs_is_refused(host, entry, said):
    with pytest.raises(BadRequest, match=said):
        stage.build(NAME, given(programs=(entry,)))


TRACING = programs.TEXT + 'SEC("fentry")\nint MARK_trace(void *ctx)\n{\n    return 0;\n}\n'
TRACE = f"{programs.MARK}_trace"


def test_function_that_the_kernel_does_not_have_is_named(host):
    with pytest.raises(Unsupported, match="function vfs_raed \\(for ") as refusal:
        stage.stage(NAME, given(text=TRACING, programs=({"name": TRACE, "target": "vfs_raed"},)))

    assert refusal.value.detail["diagnosis"] == "attach_target_missing"


def test_function_in_place_of_the_sections_reaches_the_kernel(host):
    """Where lockdown forbids tracing the kernel refuses with EPERM, after libbpf has found the function."""
    wish = ({"name": TRACE, "target": "vfs_read"},)
    built = stage.build(NAME, given(text=TRACING, programs=wish))
    assert built.tuned.programs == ((TRACE, bpf.PROG_TRACING, bpf.attach_types()["trace_fentry"], "vfs_read", ""),)

    try:
        assert list(stage.verify(NAME, built)[0].programs) == [TRACE]
    except VerifierRefused as refusal:
        assert refusal.detail["errno"] == errno.EPERM


REPLACEABLE = programs.TEXT.replace(
    '\nSEC("xdp")\n',
    '\n__attribute__((noinline)) int MARK_part(struct xdp_md *ctx)\n{\n    return ctx ? 1 : 0;\n}\n\nSEC("xdp")\n',
    1,
).replace("    seen(0);\n", "    if (MARK_part(ctx))\n        seen(0);\n")
REPLACING = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("freplace")
int MARK_other(struct xdp_md *ctx)
{
    return 0;
}

char _license[] SEC("license") = "GPL";
"""


def test_program_that_replaces_a_function_of_a_pinned_one(host):
    """Its target is found by path and name; lockdown may then refuse it with EPERM, as every program that traces."""
    load = stage.stage(NAME, given(text=REPLACEABLE)).load
    wish = {
        "name": f"{programs.MARK}_other",
        "target": f"{programs.MARK}_part",
        "target_program": os.path.join(store.home(NAME).loads, load, "progs", programs.XDP),
    }

    with pytest.raises(VerifierRefused, match="has no function nowhere for"):
        stage.stage("replacing", given(text=REPLACING, programs=({**wish, "target": "nowhere"},)))
    with pytest.raises(NotFound, match="and none is there"):
        stage.stage("replacing", given(text=REPLACING, programs=({**wish, "target_program": "/sys/fs/bpf/none"},)))
    try:
        assert list(stage.stage("replacing", given(text=REPLACING, programs=(wish,))).figures.programs) == [
            wish["name"]
        ]
    except VerifierRefused as refusal:
        assert refusal.detail["errno"] == errno.EPERM


# ---- the kernel's types, and foreign objects -----------------------------------------------------

CORE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct { int pid; } __attribute__((preserve_access_index));
const volatile __u32 place;

SEC("xdp")
int MARK_core(struct xdp_md *ctx)
{
    return bpf_core_field_offset(struct task_struct, pid) == place ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
"""
OTHER_KERNEL = """
struct task_struct { char before[1234]; int pid; };
struct task_struct task;
int main(void) { return task.pid; }
"""


@pytest.fixture
def other_btf(tmp_path):
    """The BTF of a kernel whose task_struct has pid at 1236."""
    (tmp_path / "other.c").write_text(OTHER_KERNEL)
    private_host.run(*f"clang -target bpf -g -c {tmp_path}/other.c -o {tmp_path}/other.o".split())
    private_host.run(*f"llvm-objcopy --dump-section .BTF={tmp_path}/raw {tmp_path}/other.o".split())
    return (tmp_path / "raw").read_bytes()


def instructions(load):
    path = os.path.join(store.home(NAME).loads, load, "progs", f"{programs.MARK}_core")
    return private_host.run("bpftool", "prog", "dump", "xlated", "pinned", path)


def test_object_is_relocated_against_the_given_types_at_boot_too(host, other_btf):
    result = stage.stage(NAME, given(text=CORE, btf=other_btf))
    assert "1236" in instructions(result.load) or "0x4d4" in instructions(result.load)
    host.attach(attachment("xdp", f"{programs.MARK}_core", interface=private_host.DEVICE))
    reboot()

    boot.restore(NAME)

    assert "1236" in instructions(result.load) or "0x4d4" in instructions(result.load)
    assert result.built.release.id != stage.build(NAME, given(text=CORE)).release.id


@pytest.mark.parametrize("kind", ["empty", "text", "an ELF file without", "cut"])
def test_file_without_types_is_refused(host, other_btf, kind):
    data = {"empty": b"", "text": b"no types", "cut": other_btf[:-9]}.get(kind)
    if data is None:
        with open("/bin/true", "rb") as stream:
            data = stream.read()
    with pytest.raises(BadRequest, match="holds no BTF"):
        stage.build(NAME, given(text=CORE, btf=data))


def test_object_for_the_other_byte_order_is_refused_by_name(host, tmp_path):
    (tmp_path / "x.c").write_text("int x;")
    private_host.run(*f"clang -target bpfeb -c {tmp_path}/x.c -o {tmp_path}/x.o".split())

    with pytest.raises(BadObject, match=r"^x[.]o is compiled for big-endian hosts, and this host is little-endian"):
        elf.inspect((tmp_path / "x.o").read_bytes(), NAME, "x.o")


def test_object_for_another_machine_is_refused_by_name(host, tmp_path):
    (tmp_path / "x.c").write_text("int x;")
    private_host.run(*f"clang -target aarch64 -c {tmp_path}/x.c -o {tmp_path}/x.o".split())

    with pytest.raises(BadObject, match=r"^x[.]o is an ELF file for aarch64, not for BPF"):
        elf.inspect((tmp_path / "x.o").read_bytes(), NAME, "x.o")
