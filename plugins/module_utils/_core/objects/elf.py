# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""An object opened, tuned, loaded, pinned: libbpf does it, in a child process of ours (child.py).

Where the pins go and which maps are shared is the caller's decision; what is set before the load is
tuning.py's.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import signal
import sys
from collections.abc import Collection
from typing import Any, Callable, NamedTuple, Optional

from ..errors import BadObject, BadRequest, NotFound, VerifierRefused
from ..kernel import bpf, btf, libbpf, targets
from ..kernel.btf import Btf
from . import bytecode, child, cost, maps, memory, verifier

TRACE_SECONDS = 20
SHORT_LOG, WHOLE_LOG = 1 << 16, 16 << 20
LOG_STATS = 4  # BPF_LOG_STATS: the verifier's last words and its count, without the trace
LOG_TRACE = 1  # of the path that is refused
LOG_TRACE_ALL = 2  # of every path
# What libbpf before 1.3 cannot read out of a section's name: prefix -> program and attach type. Later ones, which give
# tcx its direction, are overruled, so that a release has the same id with each; the kernel asks for it at attach alone.
NEWER_SECTIONS = {
    "tcx/": (bpf.PROG_SCHED_CLS, 0),
    "netfilter": (bpf.PROG_NETFILTER, bpf.ATTACH_NETFILTER),
}
EM_NONE, EM_BPF = 0, 247  # clang before 3.9 wrote the first
MACHINES = {3: "x86", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv64"}
BYTE_ORDERS = {1: "little", 2: "big"}


class ProgramSpec(NamedTuple):
    """A program as the object has it; type and expected_attach_type are the kernel's numbers.

    `autoload` is False where its author wrote SEC("?…").
    """

    name: str
    section: str
    type: int
    expected_attach_type: int
    autoload: bool = True


class ObjectSpec(NamedTuple):
    """What an object holds, the same on every machine. Internal maps (.rodata, .bss …) are not among `maps`."""

    programs: tuple
    maps: tuple
    internal_maps: tuple


class Tuning(NamedTuple):
    """What is set before an object is loaded, and nothing where it is loaded as it is.

    `globals` are rows (section, offset, bytes), `maps` (name, max_entries), `programs` (name, type, expected attach
    type, function, pinned program); `btf` is the content of a file to relocate against instead of the kernel's own.
    """

    globals: tuple = ()
    maps: tuple = ()
    programs: tuple = ()
    btf: bytes = b""

    def as_record(self) -> dict:
        """The same as plain data, for identity and manifest; the BTF, which is large, by its digest."""
        record = {
            "globals": [[section, offset, data.hex()] for section, offset, data in self.globals],
            "maps": [list(row) for row in self.maps],
            "programs": [list(row) for row in self.programs],
            "btf": hashlib.sha256(self.btf).hexdigest() if self.btf else "",
        }
        return {field: value for field, value in record.items() if value}

    @classmethod
    def from_record(cls, record: dict, btf: bytes = b"") -> Tuning:
        """The Tuning of a manifest; `btf` lies beside it."""
        return cls(
            tuple((section, offset, bytes.fromhex(data)) for section, offset, data in record.get("globals", ())),
            tuple(tuple(row) for row in record.get("maps", ())),
            tuple(tuple(row) for row in record.get("programs", ())),
            btf,
        )


UNTUNED = Tuning()


class Loaded(NamedTuple):
    """What the kernel says of a load: {program: tag, sizes, the verifier's figures} and {map: its memory}.

    A map's row has `bytes` (fdinfo, exact since 6.4), `predicted` and `bytes_full`, which are None where they cannot be
    told, and whether it is `shared` with another load.
    """

    programs: dict
    maps: dict
    kernel: str  # the release that said it (uname -r)


def inspect(data: bytes, name: str = "object", file: str = "The file") -> ObjectSpec:
    """What the object holds. Raises BadObject, which names the file, where it is none, or where it crashes libbpf."""
    _expect_of_this_host(data, file)
    answer = child.answer_of(lambda: _inspect(data, name, file), "open")
    return ObjectSpec(
        tuple(ProgramSpec(*row) for row in answer["programs"]),
        tuple(maps.from_record(row) for row in answer["maps"]),
        tuple(answer["internal_maps"]),
    )


def initial_globals(data: bytes, name: str = "object") -> tuple:
    """(the object's Btf, {section: (its type in there, its bytes)}) of the sections that globals lie in."""
    answer = child.answer_of(lambda: _initial_globals(data, name), "open")
    if not answer["btf"]:
        return None, {}
    try:
        types = btf.parse(base64.b64decode(answer["btf"]))
    except ValueError as error:
        raise BadObject(f"The object's type information is damaged: {error}", "Compile it again") from error
    sections = {section: (number, base64.b64decode(text)) for section, number, text in answer["sections"]}
    return types, {section: row for section, row in sections.items() if row[0]}


def load(
    data: bytes,
    name: str = "object",
    programs: Optional[Collection] = None,
    shared: Optional[dict] = None,
    pins: Optional[str] = None,
    tuned: Tuning = UNTUNED,
    log_folder: Optional[str] = None,
    limits: Optional[dict] = None,
) -> Loaded:
    """The Loaded, after this kernel accepted and loaded all programs.

    With `pins`, a folder on bpffs that does not exist yet, programs are pinned at pins/progs/NAME and maps at
    pins/maps/NAME;
    without, nothing stays. `programs` chooses by name (None: all), `shared` is {map name: path of the pinned map it
    is to be}, `tuned` what is set before (Tuning).
    Raises BadObject, VerifierRefused and what else the kernel's answer means, BeyondLimits (cost.py), and NoMemory
    before the first map is created; then nothing is pinned. With `log_folder` the whole log of a refusal is kept there.
    """
    given = (programs, shared or {}, pins, tuned, log_folder, limits or {})
    return Loaded(**child.answer_of(lambda: _load(data, name, *given), "load"))


def ask(data: bytes, name: str, question: Callable, tuned: Tuning = UNTUNED) -> Any:
    """What `question` says of the opened object, its maps sized, as JSON carries it; asked in a child, as all here."""

    def work():
        opened = _Object(data, name)
        _set_sizes(opened, tuned)
        return question(opened)

    return child.answer_of(work, "open")


def holds_types(data: bytes) -> bool:
    """Whether libbpf reads types of a kernel out of the bytes, raw BTF or an ELF file with a section of it."""

    def work():
        try:
            return bool(libbpf.call("btf__parse", _path_of(data), None))
        except OSError:
            return False

    return child.answer_of(work, "open")


def shapes(data: bytes, name: str) -> list:
    """The maps' shapes without layouts, internal ones too, an inner map's as "NAME[]". To be called in a child."""
    found = []
    for pointer in _Object(data, name).maps():
        shape = _shape(pointer, None)
        inner = libbpf.call("bpf_map__inner_map", pointer) if libbpf.has("bpf_map__inner_map") else None
        found += [shape, *([_shape(inner, None)._replace(name=shape.name + "[]")] if inner else [])]
    return found


def _expect_of_this_host(data, file):
    """What an ELF file says of itself (Elf64_Ehdr) fits; what is no ELF file libbpf refuses."""
    order = BYTE_ORDERS.get(data[5]) if data[:4] == b"\x7fELF" and len(data) >= 20 else None
    if order is None:
        return
    machine = int.from_bytes(data[18:20], order)
    if machine not in (EM_NONE, EM_BPF):
        raise BadObject(
            f"{file} is an ELF file for {MACHINES.get(machine, f'machine {machine}')}, not for BPF",
            "Compile the source with clang -target bpf -g -O2 -c, or give the source itself",
            machine=machine,
        )
    if order != sys.byteorder:
        raise BadObject(
            f"{file} is compiled for {order}-endian hosts, and this host is {sys.byteorder}-endian",
            f"Compile it with clang -target bpf{'el' if sys.byteorder == 'little' else 'eb'}, or on this host",
            byteorder=order,
        )


# ---- in the child --------------------------------------------------------------------------------


class _Object:
    """An open bpf_object. Closed with the child, which lives for this alone."""

    def __init__(self, data, name, file="The file", kernel_types=b""):
        self.data = data  # libbpf reads it until load
        options = libbpf.ObjectOpenOpts(object_name=name.encode())
        if kernel_types:
            options.btf_custom_path = _path_of(kernel_types)
        try:
            self.pointer = libbpf.call("bpf_object__open_mem", data, len(data), libbpf.byref(options))
        except OSError as error:
            from . import refusals  # only a refusal needs it, and it brings all rules

            raise refusals.unopened(error, file, len(data)) from error
        for program in self.programs():
            self._settle_kind(program)

    def _settle_kind(self, program):
        section = libbpf.call("bpf_program__section_name", program)
        for prefix, kind in NEWER_SECTIONS.items():
            if section.startswith(prefix):
                _set_kind(program, *kind)

    def programs(self) -> list:
        return self._walk("bpf_object__next_program", "bpf_program__next")

    def maps(self) -> list:
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

    def btf(self) -> Optional[Btf]:
        data = self.raw_btf()
        return btf.parse(data) if data else None

    def raw_btf(self) -> bytes:
        """The object's BTF, empty where it has none; libbpf has put the places of globals into it."""
        pointer, size = libbpf.call("bpf_object__btf", self.pointer), libbpf.u32()
        if not pointer:
            return b""
        symbol = "btf__raw_data" if libbpf.has("btf__raw_data") else "btf__get_raw_data"
        return libbpf.read(libbpf.call(symbol, pointer, libbpf.byref(size)), size.value)


def _path_of(data):
    """A path that reads as these bytes for as long as this process lives: libbpf takes no BTF from memory."""
    descriptor = os.memfd_create("btf")
    with open(descriptor, "wb", closefd=False) as stream:
        stream.write(data)
    return f"/proc/self/fd/{descriptor}".encode()


def _program_name(program):
    return libbpf.call("bpf_program__name", program)


def _map_name(pointer):
    """The map's name; an internal one by its section without the dot: data, bss, rodata, kconfig."""
    name = libbpf.call("bpf_map__name", pointer)
    return _short(name) if libbpf.call("bpf_map__is_internal", pointer) else name


def _short(section):
    return section.rpartition(".")[2]


def _section_name(pointer):
    """An internal map's section as BTF has it, .data or .rodata.mine; libbpf may put the object's name before."""
    name = libbpf.call("bpf_map__name", pointer)
    return name if name.startswith(".") else "." + name.partition(".")[2]


def _inspect(data, name, file="The file"):
    opened = _Object(data, name, file)
    types = opened.btf()
    shapes, internal = [], []
    for pointer in opened.maps():
        if libbpf.call("bpf_map__is_internal", pointer):
            internal.append(_section_name(pointer))
        else:
            shapes.append(_shape(pointer, types))
            _expect_inner(pointer)
    _expect_own_names(internal, [shape.name for shape in shapes])
    filled = _filled(data, types) if any(shape.type in maps.OF_OTHERS for shape in shapes) else ()
    shapes = [maps.as_record(shape._replace(is_filled=shape.name in filled)) for shape in shapes]
    rows = [
        (
            _program_name(program),
            libbpf.call("bpf_program__section_name", program),
            libbpf.call("bpf_program__type", program),
            libbpf.call("bpf_program__expected_attach_type", program),
            libbpf.call("bpf_program__autoload", program),
        )
        for program in opened.programs()
    ]
    _expect_pinnable([row[0] for row in rows])
    return {"programs": rows, "maps": shapes, "internal_maps": [_short(section) for section in internal]}


def _expect_own_names(sections, others):
    """BadRequest where two maps would be pinned under one name: those of globals go by the last part of the section."""
    taken = {name: f"The map {name}" for name in others}
    for section in sections:
        name = _short(section)
        if name in taken:
            raise BadRequest(
                f"{taken[name]} and the section {section} are both to be the map {name}",
                'Rename one of them in the source: of a section the last part, as in SEC(".data.mine")',
                maps=[taken[name], section],
            )
        taken[name] = f"The section {section}"


def _expect_pinnable(names):
    for name in names:
        if "." in name:
            raise BadRequest(
                f"The program {name} has a dot in its name, and the kernel's bpffs pins nothing under such a name",
                f"Rename it, for example {name.replace('.', '_')}",
                program=name,
            )


def _filled(data, types):
    """Names of the maps that the object fills: within their definitions in .maps it refers to programs or maps."""
    section = types.find(".maps", "datasec") if types else None
    if not section:
        return set()
    starts = sorted((field.first_bit // 8, field.name) for field in types.fields(section))
    try:
        places = list(bytecode.Image(data).relocated_in(".maps"))
    except ValueError as error:
        raise BadObject(f"The object is damaged: {error}", "Compile it again") from error
    return {name for at, name in (max(row for row in starts if row[0] <= place) for place in places)}


def _initial_globals(data, name):
    opened, sections = _Object(data, name), []
    types = opened.raw_btf()
    for pointer in opened.maps():
        if libbpf.call("bpf_map__is_internal", pointer) and _map_name(pointer) != "kconfig":
            number = libbpf.call("bpf_map__btf_value_type_id", pointer)
            sections.append((_section_name(pointer), number, base64.b64encode(_initial_value(pointer)).decode()))
    return {"btf": base64.b64encode(types).decode(), "sections": sections}


def _initial_value(pointer):
    size = libbpf.size()
    found = libbpf.call("bpf_map__initial_value", pointer, libbpf.byref(size))
    return libbpf.read(found, size.value) if found else b""


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


def _expect_inner(pointer):
    """A map of maps declares what its inner maps are like, their size too: libbpf makes one to show the kernel."""
    number, name = libbpf.call("bpf_map__type", pointer), libbpf.call("bpf_map__name", pointer)
    if number not in maps.OF_MAPS:
        return
    inner = libbpf.call("bpf_map__inner_map", pointer)
    if not inner:
        raise BadObject(
            f"Map {name} is to hold maps, and the object does not say what these are like",
            "Declare it in the source: __array(values, struct { __uint(type, …); __uint(max_entries, …); … })",
            map=name,
        )
    if not libbpf.call("bpf_map__max_entries", inner) and libbpf.call("bpf_map__type", inner) not in maps.MAY_SAY_0:
        raise BadObject(
            f"The maps within {name} have no size",
            "Give them one in the source: __array(values, struct { … __uint(max_entries, …); })",
            map=name,
        )


def _load(data, name, chosen, shared, pins, tuned, log_folder, limits):
    def attempt(programs, log_level, log_size):
        return _try_load(data, name, programs, shared, tuned, limits, log_level, log_size)

    try:
        opened, logs = attempt(chosen, LOG_STATS, SHORT_LOG)
    except OSError as error:
        if not hasattr(error, "logs"):  # no load was tried: the pin of a shared map is gone
            raise
        raise _refusal(error, attempt, log_folder) from error
    loaded = Loaded(_figures(opened, chosen, logs()), _map_rows(opened, shared), os.uname().release)
    cost.expect_within(limits, loaded.programs, loaded.maps)
    if pins is not None:
        _pin(opened, chosen, pins)
    return loaded._asdict()


def _try_load(data, name, chosen, shared, tuned, limits, log_level, log_size):
    """(object, function that reads each program's log): loaded, or OSError whose `logs` holds them."""
    opened, rooms = _Object(data, name, kernel_types=tuned.btf), {}
    _set_sizes(opened, tuned)  # before reuse_fd: then a map's size is fixed
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

    _tune(opened, tuned, chosen)
    made = [_shape(each, None)._replace(name=_map_name(each)) for each in opened.maps()]
    needs = memory.admitted(made, shared, limits)
    opened.forecasts = {need.name: need.forecast for need in needs}

    def logs():
        return {program: room.value.decode(errors="replace") for program, room in rooms.items()}

    try:
        libbpf.call("bpf_object__load", opened.pointer)
    except OSError as error:
        error.logs, error.opened = logs(), opened
        raise
    return opened, logs


def _tune(opened, tuned, chosen):
    """The rest of the Tuning is carried out on an open object."""
    kinds = {row[0]: row[1:] for row in tuned.programs if chosen is None or row[0] in chosen}
    for program in opened.programs():
        if _program_name(program) in kinds:
            _set_program(program, *kinds[_program_name(program)])
    for pointer in opened.maps():
        if libbpf.call("bpf_map__is_internal", pointer):
            _set_globals(pointer, [row[1:] for row in tuned.globals if row[0] == _section_name(pointer)])


def _set_sizes(opened, tuned):
    sizes = dict(tuned.maps)
    for pointer in opened.maps():
        if not libbpf.call("bpf_map__is_internal", pointer) and _map_name(pointer) in sizes:
            libbpf.call("bpf_map__set_max_entries", pointer, sizes[_map_name(pointer)])


def _set_globals(pointer, rows):
    if rows:
        data = bytearray(_initial_value(pointer))
        for offset, part in rows:
            data[offset : offset + len(part)] = part
        libbpf.call("bpf_map__set_initial_value", pointer, bytes(data), len(data))


def _set_program(program, number, attach, function, pinned):
    _set_kind(program, number, attach)
    if not function and not pinned:
        return
    target = _target_program(pinned, program) if pinned else 0
    try:
        libbpf.call("bpf_program__set_attach_target", program, target, function.encode() if function else None)
    except OSError as error:
        where = f"The program pinned at {pinned}" if pinned else "This kernel"
        near = [] if pinned else targets.nearest(function, targets.functions())
        raise VerifierRefused(
            f"{where} has no function {function} for {_program_name(program)} to attach to",
            "Give a name that it has" + (f": near it are {', '.join(near)}" if near else ""),
            diagnosis="attach_target_missing",
            program=_program_name(program),
            errno=error.errno,
            log=error.log,
        ) from error


def _set_kind(program, number, attach):
    libbpf.call("bpf_program__set_type", program, number)
    libbpf.call("bpf_program__set_expected_attach_type", program, attach)


def _target_program(pinned, program):
    """An fd of the pinned program; libbpf wants it until the load, so it ends with this process."""
    try:
        return bpf.get_pinned(pinned).number
    except OSError as error:
        raise NotFound(
            f"{_program_name(program)} is for a program pinned at {pinned}, and none is there: {error.strerror}",
            "Load that program first, and give the path of its pin",
            path=pinned,
        ) from error


def _map_rows(opened, shared):
    """{map: what it takes}, after the load."""
    rows = {}
    for pointer in opened.maps():
        name, told = _map_name(pointer), opened.forecasts[_map_name(pointer)]
        rows[name] = {
            "bytes": bpf.memlock(libbpf.call("bpf_map__fd", pointer)),
            "predicted": told and told.created,
            "bytes_full": told and told.full,
            "shared": name in shared,
        }
    return rows


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


def _refusal(error, attempt, log_folder):
    """The Failure that a failed load means. A second try takes the trace that the first one did without."""
    culprit = _culprit(error)
    log = error.logs.get(culprit, "")
    if log:
        log = _traced(attempt, culprit, log, LOG_TRACE)
    if log and not verifier.has_steps(log):  # refused after the last path went well: the trace forgot it
        log = _traced(attempt, culprit, log, LOG_TRACE_ALL | LOG_STATS)
    from . import refusals  # only a refusal needs it, and it brings all rules

    return refusals.explained(error, culprit, log, log_folder)


def _traced(attempt, culprit, log, level):
    """The log of another try at this level; the one given where that fails otherwise."""
    try:
        with _interrupted_after(TRACE_SECONDS):
            attempt([culprit], level, WHOLE_LOG)
    except OSError as again:
        trace = again.logs[culprit]
        # before 6.4 a full buffer lacks the end of the log, and so does a trace that took too long: the verdict is in
        # the first log alone
        return f"{trace}\n{log}" if again.errno in (errno.ENOSPC, errno.EAGAIN) else trace or log
    return log


@contextlib.contextmanager
def _interrupted_after(seconds):
    """After that time the verifier gives up with EAGAIN: a signal waits. libbpf tries five times, hence the repetition.

    Tracing a million instructions takes twenty times as long as walking them.
    """
    before = signal.signal(signal.SIGALRM, lambda *dummy: None)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _culprit(error):
    """The program that libbpf was at: the one it names, else the last that has a log."""
    for line in reversed(error.log):
        for program in error.logs:
            if f"prog '{program}'" in line:
                return program
    written = [program for program, text in error.logs.items() if text]
    return written[-1] if written else ""
