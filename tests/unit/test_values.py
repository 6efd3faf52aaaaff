# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values to bytes and back. The witness is clang: what it writes for the same initializers, in both byte orders."""

from __future__ import annotations

import json
import random
import struct
import subprocess

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import btf, values

TYPES = """
typedef unsigned char __u8; typedef signed char __s8; typedef unsigned short __u16; typedef unsigned int __u32;
typedef int __s32; typedef unsigned long long __u64; typedef long long __s64; typedef _Bool flag;
typedef __u16 __be16; typedef __u32 __be32; typedef __u64 __be64;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BE16(x) __builtin_bswap16(x)
#define BE32(x) __builtin_bswap32(x)
#define BE64(x) __builtin_bswap64(x)
#else
#define BE16(x) x
#define BE32(x) x
#define BE64(x) x
#endif
enum action { ABORTED, DROP, PASS = 2, LOW = -3 };
struct in_addr { __be32 s_addr; };
struct in6_addr { union { __u8 u6_addr8[16]; __be32 u6_addr32[4]; } in6_u; };
union either { __u32 number; __u8 octets[8]; };
struct inner { __u8 tag; __u64 count; };
struct all {
    __u8 u8; __s8 s8; __u16 u16; __u32 u32; __s32 s32; __u64 u64; __s64 s64; flag flag;
    enum action action; char name[8]; __be16 be16; __be32 be32; __be64 be64; __u64 list[3]; struct inner inner;
    struct inner many[2]; union either either; union { __u32 whole; struct { __u16 low; __u16 high; }; };
    struct { __u8 hidden; }; __u32 a : 3; __u32 b : 9; __s32 c : 4; __u64 d : 40; flag e : 1;
    float f32; double f64; void *pointer;
    struct in_addr v4; struct in6_addr v6; __u8 mac[6]; __u8 octets4[4]; __u8 octets16[16]; __u32 words16[4];
    __u8 grid[2][3];
};
struct prefix4 { __u32 prefixlen; __be32 address; };
struct prefix6 { __u32 prefixlen; struct in6_addr address; };
struct plain_prefix { __u32 prefixlen; __u32 address; };
struct bpf_lpm_trie_key_hdr { __u32 prefixlen; };
struct bpf_lpm_trie_key_u8 { union { struct bpf_lpm_trie_key_hdr hdr; __u32 prefixlen; }; __u8 data[4]; };
struct more { __u32 prefixlen; __u32 interface; __be32 address; };
"""
KEYS = "struct prefix4 k4; struct prefix6 k6; struct plain_prefix kp; struct bpf_lpm_trie_key_u8 kt; struct more km;"
FILLED = """struct all thing = { .u8 = 200, .s8 = -100, .u16 = 0x1234, .u32 = 0x12345678, .s32 = -5,
    .u64 = 0xfedcba9876543210, .s64 = -6, .flag = 1, .action = DROP, .name = "eth0", .be16 = BE16(8080),
    .be32 = BE32(0x0a000001), .be64 = BE64(7), .list = {1, 2}, .inner = {3, 4}, .many = {{5, 6}, {7, 8}},
    .either = {.octets = {1, 2, 3}}, .low = 1, .high = 2,
    .hidden = 9, .a = 5, .b = 300, .c = -7, .d = 0x123456789a, .e = 1, .f32 = 1.5, .f64 = -2.25,
    .v4 = {BE32(0xc0000201)}, .v6 = {{.u6_addr8 = {0x20, 1, 0xd, 0xb8, [15] = 1}}}, .mac = {2, 0, 0, 0, 0, 1},
    .octets4 = {10, 0, 0, 2}, .octets16 = {[15] = 1}, .words16 = {BE32(0xfe800000), 0, 0, BE32(2)},
    .grid = {{1, 2, 3}, {4, 5, 6}} };"""
GIVEN = {
    "u8": 200, "s8": -100, "u16": "0x1234", "u32": 0x12345678, "s32": "-5", "u64": 0xFEDCBA9876543210, "s64": -6,
    "flag": True, "action": "DROP", "name": "eth0", "be16": 8080, "be32": "10.0.0.1", "be64": "7", "list": [1, "2"],
    "inner": {"tag": 3, "count": 4}, "many": [{"tag": 5, "count": 6}, {"count": 8, "tag": 7}],
    "either": {"octets": [1, 2, 3]}, "low": 1, "high": 2, "hidden": 9, "a": 5, "b": 300, "c": -7, "d": 0x123456789A,
    "e": "yes", "f32": 1.5, "f64": "-2.25", "v4": "192.0.2.1", "v6": "2001:db8::1", "mac": "02:00:00:00:00:01",
    "octets4": "10.0.0.2", "octets16": "::1", "words16": "fe80::2", "grid": [[1, 2, 3], [4, 5, 6]], "pointer": None,
}  # fmt: skip


def section(elf, name):
    """The bytes of one section of a 64 bit ELF file of either byte order."""
    order = "<" if elf[5] == 1 else ">"
    offset = struct.unpack_from(order + "40xQ", elf)[0]
    size, count, names = struct.unpack_from(order + "58xHHH", elf)
    rows = [struct.unpack_from(order + "IIQQQQ", elf, offset + size * number) for number in range(count)]
    for row in rows:
        start = rows[names][4] + row[0]
        if elf[start : elf.index(b"\0", start)].decode() == name:
            return elf[row[4] : row[4] + row[5]]
    raise LookupError(name)


def compiled(folder, source, target="bpf"):
    (folder / "x.c").write_text(source)
    command = ["clang", "-target", target, "-g", "-O2", "-c", folder / "x.c", "-o", folder / "x.o"]
    subprocess.run(command, check=True)
    return (folder / "x.o").read_bytes()


@pytest.fixture(name="types", scope="module")
def fixture_types(tmp_path_factory):
    elf = compiled(tmp_path_factory.mktemp("values"), TYPES + KEYS + FILLED)
    return btf.parse(section(elf, ".BTF"))


@pytest.fixture(name="all_id")
def fixture_all_id(types):
    return types.find("all", "struct")


def refused(types, type_id, value, **more):
    with pytest.raises(BadRequest) as caught:
        values.pack(types, type_id, value, **more)
    return caught.value


# ---- the bytes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "byteorder"), [("bpf", "little"), ("bpfeb", "big")])
def test_pack_gives_the_bytes_that_clang_gives(tmp_path, target, byteorder):
    elf = compiled(tmp_path, TYPES + FILLED, target)
    types = btf.parse(section(elf, ".BTF"))
    packed = values.pack(types, types.find("all", "struct"), GIVEN, byteorder)
    assert packed == section(elf, ".data")


@pytest.mark.parametrize(("target", "byteorder"), [("bpf", "little"), ("bpfeb", "big")])
def test_unpack_reads_what_clang_wrote(tmp_path, target, byteorder):
    elf = compiled(tmp_path, TYPES + FILLED, target)
    types = btf.parse(section(elf, ".BTF"))
    shown = values.unpack(types, types.find("all", "struct"), section(elf, ".data"), byteorder)
    assert json.loads(json.dumps(shown)) == shown
    assert shown.pop("whole") == (0x20001 if byteorder == "little" else 0x10002)
    assert shown == {
        **{key: value for key, value in GIVEN.items() if key not in ("low", "high")},
        **{"u16": 0x1234, "s32": -5, "be32": 0x0A000001, "be64": 7, "list": [1, 2, 0], "e": True, "f64": -2.25},
        **{"either": {"octets": [1, 2, 3, 0, 0, 0, 0, 0]}, "mac": [2, 0, 0, 0, 0, 1], "octets4": [10, 0, 0, 2]},
        **{"octets16": [0] * 15 + [1]},
        "words16": list(
            struct.unpack(("<" if byteorder == "little" else ">") + "4I", bytes.fromhex("fe80" + "0" * 24 + "0002"))
        ),
    }


def test_unpack_globals_by_their_section(types, all_id):
    """A .data map's value is the section. Its size is filled in by libbpf, not by clang: here as libbpf does."""
    names = b"\0int\0one\0two\0.data\0"
    words = [1, 1 << 24, 4, 1 << 24 | 32, 5, 14 << 24, 1, 1, 9, 14 << 24, 1, 1, 13, 15 << 24 | 2, 8, 2, 0, 4, 3, 4, 4]
    body = struct.pack(f"<{len(words)}I", *words)
    data = btf.parse(struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(names)) + body + names)
    assert values.unpack(data, 4, b"\1\0\0\0\xff\xff\xff\xff", "little") == {"one": 1, "two": -1}
    assert values.pack(data, 4, {"two": 3}, "little") == b"\0\0\0\0\3\0\0\0"
    raw_section = types.find(".data", "datasec")
    with pytest.raises(ValueError, match="beyond the end"):
        values.unpack(types, raw_section, bytes(types.size(all_id)))


# ---- there and back --------------------------------------------------------------------------------------------------


def drawn(chance, types, type_id, bits=0):
    """A value by chance that fits the type."""
    found = types.type(types.resolve(type_id))
    if found.kind == "int" and found.is_bool:
        return chance.random() < 0.5
    if found.kind in ("enum", "int"):
        bits = bits or found.size * 8
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if found.signed else (0, (1 << bits) - 1)
        names = [name for name, dummy in types.enumerators(found.id)] if found.kind == "enum" else []
        return chance.choice([low, high, 0, chance.randint(low, high), *names])
    if found.kind == "float":
        return struct.unpack("f", struct.pack("f", chance.uniform(-1e6, 1e6)))[0]
    if found.kind == "array":
        if types.type(types.resolve(found.target)).is_char:
            return "".join(chance.choice("aZ09 :/é") for dummy in range(found.count // 2))
        return [drawn(chance, types, found.target) for dummy in range(chance.randrange(found.count + 1))]
    if found.kind == "ptr":
        return None
    fields = list(types.members(found.id).values())
    chance.shuffle(fields)
    taken, value = set(), {}
    for field in fields[: chance.randrange(len(fields) + 1)]:
        span = set(range(field.first_bit, field.first_bit + (field.bits or types.size(field.type) * 8)))
        if not taken & span:
            taken |= span
            value[field.name] = drawn(chance, types, field.type, field.bits)
    return value


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_round_trip_of_values_by_chance(types, all_id, byteorder):
    chance = random.Random(21)
    for dummy in range(400):
        data = values.pack(types, all_id, drawn(chance, types, all_id), byteorder)
        shown = values.unpack(types, all_id, data, byteorder)
        assert json.loads(json.dumps(shown)) == shown
        assert values.pack(types, all_id, shown, byteorder) == data
        as_text = json.loads(json.dumps(shown), parse_int=str)
        assert values.pack(types, all_id, as_text, byteorder) == data


@pytest.mark.parametrize("name", ["all", "prefix4", "prefix6", "bpf_lpm_trie_key_u8", "more", "in6_addr"])
def test_round_trip_of_bytes_by_chance(types, name):
    """Whatever a program left in a map can be shown and written again; only pointers and padding are not."""
    chance, type_id = random.Random(22), types.find(name, "struct")
    padding = bytearray(b"\xff" * types.size(type_id))
    if name == "all":
        pointer = types.members(type_id)["pointer"].first_bit // 8
    for dummy in range(400):
        data = bytearray(chance.choice((0, 1, 0x41, 0xFF, chance.randrange(256))) for dummy in padding)
        if name == "all":
            data[pointer : pointer + 8] = bytes(8)
        shown = values.unpack(types, type_id, bytes(data))
        again = values.pack(types, type_id, shown)
        assert values.unpack(types, type_id, again) == shown
        if name != "all":
            assert again == data


def test_unpack_answers_for_every_type_of_the_object(types):
    for type_id in range(1, len(types) + 1):
        try:
            size = types.size(type_id)
            types.check(type_id)
        except ValueError:
            continue
        shown = values.unpack(types, type_id, bytes(size))
        assert values.pack(types, type_id, shown) == bytes(size)


# ---- what may be written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [("u32", "5", 5), ("u32", "0x10", 16), ("u32", " 7 ", 7), ("u32", True, 1), ("u32", 8.0, 8), ("s32", "-1", -1)],
)
def test_pack_numbers_as_ad_hoc_commands_give_them(types, all_id, name, value, number):
    field = types.members(all_id)[name]
    assert values.unpack(types, field.type, values.pack(types, field.type, value)) == number


def test_replace_keeps_what_is_not_named(types, all_id):
    before = values.pack(types, all_id, GIVEN)
    after = values.unpack(types, all_id, values.replace(types, all_id, before, {"b": 1, "list": [9], "low": 7}))
    shown = values.unpack(types, all_id, before)
    whole = 0x20007 if types.byteorder == "little" else 0x70002
    assert after == {**shown, "b": 1, "list": [9, 0, 0], "whole": whole}


def test_replace_keeps_what_is_not_named_in_a_struct_within(types, all_id):
    before = values.pack(types, all_id, GIVEN)

    after = values.unpack(types, all_id, values.replace(types, all_id, before, {"inner": {"tag": 9}}))

    assert after == {**values.unpack(types, all_id, before), "inner": {"tag": 9, "count": 4}}


@pytest.mark.parametrize(
    ("value", "path", "said"),
    [
        ({"u8": 256}, "value.u8", "value.u8: 256 does not fit __u8 (0 to 255)"),
        ({"s8": -129}, "value.s8", "value.s8: -129 does not fit __s8 (-128 to 127)"),
        ({"list": [0, 0, -1]}, "value.list[2]", "value.list[2]: -1 does not fit __u64 (0 to 18446744073709551615)"),
        ({"many": [{}, {"tag": "x"}]}, "value.many[1].tag", "value.many[1].tag must be a __u8 (0 to 255), not 'x'"),
        ({"u32": "010"}, "value.u32", "not '010'"),
        ({"u32": 1.5}, "value.u32", "not 1.5"),
        ({"u32": None}, "value.u32", "not None"),
        ({"u32": "10.0.0.1"}, "value.u32", "does not say in which byte order"),
        ({"be16": 65536}, "value.be16", "__be16 (0 to 65535)"),
        ({"be32": "10.0.0.256"}, "value.be32", "an IPv4 address"),
        ({"v6": "10.0.0.1"}, "value.v6", "an IPv6 address"),
        ({"a": 8}, "value.a", "(0 to 7)"),
        ({"c": -9}, "value.c", "(-8 to 7)"),
        ({"flag": "maybe"}, "value.flag", "true or false"),
        ({"flag": 2}, "value.flag", "true or false"),
        ({"action": "DORP"}, "value.action", "Did you mean DROP?"),
        ({"action": "DROP|PASS"}, "value.action", "enum action has no DROP|PASS"),
        ({"name": "much too long"}, "value.name", "13 bytes, and 8 fit"),
        ({"name": 5}, "value.name", "text of at most 8 bytes"),
        ({"list": [1, 2, 3, 4]}, "value.list", "4 elements, and 3 fit"),
        ({"list": 1}, "value.list", "a list of __u64, 3 at most"),
        ({"inner": 1}, "value.inner", "the fields of a struct inner (tag, count)"),
        ({"countt": 1}, "value", "struct all has no countt"),
        ({"inner": {"cuont": 1}}, "value.inner", "Did you mean count?"),
        ({"whole": 1, "high": 1}, "value", "share their bytes"),
        ({"either": {"number": 1, "octets": [1]}}, "value.either", "share their bytes"),
        ({"pointer": 4096}, "value.pointer", "cannot be written from outside"),
        ({"mac": "02:00"}, "value.mac", "hardware address"),
        ({"mac": "hex:02"}, "value.mac", "6 bytes, and 1 were given"),
        ({"mac": "hex:zz"}, "value.mac", "hexadecimal"),
        ({"f32": "much"}, "value.f32", "a number"),
        ({"f32": 1e300}, "value.f32", "a number"),
    ],
)
def test_pack_refuses_and_names_the_field(types, all_id, value, path, said):
    failure = refused(types, all_id, value)
    assert said in str(failure)
    assert failure.detail["path"] == path
    assert path in failure.what


def test_pack_errors_keep_a_secret(types, all_id):
    for value in (
        {"u8": 98765},
        {"x98765": 1},
        {"name": "98765" * 2},
        {"be32": "98765."},
        {"action": "x98765"},
        {"mac": "98765:"},
    ):
        assert "98765" not in str(refused(types, all_id, value, secret=True))


def test_pack_enum_by_number_and_negative(types, all_id):
    action = types.members(all_id)["action"].type
    assert values.unpack(types, action, values.pack(types, action, -3)) == "LOW"
    assert values.unpack(types, action, values.pack(types, action, "0x2")) == "PASS"
    assert values.unpack(types, action, values.pack(types, action, 77)) == 77


def test_text_that_is_no_text_comes_as_hex(types, all_id):
    name = types.members(all_id)["name"].type
    for data, shown in [
        (b"eth0\0\0\0\0", "eth0"),
        (b"12345678", "12345678"),
        (b"a\0b\0\0\0\0\0", "hex:6100620000000000"),
        (b"\xff\xfe\0\0\0\0\0\0", "hex:fffe000000000000"),
        (b"hex:\0\0\0\0", "hex:6865783a00000000"),
    ]:
        assert values.unpack(types, name, data) == shown
        assert values.pack(types, name, shown) == data


def test_bytes_that_fit_nothing_else_come_as_hex(types, all_id):
    members = types.members(all_id)
    assert values.unpack(types, members["flag"].type, b"\5") == "hex:05"
    assert values.pack(types, members["flag"].type, "hex:05") == b"\5"
    nan = struct.pack("<f", float("nan"))
    assert values.unpack(types, members["f32"].type, nan, "little") == "hex:" + nan.hex()


def test_unpack_shows_a_pointer_that_pack_refuses(types, all_id):
    pointer = types.members(all_id)["pointer"].type
    assert values.unpack(types, pointer, (0xFFFF888000001000).to_bytes(8, "little"), "little") == "0xffff888000001000"
    assert values.pack(types, pointer, None) == bytes(8)


def test_unpack_refuses_another_length(types, all_id):
    with pytest.raises(ValueError, match="3 bytes are no struct all"):
        values.unpack(types, all_id, b"abc")


# ---- prefixes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "data"),
    [
        ("prefix4", "10.0.0.0/8", "080000000a000000"),
        ("prefix4", "192.0.2.1", "20000000c0000201"),
        ("prefix4", "0.0.0.0/0", "0000000000000000"),
        ("prefix6", "2001:db8::/32", "2000000020010db8" + "0" * 24),
        ("plain_prefix", "10.0.0.0/8", "080000000a000000"),
        ("bpf_lpm_trie_key_u8", "10.0.0.0/8", "080000000a000000"),
    ],
)
def test_pack_a_prefix_as_the_trie_compares_it(types, name, text, data):
    packed = values.pack(types, types.find(name, "struct"), text, "little")
    assert packed == bytes.fromhex(data)


def test_unpack_a_prefix_only_where_an_address_is_declared(types):
    data = bytes.fromhex("080000000a000000")
    shown = {
        name: values.unpack(types, types.find(name, "struct"), data, "little") for name in ("prefix4", "plain_prefix")
    }
    assert shown == {"prefix4": "10.0.0.0/8", "plain_prefix": {"prefixlen": 8, "address": 10}}
    beyond = bytes.fromhex("080000000a000005")
    assert values.unpack(types, types.find("prefix4", "struct"), beyond, "little") == {
        "prefixlen": 8,
        "address": 0x0A000005,
    }


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("prefix4", "10.0.0.5/8", "Write 10.0.0.0/8"),
        ("prefix4", "10.0.0.0/33", "prefix length (0 to 32)"),
        ("prefix4", "10.0.0.0/", "prefix length"),
        ("prefix4", "::/0", "an IPv4 address"),
        ("prefix4", "nonsense", "an IPv4 address"),
        ("prefix6", "10.0.0.0/8", "an IPv6 address"),
        ("more", "10.0.0.0/8", "the fields of a struct more (prefixlen, interface, address)"),
    ],
)
def test_pack_a_prefix_that_is_none_is_refused(types, name, text, said):
    failure = refused(types, types.find(name, "struct"), text, path="key")
    assert said in str(failure) and failure.detail["path"] == "key"


# ---- without BTF -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "value", "data", "shown"),
    [
        (4, 5, "05000000", 5),
        (2, "0x10", "1000", 16),
        (4, "hex:01020304", "01020304", 0x04030201),
        (6, "hex:02:00:00:00:00:01", "020000000001", "hex:020000000001"),
        (3, [1, 2, "3"], "010203", "hex:010203"),
        (3, b"abc", "616263", "hex:616263"),
    ],
)
def test_plain_values_without_btf(size, value, data, shown):
    assert values.pack(None, 0, value, "little", size=size) == bytes.fromhex(data)
    assert values.unpack(None, 0, bytes.fromhex(data), "little") == shown
    assert values.pack(None, 0, shown, "little", size=size) == bytes.fromhex(data)


@pytest.mark.parametrize(
    ("size", "value"), [(4, 2**32), (4, -1), (3, 5), (3, "abc"), (3, [1, 2]), (3, [1, 2, 256]), (4, "x")]
)
def test_plain_values_that_do_not_fit_are_refused(size, value):
    assert refused(None, 0, value, size=size, path="key").detail["path"].startswith("key")
