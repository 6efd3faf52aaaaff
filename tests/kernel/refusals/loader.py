# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load the object given as argument and print as JSON what libbpf and the verifier said of it.

A second witness, which shares nothing with the collection's own loader. It is a program of its own so that a test can
give it fewer capabilities, and outlive it. Nothing is pinned: what was loaded goes with the process.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys

LOG_BYTES = 4 << 20
LOG_TRACE_AND_STATS = 1 | 4
PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def main(path):
    libbpf, lines = _libbpf()
    opened = libbpf.bpf_object__open_file(path.encode(), None)
    programs, error = {}, ctypes.get_errno()
    if opened:
        opened, program = ctypes.c_void_p(opened), None
        while True:
            program = libbpf.bpf_object__next_program(opened, ctypes.c_void_p(program))
            if not program:
                break
            handle, room = ctypes.c_void_p(program), ctypes.create_string_buffer(LOG_BYTES)
            libbpf.bpf_program__set_log_buf(handle, room, ctypes.c_size_t(LOG_BYTES))
            libbpf.bpf_program__set_log_level(handle, LOG_TRACE_AND_STATS)
            name = ctypes.string_at(libbpf.bpf_program__name(handle)).decode()
            programs[name] = (ctypes.string_at(libbpf.bpf_program__section_name(handle)).decode(), room)
        error = -libbpf.bpf_object__load(opened)
    with open(path, "rb") as file:
        places = line_info(file.read())
    return {
        "errno": error,
        "kernel": os.uname().release,
        "libbpf": lines,
        "programs": {
            name: {
                "section": section,
                "log": room.value.decode(errors="replace"),
                "lines": places.get(section, []),
            }
            for name, (section, room) in programs.items()
        },
    }


def _libbpf():
    """(the library, the list that its warnings go to)."""
    libbpf, libc, lines = ctypes.CDLL("libbpf.so.1", use_errno=True), ctypes.CDLL(None), []
    for name in ("bpf_object__open_file", "bpf_object__next_program", "bpf_program__name", "bpf_program__section_name"):
        getattr(libbpf, name).restype = ctypes.c_void_p

    def keep(level, text_format, arguments):
        room = ctypes.create_string_buffer(1 << 16)
        libc.vsnprintf(room, ctypes.c_size_t(len(room)), ctypes.c_void_p(text_format), ctypes.c_void_p(arguments))
        if level <= 1:
            lines.extend(room.value.decode(errors="replace").splitlines())
        return 0

    libbpf.keep = PRINT(keep)
    libbpf.libbpf_set_print(libbpf.keep)
    return libbpf, lines


def line_info(elf):
    """{section: [[instruction, file, line, text], …]} out of .BTF.ext, as linux/btf.h lays it out."""
    sections = _sections(elf)
    if ".BTF.ext" not in sections:
        return {}
    names, extended = sections[".BTF"], sections[".BTF.ext"]
    header, strings = struct.unpack_from("<I", names, 4)[0], struct.unpack_from("<I", names, 16)[0]

    def text(offset):
        start = header + strings + offset
        return names[start : names.index(b"\0", start)].decode(errors="replace")

    start = struct.unpack_from("<I", extended, 4)[0]
    offset, length = struct.unpack_from("<II", extended, 16)
    at, end = start + offset, start + offset + length
    size = struct.unpack_from("<I", extended, at)[0]
    at, found = at + 4, {}
    while at < end:
        section, count = struct.unpack_from("<II", extended, at)
        at += 8
        for dummy in range(count):
            byte, file, line, place = struct.unpack_from("<IIII", extended, at)
            found.setdefault(text(section), []).append([byte // 8, text(file), place >> 10, text(line)])
            at += size
    return found


def _sections(elf):
    table, size, count, names = struct.unpack_from("<Q", elf, 40)[0], *struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
    start = headers[names][4]
    return {
        elf[start + row[0] : elf.index(b"\0", start + row[0])].decode(): elf[row[4] : row[4] + row[5]]
        for row in headers
        if row[1] != 8  # SHT_NOBITS
    }


if __name__ == "__main__":
    json.dump(main(sys.argv[1]), sys.stdout)
