# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A release's identity and what stands in its manifest: the digest of what the kernel is given.

Pure: where releases lie on the disk is the store's business.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Container, Iterable
from typing import Any, NamedTuple, Optional

from ..hooks.contract import ProgramType
from ..kernel import bpf

ID_LENGTH = 16  # hex digits of the SHA-256 that name a release; the manifest holds all of them
TARGETED = (bpf.PROG_TRACING, bpf.PROG_EXT, bpf.PROG_LSM)  # types that are loaded for one function


class Release(NamedTuple):
    """One immutable build.

    `programs` are rows of name, section, type, expected attach type; `maps` are shape records. `tuning` is what was set
    before the load (elf.Tuning's record), `globals` the same values as users may see them; both are None in
    manifests older than they. `lint` is what lint.py found, None where nobody looked; `figures` is what the
    kernel said of the first load (elf.Loaded as a record). `dialect` is "bcc" where there is no object, and each load
    compiles the source. `requires` is what requires.py read of it, None in manifests older than that. `files` is
    {name: SHA-256} of the files beside the manifest, empty in manifests older than that. `private_id` is what
    quarantine knows of a release with secrets instead of the source_id (private_id below), empty for any other.
    """

    id: str
    digest: str
    source_id: str
    object_sha256: str
    programs: tuple
    maps: tuple
    source: str
    compiler: str
    cflags: tuple
    lint: Optional[tuple] = None
    tuning: Optional[dict] = None
    globals: Optional[dict] = None
    figures: Optional[dict] = None
    dialect: str = ""
    requires: Optional[dict] = None
    files: dict = {}
    format: int = 1
    private_id: str = ""

    def as_record(self) -> dict:
        return {**self._asdict(), "format": 1}

    @classmethod
    def from_record(cls, record: dict) -> Release:
        """Fields of a later format that we do not know are ignored, and an earlier one may lack the newest."""
        known = {field: record[field] for field in cls._fields if field in record}
        known.update(programs=tuple(tuple(row) for row in known["programs"]), maps=tuple(known["maps"]))
        if known.get("lint") is not None:
            known["lint"] = tuple(known["lint"])
        return cls(**{**known, "cflags": tuple(known["cflags"])})

    @property
    def file(self) -> str:
        """The file beside the manifest that a boot loads it from."""
        return "source" if self.dialect == "bcc" else "object.o"

    @property
    def digests(self) -> dict:
        """{name: SHA-256} of the files that a boot needs; None: the manifest is older than digests of sources."""
        if self.files:
            return self.files
        own = {self.file: None if self.dialect == "bcc" else self.object_sha256}
        return {**own, "btf": self.tuning["btf"]} if (self.tuning or {}).get("btf") else own

    @property
    def program_types(self) -> dict:
        """{program: its contract.ProgramType}. Its target is in its section, where the user named none."""
        named = {row[0]: row[3] for row in (self.tuning or {}).get("programs", ())}
        found = {}
        for name, section, number, attach in self.programs:
            target = named.get(name) or section.partition("/")[2] if number in TARGETED else ""
            found[name] = ProgramType(number, attach, target)
        return found


class Secrets(NamedTuple):
    """The names of the globals that are secret, the rest of the tuning (elf.Tuning's record), and the host's key."""

    names: tuple
    rest: dict
    key: bytes


def identify(
    data: bytes,
    spec,
    map_records: Iterable,
    chosen: Optional[Container] = None,
    *,
    tuning: Optional[dict] = None,
    source_id: str = "",
    secrets: Optional[Secrets] = None,
    **about: Any,
) -> Release:
    """The Release that the object's bytes, the chosen programs (None: all) and what is set before the load make.

    `spec` is elf.ObjectSpec, `map_records` its maps as plain data, `about` the rest of a Release's fields. Two hosts,
    or two runs, that give the kernel the same get the same id. Where there are `secrets` (Secrets) the id begins with
    what is known without their values, and ends with what only this host can make of them.
    """
    programs = tuple(sorted(tuple(row[:4]) for row in spec.programs if chosen is None or row.name in chosen))
    object_sha256 = hashlib.sha256(data).hexdigest()
    given = {"object": object_sha256, "programs": [[row[0], row[2], row[3]] for row in programs]}
    public = {"tuning": secrets.rest, "secrets": list(secrets.names)} if secrets else {"tuning": tuning}
    digest = _digest({**given, **{field: value for field, value in public.items() if value}})
    own = _keyed(secrets.key, json.dumps({**given, "tuning": tuning}, sort_keys=True)) if secrets else ""
    return Release(
        id=digest[:ID_LENGTH] + own[:ID_LENGTH],
        digest=digest + own,
        source_id=source_id or object_sha256,
        object_sha256=object_sha256,
        programs=programs,
        maps=tuple(map_records),
        tuning=tuning or {},
        **about,
    )


def private_id(source_id: str, key: bytes, text: str) -> str:
    """SOURCE_ID.KEY.DIGEST: what is known without the secrets' values, which key, and what it makes of `text`."""
    return f"{source_id}.{_keyed(key, 'name')[:8]}.{_keyed(key, text)[:32]}"


def _keyed(key, text):
    """64 hex digits that nobody without the key can compare with those of other texts."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _digest(given):
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
