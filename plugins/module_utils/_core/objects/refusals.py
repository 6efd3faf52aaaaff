# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A refused object, explained: its log read, the host asked what only now is worth asking, the whole log in a file.

It runs in the child (child.py), after the fact: nothing here decides whether an object loads.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from typing import Optional

from ..errors import BadObject, Unsupported, VerifierRefused
from ..kernel import bpf, btf, features, files, libbpf, targets
from . import bytecode, diagnosis, maps
from .rules import facts
from .rules.demands import DEMANDS

# numbers as the log writes them, and neither R1, __u32 nor the release 5.10
FIGURE = re.compile(r"0x[0-9a-fA-F]+|\d{3,}|inv-?\d+|(?<![\w.])-?\d+(?!\w|\.\d)")
LOGS_KEPT = 8  # of up to 16 MiB each
SIZES = ("max_entries", "key_size", "value_size")
OPENING = {
    "legacy_map",
    "map_definition",
    "object_without_btf",
    "old_libbpf_btf",
    "program_is_static",
    "symbol_missing",
    "unknown_section",
}


# What the verifier says before it walks -> is this the instruction that it means, by its code, the name of what it
# refers to, and the names of the maps that sleepable programs may not use.
REFUSED_UNWALKED = (
    (r"unknown opcode 8d", lambda code, name, unfit: code[0] == 0x8D),
    (r"cannot use bpf_spin_lock", lambda code, name, unfit: _is_helper(code, 93)),
    (r"cannot use bpf_timer|bpf_timer cannot be used", lambda code, name, unfit: _is_helper(code, 169)),
    (r"cannot use bpf_wq", lambda code, name, unfit: name == "bpf_wq_init"),
    (r"cannot use bpf_\{list_head", lambda code, name, unfit: name.startswith(("bpf_list_", "bpf_rbtree_"))),
    (r"metadata kfuncs", lambda code, name, unfit: name.startswith("bpf_xdp_metadata_")),
    (r"Sleepable programs can only use", lambda code, name, unfit: name in unfit),
)
NOT_SLEEPABLE = re.compile(
    r"(?:perf_event|prog|cgroup)_array|stack_trace|lpm_trie|bloom_filter|devmap\w*|cpumap|xskmap|sock(?:map|hash)"
)


def explained(error: OSError, culprit: str, log: str, log_folder: Optional[str] = None) -> VerifierRefused:
    """The Failure that a failed load means.

    `error` carries libbpf's lines (`log`) and the object (`opened`); `log` is the culprit's. With a folder the whole
    log is kept there, and `log_file` names it.
    """
    section, number = _section_and_type(error.opened, culprit)
    ask = _asking(error.opened.data)
    log = log or "\n".join(error.log)
    found = diagnosis.diagnose(
        log,
        errno=error.errno,
        program=culprit,
        section=section,
        libbpf_log=error.log,
        kernel=os.uname().release,
        capabilities=features.capabilities(),
        lockdown=features.lockdown(),
        **_places(ask, culprit, section),
        told=_facts(error, number),
        start=_meant(ask, error.opened, culprit, section, log),
    )
    return as_failure(found, culprit, log, error.errno, log_folder)


def as_failure(
    found: diagnosis.Diagnosis, program: str, log: str, number: int, log_folder: Optional[str] = None
) -> VerifierRefused:
    """The VerifierRefused of a Diagnosis, with what this host offers instead."""
    return VerifierRefused(
        found.summary,
        " ".join(filter(None, (found.fix, _hint(found)))),
        diagnosis=found.code,
        cause=found.cause,
        program=program,
        source=found.source,
        instruction=found.instruction,
        registers=found.registers,
        log=found.log_excerpt,
        log_file=_kept(log, log_folder),
        stats=found.stats,
        errno=number,
        kernel=os.uname().release,
    )


@contextlib.contextmanager
def hiding(is_secret: bool) -> Iterator[None]:
    """Of a load with secret globals no refusal tells a figure of the verifier's log: it has their values as numbers."""
    try:
        yield
    except VerifierRefused as failure:
        if is_secret:
            _hide(failure)
        raise


def _hide(failure):
    for field in ("log", "registers", "instruction"):
        failure.detail.pop(field, None)
    source = failure.detail.get("source")
    place = f"{source['file']}:{source['line']}: " if source else ""
    start = len(place) if failure.what.startswith(place) else 0
    failure.what = failure.what[:start] + FIGURE.sub("(hidden)", failure.what[start:])
    failure.do = FIGURE.sub("(hidden)", failure.do)
    failure.detail["cause"] = FIGURE.sub("(hidden)", failure.detail["cause"])


def unopened(error: OSError, file: str, size: int) -> BadObject:
    """The BadObject that a failed open means: libbpf's reason where it is one that we know, else that it is none."""
    fields = {"errno": error.errno, "libbpf": error.log[-5:], "size": size}
    found = diagnosis.diagnose("", errno=error.errno, libbpf_log=error.log)
    if found.code in OPENING:
        return BadObject(f"{file}: {found.summary}", found.fix, diagnosis=found.code, cause=found.cause, **fields)
    return BadObject(
        f"{file} is not a BPF object that libbpf can open",
        "Give an ELF object compiled with clang -target bpf -g, or C source whose name ends in .c",
        **fields,
    )


# ---- what the host says now ----------------------------------------------------------------------


def _section_and_type(opened, culprit):
    for program in opened.programs():
        if libbpf.call("bpf_program__name", program) == culprit:
            return libbpf.call("bpf_program__section_name", program), libbpf.call("bpf_program__type", program)
    return "", 0


def _places(ask, program, section):
    """What diagnosis.diagnose asks for lines of the object: logs before 6.8 have none, and libbpf names none."""

    def line_at(instruction):
        return ask(lambda image: image.line_as_loaded(program, section, instruction))

    return {"line_at": line_at, "use_of": lambda name: ask(lambda image: image.line_of_use(name))}


def _asking(data):
    """A function that asks the object's image, read once: None where it does not tell."""
    images = []

    def ask(question):
        try:
            images[:] = images or [bytecode.Image(data)]
            return question(images[0])
        except (ValueError, IndexError, OSError, Unsupported):
            return None

    return ask


def _meant(ask, opened, program, section, log):
    """The number of the instruction that the verifier means when it refuses before it walks; 0 where nothing tells."""
    is_meant = next((is_meant for words, is_meant in REFUSED_UNWALKED if re.search(words, log)), None)
    if not is_meant:
        return 0
    unfit = {name for name, map_type in _map_types(opened) if NOT_SLEEPABLE.fullmatch(map_type)}

    def found(image):
        return image.find_as_loaded(program, section, lambda code, name: is_meant(code, name, unfit))

    return ask(found) or 0


def _is_helper(code, number):
    return code[0] == bytecode.CALL and code[2] == 0 and code[4] == number


def _map_types(opened):
    for pointer in opened.maps():
        yield libbpf.call("bpf_map__name", pointer), bpf.map_type_name(libbpf.call("bpf_map__type", pointer))


def _facts(error, program_type):
    """Facts for the rules: what the maps lack, and whether any program of this type loads here."""
    declared = [] if "Retrying without BTF" in "\n".join(error.log) else [facts.MAPS_AS_DECLARED]
    return declared + _failed_facts(error, program_type)


def _failed_facts(error, program_type):
    failed = re.search(r"map '([^']*)': failed to create", "\n".join(error.log))
    if failed:
        return _map_facts(error.opened, failed[1])
    if error.errno in (errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, bpf.ENOTSUPP) and program_type:
        return program_type_facts(program_type)
    return []


def program_type_facts(number: int) -> list:
    """Whether any program of this type loads here, as a fact; empty where that is not known."""
    return {False: [facts.PROGRAM_TYPE_REFUSED], True: [facts.PROGRAM_TYPE_LOADS]}.get(
        features.has_program_type(number), []
    )


def _map_facts(opened, name):
    for pointer in opened.maps():
        if libbpf.call("bpf_map__name", pointer) == name:
            number = libbpf.call("bpf_map__type", pointer)
            known = [facts.map_type(bpf.map_type_name(number))]
            if features.has_map_type(number) is False:
                known.append(facts.MAP_TYPE_REFUSED)
            sizes = {size: libbpf.call(f"bpf_map__{size}", pointer) for size in SIZES}
            known += [facts.unsized(size) for size, value in sizes.items() if not value]
            flags = libbpf.call("bpf_map__map_flags", pointer)
            return known + _broken(maps.Shape(name, number, bpf.map_type_name(number), flags=flags, **sizes))
    return []


def _broken(shape):
    """The first demand of the map's type that its definition does not keep, as a fact."""
    for types, is_broken, demand, write in DEMANDS:
        if re.fullmatch(types, shape.type_name) and is_broken(shape):
            return [facts.demanded(demand, write)]
    return []


def _hint(found):
    """What this host offers instead, in a sentence; empty where nothing is known."""
    if found.code == "attach_target_missing":
        near = targets.nearest(found.named.get("name", ""), targets.functions())
        return f"Near it this kernel has {', '.join(near)}." if near else ""
    if found.code == "kfunc_signature":
        return _prototype("function", found.named["name"])
    if found.code == "kernel_struct_out_of_bounds" and found.named.get("member"):
        return _member(found.named["type"], found.named["member"])
    if found.code in ("argument_mismatch", "context_access") and found.named.get("function"):
        return _prototype(found.named.get("kind", ""), found.named["function"])
    if found.code == "helper_not_allowed" and found.named.get("number"):
        types = features.program_types_with(int(found.named["number"]))
        return f"On this kernel it can be called from programs of type {', '.join(types)}." if types else ""
    return ""


def _prototype(kind, name):
    """How this kernel declares a function or tracepoint, in a sentence; empty where its BTF does not say."""
    # of a tracepoint the kernel's own data comes before what programs get
    symbols = [(("bpf_lsm_" if kind.startswith("lsm") else "") + name, 0), ("__bpf_trace_" + name, 1)]
    try:
        types = _kernel_types()
        for symbol, first in symbols[::-1] if kind == "tp_btf" else symbols:
            found = types.find(symbol, "func")
            if found:
                return f"This kernel has {types.prototype(types.type(found).target, name, first)}."
    except (OSError, ValueError):
        pass
    return ""


def _member(struct, name):
    """The type and size that this kernel gives a struct's member, in a sentence; empty where its BTF does not say."""
    try:
        types = _kernel_types()
        field = types.members(types.find(struct, "struct"))[name]
        return f"This kernel has {types.describe(field.type)} {name}, of {types.size(field.type)} bytes."
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _kernel_types():
    with open(bpf.KERNEL_BTF, "rb") as stream:
        return btf.parse(stream.read())


# ---- the whole log -------------------------------------------------------------------------------


def _kept(log, folder):
    """Where the whole log lies now, root's alone; empty without a folder, or where the disk does not take it.

    Equal logs make one file, so a schedule does not fill the disk; beyond LOGS_KEPT the oldest go.
    """
    if not folder or not log:
        return ""
    path = os.path.join(folder, hashlib.sha256(log.encode()).hexdigest()[:16] + ".log")
    try:
        files.make_private_folder(folder)
        files.write_durably(path, log.encode())
        kept = sorted((os.path.join(folder, name) for name in os.listdir(folder)), key=os.path.getmtime)
        for old in kept[:-LOGS_KEPT]:
            files.remove(old)
    except OSError:  # the refusal counts, not where its log lies
        return ""
    return path
