# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""An object opened, tuned, loaded, pinned: libbpf does it, in a child process of ours.

The child is there because the bytes are not trusted: what crashes libbpf, or the verifier, ends the child alone and
becomes
a Failure. Where the pins go and which maps are shared is the caller's decision.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from typing import NamedTuple

from .. import errors
from ..errors import BadObject, Failure, NoMemory, VerifierRefused
from ..kernel import bpf, btf, files, libbpf
from . import maps, refusals, verifier

CHILD_SECONDS = 120  # a refusal for more than a million instructions takes 6 s here
SHORT_LOG, WHOLE_LOG = 1 << 16, 16 << 20
LOG_STATS = 4  # BPF_LOG_STATS: the verifier's last words and its count, without the trace
LOG_TRACE = 1
NEWER_SECTIONS = {  # what libbpf before 1.3 cannot read out of a section's name: prefix -> program type
    "tcx/": bpf.PROG_SCHED_CLS,
}


class ProgramSpec(NamedTuple):
    """A program as the object has it; type and expected_attach_type are the kernel's numbers."""

    name: str
    section: str
    type: int
    expected_attach_type: int


class ObjectSpec(NamedTuple):
    """What an object holds, the same on every machine. Internal maps (.rodata, .bss …) are not among `maps`."""

    programs: tuple
    maps: tuple
    internal_maps: tuple


def inspect(data, name="object", file="The file"):
    """What the object holds. Raises BadObject, which names the file, where it is none, or where it crashes libbpf."""
    answer = in_child(lambda: _inspect(data, name, file), "open")
    return ObjectSpec(
        tuple(ProgramSpec(*row) for row in answer["programs"]),
        tuple(maps.from_record(row) for row in answer["maps"]),
        tuple(answer["internal_maps"]),
    )


def load(data, name="object", programs=None, shared=None, pins=None, log_folder=None):
    """The verifier's figures by program, after this kernel accepted and loaded them all.

    With `pins`, a folder on bpffs that does not exist yet, programs are pinned at pins/progs/NAME and maps at
    pins/maps/NAME;
    without, nothing stays. `programs` chooses by name (None: all), `shared` is {map name: path of the pinned map it
    is to be}.
    Raises BadObject, VerifierRefused and what else the kernel's answer means; then nothing is pinned. With
    `log_folder` the whole log of a refusal is kept there.
    """
    return in_child(lambda: _load(data, name, programs, shared or {}, pins, log_folder), "load")


def in_child(work, phase):
    """What `work` returns, as JSON carries it, from a forked child that shares nothing back: for untrusted bytes.

    `phase` is "open" or "load": how the child's death is told.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(work, writing)
    os.close(writing)
    try:
        answer = _read_until(reading, time.monotonic() + CHILD_SECONDS)
        if answer is None:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(reading)
        status = os.waitpid(child, 0)[1]
    if not answer:
        raise _died(status, phase, is_late=answer is None)
    return _understood(json.loads(answer))


def ask(data, name, question):
    """What `question` says of the opened object, as JSON carries it; asked in a child, as all here."""
    return in_child(lambda: question(_Object(data, name)), "open")


def shapes(data, name):
    """The maps' shapes without layouts, internal ones too, an inner map's as "NAME[]". To be called in a child."""
    found = []
    for pointer in _Object(data, name).maps():
        shape = _shape(pointer, None)
        inner = libbpf.call("bpf_map__inner_map", pointer) if libbpf.has("bpf_map__inner_map") else None
        found += [shape, *([_shape(inner, None)._replace(name=shape.name + "[]")] if inner else [])]
    return found


# ---- in the child --------------------------------------------------------------------------------


class _Object:
    """An open bpf_object. Closed with the child, which lives for this alone."""

    def __init__(self, data, name, file="The file"):
        self.data = data  # libbpf reads it until load
        options = libbpf.ObjectOpenOpts(object_name=name.encode())
        try:
            self.pointer = libbpf.call("bpf_object__open_mem", data, len(data), libbpf.byref(options))
        except OSError as error:
            raise refusals.unopened(error, file, len(data)) from error
        for program in self.programs():
            self._name_newer_type(program)

    def _name_newer_type(self, program):
        if libbpf.call("bpf_program__type", program) == 0:
            section = libbpf.call("bpf_program__section_name", program)
            for prefix, number in NEWER_SECTIONS.items():
                if section.startswith(prefix):
                    libbpf.call("bpf_program__set_type", program, number)

    def programs(self):
        return self._walk("bpf_object__next_program", "bpf_program__next")

    def maps(self):
        return self._walk("bpf_object__next_map", "bpf_map__next")

    def _walk(self, symbol, older):
        found, last = [], None
        while True:
            last = (
                libbpf.call(symbol, self.pointer, last)
                if libbpf.has(symbol)
                else libbpf.call(older, last, self.pointer)
            )
            if not last:
                return found
            found.append(last)

    def btf(self):
        pointer, size = libbpf.call("bpf_object__btf", self.pointer), libbpf.u32()
        if not pointer:
            return None
        symbol = "btf__raw_data" if libbpf.has("btf__raw_data") else "btf__get_raw_data"
        raw = libbpf.call(symbol, pointer, libbpf.byref(size))
        return btf.parse(libbpf.read(raw, size.value))


def _program_name(program):
    return libbpf.call("bpf_program__name", program)


def _map_name(pointer):
    """The map's name; an internal one by its section without the dot: data, bss, rodata, kconfig."""
    name = libbpf.call("bpf_map__name", pointer)
    return name.rpartition(".")[2] if libbpf.call("bpf_map__is_internal", pointer) else name


def _inspect(data, name, file="The file"):
    opened = _Object(data, name, file)
    types = opened.btf()
    shapes, internal = [], []
    for pointer in opened.maps():
        if libbpf.call("bpf_map__is_internal", pointer):
            internal.append(_map_name(pointer))
        else:
            shapes.append(maps.as_record(_shape(pointer, types)))
    rows = [
        (
            _program_name(program),
            libbpf.call("bpf_program__section_name", program),
            libbpf.call("bpf_program__type", program),
            libbpf.call("bpf_program__expected_attach_type", program),
        )
        for program in opened.programs()
    ]
    return {"programs": rows, "maps": shapes, "internal_maps": internal}


def _shape(pointer, types):
    def ask(field):
        return libbpf.call(f"bpf_map__{field}", pointer)

    number = ask("type")
    return maps.Shape(
        name=ask("name"),
        type=number,
        type_name=bpf.map_type_name(number),
        key_size=ask("key_size"),
        value_size=ask("value_size"),
        max_entries=ask("max_entries"),
        flags=ask("map_flags"),
        key_layout=maps.layout_of(types, ask("btf_key_type_id")),
        value_layout=maps.layout_of(types, ask("btf_value_type_id")),
    )


def _load(data, name, chosen, shared, pins, log_folder):
    try:
        opened, logs = _try_load(data, name, chosen, shared, LOG_STATS, SHORT_LOG)
    except OSError as error:
        if not hasattr(error, "logs"):  # no load was tried: the pin of a shared map is gone
            raise
        raise _refusal(error, data, name, shared, log_folder) from error
    if pins is not None:
        _pin(opened, chosen, pins)
    return _figures(opened, chosen, logs())


def _try_load(data, name, chosen, shared, log_level, log_size):
    """(object, function that reads each program's log): loaded, or OSError whose `logs` holds them."""
    opened, rooms = _Object(data, name), {}
    for program in opened.programs():
        wanted = chosen is None or _program_name(program) in chosen
        libbpf.call("bpf_program__set_autoload", program, wanted)
        if wanted and libbpf.has("bpf_program__set_log_buf"):
            rooms[_program_name(program)] = room = libbpf.buffer(log_size)
            libbpf.call("bpf_program__set_log_buf", program, libbpf.byref(room), log_size)
            libbpf.call("bpf_program__set_log_level", program, log_level)
    for pointer in opened.maps():
        libbpf.call("bpf_map__set_pin_path", pointer, None)  # LIBBPF_PIN_BY_NAME would pin outside our folder
        if _map_name(pointer) in shared:
            with bpf.get_pinned(shared[_map_name(pointer)]) as fd:
                libbpf.call("bpf_map__reuse_fd", pointer, fd)

    _refuse_beyond_memory(opened, shared)

    def logs():
        return {program: room.value.decode(errors="replace") for program, room in rooms.items()}

    try:
        libbpf.call("bpf_object__load", opened.pointer)
    except OSError as error:
        error.logs, error.opened = logs(), opened
        raise
    return opened, logs


def _refuse_beyond_memory(opened, shared):
    """The maps that will be created fit what memory the host has; NoMemory names the largest otherwise."""
    shapes = [_shape(pointer, None) for pointer in opened.maps() if _map_name(pointer) not in shared]
    needs = {shape.name: maps.least_memory(shape, bpf.possible_cpus()) for shape in shapes}
    needed, available = sum(needs.values()), files.available_memory()
    if needed > available:
        largest = max(needs, key=needs.get)
        raise NoMemory(
            f"The object's maps need at least {needed >> 20} MiB, and this host has {available >> 20} MiB available",
            f"Lower max_entries of map {largest}, which needs {needs[largest] >> 20} MiB",
            map=largest,
            bytes_needed=needed,
            bytes_available=available,
        )


def _figures(opened, chosen, logs):
    """{program: tag, sizes and what the verifier counted}."""
    figures = {}
    for program in opened.programs():
        name = _program_name(program)
        if chosen is None or name in chosen:
            info = bpf.prog_info(libbpf.call("bpf_program__fd", program))
            figures[name] = {"tag": info.tag, "bytes_xlated": info.bytes_xlated, **verifier.stats(logs.get(name, ""))}
    return figures


def _pin(opened, chosen, pins):
    for folder in (pins, os.path.join(pins, "progs"), os.path.join(pins, "maps")):
        os.mkdir(folder, 0o700)
    for program in opened.programs():
        if chosen is None or _program_name(program) in chosen:
            bpf.pin(libbpf.call("bpf_program__fd", program), os.path.join(pins, "progs", _program_name(program)))
    for pointer in opened.maps():
        bpf.pin(libbpf.call("bpf_map__fd", pointer), os.path.join(pins, "maps", _map_name(pointer)))


def _refusal(error, data, name, shared, log_folder):
    """The Failure that a failed load means. A second try takes the trace that the first one did without."""
    culprit = _culprit(error)
    log = error.logs.get(culprit, "")
    if log:
        try:
            _try_load(data, name, [culprit], shared, LOG_TRACE, WHOLE_LOG)
        except OSError as again:
            log = again.logs[culprit] or log
    return refusals.explained(error, culprit, log, log_folder)


def _culprit(error):
    """The program that libbpf was at: the one it names, else the last that has a log."""
    for line in reversed(error.log):
        for program in error.logs:
            if f"prog '{program}'" in line:
                return program
    written = [program for program, text in error.logs.items() if text]
    return written[-1] if written else ""


# ---- the child itself ----------------------------------------------------------------------------


def _answer(work, writing):
    """Write what came of `work` and end; nothing of the parent's (its exit handlers, its output) runs here."""
    try:
        try:
            answer = {"result": work()}
        except Failure as failure:
            answer = {"failure": [type(failure).__name__, failure.what, failure.do, failure.detail]}
        except OSError as error:
            answer = {"oserror": [error.errno, error.strerror, error.filename, getattr(error, "log", [])]}
        data = json.dumps(answer).encode()
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)


def _read_until(descriptor, deadline):
    """All bytes up to the end of the pipe, or None where the deadline (time.monotonic) comes first."""
    data = b""
    while True:
        ready = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0]
        if not ready:
            return None
        block = os.read(descriptor, 1 << 16)
        if not block:
            return data
        data += block


def _died(status, phase, is_late):
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    how = f"did not end within {CHILD_SECONDS} s" if is_late else f"was ended by signal {number}"
    if phase == "open":
        return BadObject(
            f"libbpf {how} while opening the object", "The file is damaged; compile it again", signal=number
        )
    return VerifierRefused(
        f"The process that loads the program {how}",
        "Read the end of dmesg on this host before trying again: a fault in the verifier looks like this",
        diagnosis="loader_killed",
        signal=number,
        kernel=os.uname().release,
    )


def _understood(answer):
    if "failure" in answer:
        kind, what, do, detail = answer["failure"]
        raise getattr(errors, kind)(what, do, **detail)
    if "oserror" in answer:
        number, text, call, log = answer["oserror"]
        error = OSError(number, text, call)
        error.log = log
        raise error
    return answer["result"]
