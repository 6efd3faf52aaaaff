# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A source or an object becomes the deployment's staged load: compiled, judged by this kernel's verifier, loaded,
pinned.

What runs at the hooks is not touched here. Compiling and verifying come before the lock.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Optional

from ..errors import BadRequest, Busy, Failure
from ..kernel import files, namespaces
from ..objects import elf, lint, maps, preflight
from ..objects import source as sources
from . import apply, observe, plan, store, takeover, trial
from . import release as releases


class Given(NamedTuple):
    """C source (sources.Source) or an object's bytes, the programs chosen by name or pattern, and who signed it.

    `lint` is "off", "warn" or "fail", `lint_accept` what is accepted of its findings (lint.judge).
    """

    source: Optional[sources.Source] = None
    object: bytes = b""
    file: str = ""
    programs: tuple = ()
    signed_by: str = ""
    maps: Mapping = MappingProxyType({})
    lint: str = "off"
    lint_accept: tuple = ()


class Built(NamedTuple):
    """An object and its identity. `lint` are the findings, each with the reason why it is accepted, or None."""

    object: bytes
    spec: elf.ObjectSpec
    release: releases.Release
    chosen: Optional[tuple]
    compiled: Optional[sources.Compiled]
    lint: tuple = ()


class Result(NamedTuple):
    """What staging did, or would do.

    `figures` are the verifier's, by program; none where nothing had to be verified. `warnings` are sentences.
    """

    built: Built
    load: str
    steps: tuple
    before: observe.Facts
    after: observe.Facts
    figures: dict
    state: str
    warnings: tuple = ()


def build(name, given, keep=True, known=None):
    """The object and the release it makes, nothing loaded. With keep=False nothing is written to the cache.

    `known` are releases by id: what was found in one before is not looked for again. Raises what source.py and elf.py
    say, and LostUpdates.
    """
    compiled = sources.compile_source(given.source, keep) if given.source else None
    data = compiled.object if compiled else given.object
    spec = elf.inspect(data, name, given.file or "The file")
    chosen = _choose(spec, given.programs)
    release = releases.identify(
        data,
        spec,
        [maps.as_record(shape) for shape in spec.maps],
        chosen,
        source_id=given.source.id if given.source else "",
        source=given.file,
        compiler=compiled.compiler if compiled else "",
        cflags=given.source.cflags if given.source else (),
    )
    if given.lint == "off":
        return Built(data, spec, release, chosen, compiled)
    release = release._replace(lint=_lost_updates(name, data, release, (known or {}).get(release.id)))
    judged = lint.judge(release.lint, given.lint, given.lint_accept)
    return Built(data, spec, release, chosen, compiled, tuple(judged))


def _lost_updates(name, data, release, kept):
    if kept is not None and kept.lint is not None:
        return kept.lint
    return tuple(lint.findings(data, name, sorted(release.program_types)))


def _choose(spec, patterns):
    """The names that the patterns match, None for all; BadRequest where a pattern matches nothing."""
    names = [program.name for program in spec.programs]
    if not names:
        raise BadRequest("The object holds no program", 'Give functions a section, such as SEC("xdp")')
    if not patterns:
        return None
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise BadRequest(
                f"The object has no program {pattern}", namespaces.did_you_mean(pattern, names), programs=names
            )
    return tuple(name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))


def verify(name, built, check_mode=False):
    """(the verifier's figures by program, warnings); nothing stays loaded."""
    warnings = preflight.warnings(built.object, name, built.chosen)
    return elf.load(built.object, name, built.chosen, log_folder=_log_folder(check_mode)), warnings


def _log_folder(check_mode):
    """Where the whole log of a refusal is kept: check mode leaves nothing."""
    return None if check_mode else os.path.join(sources.CACHE, "logs")


@files.disk_told()
def stage(name, given, *, rollout_id="", retry_quarantined=False, check_mode=False):
    """The release is loaded and staged: unchanged where it is staged or attached already, and then nothing is verified.

    Raises what source.py, elf.py, MapChanged and Quarantined say; then the host is as before.
    """
    place = store.home(name)
    seen = observe.sound_facts(place)
    _refuse_quarantined(place, seen, given, retry_quarantined)
    built = build(name, given, not check_mode, seen.releases)
    load, taken = _present(place, seen, built, given)
    if load is not None and not check_mode:
        return _stage_locked(place, built, given, None, rollout_id, {}, taken)
    if check_mode:
        warnings = () if load else preflight.warnings(built.object, name, built.chosen)
        figures = {} if load else elf.load(built.object, name, built.chosen, taken.shared)
        aside, load = None if load else "new", load or free_name(seen, built.release)
        staged = _staged(load, built, rollout_id, taken)
        steps = plan.stage(seen, built.release, aside, staged, built.object, None)
        return Result(built, load, tuple(steps), seen, seen, figures, _state(seen, load), tuple(warnings))
    return _load_and_stage(place, built, given, rollout_id, taken)


def _refuse_quarantined(place, seen, given, is_retried):
    """What this host threw back fails before the compiler sees it; what is confirmed never does."""
    source_id = given.source.id if given.source else hashlib.sha256(given.object).hexdigest()
    confirmed = seen.releases.get(seen.confirmed.release) if seen.confirmed else None
    if confirmed is None or confirmed.source_id != source_id:
        what = f"{given.file or 'The source'} for {place.name}"
        trial.refuse_quarantined(place, source_id, what, is_retried=is_retried)


def _load_and_stage(place, built, given, rollout_id, taken):
    """Load into a folder of this process's own, then take the lock and give it its name."""
    warnings = preflight.warnings(built.object, place.name, built.chosen)
    files.mount_bpffs()
    files.make_private_folder(place.loads)
    aside = f"{built.release.id}-{os.getpid()}-tmp"
    folder = os.path.join(place.loads, aside)
    try:
        figures = elf.load(built.object, place.name, built.chosen, taken.shared, folder, _log_folder(False))
        result = _stage_locked(place, built, given, aside, rollout_id, figures, taken)
        return result._replace(warnings=tuple(warnings))
    except (Failure, OSError) as error:
        files.remove_tree(folder)
        files.remove_if_empty(place.loads, place.pins, store.PINS)  # not what another run has pinned meanwhile
        if isinstance(error, FileNotFoundError):
            raise _overtaken(place) from error
        raise


def _overtaken(place):
    return Busy(f"Another run changed {place.name} meanwhile", "Run again")


def _stage_locked(place, built, given, aside, rollout_id, figures, expected):
    with store.locked(place.name) as home:
        repaired = trial.settle(home, rollout_id, keep_own=True)
        seen = observe.facts(home)
        load, taken = _present(home, seen, built, given)
        if (taken.ids, taken.policies) != (expected.ids, expected.policies) or not (load or aside):
            raise _overtaken(home)
        if load and aside:  # another run was faster with the same
            files.remove_tree(os.path.join(home.loads, aside))
            aside = None
        load = load or free_name(seen, built.release)
        text = given.source.text if given.source else None
        staged = _staged(load, built, rollout_id, taken)
        steps = plan.stage(seen, built.release, aside, staged, built.object, text)
        if steps:
            files.make_private_folder(home.folder)
            apply.carry_out(steps, home)
            record = {"release": built.release.id, "source_id": built.release.source_id, "signed_by": given.signed_by}
            accepted = [each for each in built.lint if each["accepted"]]
            store.journal(home, "stage", load=load, **record, **({"lint_accepted": accepted} if accepted else {}))
        after = observe.facts(home)
        return Result(built, load, tuple([*repaired, *steps]), seen, after, figures, _state(after, load))


def _state(seen, load):
    return "confirmed" if seen.confirmed and seen.confirmed.load == load and seen.links else "staged"


def _staged(load, built, rollout_id, taken):
    return store.Staged(load, built.release.id, rollout_id, taken.policies, taken.onto)


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


def free_name(seen, release):
    """R-K with the first K that no load on this host has."""
    number = 1
    while f"{release.id}-{number}" in seen.loads:
        number += 1
    return f"{release.id}-{number}"
