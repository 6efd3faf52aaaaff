# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""An object's bytecode as the compiler left it: instructions, what they refer to, and the source line of each.

libbpf relocates on its way into the kernel and tells nothing of what it was before; libelf, which it needs itself,
does. The bytes are not trusted: read them in a child process (child.py). What is damaged raises ValueError.

The formats: ELF's relocations for BPF in the kernel's Documentation/bpf/llvm_reloc.rst, .BTF.ext in btf.rst.
"""

from __future__ import annotations

import bisect
import contextlib
import struct
from collections.abc import Iterator
from typing import Callable, NamedTuple, Optional

from ..kernel import libbpf

PROGBITS, SYMTAB, NOBITS, REL = 1, 2, 8, 9  # sh_type
EXECUTABLE = 1 << 2  # SHF_EXECINSTR
OBJECT, FUNCTION = 1, 2  # st_info's type
WEAK = 2  # st_info's binding
CALL, LOAD_ADDRESS, PSEUDO_CALL = 0x85, 0x18, 1
EV_CURRENT = 1
INSTRUCTION = struct.Struct("=BBhi")


class Section(NamedTuple):
    """`data` is empty for .bss and its like."""

    name: str
    type: int
    flags: int
    link: int
    info: int
    data: bytes


class Symbol(NamedTuple):
    """`section` is its index, 0 for what the object does not define; `value` counts bytes from that section's start."""

    name: str
    type: int
    section: int
    value: int
    size: int
    is_weak: bool


class Function(NamedTuple):
    """Instructions from `start` up to `end` of the section with this index."""

    name: str
    section: int
    start: int
    end: int


class Line(NamedTuple):
    """A place in the source."""

    file: str
    line: int
    text: str


class Image:
    """Sections by index, symbols by index, and what hangs on them. Everything is read once, when it is asked for."""

    def __init__(self, data):
        self.sections = list(_sections(data))
        self.symbols = [symbol for section in self.sections for symbol in self._symbols(section)]
        self._code, self._references, self._lines = {}, {}, None

    def functions(self) -> Iterator[Function]:
        """All functions, subprograms too."""
        for symbol in self.symbols:
            if symbol.type == FUNCTION and symbol.size and self._is_code(symbol.section):
                yield Function(symbol.name, symbol.section, symbol.value // 8, (symbol.value + symbol.size) // 8)

    def function_at(self, section: int, instruction: int) -> Optional[Function]:
        """The Function that begins there, or None."""
        here = (each for each in self.functions() if (each.section, each.start) == (section, instruction))
        return next(here, None)

    def code(self, section: int) -> list:
        """[(opcode, dst, src, off, imm)]: an instruction of 16 bytes takes two places."""
        if section not in self._code:
            data = self.sections[section].data
            rows = INSTRUCTION.iter_unpack(data[: len(data) // 8 * 8])
            self._code[section] = code = [(op, regs & 15, regs >> 4, off, imm) for op, regs, off, imm in rows]
            if any(dst > 10 for dummy, dst, dummy, dummy, dummy in code):
                raise ValueError(f"section {self.sections[section].name} holds no BPF instructions")
        return self._code[section]

    def reference(self, section: int, instruction: int) -> Optional[Symbol]:
        """The Symbol that this instruction is to be relocated to, or None."""
        if section not in self._references:
            self._references[section] = dict(self._relocations(section))
        return self._references[section].get(instruction)

    def object_at(self, section: int, offset: int) -> Optional[Symbol]:
        """The Symbol of the variable or map that covers this byte of a section, or None."""
        for symbol in self.symbols:
            inside = symbol.section == section and symbol.value <= offset < symbol.value + max(symbol.size, 1)
            if inside and symbol.type == OBJECT:
                return symbol
        return None

    def relocated_in(self, name: str) -> Iterator[int]:
        """The bytes, counted from its start, at which the section of this name is relocated."""
        for index, section in enumerate(self.sections):
            if section.name == name:
                yield from (8 * word for word, dummy in self._relocations(index))

    def line(self, section: int, instruction: int) -> Optional[Line]:
        """The Line that this instruction was compiled from, None where the object does not say (no -g)."""
        if self._lines is None:
            self._lines = dict(self._line_info())
        rows = self._lines.get(self.sections[section].name, ())
        at = bisect.bisect_right(rows, (instruction + 1,)) - 1
        return rows[at][1] if at >= 0 else None

    def line_as_loaded(self, name: str, section: str, instruction: int) -> Optional[Line]:
        """The Line of an instruction as the kernel counts them: the program `name`, then what libbpf appends to it.

        None where the object does not say, or has no such program in a section of that name.
        """
        return self._line_in(self.functions_of(name, section), instruction)

    def find_as_loaded(self, name: str, section: str, is_wanted: Callable) -> Optional[int]:
        """The number, as the kernel counts, of the first instruction that is wanted; None where there is none.

        `is_wanted` gets (opcode, dst, src, off, imm) and the name of what the instruction refers to, "" for nothing.
        """
        before = 0
        for function in self.functions_of(name, section):
            for at in range(function.start, function.end):
                symbol = self.reference(function.section, at)
                if is_wanted(self.code(function.section)[at], symbol.name if symbol else ""):
                    return before + at - function.start
            before += function.end - function.start
        return None

    def line_of_use(self, name: str) -> Optional[Line]:
        """The Line of the first instruction that refers to a symbol of this name; None where there is none."""
        for section in range(len(self.sections)):
            for instruction, symbol in sorted(self._relocations(section)):
                if symbol.name == name and self._is_code(section):
                    return self.line(section, instruction)
        return None

    def functions_of(self, program: str, section: Optional[str] = None) -> list:
        """The program's own Function and all that it may run, each once, in the order in which they are loaded.

        Empty where the object has no such program, in a section of that name where it is given.
        """
        for function in self.functions():
            if function.name == program and section in (None, self.sections[function.section].name):
                return self._appended(function, [])
        return []

    def called(self, section: int, instruction: int) -> Optional[Function]:
        """The Function that this instruction calls, or None."""
        row = self.code(section)[instruction]
        return self._called(section, instruction, *row) if row[0] == CALL else None

    def bytes_of(self, name: str) -> bytes:
        """The content of the section with this name, empty where there is none."""
        return next((section.data for section in self.sections if section.name == name), b"")

    def _line_in(self, functions, instruction):
        for function in functions:
            length = function.end - function.start
            if instruction < length:
                return self.line(function.section, function.start + instruction)
            instruction -= length
        return None

    def _appended(self, function, found):
        """The functions in the order in which libbpf puts them behind each other: each where it is first called."""
        found.append(function)
        code = self.code(function.section)
        for at in range(function.start, min(function.end, len(code))):
            called = self._called(function.section, at, *code[at])
            if called and called not in found:
                self._appended(called, found)
        return found

    def _called(self, section, at, opcode, dummy, source, offset, number):
        """The function that this instruction calls, or whose address it takes; None for any other."""
        reference = self.reference(section, at)
        if opcode == CALL and source == PSEUDO_CALL:
            if reference is None:
                return self.function_at(section, at + 1 + number)
            return self.function_at(reference.section, reference.value // 8 + number + 1)
        if opcode == LOAD_ADDRESS and reference is not None and self._is_code(reference.section):
            return self.function_at(reference.section, (reference.value + number) // 8)
        return None

    # -- how it is read

    def _is_code(self, index):
        return index < len(self.sections) and bool(self.sections[index].flags & EXECUTABLE)

    def _symbols(self, section):
        if section.type != SYMTAB or section.link >= len(self.sections):
            return
        names = self.sections[section.link].data
        for name, info, dummy, index, value, size in _rows("=IBBHQQ", section.data):
            yield Symbol(_text(names, name), info & 15, index, value, size, info >> 4 == WEAK)

    def _relocations(self, index):
        for section in self.sections:
            if section.type == REL and section.info == index:
                for offset, info in _rows("=QQ", section.data):
                    if info >> 32 >= len(self.symbols):
                        raise ValueError(f"a relocation names symbol {info >> 32}, the last is {len(self.symbols) - 1}")
                    yield offset // 8, self.symbols[info >> 32]

    def _line_info(self):
        """(section's name, sorted [(instruction, Line)]); lines of number 0 are the compiler's own."""
        types, extended = self.bytes_of(".BTF"), self.bytes_of(".BTF.ext")
        if len(types) < 24 or len(extended) < 24:
            return
        header, start, length = struct.unpack_from("=4xI8xII", types)
        names = types[header + start : header + start + length]
        header, start, length = struct.unpack_from("=4xI8xII", extended)
        rows = extended[header + start : header + start + length]
        for section, found in _by_section(rows):
            lines = [
                (offset // 8, Line(_text(names, file).rpartition("/")[2], column >> 10, _text(names, text).strip()))
                for offset, file, text, column in found
                if column >> 10
            ]
            yield _text(names, section), sorted(lines)


def _by_section(rows):
    """(name's offset, [record]) of each part of a .BTF.ext table; records are cut to their first four words."""
    if not rows:
        return
    (each,), at = struct.unpack_from("=I", rows), 4
    while at < len(rows):
        section, count = _unpack("=II", rows, at)
        at += 8
        yield section, [_unpack("=IIII", rows, at + each * number) for number in range(count)]
        at += each * count


def _unpack(layout, data, at):
    try:
        return struct.unpack_from(layout, data, at)
    except struct.error as error:
        raise ValueError(f"a table ends in the middle of a row, at byte {at} of {len(data)}") from error


def _rows(layout, data):
    row = struct.Struct(layout)
    return row.iter_unpack(data[: len(data) // row.size * row.size])


def _text(names, offset):
    end = names.find(b"\0", offset)
    return names[offset : end if end >= 0 else len(names)].decode("utf-8", "backslashreplace")


# ---- libelf --------------------------------------------------------------------------------------


def _sections(data):
    """Each Section of the file, the empty one with index 0 too."""
    with _opened(data) as elf:
        index = libbpf.size()
        libbpf.call("elf_getshdrstrndx", elf, libbpf.byref(index))
        yield Section("", 0, 0, 0, 0, b"")
        section = libbpf.call("elf_nextscn", elf, None)
        while section:
            yield _section(elf, section, index.value)
            section = libbpf.call("elf_nextscn", elf, section)


@contextlib.contextmanager
def _opened(data):
    libbpf.call("elf_version", EV_CURRENT)
    try:
        elf = libbpf.call("elf_memory", data, len(data))
    except OSError as error:
        raise ValueError("libelf takes these bytes for no ELF file") from error
    try:
        yield elf
    finally:
        libbpf.call("elf_end", elf)


def _section(elf, section, names):
    header = libbpf.read(libbpf.call("elf64_getshdr", section), 64)  # Elf64_Shdr
    name, kind, flags, dummy, dummy, dummy, link, info = struct.unpack_from("=IIQQQQII", header)
    data = b"" if kind == NOBITS else _data(libbpf.call("elf_getdata", section, None))
    return Section(libbpf.call("elf_strptr", elf, names, name) or "", kind, flags, link, info, data)


def _data(pointer):
    if not pointer:
        return b""
    buffer, dummy, dummy, length = struct.unpack_from("=QIIQ", libbpf.read(pointer, 24))  # Elf_Data
    return libbpf.read(buffer, length) if buffer else b""
