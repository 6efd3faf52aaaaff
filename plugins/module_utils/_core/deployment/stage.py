# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A source or an object becomes the deployment's staged load: compiled, judged by this kernel's verifier, loaded,
pinned.

What runs at the hooks is not touched here. Compiling and verifying come before the lock.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Optional

from ..errors import BadRequest, Busy, Failure
from ..kernel import files, values
from ..objects import cost, elf, lint, maps, memory, tuning
from ..objects import source as sources
from . import apply, hostkey, lock, observe, records, reload, store, takeover, trial, ways
from . import release as releases
from .facts import Facts


class Given(NamedTuple):
    """C source (sources.Source) or an object's bytes, who signed it, and what is set before it is loaded.

    In the user's words: `programs` are names, patterns or mappings, `globals` {name: value}, `secrets` the names of
    those not to be shown, `maps` {name: {max_entries, on_change, fields}}. `btf` is a BTF file's content, None without.
    `compiler` is "clang" or "bcc", which is the source's dialect too.
    `lint` is "off", "warn" or "fail", `lint_accept` what is accepted of its findings (lint.judge), `limits` what it may
    cost (cost.expect_within).
    """

    source: Optional[sources.Source] = None
    object: bytes = b""
    file: str = ""
    programs: tuple = ()
    signed_by: str = ""
    lint: str = "off"
    lint_accept: tuple = ()
    globals: Mapping = MappingProxyType({})
    secrets: frozenset = frozenset()
    maps: Mapping = MappingProxyType({})
    btf: Optional[bytes] = None
    limits: Optional[dict] = None
    compiler: str = "clang"

    @property
    def source_id(self) -> str:
        """What reports compare: source, flags and all that is set, of secrets the names. Known before the compiler.

        Where nothing is set it is the source's or the object's own.
        """
        if not self.secrets:
            return self.plain_id
        shown = {name: value for name, value in self.globals.items() if name not in self.secrets}
        return hashlib.sha256(self._text(shown, sorted(self.secrets)).encode()).hexdigest()

    @property
    def plain_id(self) -> str:
        """As source_id, but with the secrets' values: for no output. It named quarantines before there were keys."""
        text = self._text(dict(self.globals))
        return hashlib.sha256(text.encode()).hexdigest() if text else self._own_id

    def private_id(self, key: bytes) -> str:
        """What quarantine knows instead of the source_id where there are secrets, made with the host's key; or ""."""
        return releases.private_id(self.source_id, key, self._text(dict(self.globals))) if self.secrets else ""

    @property
    def _own_id(self):
        if self.source and self.compiler == "bcc":
            return hashlib.sha256(_bcc_identity(self.source)).hexdigest()
        return self.source.id if self.source else hashlib.sha256(self.object).hexdigest()

    def _text(self, given_globals, *more):
        """All that is set, as text; empty where nothing is."""
        overrides = [each for each in self.programs if not isinstance(each, str)]
        sizes = {name: options.get("max_entries") for name, options in self.maps.items() if isinstance(options, dict)}
        sizes = {name: size for name, size in sizes.items() if size is not None}
        if not (given_globals or sizes or overrides or more):
            return ""
        return json.dumps([self._own_id, given_globals, sizes, overrides, *more], sort_keys=True, default=str)


GIVEN = Given()  # nothing but the defaults


class Built(NamedTuple):
    """An object, what is set before it is loaded, and its identity. The spec is as it is then.

    `lint` are the findings, each with the reason why it is accepted, or None. Of BCC's dialect there is no object, but
    the `source`, and `compiled` is a bcc.Inspected.
    """

    object: bytes
    spec: elf.ObjectSpec
    release: releases.Release
    chosen: Optional[tuple]
    compiled: Any  # sources.Compiled, bcc.Inspected or None
    tuned: elf.Tuning = elf.UNTUNED
    lint: tuple = ()
    source: Optional[sources.Source] = None
    is_secret: bool = False


class Result(NamedTuple):
    """What staging did, or would do.

    `figures` are the load's, out of the manifest where nothing had to be loaded. `warnings` are sentences.
    """

    built: Built
    load: str
    steps: tuple
    before: Facts
    after: Facts
    figures: elf.Loaded
    state: str
    warnings: tuple = ()


def build(name: str, given: Given, keep: bool = True, known: Optional[dict] = None) -> Built:
    """The object and the release it makes, nothing loaded. With keep=False nothing is written to the cache.

    `known` are releases by id: what was found in one before is not looked for again. Raises what source.py and elf.py
    say, and LostUpdates.
    """
    if given.compiler == "bcc":
        return _built_by_bcc(given, keep)
    compiled = sources.compile_source(given.source, keep) if given.source else None
    data = compiled.object if compiled else given.object
    spec = elf.inspect(data, name, given.file or "The file")
    chosen, tuned, shown, rest = _tuned(data, name, spec, given)
    key = hostkey.get(keep) if given.secrets else b""
    spec = tuning.applied(spec, tuned)
    release = releases.identify(
        data,
        spec,
        [maps.as_record(shape) for shape in spec.maps],
        chosen,
        tuning=tuned.as_record(),
        source_id=given.source_id,
        private_id=given.private_id(key),
        secrets=releases.Secrets(tuple(sorted(given.secrets)), rest.as_record(), key) if given.secrets else None,
        source=given.file,
        compiler=compiled.compiler if compiled else "",
        cflags=given.source.cflags if given.source else (),
        globals=shown,
    )
    kept = (known or {}).get(release.id)
    release = release._replace(requires=_required(data, spec, chosen, tuned, kept))
    built = Built(data, spec, release, chosen, compiled, tuned, is_secret=bool(given.secrets))
    if given.lint == "off":
        return built
    release = release._replace(lint=_lost_updates(name, data, release, kept))
    judged = lint.judge(release.lint, given.lint, given.lint_accept)
    return built._replace(release=release, lint=tuple(judged))


def _required(data, spec, chosen, tuned, kept=None):
    if kept is not None and kept.requires is not None:
        return kept.requires
    from ..objects import requires  # this is asked once for each release

    return requires.names(data, spec, chosen, tuned)


def _built_by_bcc(given, keep):
    from ..objects import bcc  # few compile with it

    _expect_bcc_can(given)
    compiled = bcc.inspect(given.source, keep)
    tuning.expect_maps(compiled.spec, given.maps)
    chosen, programs = tuning.choose(compiled.spec, given.programs)
    tuned = elf.Tuning(programs=programs)
    spec = tuning.applied(compiled.spec, tuned)
    release = releases.identify(
        _bcc_identity(given.source),
        spec,
        [maps.as_record(shape) for shape in spec.maps],
        chosen,
        tuning=tuned.as_record(),
        source_id=given.source_id,
        source=given.source.file,
        compiler=compiled.compiler,
        cflags=given.source.cflags,
        globals={},
        dialect="bcc",
        requires=_required(b"", spec, chosen, tuned),
    )
    bcc.expect_loadable(release.program_types)
    found = [] if given.lint == "off" else lint.not_judged(sorted(release.program_types), "BCC gives no object")
    judged = tuple(lint.judge(found, given.lint, given.lint_accept))
    return Built(b"", spec, release._replace(lint=tuple(found)), chosen, compiled, tuned, judged, given.source)


def _bcc_identity(source):
    return f"bcc {source.id}".encode()


def _expect_bcc_can(given):
    """BadRequest for what is set in objects, which BCC does not make."""
    if given.source is None:
        raise BadRequest("compiler: bcc takes C source, and this is an object", "Leave compiler out")
    wishes = {name: wish for name, wish in given.maps.items() if isinstance(wish, dict)}
    sizes = [name for name, wish in wishes.items() if wish.get("max_entries") is not None]
    figures = [word for word in ("states", "stack") if (given.limits or {}).get(word) is not None]
    for what, instead in (
        (given.globals and "globals", "Give the values by cflags, as -DNAME=VALUE"),
        (sizes and f"maps.{sizes[0]}.max_entries", "Give the size in the source, or by cflags as -DNAME=VALUE"),
        (given.btf is not None and "btf", "BCC compiles for the running kernel"),
        (given.source.headers and f"headers beside the source ({given.source.headers[0][0]})", "Put all in one file"),
        (figures and f"limits.{figures[0]}", "BCC gives no verifier log, so limits.insns and map_bytes alone hold"),
    ):
        if what:
            raise BadRequest(f"compiler: bcc takes no {what}", instead)


def _lost_updates(name, data, release, kept):
    if kept is not None and kept.lint is not None:
        return kept.lint
    return tuple(lint.findings(data, name, sorted(release.program_types)))


def _tuned(data, name, spec, given):
    """(programs chosen, the Tuning, the globals as users may see them, the Tuning without the secret ones) of what was
    given; BadRequest names a fault."""
    chosen, programs = tuning.choose(spec, given.programs)
    tuning.expect_maps(spec, given.maps)
    sizes = tuning.set_sizes(spec, given.maps)
    rows, shown, rest = (), {}, ()
    if given.globals:
        types, sections = elf.initial_globals(data, name)
        rows, shown = tuning.set_globals(types, sections, given.globals, given.secrets)
        known = {each: value for each, value in given.globals.items() if each not in given.secrets}
        rest = tuning.set_globals(types, sections, known)[0] if given.secrets else rows
    if given.btf is not None and not elf.holds_types(given.btf):
        raise BadRequest(
            "The file given as btf holds no BTF", "Give a raw BTF file or a vmlinux, as pahole and bpftool write them"
        )
    tuned = elf.Tuning(rows, sizes, programs, given.btf or b"")
    return chosen, tuned, shown, tuned._replace(globals=rest)


def verify(name: str, built: Built, given: Given = GIVEN, check_mode: bool = False) -> tuple:
    """(elf.Loaded, warnings); nothing stays loaded. MapChanged where its maps do not fit those in use."""
    place = store.home(name)
    taken = _present(place, observe.sound_facts(place), built, given)[1]
    warnings = _warnings(name, built)
    return _loaded(name, built, taken.shared, log_folder=_log_folder(check_mode), limits=given.limits), warnings


def _warnings(name, built):
    """Sentences on what would fail later; Unsupported where this host lacks what the release needs."""
    from ..objects import preflight  # a release that is loaded already needs none

    preflight.expect_offered(built.release.requires, built.object)
    warnings = tuple(memory.outgrowing(built.spec.maps))
    if built.source:
        return warnings
    return (*warnings, *preflight.warnings(built.object, name, built.chosen, built.tuned))


def _loaded(name, built, shared=None, pins=None, log_folder=None, limits=None):
    """Loaded by the engine that it is for. The verifier's log of one with secrets is not kept: it shows constants."""
    from ..objects import bcc, refusals  # a release that is loaded already needs neither

    if built.source:
        memory.admitted(built.spec.maps, shared or (), limits)  # as elf.load asks for itself
        return bcc.load(built.source, built.release.program_types, shared, pins, log_folder, limits)
    log_folder = None if built.is_secret else log_folder
    with refusals.hiding(built.is_secret):
        return elf.load(built.object, name, built.chosen, shared, pins, built.tuned, log_folder, limits)


def _log_folder(check_mode):
    """Where the whole log of a refusal is kept: check mode leaves nothing."""
    return None if check_mode else os.path.join(sources.CACHE, "logs")


@files.disk_told()
def stage(
    name: str, given: Given, *, rollout_id: str = "", retry_quarantined: bool = False, check_mode: bool = False
) -> Result:
    """The release is loaded and staged: unchanged where it is staged or attached already, and then nothing is verified.

    Raises what source.py, elf.py, MapChanged and Quarantined say; then the host is as before, but for a change that a
    killed run or a dead guard had left: that is ended first, since it decides what the release is compared with.
    """
    place = store.home(name)
    told = () if check_mode else store.take_places()
    seen = observe.facts(place)
    ended = () if check_mode else _ended_first(place, seen, rollout_id)
    seen = observe.expect_sound(observe.facts(place) if ended else seen)
    result = _stage(place, seen, given, rollout_id, retry_quarantined, check_mode)
    return result._replace(steps=(*ended, *result.steps), warnings=(*told, *result.warnings))


def _ended_first(place, seen, rollout_id):
    if seen.trial is None or seen.trial_is_live:
        return ()
    with lock.locked(place.name) as home:
        return trial.settle(home, rollout_id, keep_own=True, seen=reload.load_way_back(home, observe.facts(home)))


def _stage(place, seen, given, rollout_id, retry_quarantined, check_mode):
    _refuse_quarantined(place, seen, given, retry_quarantined, check_mode)
    built = build(place.name, given, not check_mode, seen.releases)
    load, taken = _present(place, seen, built, given)
    figures = _remembered(seen, built.release) if load else None
    if load is not None:
        cost.expect_within(given.limits or {}, figures.programs, figures.maps)
    if load is not None and not check_mode:
        return _stage_locked(place, built, given, None, rollout_id, figures, taken)
    if check_mode:
        warnings = () if load else _warnings(place.name, built)
        figures = figures or _loaded(place.name, built, taken.shared, limits=given.limits)
        aside, load = None if load else "new", load or free_name(seen, built.release)
        staged = _staged(load, built, rollout_id, taken)
        seen = observe.checked(place, seen, built.release.id)
        steps = ways.stage(seen, built.release, aside, staged, {}, _hidden(seen, given))
        return Result(built, load, tuple(steps), seen, seen, figures, _state(seen, load), tuple(warnings))
    return _load_and_stage(place, built, given, rollout_id, taken)


def _refuse_quarantined(place, seen, given, is_retried, check_mode):
    """What this host threw back fails before the compiler sees it; what is confirmed never does."""
    private_id = given.private_id(hostkey.get(not check_mode)) if given.secrets else ""
    digests = [private_id, given.plain_id] if private_id else [given.source_id]
    confirmed = seen.releases.get(seen.confirmed.release) if seen.confirmed else None
    if confirmed is not None and (confirmed.private_id or confirmed.source_id) in digests:
        return
    what = f"{given.file or 'The source'} for {place.name}"
    for digest in digests:
        trial.refuse_quarantined(place, digest, what, is_retried=is_retried)
    for digest in store.quarantined_under_another_key(place, digests[0]):
        told = f"{what}, with secrets that only the host's lost key could tell from those of before,"
        trial.refuse_quarantined(place, digest, told, is_retried=is_retried)


def _remembered(seen, release):
    """The figures of a release that is loaded, from when it was loaded first."""
    kept = seen.releases.get(release.id)
    return elf.Loaded(**kept.figures) if kept and kept.figures else elf.Loaded({}, {}, "")


def costs(result: Result) -> dict:
    """{program: {insns: {before, after} …}} beside the release that runs, where the same kernel judged both."""
    running = result.before.releases.get(result.before.confirmed.release) if result.before.confirmed else None
    if running is None or running.id == result.built.release.id or not running.figures:
        return {}
    if running.figures["kernel"] != result.figures.kernel:
        return {}
    return cost.compared(running.figures["programs"], result.figures.programs)


def _load_and_stage(place, built, given, rollout_id, taken):
    """Load into a folder of this process's own, then take the lock and give it its name."""
    warnings = _warnings(place.name, built)
    files.mount_bpffs()
    store.make_pins_folder(place.loads)
    aside = f"{built.release.id}-{os.getpid()}-tmp"
    folder = os.path.join(place.loads, aside)
    try:
        figures = _loaded(place.name, built, taken.shared, folder, _log_folder(False), given.limits)
        built = built._replace(release=built.release._replace(figures=figures._asdict()))
        result = _stage_locked(place, built, given, aside, rollout_id, figures, taken)
        return result._replace(warnings=tuple(warnings))
    except (Failure, OSError) as error:
        files.remove_tree(folder)
        files.remove_if_empty(place.loads, place.pins, records.PINS)  # not what another run has pinned meanwhile
        if isinstance(error, FileNotFoundError):
            raise _overtaken(place) from error
        raise


def _overtaken(place):
    return Busy(f"Another run changed {place.name} meanwhile", "Run again")


def _stage_locked(place, built, given, aside, rollout_id, figures, expected):
    with lock.locked(place.name) as home:
        seen = observe.facts(home)
        repaired = trial.settle(home, rollout_id, keep_own=True, seen=seen)
        seen = observe.checked(home, observe.facts(home) if repaired else seen, built.release.id)
        load, taken = _present(home, seen, built, given)
        if (taken.ids, taken.policies) != (expected.ids, expected.policies) or not (load or aside):
            raise _overtaken(home)
        if load and aside:  # another run was faster with the same
            files.remove_tree(os.path.join(home.loads, aside))
            aside = None
        load = load or free_name(seen, built.release)
        staged = _staged(load, built, rollout_id, taken)
        steps = ways.stage(seen, built.release, aside, staged, _files(built, given), _hidden(seen, given))
        if steps:
            files.make_private_folder(home.folder)
            apply.carry_out(steps, home)
            record = {"release": built.release.id, "source_id": built.release.source_id, "signed_by": given.signed_by}
            accepted = [each for each in built.lint if each["accepted"]]
            store.journal(home, "stage", load=load, **record, **({"lint_accepted": accepted} if accepted else {}))
        after = observe.facts(home) if steps else seen
        return Result(built, load, tuple([*repaired, *steps]), seen, after, figures, _state(after, load))


def _hidden(seen, given):
    """The releases on the disk that show a global which is secret now, as they are to be."""
    hidden = []
    for release in filter(None, seen.releases.values()):
        shown = release.globals or {}
        secret = {name: values.SECRET for name in given.secrets & shown.keys() if shown[name] != values.SECRET}
        if secret:
            hidden.append(release._replace(globals={**shown, **secret}))
    return tuple(hidden)


def _files(built, given):
    """What lies beside the release's manifest: a boot has nothing else to load from."""
    contents = {"object.o": built.object, "btf": built.tuned.btf}
    if given.source:
        contents["source"] = given.source.text
    return {name: data for name, data in contents.items() if data}


def _state(seen, load):
    return "confirmed" if seen.confirmed and seen.confirmed.load == load and seen.links else "staged"


def _staged(load, built, rollout_id, taken):
    return records.Staged(load, built.release.id, rollout_id, taken.policies, taken.onto)


def _present(place, seen, built, given):
    """(the load of this release that can be used as it is, the Takeover that another one needs).

    Usable is what is attached now, or staged with the same takeover: the maps of any other would be stale.
    """
    for each in (seen.confirmed, seen.trial):
        if each and each.load in seen.loads and each.release == built.release.id:
            return each.load, takeover.Takeover()
    taken, staged = takeover.of(place, seen, built.spec, given.maps), seen.staged
    is_usable = staged and (staged.release, staged.onto, staged.policies) == (
        built.release.id,
        taken.onto,
        taken.policies,
    )
    return staged.load if is_usable else None, taken


def free_name(seen: Facts, release: releases.Release) -> str:
    """R-K with the first K that no load on this host has."""
    number = 1
    while f"{release.id}-{number}" in seen.loads:
        number += 1
    return f"{release.id}-{number}"
