# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Types out of BTF bytes: what a type is, and how its values lie in memory.

    btf = parse(data)             the ends of all types are known, nothing more is read
    btf.find("flow", "struct")    a type's id; ids are what the kernel and libbpf give for a map's key and value
    layout(btf, id)               the same for two types exactly if a value of one may stand for a value of the other
    differences(old, new)         in words, field by field; empty exactly if the layouts are equal

Damaged bytes raise ValueError, from parse or from the first question that meets them; no bytes make a question run on
for ever. Values are the room values.py. Split BTF (a kernel module's) and .BTF.ext are not read here. The format is in
the kernel's Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import Counter
from typing import NamedTuple

MAGIC = 0xEB9F
POINTER = 8  # bytes; BPF programs see 64 bit pointers on every host
DEPTH = 32  # MAX_RESOLVE_DEPTH in the kernel's btf.c: no BTF that it loads nests deeper
MOST_FIELDS = 65536  # of one type, all that is nested in it included: a limit for damaged bytes, not for programs

# Kinds in the order of their numbers, and the 32 bit words that follow a type's first three: always, and for each part.
KINDS = (
    ("void", 0, 0),
    ("int", 1, 0),
    ("ptr", 0, 0),
    ("array", 3, 0),
    ("struct", 0, 3),
    ("union", 0, 3),
    ("enum", 0, 2),
    ("fwd", 0, 0),
    ("typedef", 0, 0),
    ("volatile", 0, 0),
    ("const", 0, 0),
    ("restrict", 0, 0),
    ("func", 0, 0),
    ("func_proto", 0, 2),
    ("var", 1, 0),
    ("datasec", 0, 3),
    ("float", 0, 0),
    ("decl_tag", 1, 0),
    ("type_tag", 0, 0),
    ("enum64", 0, 3),
)
TRANSPARENT = {"typedef", "volatile", "const", "restrict", "type_tag", "var"}
POINTING = TRANSPARENT | {"ptr", "func", "decl_tag", "func_proto"}  # their third word is a type's id, not a size
COMPOSITE = {"struct", "union", "datasec"}
VALUES = {"int", "ptr", "array", "struct", "union", "enum", "enum64", "float", "datasec"}  # a value can be one of these
SPOKEN = {"ptr": "pointer", "void": "without BTF", "enum64": "enum"}
# Only these names say that a number's bytes do not lie in the host's order (linux/types.h).
FIXED_ORDER = {
    f"__{order}{bits}": f"{word}" for order, word in (("be", "big"), ("le", "little")) for bits in (16, 32, 64)
}


class Type(NamedTuple):
    """One type as it is written down. Fields and enumerators are asked for with its id."""

    id: int
    kind: str
    name: str = ""
    size: int = 0  # bytes; 0 for kinds that have none of their own
    target: int = 0  # the id behind a typedef, qualifier, pointer, variable; an array's element
    count: int = 0  # an array's elements
    bits: int = 0  # an int's; less than its size only in bitfields of old compilers
    first_bit: int = 0
    signed: bool = False  # ints and enums
    is_bool: bool = False
    is_char: bool = False


class Field(NamedTuple):
    """A member of a struct or union, or a variable of a section."""

    name: str  # "" for an anonymous struct or union
    type: int
    first_bit: int  # counted from the start of what it is a member of
    bits: int  # 0 unless it is a bitfield


def parse(data):
    """The types in raw BTF bytes, of either byte order. ValueError says what is damaged.

    The whole of a kernel's own BTF (5.5 MB, 127,000 types) takes 25 to 50 ms here, a name found in it 3 more.
    """
    order = _byteorder(data)
    if len(data) < 24:
        raise ValueError(f"BTF: {len(data)} bytes are less than its header")
    version, header, *places = struct.unpack_from("<2xBxIIIII" if order == "little" else ">2xBxIIIII", data)
    if version != 1 or header < 24:
        raise ValueError(f"BTF: version {version} with a header of {header} bytes is unknown")
    types, strings = (_section(data, header, *place) for place in (places[:2], places[2:]))
    if len(types) % 4:
        raise ValueError("BTF: the types' bytes are no multiple of four")
    if not strings or strings[0] or strings[-1]:
        raise ValueError("BTF: the names do not begin and end with a zero byte")
    words = array("I", types)
    if order != sys.byteorder:
        words.byteswap()
    return Btf(words, _boundaries(words), strings, order)


class Btf:
    """Parsed BTF. Type ids count from 1; 0 is void. What has been asked once is remembered."""

    def __init__(self, words, places, strings, byteorder):
        self.byteorder = byteorder
        self._words = words
        self._places = places
        self._strings = strings
        self._types = {}
        self._resolved = {}
        self._fields = {}
        self._members = {}
        self._enumerators = {}
        self._walked = {}

    def __len__(self):
        """The number of types, void not counted: the highest id."""
        return len(self._places) - 1

    def type(self, type_id):
        """The type with this id."""
        if type_id not in self._types:
            self._types[type_id] = self._read(type_id)
        return self._types[type_id]

    def find(self, name, kind):
        """The lowest id of a type with this name and kind ("struct", "typedef", …), or None."""
        wanted = self._occurrences(name)
        number = next((number for number, row in enumerate(KINDS) if row[0] == kind), None)
        if number is None:
            raise ValueError(f"BTF knows no kind {kind!r}")
        words = self._words
        for type_id in range(1, len(self._places)):
            at = self._places[type_id]
            if words[at] in wanted and words[at + 1] >> 24 & 0x1F == number:
                return type_id
        return None

    def resolve(self, type_id):
        """The id of what a type is behind its typedefs, qualifiers and tags; a variable is its type."""
        return self._resolve(type_id)[0]

    def order(self, type_id):
        """The byte order that a typedef fixes: "big" for __be32, "little" for __le32, else ""."""
        return self._resolve(type_id)[1]

    def size(self, type_id):
        """The bytes of a value of this type. ValueError where there can be none: void, functions, declarations."""
        count = 1
        for dummy in range(DEPTH):
            found = self.type(self.resolve(type_id))
            if found.kind != "array":
                return count * self._own_size(found)
            count, type_id = count * found.count, found.target
        raise ValueError(f"BTF: {self.describe(type_id)} nests too deep")

    def fields(self, type_id):
        """The fields of a struct, union or section in their order, as declared."""
        if type_id not in self._fields:
            self._fields[type_id] = tuple(self._read_fields(self.type(type_id)))
        return self._fields[type_id]

    def members(self, type_id):
        """{name: Field} as C reaches them: the fields of anonymous structs and unions are among them."""
        if type_id not in self._members:
            self.check(type_id)
            self._members[type_id] = {field.name: field for field in self._named(type_id, 0)}
        return self._members[type_id]

    def enumerators(self, type_id):
        """((name, number), …) of an enum."""
        if type_id not in self._enumerators:
            self._enumerators[type_id] = tuple(self._read_enumerators(self.type(type_id)))
        return self._enumerators[type_id]

    def prototype(self, type_id, name, first=0):
        """A function with its parameters from `first` on as C declares it: "int vfs_open(const struct path *path)"."""
        found = self.type(type_id)
        parts = self._parts(found, 2)[1][first:]
        shown = [self._declared(each, self._name(own)) if each else "..." for own, each in parts]
        return self._declared(found.target, f"{name}({', '.join(shown)})")

    def _declared(self, type_id, name):
        found = self.type(type_id)
        if found.kind == "ptr":
            is_function = self.type(found.target).kind == "func_proto"
            return f"void *{name}" if is_function else self._declared(found.target, "*" + name)
        if found.kind in ("restrict", "volatile", "type_tag"):
            return self._declared(found.target, name)
        if found.kind == "const":
            return "const " + self._declared(found.target, name)
        return f"{self.describe(type_id)} {name}".rstrip()

    def describe(self, type_id):
        """The type as one would say it: "__u32", "struct flow", "__u8[6]"."""
        for dummy in range(DEPTH):
            found = self.type(type_id)
            if found.kind == "array":
                return f"{self.describe_element(found)}[{found.count}]"
            if found.kind == "void":
                return "void"
            if found.name and found.kind not in ("var", "type_tag"):
                tag = {"struct": "struct ", "union": "union ", "enum": "enum ", "enum64": "enum "}.get(found.kind, "")
                return tag + found.name
            if found.kind not in TRANSPARENT:
                return SPOKEN.get(found.kind, found.kind)
            type_id = found.target
        return "type"

    def describe_element(self, outer):
        """An array's element in the same way; one that is itself an array is only called so."""
        inner = self.type(self.resolve(outer.target))
        return "array" if inner.kind == "array" else self.describe(outer.target)

    def check(self, type_id):
        """A value of this type can be walked to its end: no circle, every field inside its struct; else ValueError."""
        self._walk(type_id, ())

    # -- how it is read

    def _read(self, type_id):
        if type_id == 0:
            return Type(0, "void")
        if not 0 < type_id < len(self._places):
            raise ValueError(f"BTF: there is no type {type_id}, the last one is {len(self)}")
        at = self._places[type_id]
        name, info, third = self._words[at : at + 3]
        kind = KINDS[info >> 24 & 0x1F][0]
        found = Type(type_id, kind, self._name(name))
        if kind == "int":
            return self._read_int(found._replace(size=third), self._words[at + 3])
        if kind == "array":
            return found._replace(target=self._words[at + 3], count=self._words[at + 5])
        if kind in POINTING:
            return found._replace(target=third)
        signed = kind in ("enum", "enum64") and bool(info >> 31)
        return found._replace(size=0 if kind == "fwd" else third, signed=signed)

    def _read_int(self, found, word):
        bits, first_bit = word & 0xFF, word >> 16 & 0xFF
        if found.size not in (1, 2, 4, 8, 16) or not 0 < bits <= found.size * 8 - first_bit:
            raise ValueError(f"BTF: int {found.name} of {found.size} bytes cannot hold {bits} bits from {first_bit} on")
        flags = word >> 24 & 0xF
        # clang calls a char signed or not as the target has it, pahole neither: the name is the common ground
        is_char = found.size == 1 and (found.name == "char" or bool(flags & 2))
        return found._replace(
            bits=bits, first_bit=first_bit, signed=bool(flags & 1), is_bool=bool(flags & 4), is_char=is_char
        )

    def _parts(self, found, each):
        info = self._words[self._places[found.id] + 1]
        start = self._places[found.id] + 3
        return info >> 31, [self._words[at : at + each] for at in range(start, start + (info & 0xFFFF) * each, each)]

    def _read_fields(self, found):
        if found.kind not in COMPOSITE:
            raise ValueError(f"BTF: {found.kind} {found.name} has no fields")
        has_bitfields, parts = self._parts(found, 3)
        for first, second, third in parts:
            if found.kind == "datasec":
                yield Field(self.type(first).name, first, second * 8, 0)
            elif has_bitfields:
                yield Field(self._name(first), second, third & 0xFFFFFF, third >> 24)
            else:
                yield self._old_field(Field(self._name(first), second, third, 0))

    def _old_field(self, field):
        # before 4.20 (9d5f9f701b18) a bitfield's width and place stood in an int of its own
        behind = self.type(self.resolve(field.type))
        if behind.kind == "int" and behind.bits != behind.size * 8:
            return field._replace(first_bit=field.first_bit + behind.first_bit, bits=behind.bits)
        return field

    def _read_enumerators(self, found):
        if found.kind not in ("enum", "enum64"):
            raise ValueError(f"BTF: {found.kind} {found.name} has no enumerators")
        dummy, parts = self._parts(found, 2 if found.kind == "enum" else 3)
        wide = 32 if found.kind == "enum" else 64
        for name, low, *high in parts:
            number = low | (high[0] << 32 if high else 0)
            yield self._name(name), number - (1 << wide) if found.signed and number >> wide - 1 else number

    def _name(self, offset):
        end = self._strings.find(b"\0", offset) if offset < len(self._strings) else -1
        if end < 0:
            raise ValueError(f"BTF: a name at {offset} lies beyond the {len(self._strings)} bytes of names")
        return self._strings[offset:end].decode("utf-8", "backslashreplace")

    def _occurrences(self, name):
        """Every offset at which this name may be written; names may share their ends."""
        text, found = name.encode() + b"\0", set()
        at = self._strings.find(text)
        while at >= 0:
            found.add(at)
            at = self._strings.find(text, at + 1)
        return found

    # -- how it hangs together

    def _resolve(self, type_id):
        if type_id not in self._resolved:
            self._resolved[type_id] = self._follow(type_id)
        return self._resolved[type_id]

    def _follow(self, type_id):
        order = ""
        for dummy in range(DEPTH):
            found = self.type(type_id)
            if found.kind not in TRANSPARENT:
                return type_id, order
            if found.kind == "typedef":
                order = order or FIXED_ORDER.get(found.name, "")
            type_id = found.target
        raise ValueError(f"BTF: type {type_id} leads back to itself, or through more than {DEPTH} names")

    def _own_size(self, found):
        if found.kind not in VALUES:
            raise ValueError(f"BTF: {found.kind} {found.name}".rstrip() + " has no size")
        return POINTER if found.kind == "ptr" else found.size

    def _named(self, type_id, start):
        for field in self.fields(type_id):
            behind = self.resolve(field.type)
            if field.name:
                yield field._replace(first_bit=start + field.first_bit)
            elif self.type(behind).kind in COMPOSITE:
                yield from self._named(behind, start + field.first_bit)

    def _walk(self, type_id, outer):
        """(levels, fields) of a type, each type walked once however often it is used."""
        type_id = self.resolve(type_id)
        if type_id in self._walked:
            return self._walked[type_id]
        if type_id in outer or len(outer) > DEPTH:
            raise ValueError(f"BTF: {self.describe(type_id)} contains itself, or nests deeper than {DEPTH}")
        below = [self._walk(part, (*outer, type_id)) for part in self._inside(type_id)]
        found = self.type(type_id)
        # elements without size are bounded by nothing else
        times = found.count if found.kind == "array" and not self.size(type_id) else 1
        levels = 1 + max((levels for levels, dummy in below), default=0)
        fields = 1 + times * sum(fields for dummy, fields in below)
        if levels > DEPTH or fields > MOST_FIELDS:
            raise ValueError(
                f"BTF: {self.describe(type_id)} nests deeper than {DEPTH} or has over {MOST_FIELDS} fields"
            )
        self._walked[type_id] = levels, fields
        return levels, fields

    def _inside(self, type_id):
        """The ids of the types that lie inside a value of this one."""
        found = self.type(type_id)
        if found.kind == "array":
            return [found.target]
        if found.kind not in COMPOSITE:
            self._own_size(found)
            return []
        fields = self.fields(type_id)
        for field in fields:
            if field.first_bit + (field.bits or self.size(field.type) * 8) > found.size * 8:
                raise ValueError(f"BTF: field {field.name} reaches beyond the end of {self.describe(type_id)}")
        return [field.type for field in fields]


# ---- layouts -------------------------------------------------------------------------------------


def layout(btf, type_id):
    """How values of a type lie in memory, as plain data that survives JSON:

        {"kind": "int", "size": 8, "signed": False}             also "order": "big" where the type fixes a foreign one
        {"kind": "bool"|"char"|"float"|"enum"|"ptr", "size": 1}
        {"kind": "array", "count": 16, "of": {…}}
        {"kind": "struct"|"union", "size": 16, "fields": [{"name": "bytes", "at": 8, "type": {…}}, …]}
        {"kind": "void"}                                        type id 0: the map was made without BTF

    `at` is in bytes; a bitfield also has `bit`, its first bit counted from there, and `bits`, its width. Names of types
    do not count, nor do enumerators (one more of them is an everyday change, and the entries keep their meaning), nor
    what a pointer points to. Fields of an anonymous struct within a struct are the outer one's.
    """
    if type_id == 0:
        return {"kind": "void"}
    btf.check(type_id)
    return _layout(btf, type_id)


def differences(old, new, path="value"):
    """What changed from one layout to another, a sentence each: "value.bytes: u64 at 8 was u64 at 0"."""
    if old == new:
        return []
    kind = new["kind"]
    if kind == old["kind"] and kind in COMPOSITE:
        return _field_differences(old, new, path)
    if kind == old["kind"] == "array" and old["of"] != new["of"]:
        counts = [f"{path}: {new['count']} elements, was {old['count']}"] if old["count"] != new["count"] else []
        return counts + differences(old["of"], new["of"], f"{path}[]")
    return [f"{path}: {describe(new)}, was {describe(old)}"]


def describe(shape):
    """A layout in a word or two: "u64", "be32", "char[16]", "struct of 24 bytes"."""
    kind = shape["kind"]
    if kind == "array":
        return f"{describe(shape['of'])}[{shape['count']}]"
    if kind in COMPOSITE:
        return f"{kind} of {shape['size']} bytes"
    if kind == "int":
        prefix = {"big": "be", "little": "le"}.get(shape.get("order"), "s" if shape["signed"] else "u")
        return f"{prefix}{shape['size'] * 8}"
    if kind in ("enum", "float"):
        return f"{kind}{shape['size'] * 8}"
    return SPOKEN.get(kind, kind)


def _layout(btf, type_id):
    found = btf.type(btf.resolve(type_id))
    if found.kind in COMPOSITE:
        fields = sorted(_layout_fields(btf, found.id, 0), key=_place if found.kind != "union" else _name)
        kind = "union" if found.kind == "union" else "struct"
        return {"kind": kind, "size": found.size, "fields": fields}
    if found.kind == "array":
        return {"kind": "array", "count": found.count, "of": _layout(btf, found.target)}
    if found.kind == "int" and not found.is_bool and not found.is_char:
        order = btf.order(type_id)
        fixed = {"order": order} if order and order != btf.byteorder else {}
        return {"kind": "int", "size": found.size, "signed": found.signed, **fixed}
    kind = "bool" if found.is_bool else "char" if found.is_char else "enum" if found.kind == "enum64" else found.kind
    return {"kind": kind, "size": btf.size(found.id)}


def _layout_fields(btf, type_id, start):
    outer = btf.type(type_id)
    for field in btf.fields(type_id):
        at, behind = start + field.first_bit, btf.type(btf.resolve(field.type))
        if field.name or behind.kind == "union" or (behind.kind == "struct" and outer.kind == "union"):
            width = {"bit": at % 8, "bits": field.bits} if field.bits else {}
            yield {"name": field.name, "at": at // 8, **width, "type": _layout(btf, field.type)}
        elif behind.kind == "struct":
            yield from _layout_fields(btf, behind.id, at)


def _place(field):
    return field["at"], field.get("bit", 0), field["name"]


def _name(field):
    return field["name"]


def _field_differences(old, new, path):
    lines = []
    if old["size"] != new["size"]:
        lines.append(f"{path}: {new['size']} bytes, was {old['size']}")
    before, after = _by_name(old["fields"]), _by_name(new["fields"])
    for key, field in after.items():
        where = f"{path}.{_label(key)}"
        if key not in before:
            lines.append(f"{where}: {_described(field)} is new")
        elif before[key] != field:
            lines += _one_difference(before[key], field, where)
    lines += [f"{path}.{_label(key)}: {_described(field)} is gone" for key, field in before.items() if key not in after]
    return lines


def _by_name(fields):
    """{(name, n): field}: the n-th of this name, since several anonymous unions may stand in one struct."""
    found, turns = {}, Counter()
    for field in fields:
        found[field["name"], turns[field["name"]]] = field
        turns[field["name"]] += 1
    return found


def _label(key):
    name, turn = key
    return name or f"(anonymous {turn + 1})"


def _one_difference(old, new, path):
    nested = differences(old["type"], new["type"], path)
    if _described(old) == _described(new) and nested:
        return nested
    inner = [line for line in nested if line[len(path) :].lstrip("[]").startswith(".")]
    return [f"{path}: {_described(new)} was {_described(old)}", *inner]


def _described(field):
    if "bits" in field:
        return f"{describe(field['type'])}:{field['bits']} at {field['at']} bit {field['bit']}"
    return f"{describe(field['type'])} at {field['at']}"


# ---- the bytes -----------------------------------------------------------------------------------


def _byteorder(data):
    for order in ("little", "big"):
        if data[:2] == MAGIC.to_bytes(2, order):
            return order
    raise ValueError("BTF: these bytes do not begin as BTF does")


def _section(data, header, offset, length):
    if header + offset + length > len(data):
        raise ValueError(
            f"BTF: a section of {length} bytes at {header + offset} ends beyond the {len(data)} bytes given"
        )
    return bytes(data[header + offset : header + offset + length])


def _boundaries(words):
    """Where each type begins, by id; the place of id 0 is not used."""
    places, at, end = array("I", (0,)), 0, len(words)
    fixed, each = [row[1] for row in KINDS], [row[2] for row in KINDS]
    while at + 3 <= end:
        info = words[at + 1]
        kind = info >> 24 & 0x1F
        if not 0 < kind < len(KINDS):
            raise ValueError(f"BTF: type {len(places)} is of kind {kind}, which is unknown")
        places.append(at)
        at += 3 + fixed[kind] + each[kind] * (info & 0xFFFF)
    if at != end:
        raise ValueError(f"BTF: type {len(places) - 1 if at > end else len(places)} ends beyond the types' bytes")
    return places
