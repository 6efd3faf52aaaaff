# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What a user sets otherwise in an object before it is loaded: globals, sizes of maps, kinds of programs.

The user's words and what the object holds go in, rows of an elf.Tuning come out, or a Failure that names the word.
elf.py carries it out, at the first load and at each boot, so it holds final bytes and numbers. What is set to what the
object has anyway is left out: the kernel is given the same, so the release is the same.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple, Optional

from ..errors import BadObject, BadRequest
from ..kernel import bpf, btf, values
from ..kernel.namespaces import did_you_mean
from . import carry, fields, maps

LAST_U32 = (1 << 32) - 1
MAP_OPTIONS = ("max_entries", "on_change", "fields")  # the last two are the takeover's
LSM_PREFIX = "bpf_lsm_"  # of the functions that the kernel has for LSM hooks
PROGRAM_OPTIONS = ("name", "type", "attach_type", "target", "target_program", "autoload")

# How the names of sections begin that libbpf knows, its newest release included; what follows a slash is a target.
# fmt: off
SECTIONS = (
    "socket", "sk_reuseport", "sk_reuseport/migrate", "kprobe/", "kretprobe/", "kprobe.multi/", "kretprobe.multi/",
    "kprobe.session/", "uprobe/", "uretprobe/", "uprobe.s/", "uretprobe.s/", "uprobe.multi/", "uretprobe.multi/",
    "uprobe.session/", "ksyscall/", "kretsyscall/", "usdt/", "tc", "tcx/ingress", "tcx/egress", "tc/ingress",
    "tc/egress", "classifier", "action", "netkit/primary", "netkit/peer", "tracepoint/", "tp/", "raw_tracepoint/",
    "raw_tp/", "raw_tracepoint.w/", "raw_tp.w/", "tp_btf/", "fentry/", "fmod_ret/", "fexit/", "fentry.s/",
    "fmod_ret.s/", "fexit.s/", "freplace/", "lsm/", "lsm.s/", "lsm_cgroup/", "iter/", "iter.s/", "syscall", "xdp",
    "xdp.frags", "xdp/devmap", "xdp.frags/devmap", "xdp/cpumap", "xdp.frags/cpumap", "perf_event", "lwt_in",
    "lwt_out", "lwt_xmit", "lwt_seg6local", "sockops", "sk_skb", "sk_skb/stream_parser", "sk_skb/stream_verdict",
    "sk_msg", "lirc_mode2", "flow_dissector", "cgroup_skb/ingress", "cgroup_skb/egress", "cgroup/skb",
    "cgroup/sock_create", "cgroup/sock_release", "cgroup/sock", "cgroup/post_bind4", "cgroup/post_bind6",
    "cgroup/bind4", "cgroup/bind6", "cgroup/connect4", "cgroup/connect6", "cgroup/connect_unix", "cgroup/sendmsg4",
    "cgroup/sendmsg6", "cgroup/sendmsg_unix", "cgroup/recvmsg4", "cgroup/recvmsg6", "cgroup/recvmsg_unix",
    "cgroup/getpeername4", "cgroup/getpeername6", "cgroup/getsockname4", "cgroup/getsockname6", "cgroup/sysctl",
    "cgroup/getsockopt", "cgroup/setsockopt", "cgroup/dev", "struct_ops/", "struct_ops.s/", "sk_lookup",
    "netfilter",
)
# fmt: on


def applied(spec, tuned):
    """The object's spec (elf.ObjectSpec) as it is once the Tuning is carried out."""
    kinds = {row[0]: {"type": row[1], "expected_attach_type": row[2]} for row in tuned.programs}
    sizes = {name: {"max_entries": size} for name, size in tuned.maps}
    return spec._replace(
        programs=tuple(program._replace(**kinds.get(program.name, {})) for program in spec.programs),
        maps=tuple(shape._replace(**sizes.get(shape.name, {})) for shape in spec.maps),
    )


# ---- globals -------------------------------------------------------------------------------------


class Variable(NamedTuple):
    """A global: its section, its place there, its type in the object's BTF, the bytes that the object has for it."""

    section: str
    offset: int
    type: int
    initial: bytes


def set_globals(types: Optional[btf.Btf], sections: dict, wished: Mapping, secrets: Container = ()) -> tuple:
    """(rows for a Tuning, {name: value} as it may be shown) of the globals {name: value}, those in `secrets` hidden.

    `types` is the object's Btf, `sections` are {section: (type id, bytes)}. Of a struct the fields that are not named
    keep what the source gives them.
    """
    if types is None:
        raise BadObject("The object has no BTF, so its globals have no types", "Compile it with -g")
    try:
        return _set_globals(types, sections, wished, secrets)
    except ValueError as error:
        raise BadObject(f"The object's type information is damaged: {error}", "Compile it again") from error


def _set_globals(types, sections, wished, secrets):
    known = _variables(types, sections)
    rows, shown = [], {}
    for name, value in sorted(wished.items()):
        variable = _variable(known, name, types)
        data = _packed(types, variable, name, value, name in secrets)
        if data != variable.initial:
            rows.append((variable.section, variable.offset, data))
        shown[name] = values.SECRET if name in secrets else values.unpack(types, variable.type, data)
    return tuple(sorted(rows)), shown


def _variables(types, sections):
    """{name: [Variable, …]}: statics within functions may share a name."""
    found = {}
    for section, (type_id, data) in sections.items():
        for field in types.fields(type_id):
            at = field.first_bit // 8
            initial = data[at : at + types.size(field.type)]
            found.setdefault(field.name, []).append(Variable(section, at, field.type, initial))
    return found


def _variable(known, name, types):
    if name not in known:
        raise BadRequest(
            f"The object has no global {name}",
            f"{did_you_mean(name, known)} A variable that the compiler can do without is not in the object: declare it "
            "const volatile",
            globals=sorted(known),
        )
    if len(known[name]) > 1:
        raise BadRequest(f"The object has {len(known[name])} variables named {name}", "Rename one", name=name)
    variable = known[name][0]
    if _is_compiled_in(types, variable.type):
        raise BadRequest(
            f"{name} is const but not volatile, so the compiler has built its value into the program",
            f"Declare it const volatile {types.describe(variable.type)} {name}",
            name=name,
        )
    return variable


def _is_compiled_in(types, type_id):
    found, qualifiers = types.type(type_id), set()
    while found.kind in ("var", "const", "volatile", "restrict", "type_tag", "typedef", "array"):
        qualifiers.add(found.kind)
        found = types.type(found.target)
    return "const" in qualifiers and "volatile" not in qualifiers


def _packed(types, variable, name, value, is_secret):
    if types.type(types.resolve(variable.type)).kind == "struct" and isinstance(value, dict):
        return values.replace(types, variable.type, variable.initial, value, path=name, secret=is_secret)
    return values.pack(types, variable.type, value, path=name, secret=is_secret)


# ---- maps ----------------------------------------------------------------------------------------


def expect_maps(spec, wished: Mapping) -> None:
    """BadRequest where the wish for a map, {map: {max_entries, on_change, fields}}, has no meaning for this object.

    Whether a map fits the one that is in use is takeover.py's verdict.
    """
    shapes = {shape.name: shape for shape in spec.maps}
    for name, options in wished.items():
        if name not in shapes:
            raise BadRequest(f"The object has no map {name}", did_you_mean(name, shapes), maps=sorted(shapes))
        _expect_options(options, MAP_OPTIONS, f"maps.{name}")
        _expect_words(shapes[name], options.get("on_change") or "refuse", options.get("fields") or {})


def _expect_words(shape, on_change, words):
    path = f"maps.{shape.name}"
    if on_change not in carry.POLICIES:
        raise BadRequest(f"{path}.on_change: there is no {on_change!r}", did_you_mean(str(on_change), carry.POLICIES))
    if not isinstance(words, dict) or (words and on_change not in ("copy", "merge")):
        raise BadRequest(f"{path}.fields is a mapping, for on_change copy and merge", "Leave it out, or correct it")
    known = fields.names(shape.value_layout) if words and shape.value_layout else None
    for field, word in words.items():
        if word not in carry.WORDS:
            raise BadRequest(f"{path}.fields.{field}: there is no {word!r}", did_you_mean(str(word), carry.WORDS))
        if known and field not in known and word != "drop":  # what is dropped may be in the old values alone
            raise BadRequest(f"{path}.fields: its values have no field {field}", did_you_mean(str(field), known))


def set_sizes(spec, wished: Mapping) -> tuple:
    """Rows for a Tuning of {map: {max_entries: …}}. Every map of the object then has a size, or BadRequest says how."""
    shapes = {shape.name: shape for shape in spec.maps}
    sizes = {}
    for name, options in wished.items():
        if options.get("max_entries") is not None:
            sizes[name] = _size(shapes[name], options["max_entries"])
    for name, shape in shapes.items():
        if not sizes.get(name, shape.max_entries) and shape.type not in maps.MAY_SAY_0:
            raise BadRequest(
                f"Map {name} has no size: the object leaves max_entries to whoever loads it",
                f"Say how many entries it shall have, for example maps: {{{name}: {{max_entries: 1024}}}}",
                diagnosis="map_unsized",
                map=name,
            )
    return tuple(sorted((name, size) for name, size in sizes.items() if size != shapes[name].max_entries))


def _size(shape, value):
    path = f"maps.{shape.name}.max_entries"
    if shape.type in maps.WITHOUT_SIZE:
        what = f"Map {shape.name} is a {shape.type_name}, which has no size"
        raise BadRequest(what, f"Leave {path} out", map=shape.name)
    try:
        number = int(str(value), 0)
    except ValueError:
        number = None
    if number is None or isinstance(value, bool) or not 0 < number <= LAST_U32:
        raise BadRequest(f"{path}: {value!r} does not fit __u32 (1 to {LAST_U32})", "Give a whole number", path=path)
    return number


# ---- programs ------------------------------------------------------------------------------------


def choose(spec, entries: Iterable) -> tuple:
    """(names of the programs to load, None for all; rows for a Tuning) of the user's entries.

    An entry is a name or shell pattern, or a mapping of PROGRAM_OPTIONS. `autoload: false` leaves out what it matches;
    every other entry chooses. Without one that chooses, all are chosen that the author did not mark SEC("?…").
    """
    if not spec.programs:
        raise BadRequest("The object holds no program", 'Give functions a section, such as SEC("xdp")')
    entries = [_entry(each) for each in entries]
    names = [program.name for program in spec.programs]
    for entry in entries:
        if not fnmatch.filter(names, entry["name"]):
            raise BadRequest(
                f"The object has no program {entry['name']}", did_you_mean(entry["name"], names), programs=names
            )
    choosing = [entry["name"] for entry in entries if entry["autoload"]]
    refusing = [entry["name"] for entry in entries if not entry["autoload"]]
    chosen = [
        program
        for program in spec.programs
        if (_is_matched(program, choosing) if choosing else program.autoload) and not _is_matched(program, refusing)
    ]
    if not chosen:
        raise BadRequest("No program of the object is left to load", "Choose one with programs", programs=names)
    rows = [_row(program, entries) for program in chosen]
    is_all = len(chosen) == len(names) and not choosing
    return None if is_all else tuple(program.name for program in chosen), tuple(sorted(row for row in rows if row))


def _entry(given):
    """The entry with its `autoload`, checked for words that mean nothing."""
    if isinstance(given, str):
        return {"name": given, "autoload": True}
    _expect_options(given, PROGRAM_OPTIONS, "programs")
    for option in set(given) - {"autoload"}:
        if not isinstance(given[option], (str, type(None))):
            what = f"programs.{option} must be text, not {given[option]!r}"
            raise BadRequest(what, "Put it in quotation marks, one value to an entry", path=f"programs.{option}")
    if not given.get("name"):
        raise BadRequest(
            "An entry of programs has no name", "Say which program it is for, by name or pattern", entry=given
        )
    autoload = str(given.get("autoload", True)).lower()
    if autoload not in values.TRUE + values.FALSE:
        raise BadRequest(
            f"programs.autoload must be true or false, not {given['autoload']!r}", path="programs.autoload"
        )
    return {**given, "autoload": autoload in values.TRUE}


def _is_matched(program, patterns):
    return any(fnmatch.fnmatchcase(program.name, pattern) for pattern in patterns)


def _row(program, entries):
    """The program's row for a Tuning, None where it is loaded as the object has it; later entries win."""
    wish = {}
    for entry in entries:
        if _is_matched(program, [entry["name"]]):
            wish.update({option: value for option, value in entry.items() if value not in (None, "")})
    number, attach = _kind(program, wish)
    function, pinned = str(wish.get("target", "")), str(wish.get("target_program", ""))
    if number == bpf.PROG_LSM and function.startswith(LSM_PREFIX):
        function = function[len(LSM_PREFIX) :]  # libbpf puts it there itself
    _expect_known(program, number)
    _expect_target(program, number, function, pinned)
    is_as_it_was = (number, attach) == (program.type, program.expected_attach_type) and not function and not pinned
    return None if is_as_it_was else (program.name, number, attach, function, pinned)


def _kind(program, wish):
    """(type, expected attach type). The section's attach type goes with its program type."""
    number, attach = program.type, program.expected_attach_type
    if "type" in wish:
        number = _number(wish["type"], bpf.prog_types(), f"{program.name} a program type")
        attach = attach if number == program.type else bpf.OWN_ATTACH_TYPE.get(number, 0)
    if "attach_type" in wish:
        attach = _number(wish["attach_type"], bpf.attach_types(), f"{program.name} an attach type")
    if number == bpf.PROG_TRACING and not attach:
        raise BadRequest(
            f"{program.name} is to be of type tracing, which needs an attach type",
            "Add attach_type to its entry in programs: trace_fentry, trace_fexit, modify_return, trace_raw_tp or "
            "trace_iter",
            program=program.name,
        )
    return number, attach


def _number(name, known, what):
    if name in known:
        return known[name]
    raise BadRequest(f"{name!r} does not give {what} that this libbpf has a name for", did_you_mean(str(name), known))


def _expect_known(program, number):
    if number:
        return
    if not program.section:
        raise BadRequest(
            f"Nothing says what {program.name} is: BCC's dialect has no sections",
            f"Give its type, for example programs: [{{name: {program.name}, type: xdp}}]. Functions that are only "
            "called are to be static inline, or left out by choosing the others",
            program=program.name,
        )
    if program.section in SECTIONS:
        raise BadRequest(
            f"{program.name}: this host's libbpf does not know the section {program.section}, which newer ones do",
            "Update libbpf on the host, or say what the program is by type and attach_type in its entry of programs",
            diagnosis="unknown_section",
            program=program.name,
            section=program.section,
            close=[],
        )
    close = close_sections(program.section)
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    kind = bpf.section_type(close[0]) if close else ""
    raise BadRequest(
        f"{program.name}: libbpf does not know the section {program.section}",
        f'{meant}Give the function a known section, such as SEC("xdp"), or say what it is, for example '
        f"programs: [{{name: {program.name}, type: {kind or 'xdp'}}}]",
        diagnosis="unknown_section",
        program=program.name,
        section=program.section,
        close=close,
    )


def close_sections(section: str) -> list:
    """The sections that this one may have been meant as, the nearest first. `.text` is nobody's typing error."""
    if section.startswith("."):
        return []
    close = difflib.get_close_matches(section, SECTIONS, 3)
    head, dummy, target = section.partition("/")
    heads = [name for name in SECTIONS if name.endswith("/")]
    return close or [near + target for near in difflib.get_close_matches(head + "/", heads, 3)]


def _expect_target(program, number, function, pinned):
    """These types are loaded for one function; ext also for one program."""
    kind, entry = bpf.prog_type_name(number), f"{{name: {program.name}"
    if number not in (bpf.PROG_TRACING, bpf.PROG_EXT, bpf.PROG_LSM):
        if function or pinned:
            what = f"{program.name} is of type {kind}, which is loaded for no function in particular"
            raise BadRequest(what, "Leave target and target_program out of its entry", program=program.name)
        return
    if not function and "/" not in program.section:
        raise BadRequest(
            f"{program.name} is of type {kind}, and neither its section nor you name a function for it",
            f"Name it, for example programs: [{entry}, target: vfs_read}}]",
            program=program.name,
        )
    if number == bpf.PROG_EXT and not pinned:
        raise BadRequest(
            f"{program.name} replaces a function of another program, and nothing says of which",
            f"Give the path that it is pinned at: programs: [{entry}, target_program: /sys/fs/bpf/…}}]",
            program=program.name,
        )


def _expect_options(given, known, path):
    if not isinstance(given, dict):
        raise BadRequest(f"{path} must be a mapping of {', '.join(known)}, not {given!r}", path=path)
    for option in given:
        if option not in known:
            raise BadRequest(f"{path} takes no {option}", did_you_mean(str(option), known), path=path)
