# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Python values to bytes and back, by BTF type. The values are what JSON and YAML have.

    type                          written as                              read as
    integers                      5, "5", "0x1f", true                    5
    __be16, __be32, __be64        the number, stored in network order     the number
    bool                          true, "yes", 0                          true
    enum                          "XDP_DROP" or 1                         "XDP_DROP", or a number without name
    char[n]                       "eth0"                                  "eth0", or hex where it is no text
    other arrays                  [1, 2]; what is missing is 0            [1, 2, 0, 0]
    struct, union, .data, .bss    {field: value}; what is missing is 0    {field: value}; of a union one member
    float                         1.5                                     1.5
    in_addr, in6_addr             "192.0.2.1", "2001:db8::1"              the same
    __be32, __u8[4], 16 bytes     also as an address                      a number, a list
    __u8[6]                       also "02:00:00:00:00:01"                a list
    a key of an LPM trie          "10.0.0.0/8"                            "10.0.0.0/8"
    anything                      "hex:0a000001", as long as the type     only where nothing else fits

Packing what was unpacked gives the same bytes, but for padding: it is not read and written as zero. Pointers are read,
and written only as null. Faults in the value are a BadRequest that names the field's path; damaged BTF is a ValueError.
Which entries a map has, and values per CPU, are the business of objects/entries.py.
"""

from __future__ import annotations

import difflib
import math
import socket
import struct
import sys
from typing import Any, NamedTuple

from ..errors import BadRequest
from . import bpf

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
FLOATS = {4: "f", 8: "d"}
FAMILIES = {4: socket.AF_INET, 16: socket.AF_INET6}
ADDRESS_STRUCTS = {"in_addr": 4, "in6_addr": 16}


SECRET = "(secret)"  # stands for a secret value wherever values are shown


class Job(NamedTuple):
    """What all parts of one value share."""

    btf: Any
    byteorder: str
    secret: bool = False  # the value does not appear in errors


def pack(btf, type_id, value, byteorder=sys.byteorder, *, size=0, path="value", secret=False):
    """The bytes of `value` as a `type_id`.

    With type_id 0 (no BTF) `size` says how many bytes there are; otherwise it is not looked at. `path` is what errors
    call the value; of a secret one they do not quote a part.
    """
    job = Job(btf, byteorder, secret)
    if type_id == 0:
        return _pack_plain(job, size, value, path)
    btf.check(type_id)
    return _pack(job, type_id, value, path)


def replace(btf, type_id, data, value, byteorder=sys.byteorder, *, path="value", secret=False):
    """`data`, a struct or the globals of a section, with the fields in `value` replaced and all others as they were."""
    job, found = Job(btf, byteorder, secret), btf.type(btf.resolve(type_id))
    btf.check(type_id)
    return _pack_fields(job, type_id, found, value, path, data)


def unpack(btf, type_id, data, byteorder=sys.byteorder):
    """The value that `data` holds as a `type_id`; with type_id 0 (no BTF) a number, or hex where none has that size.

    ValueError where data is not as long as the type.
    """
    job = Job(btf, byteorder)
    if type_id == 0:
        return int.from_bytes(data, byteorder) if len(data) in (1, 2, 4, 8) else _hex(data)
    btf.check(type_id)
    if len(data) != btf.size(type_id):
        raise ValueError(f"{len(data)} bytes are no {btf.describe(type_id)}, which has {btf.size(type_id)}")
    return _unpack(job, type_id, bytes(data))


# ---- packing -------------------------------------------------------------------------------------


def _pack(job, type_id, value, path):
    found = job.btf.type(job.btf.resolve(type_id))
    if isinstance(value, (bytes, bytearray)) or _is_hex(value):
        return _raw(job, job.btf.size(type_id), value, path)
    if found.kind in NUMBERS:
        number, order = _number(job, type_id, value, path), job.btf.order(type_id) or job.byteorder
        return (number & (1 << found.size * 8) - 1).to_bytes(found.size, order)
    if isinstance(value, str):
        address = _address_bytes(job, type_id, found, value, path)
        if address is not None:
            return address
    return PACKERS[found.kind](job, type_id, found, value, path)


def _pack_plain(job, size, value, path):
    if isinstance(value, (bytes, bytearray)) or _is_hex(value) or size not in (1, 2, 4, 8):
        return _raw(job, size, value, path)
    return _integer(job, value, path, f"number of {size} bytes", *_range(False, size * 8)).to_bytes(size, job.byteorder)


def _pack_float(job, type_id, found, value, path):
    if found.size not in FLOATS:
        raise _wrong(job, path, f'written as "hex:" and {found.size * 2} digits', value)
    try:
        return struct.pack(("<" if job.byteorder == "little" else ">") + FLOATS[found.size], float(value))
    except (TypeError, ValueError, OverflowError):
        raise _wrong(job, path, f"a {job.btf.describe(type_id)}, a number", value) from None


def _pack_pointer(job, type_id, found, value, path):
    if value is None or (value == 0 and not isinstance(value, bool)):
        return bytes(job.btf.size(found.id))
    raise BadRequest(
        f"{path} is a pointer, and an address in the kernel cannot be written from outside",
        "Leave the field out: it becomes null",
        path=path,
    )


def _pack_array(job, type_id, found, value, path):
    element = job.btf.type(job.btf.resolve(found.target))
    if element.is_char and isinstance(value, str):
        return _pack_text(job, found.count, value, path)
    if element.is_char and not isinstance(value, (list, tuple)):
        raise _wrong(job, path, f"text of at most {found.count} bytes", value)
    if not isinstance(value, (list, tuple)):
        raise _wrong(job, path, f"a list of {job.btf.describe(found.target)}, {found.count} at most", value)
    if len(value) > found.count:
        raise BadRequest(f"{path} has {len(value)} elements, and {found.count} fit", path=path)
    parts = [_pack(job, found.target, part, f"{path}[{place}]") for place, part in enumerate(value)]
    return b"".join(parts).ljust(job.btf.size(found.id), b"\0")


def _pack_text(job, room, value, path):
    try:
        text = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise _wrong(job, path, "text", value) from None
    if len(text) > room:
        raise BadRequest(f"{path} has {len(text)} bytes, and {room} fit", path=path)
    if b"\0" in text:
        raise _wrong(job, path, 'text without a zero byte; bytes are written as "hex:…"', value)
    return text.ljust(room, b"\0")


def _pack_fields(job, type_id, found, value, path, before=b""):
    members = job.btf.members(found.id)
    if not isinstance(value, dict):
        raise _wrong(job, path, f"the fields of a {job.btf.describe(type_id)} ({_listed(members)})", value)
    room, taken = bytearray(before.ljust(found.size, b"\0")), []
    for name, part in value.items():
        if name not in members:
            raise _unknown(path, job.btf.describe(type_id), "such name" if job.secret else name, members)
        field = members[name]
        taken.append((field.first_bit, field.first_bit + _width(job, field), name))
        _put(job, room, field, part, f"{path}.{name}")
    _refuse_overlap(taken, path)
    return bytes(room)


def _put(job, room, field, value, path):
    if field.bits:
        number = _number(job, field.type, value, path, field.bits)
        _put_bits(room, field, number & (1 << field.bits) - 1, job.byteorder)
    else:
        first, found = field.first_bit // 8, job.btf.type(job.btf.resolve(field.type))
        if found.kind == "struct" and isinstance(value, dict):  # a struct in a struct that is replaced: its others stay
            data = _pack_fields(job, field.type, found, value, path, bytes(room[first : first + found.size]))
        else:
            data = _pack(job, field.type, value, path)
        room[first : first + len(data)] = data


def _put_bits(room, field, number, byteorder):
    first, end, shift = _bits_at(field, byteorder)
    others = int.from_bytes(room[first:end], byteorder) & ~((1 << field.bits) - 1 << shift)
    room[first:end] = (others | number << shift).to_bytes(end - first, byteorder)


def _bits_at(field, byteorder):
    """The bytes that a bitfield touches, and how far up in their number it stands: big-endian counts from the top."""
    first, end = field.first_bit // 8, (field.first_bit + field.bits + 7) // 8
    below = field.first_bit - first * 8
    return first, end, below if byteorder == "little" else (end - first) * 8 - below - field.bits


def _width(job, field):
    return field.bits or job.btf.size(field.type) * 8


def _refuse_overlap(taken, path):
    end, before = 0, ""
    for start, beyond, name in sorted(taken):
        if start < end and start < beyond:
            raise BadRequest(f"{path}.{before} and {path}.{name} share their bytes", "Give one of them", path=path)
        if beyond > end:
            end, before = beyond, name


# ---- numbers -------------------------------------------------------------------------------------


def _number(job, type_id, value, path, bits=0):
    found = job.btf.type(job.btf.resolve(type_id))
    return NUMBERS[found.kind](job, type_id, found, value, path, bits or found.size * 8)


def _int_number(job, type_id, found, value, path, bits):
    if found.is_bool:
        return _truth(job, value, path)
    name = job.btf.describe(type_id)
    if isinstance(value, str) and "." in value and found.size == 4:
        return _address_number(job, type_id, value, path)
    return _integer(job, value, path, name, *_range(found.signed, bits))


def _address_number(job, type_id, value, path):
    if not job.btf.order(type_id):
        raise BadRequest(
            f"{path} is a {job.btf.describe(type_id)}, which does not say in which byte order it keeps an address",
            "Declare it as __be32 in the program, or write the number",
            path=path,
        )
    return int.from_bytes(_address(job, 4, value, path), "big")


def _truth(job, value, path):
    text = str(value).strip().lower()
    if isinstance(value, (bool, int, str)) and text in TRUE + FALSE:
        return int(text in TRUE)
    raise _wrong(job, path, "true or false", value)


def _enum_number(job, type_id, found, value, path, bits):
    names = dict(job.btf.enumerators(found.id))
    if isinstance(value, str) and not value.strip()[:1].lstrip("+-").isdigit() and value.strip()[:1] not in ("+", "-"):
        if value in names:
            return names[value]
        raise _unknown(path, job.btf.describe(type_id), "such name" if job.secret else value, names)
    # old compilers leave an enum's sign open, so either reading of its bytes is taken
    low, high = _range(True, bits)[0], _range(False, bits)[1]
    return _integer(job, value, path, job.btf.describe(type_id), low, high)


def _integer(job, value, path, name, low, high):
    number = _parsed(value)
    if number is None:
        raise _wrong(job, path, f"a {name} ({low} to {high})", value)
    if not low <= number <= high:
        raise BadRequest(f"{path}: {_shown(job, value)} does not fit {name} ({low} to {high})", path=path)
    return number


def _parsed(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int):
        return int(value)
    try:
        return int(value.strip(), 0)
    except (AttributeError, ValueError):
        return None


def _range(signed, bits):
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


# ---- addresses -----------------------------------------------------------------------------------


def _address_bytes(job, type_id, found, text, path):
    """The bytes of an address given as text, where the type is one that holds addresses; else None."""
    if found.kind == "struct":
        behind = _prefixed(job.btf, found.id)
        if behind:
            return _pack_prefix(job, behind, text, path)
    room = _address_room(job.btf, found)
    if room and ("." in text or ":" in text):
        return _address(job, room, text, path)
    if found.kind == "array" and found.count == 6 and _is_octets(job.btf, found) and ":" in text:
        return _hardware_address(job, text, path)
    return None


def _address_room(btf, found):
    """4 or 16 where the type can hold an address in network order, else 0."""
    if found.kind == "struct":
        room = ADDRESS_STRUCTS.get(found.name, 0)
        return room if room == found.size else 0
    if found.kind != "array":
        return 0
    element, size = btf.type(btf.resolve(found.target)), btf.size(found.id)
    is_plain = element.kind == "int" and not element.signed and not element.is_char and not element.is_bool
    if size == 16 and is_plain and element.size < 16:
        return 16
    return 4 if size == 4 and _is_octets(btf, found) else 0


def _is_octets(btf, found):
    element = btf.type(btf.resolve(found.target))
    return element.kind == "int" and element.size == 1 and not element.is_char and not element.is_bool


def _address(job, room, text, path):
    try:
        return socket.inet_pton(FAMILIES[room], text.strip())
    except (OSError, ValueError):
        raise _wrong(job, path, f"an IPv{4 if room == 4 else 6} address", text) from None


def _hardware_address(job, text, path):
    parts = text.strip().split(":")
    if len(parts) != 6 or not all(len(part) == 2 for part in parts):
        raise _wrong(job, path, 'a hardware address such as "02:00:00:00:00:01"', text)
    return _digits(job, "".join(parts), 6, text, path)


def _prefixed(btf, type_id):
    """The one field behind the prefix length in a key of an LPM trie (struct bpf_lpm_trie_key), else None.

    The trie reads the field's bytes from the first on, so an address in it is in network order whatever its type says.
    """
    fields = btf.fields(type_id)
    if len(fields) != 2 or btf.size(type_id) not in (8, 20) or fields[1].first_bit != 32 or fields[1].bits:
        return None
    return fields[1] if fields[1].name and _begins_with_length(btf, fields[0]) else None


def _begins_with_length(btf, field):
    behind = btf.type(btf.resolve(field.type))
    if behind.kind in ("struct", "union") and behind.size == 4:
        inner = btf.fields(behind.id)
        return bool(inner) and _begins_with_length(btf, inner[0])
    is_number = behind.kind == "int" and behind.size == 4 and not field.bits
    return is_number and field.name in ("prefixlen", "prefix_len")


def _pack_prefix(job, behind, text, path):
    room = job.btf.size(behind.type)
    address, slash, length = text.partition("/")
    data = _address(job, room, address, path)
    bits = _integer(job, length, path, "prefix length", 0, room * 8) if slash else room * 8
    if data != bpf.masked(data, bits):
        network = socket.inet_ntop(FAMILIES[room], bpf.masked(data, bits))
        raise BadRequest(
            f"{path}: {_shown(job, text)} has bits beyond its prefix",
            "Give the network's first address" if job.secret else f"Write {network}/{bits}",
            path=path,
        )
    return bits.to_bytes(4, job.byteorder) + data


# ---- unpacking -----------------------------------------------------------------------------------


def _unpack(job, type_id, data):
    found = job.btf.type(job.btf.resolve(type_id))
    if found.kind in NUMBERS:
        return _from_number(job, type_id, found, int.from_bytes(data, job.btf.order(type_id) or job.byteorder), data)
    return UNPACKERS[found.kind](job, found, data)


def _from_number(job, type_id, found, number, data, bits=0):
    bits = bits or found.size * 8
    if found.is_bool:
        return bool(number) if number < 2 else _hex(data)
    if found.kind != "int":
        mask = (1 << bits) - 1
        named = next((name for name, known in job.btf.enumerators(found.id) if known & mask == number), None)
        if named is not None:
            return named
    return number - (1 << bits) if found.signed and number >> bits - 1 else number


def _unpack_float(job, found, data):
    if found.size not in FLOATS:
        return _hex(data)
    number = struct.unpack(("<" if job.byteorder == "little" else ">") + FLOATS[found.size], data)[0]
    return number if math.isfinite(number) else _hex(data)  # JSON has no other


def _unpack_pointer(job, found, data):
    return hex(int.from_bytes(data, job.byteorder)) if any(data) else None


def _unpack_array(job, found, data):
    if job.btf.type(job.btf.resolve(found.target)).is_char:
        return _text(data)
    size = job.btf.size(found.target)
    return [_unpack(job, found.target, data[at * size : (at + 1) * size]) for at in range(found.count)]


def _text(data):
    """The text in a char array, or hex where packing that text would not give these bytes again."""
    text = data.rstrip(b"\0")
    try:
        shown = text.decode("utf-8")
    except UnicodeDecodeError:
        return _hex(data)
    return shown if b"\0" not in text and not _is_hex(shown) else _hex(data)


def _unpack_struct(job, found, data):
    if _address_room(job.btf, found):
        return socket.inet_ntop(FAMILIES[found.size], data)
    return _prefix_text(job, found, data) or _unpack_fields(job, found, data)


def _unpack_fields(job, found, data):
    shown = {}
    for field in job.btf.fields(found.id):
        behind = job.btf.type(job.btf.resolve(field.type))
        if field.name:
            shown[field.name] = _taken(job, field, data)
        elif behind.kind == "union":
            shown.update(_one_member(job, behind, _slice(job, field, data))[0])
        elif behind.kind == "struct":
            shown.update(_unpack_fields(job, behind, _slice(job, field, data)))
    return shown


def _unpack_union(job, found, data):
    shown, is_whole = _one_member(job, found, data)
    return shown if is_whole else _hex(data)


def _one_member(job, found, data):
    """A union by the largest member that gives the same bytes again, and whether there is one."""
    candidates = [_candidate(job, found, field, data) for field in _largest_first(job, found)]
    for shown in candidates:
        if _gives(job, found, shown, data):
            return shown, True
    return (candidates[0] if candidates else {}), not any(data)


def _largest_first(job, found):
    return sorted(job.btf.fields(found.id), key=lambda field: -_width(job, field))


def _candidate(job, found, field, data):
    behind = job.btf.type(job.btf.resolve(field.type))
    if field.name:
        return {field.name: _taken(job, field, data)}
    if behind.kind == "union":
        return _one_member(job, behind, _slice(job, field, data))[0]
    return _unpack_fields(job, behind, _slice(job, field, data)) if behind.kind == "struct" else {}


def _gives(job, found, shown, data):
    try:
        return _pack_fields(job, found.id, found, shown, "") == data
    except BadRequest:  # a pointer that is not null
        return False


def _taken(job, field, data):
    if not field.bits:
        return _unpack(job, field.type, _slice(job, field, data))
    first, end, shift = _bits_at(field, job.byteorder)
    number = int.from_bytes(data[first:end], job.byteorder) >> shift & (1 << field.bits) - 1
    found = job.btf.type(job.btf.resolve(field.type))
    return _from_number(job, field.type, found, number, data[first:end], field.bits)


def _slice(job, field, data):
    first = field.first_bit // 8
    return data[first : first + job.btf.size(field.type)]


def _prefix_text(job, found, data):
    """The network in a key that declares an address and has no bit beyond its prefix set, or else None."""
    behind = _prefixed(job.btf, found.id)
    if not behind or not _is_address(job.btf, behind.type):
        return None
    bits, address = int.from_bytes(data[:4], job.byteorder), data[4:]
    if bits > len(address) * 8 or bpf.masked(address, bits) != address:
        return None
    return f"{socket.inet_ntop(FAMILIES[len(address)], address)}/{bits}"


def _is_address(btf, type_id):
    found = btf.type(btf.resolve(type_id))
    return bool(_address_room(btf, found)) or (found.kind == "int" and found.size == 4 and btf.order(type_id) == "big")


# ---- bytes as they are, and what is said of errors -----------------------------------------------


def _is_hex(value):
    return isinstance(value, str) and value.startswith("hex:")


def _hex(data):
    return "hex:" + data.hex()


def _raw(job, size, value, path):
    if isinstance(value, (bytes, bytearray)):
        data = bytes(value)
    elif isinstance(value, (list, tuple)):
        numbers = [_integer(job, part, f"{path}[{place}]", "byte", 0, 255) for place, part in enumerate(value)]
        data = bytes(numbers)
    elif _is_hex(value):
        data = _digits(job, value[4:].replace(":", "").replace(" ", ""), size, value, path)
    else:
        raise _wrong(job, path, f'{size} bytes: "hex:" and {size * 2} digits, or a list', value)
    if len(data) != size:
        raise BadRequest(f"{path} has {size} bytes, and {len(data)} were given", path=path)
    return data


def _digits(job, digits, size, value, path):
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise _wrong(job, path, f"{size} bytes as {size * 2} hexadecimal digits", value) from None


def _wrong(job, path, wanted, value):
    return BadRequest(f"{path} must be {wanted}, not {_shown(job, value)}", path=path)


def _shown(job, value):
    if job.secret:
        return "what was given"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown(path, owner, name, known):
    close = difflib.get_close_matches(str(name), known, 3)
    do = f"Did you mean {' or '.join(close)}?" if close else f"There are {_listed(known)}"
    return BadRequest(f"{path}: {owner} has no {name}", do, path=path, known=list(known))


def _listed(names):
    names = list(names)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") or "none"


NUMBERS = {"int": _int_number, "enum": _enum_number, "enum64": _enum_number}
PACKERS = {
    "array": _pack_array,
    "struct": _pack_fields,
    "union": _pack_fields,
    "datasec": _pack_fields,
    "float": _pack_float,
    "ptr": _pack_pointer,
}
UNPACKERS = {
    "array": _unpack_array,
    "struct": _unpack_struct,
    "union": _unpack_union,
    "datasec": _unpack_fields,
    "float": _unpack_float,
    "ptr": _unpack_pointer,
}
