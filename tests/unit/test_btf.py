# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types out of BTF bytes: what clang wrote, bpftool as the witness, the running kernel's own, and damaged bytes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import struct
import subprocess

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import btf

KERNEL = "/sys/kernel/btf/vmlinux"
SOURCE = """
typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32; typedef unsigned long long __u64;
typedef __u16 __be16; typedef __u32 __be32; typedef _Bool flag;
enum verdict { PASS, DROP = 7, LESS = -1 };
enum __attribute__((packed)) tiny { ONE = 1, TWO };
union address { __be32 v4; __u8 v6[16]; };
struct flow {
    const volatile __u64 packets; __u64 bytes; char name[16]; enum verdict verdict; enum tiny tiny;
    union address address; unsigned a : 3; int b : 5; __be16 port; flag seen; void *next;
    struct { __u8 x; union { __u32 y; __u16 z; }; }; __u16 grid[2][3]; long signed_one; double share;
} flow = {1};
const int limit = 5;
static volatile int hidden = 3;
int run(int x) { return hidden + x; }
"""


def section(elf, name):
    """The bytes of one section of a 64 bit ELF file of either byte order."""
    order = "<" if elf[5] == 1 else ">"
    offset = struct.unpack_from(order + "40xQ", elf)[0]
    size, count, names = struct.unpack_from(order + "58xHHH", elf)
    rows = [struct.unpack_from(order + "IIQQQQ", elf, offset + size * number) for number in range(count)]
    texts = rows[names][4]
    for row in rows:
        start = texts + row[0]
        if elf[start : elf.index(b"\0", start)].decode() == name:
            return elf[row[4] : row[4] + row[5]]
    raise LookupError(name)


def compiled(folder, source, target="bpf"):
    """The path of an object that clang made of this C."""
    (folder / "x.c").write_text(source)
    path = folder / "x.o"
    subprocess.run(["clang", "-target", target, "-g", "-O2", "-c", folder / "x.c", "-o", path], check=True)
    return path


@pytest.fixture(name="path", scope="module")
def fixture_path(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("btf"), SOURCE)


@pytest.fixture(name="raw", scope="module")
def fixture_raw(path):
    return section(path.read_bytes(), ".BTF")


@pytest.fixture(name="types")
def fixture_types(raw):
    return btf.parse(raw)


def layout_of(tmp_path, declaration, target="bpf"):
    """The layout of `struct s` in a piece of C."""
    path = compiled(tmp_path, SOURCE + declaration + "; struct s thing = {};", target)
    types = btf.parse(section(path.read_bytes(), ".BTF"))
    return btf.layout(types, types.find("s", "struct"))


# ---- reading ---------------------------------------------------------------------------------------------------------


def as_bpftool(types, type_id):
    """A type with the fields that bpftool's JSON has, as far as we read them."""
    found = types.type(type_id)
    shown = {"id": type_id, "kind": found.kind.upper(), "name": found.name or "(anon)"}
    if found.kind in ("struct", "union"):
        shown["size"] = found.size
        shown["members"] = [(f.name or "(anon)", f.type, f.first_bit, f.bits) for f in types.fields(type_id)]
    elif found.kind == "enum":
        shown["size"] = found.size
        shown["values"] = [(name, number % 2**32) for name, number in types.enumerators(type_id)]
    elif found.kind == "int":
        shown.update(size=found.size, nr_bits=found.bits, bits_offset=found.first_bit)
    elif found.kind == "array":
        shown.update(type_id=found.target, nr_elems=found.count)
    elif found.target:
        shown["type_id"] = found.target
    return shown


def from_bpftool(row):
    shown = {key: row[key] for key in ("id", "kind", "name")}
    if row["kind"] in ("STRUCT", "UNION"):
        shown["members"] = [
            (m["name"], m["type_id"], m["bits_offset"], m.get("bitfield_size", 0)) for m in row["members"]
        ]
    if row["kind"] == "ENUM":
        shown["values"] = [(value["name"], value["val"] % 2**32) for value in row["values"]]
    wanted = {
        "INT": ("size", "nr_bits", "bits_offset"),
        "ARRAY": ("type_id", "nr_elems"),
        "FUNC_PROTO": (),
        "FWD": (),
        "DATASEC": (),
        "STRUCT": ("size",),
        "UNION": ("size",),
        "ENUM": ("size",),
    }
    shown.update({key: row[key] for key in wanted.get(row["kind"], ("type_id",)) if row.get(key)})
    return shown


def test_parse_every_type_is_as_bpftool_reads_it(path, types):
    told = subprocess.run(["bpftool", "btf", "dump", "file", path, "-j"], check=True, stdout=subprocess.PIPE).stdout
    witness = json.loads(told)["types"]
    ours = [as_bpftool(types, row["id"]) for row in witness]
    for mine, row in zip(ours, witness):
        theirs = from_bpftool(row)
        assert {key: mine.get(key) for key in theirs} == theirs
    assert len(types) == len(witness) == witness[-1]["id"]


def test_parse_big_endian_object_reads_the_same_types(tmp_path, types):
    other = btf.parse(section(compiled(tmp_path, SOURCE, "bpfeb").read_bytes(), ".BTF"))
    assert (types.byteorder, other.byteorder) == ("little", "big")
    assert other.size(other.find("flow", "struct")) == types.size(types.find("flow", "struct"))
    assert [f.name for f in other.fields(other.find("flow", "struct"))] == [
        f.name for f in types.fields(types.find("flow", "struct"))
    ]


def test_find_wants_name_and_kind(types):
    assert types.type(types.find("flow", "struct")).kind == "struct"
    assert types.type(types.find("flow", "var")).kind == "var"
    assert types.find("flow", "union") is None
    assert types.find("low", "struct") is None
    assert types.find("nothing", "struct") is None
    with pytest.raises(ValueError, match="no kind"):
        types.find("flow", "class")


def test_prototype_is_as_c_declares_it(tmp_path):
    declared = "const char *name(struct flow *one, const int *two, unsigned long long three)"
    source = f'struct flow {{ int x; }}; {declared} {{ return one->x + *two + three ? "a" : 0; }}'
    found = btf.parse(section(compiled(tmp_path, source).read_bytes(), ".BTF"))
    proto = found.type(found.find("name", "func")).target

    assert found.prototype(proto, "name") == declared
    assert found.prototype(proto, "name", 2) == "const char *name(unsigned long long three)"


def test_resolve_goes_through_names_and_qualifiers(types):
    packets = types.fields(types.find("flow", "struct"))[0]
    assert types.type(packets.type).kind in ("const", "volatile")
    assert types.type(types.resolve(packets.type)).name == "unsigned long long"
    assert types.describe(packets.type) == "__u64"


def test_order_only_where_the_name_fixes_it(types):
    assert types.order(types.find("__be32", "typedef")) == "big"
    assert types.order(types.find("__u32", "typedef")) == ""


def test_size_of_values_and_none_of_functions(types):
    sizes = {f.name: types.size(f.type) for f in types.fields(types.find("flow", "struct"))}
    assert sizes["name"] == sizes["address"] == 16
    assert (sizes["grid"], sizes["next"], sizes["tiny"], sizes["share"]) == (12, 8, 1, 8)
    for type_id in (0, types.find("run", "func")):
        with pytest.raises(ValueError, match="has no size"):
            types.size(type_id)


def test_members_of_anonymous_parts_are_reached_by_name(types):
    members = types.members(types.find("flow", "struct"))
    assert members["z"].first_bit == members["y"].first_bit == members["x"].first_bit + 32
    assert "" not in members


def test_enumerators_have_names_and_numbers(types):
    assert dict(types.enumerators(types.find("tiny", "enum"))) == {"ONE": 1, "TWO": 2}


@pytest.mark.skipif(not os.path.exists(KERNEL), reason="this kernel was built without BTF")
def test_parse_the_running_kernels_own_types():
    with open(KERNEL, "rb") as file:
        types = btf.parse(file.read())
    header = types.find("iphdr", "struct")
    fields = {field["name"]: field for field in btf.layout(types, header)["fields"]}
    assert types.size(header) == 20
    assert (fields["version"]["bits"], fields["ttl"]["at"]) == (4, 8)
    task = types.find("task_struct", "struct")
    assert btf.layout(types, task)["size"] == types.size(task) > 1000


# ---- layouts ---------------------------------------------------------------------------------------------------------


def test_layout_survives_json_and_says_offsets(types):
    flow = btf.layout(types, types.find("flow", "struct"))
    assert json.loads(json.dumps(flow)) == flow
    fields = {field["name"]: field for field in flow["fields"]}
    u64 = {"kind": "int", "size": 8, "signed": False}
    assert fields["bytes"] == {"name": "bytes", "at": 8, "type": u64}
    assert (fields["b"]["bit"], fields["b"]["bits"], fields["b"]["type"]["signed"]) == (3, 5, True)
    assert fields["port"]["type"]["order"] == "big"
    assert fields["name"]["type"] == {"kind": "array", "count": 16, "of": {"kind": "char", "size": 1}}
    assert fields["grid"]["type"]["of"]["count"] == 3
    assert btf.layout(types, 0) == {"kind": "void"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("struct s { __u32 a; __u64 b; }", "struct s { unsigned int a; const unsigned long long b; }"),
        ("struct s { __u32 a; __u64 b; }", "struct s { __u32 a; __u32 : 32; __u64 b; }"),
        ("struct s { __u32 a; __u32 b; }", "struct s { struct { __u32 a; }; __u32 b; }"),
        (
            "union u { __u32 a; int b; }; struct s { union u u; }",
            "union v { int b; __u32 a; }; struct s { union v u; }",
        ),
        ("enum e { A }; struct s { enum e e; }", "enum e { A, B }; struct s { enum e e; }"),
        ("struct s { int *p; }", "struct s { void *p; }"),
    ],
)
def test_layout_is_the_same_where_the_meaning_is(tmp_path, one, other):
    assert layout_of(tmp_path, one) == layout_of(tmp_path, other)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "struct s { __u64 packets, bytes; }",
            "struct s { __u64 bytes, packets; }",
            ["value.bytes: u64 at 0 was u64 at 8", "value.packets: u64 at 8 was u64 at 0"],
        ),
        (
            "struct s { __u64 a; }",
            "struct s { __u64 a; __u32 b; }",
            ["value: 16 bytes, was 8", "value.b: u32 at 8 is new"],
        ),
        (
            "struct s { __u32 a, b; }",
            "struct s { __u32 a; __u32 c; }",
            ["value.c: u32 at 4 is new", "value.b: u32 at 4 is gone"],
        ),
        ("struct s { __u32 a; }", "struct s { int a; }", ["value.a: s32 at 0 was u32 at 0"]),
        ("struct s { __u32 a; }", "struct s { __be32 a; }", ["value.a: be32 at 0 was u32 at 0"]),
        ("struct s { __u8 a; }", "struct s { flag a; }", ["value.a: bool at 0 was u8 at 0"]),
        ("struct s { __u8 a[4]; }", "struct s { char a[4]; }", ["value.a: char[4] at 0 was u8[4] at 0"]),
        ("struct s { __u32 a : 3; }", "struct s { __u32 a : 4; }", ["value.a: u32:4 at 0 bit 0 was u32:3 at 0 bit 0"]),
        (
            "struct t { __u32 x, y; }; struct s { struct t t[2]; }",
            "struct t { __u32 y, x; }; struct s { struct t t[2]; }",
            ["value.t[].y: u32 at 0 was u32 at 4", "value.t[].x: u32 at 4 was u32 at 0"],
        ),
        (
            "struct t { __u32 x; }; struct s { __u32 a; struct t t; }",
            "struct t { __u64 x; }; struct s { __u32 a; struct t t; }",
            [
                "value: 16 bytes, was 8",
                "value.t: struct of 8 bytes at 8 was struct of 4 bytes at 4",
                "value.t.x: u64 at 0 was u32 at 0",
            ],
        ),
        (
            "struct s { __u32 a; union { __u32 b; __u32 c; }; }",
            "struct s { __u32 a; union { __u32 b; int c; }; }",
            ["value.(anonymous 1).c: s32 at 0 was u32 at 0"],
        ),
    ],
)
def test_differences_say_what_changed_field_by_field(tmp_path, old, new, said):
    assert btf.differences(layout_of(tmp_path, old), layout_of(tmp_path, new)) == said


def test_differences_of_whole_values_and_of_maps_without_btf():
    u32, u64 = ({"kind": "int", "size": size, "signed": False} for size in (4, 8))
    assert btf.differences(u32, u64, "key") == ["key: u64, was u32"]
    assert btf.differences({"kind": "void"}, u64) == ["value: u64, was without BTF"]


def test_differences_are_empty_exactly_for_equal_layouts(types):
    layouts = []
    for type_id in range(1, len(types) + 1):
        try:
            layouts.append(btf.layout(types, type_id))
        except ValueError:
            assert types.type(types.resolve(type_id)).kind in ("void", "func", "func_proto", "datasec", "fwd")
    assert len(layouts) > 20
    for one in layouts:
        for other in layouts:
            assert bool(btf.differences(one, other)) == (one != other)


# ---- damaged bytes ---------------------------------------------------------------------------------------------------


def made(words, names=b"\0", magic=0xEB9F):
    """BTF bytes with these words as types."""
    body = struct.pack(f"<{len(words)}I", *words)
    return struct.pack("<HBBIIIII", magic, 1, 0, 24, 0, len(body), len(body), len(names)) + body + names


def info(kind, parts=0):
    return [row[0] for row in btf.KINDS].index(kind) << 24 | parts


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "do not begin"),
        (b"\x7fELF", "do not begin"),
        (made([])[:20], "less than its header"),
        (made([])[:-1], "ends beyond"),
        (made([], names=b""), "zero byte"),
        (made([], names=b"\0a"), "zero byte"),
        (made([0, info("int"), 4]), "ends beyond"),
        (made([0, info("struct", 9), 4]), "ends beyond"),
        (made([0, 0, 0]), "kind 0"),
        (made([0, 25 << 24, 0]), "kind 25"),
        (made([0, info("ptr")]), "ends beyond"),
    ],
)
def test_parse_damaged_bytes_are_named(data, said):
    with pytest.raises(ValueError, match=said):
        btf.parse(data)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([0, info("typedef"), 1], "leads back to itself"),
        ([0, info("typedef"), 9], "no type 9"),
        ([99, info("float"), 4], "beyond the 1 bytes of names"),
        ([0, info("array"), 0, 1, 1, 4], "nests too deep|contains itself"),
        ([0, info("struct", 1), 8, 0, 1, 0], "contains itself"),
        ([0, info("struct", 1), 2, 0, 2, 0, 0, info("float"), 4], "beyond the end"),
        ([0, info("array"), 0, 2, 2, 0xFFFFFFFF, 0, info("struct"), 0], "over 65536 fields"),
        ([0, info("int"), 4, 33], "cannot hold 33 bits"),
        ([0, info("fwd"), 0], "no size"),
    ],
)
def test_layout_of_impossible_types_is_refused(words, said):
    types = btf.parse(made(words))
    with pytest.raises(ValueError, match=said):
        btf.layout(types, 1)


def test_layout_of_types_that_multiply_is_refused():
    # each struct holds the next one a thousand times, at no size: 1000 ** 10 fields
    words = []
    for level in range(10):
        words += [0, info("struct", 1000), 0, *[0, level + 2, 0] * 1000]
    types = btf.parse(made([*words, 0, info("struct"), 0]))
    with pytest.raises(ValueError, match="over 65536 fields"):
        btf.layout(types, 1)


def ask_everything(data):
    """Whether the bytes parsed; whatever is asked of them is answered or a ValueError."""
    try:
        types = btf.parse(data)
    except ValueError:
        return False
    for type_id in range(len(types) + 2):
        for question in (types.type, types.fields, types.members, types.enumerators, types.size, types.describe):
            with contextlib.suppress(ValueError):
                question(type_id)
        try:
            found = btf.layout(types, type_id)
        except ValueError:
            continue
        assert btf.differences(found, found) == []
    return True


def test_parse_survives_damage_anywhere(raw):
    """Bytes changed, cut and swapped by chance: each is read or refused, and both happen."""
    chance, parsed = random.Random(11), 0
    for dummy in range(1500):
        data = bytearray(raw)
        for dummy in range(chance.choice((1, 2, 8, 40))):
            at = chance.randrange(24, len(data))
            data[at] = chance.choice((0, 1, 2, 0xFF, data[at] ^ 1 << chance.randrange(8), chance.randrange(256)))
        if chance.random() < 0.1:
            del data[chance.randrange(len(data)) :]
        parsed += ask_everything(bytes(data))
    assert 100 < parsed < 1500


def test_parse_survives_random_types():
    """Words by chance with plausible kinds, so that circles, deep nests and wild sizes come up."""
    chance, parsed = random.Random(12), 0
    for dummy in range(1500):
        words = []
        for dummy in range(chance.randrange(1, 12)):
            row = chance.choice(btf.KINDS[1:])
            parts = chance.randrange(3) if row[2] else 0
            words += [chance.randrange(8), info(row[0], parts) | chance.randrange(2) << 31]
            words += [chance.choice((0, 1, 2, 4, 8, chance.randrange(14), 0xFFFFFFFF))]
            words += [chance.choice((0, 1, chance.randrange(14), 32)) for dummy in range(row[1] + row[2] * parts)]
        parsed += ask_everything(made(words, names=b"\0a\0bc\0def\0"))
    assert parsed == 1500


def test_clang_and_bpftool_are_here():
    """The witnesses of this file; without them it would prove less than it says."""
    assert shutil.which("clang") and shutil.which("bpftool")
