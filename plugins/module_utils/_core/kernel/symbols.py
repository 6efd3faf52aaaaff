# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The functions of a program's or library's file, and where in it they begin, from its symbol tables (elf(5), 64 bits).

The file is mapped and read in place, since it may be large; what cannot be read raises ValueError. What is in objects
of eBPF is not this room's business.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

CHOSEN_AT_RUN_TIME = -1  # in the place of an offset: the symbol is of what chooses the function (STT_GNU_IFUNC)
SYMTAB, DYNSYM = 2, 11  # sh_type
FUNC, IFUNC = 2, 10  # st_info & 15
SYMBOL = "IBBHQQ"  # Elf64_Sym: name, info, other, section, value, size


class Section(NamedTuple):  # Elf64_Shdr
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


def functions(path):
    """{name: offsets in the file where functions of this name begin}."""
    with open(path, "rb") as stream:
        try:
            with mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as image:
                return _functions(image)
        except (struct.error, IndexError) as error:
            raise ValueError("its sections are damaged") from error


def _functions(image):
    if image[:5] != b"\x7fELF\x02":
        raise ValueError("it is no ELF file of 64 bits")
    order = "<" if image[5] == 1 else ">"
    sections, found = _sections(image, order), {}
    for table in sections:
        if table.type in (SYMTAB, DYNSYM):
            for name, start in _of_table(image, order, sections, table):
                found.setdefault(name, set()).add(start)
    return found


def _sections(image, order):
    (first,) = struct.unpack_from(order + "Q", image, 0x28)  # e_shoff
    size, number = struct.unpack_from(order + "HH", image, 0x3A)  # e_shentsize, e_shnum
    rows = [struct.unpack_from(order + "IIQQQQIIQQ", image, first + size * each) for each in range(number)]
    return [Section(*row) for row in rows]


def _of_table(image, order, sections, table):
    """(name, offset) of the table's functions that are in this file."""
    names = sections[table.link].offset
    symbols = image[table.offset : table.offset + table.size]
    for at, info, dummy, section, value, dummy in struct.iter_unpack(order + SYMBOL, symbols):
        if info & 15 in (FUNC, IFUNC) and 0 < section < len(sections):
            place, start = sections[section], names + at
            name = image[start : image.find(b"\0", start)].decode(errors="replace")
            yield name, CHOSEN_AT_RUN_TIME if info & 15 == IFUNC else value - place.address + place.offset
