# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What is known of a deployment, as values, and the records that they are on the disk and in /run.

Where each lies, and how it is read and written, is store.py's business.

Each record says its format. Controllers, guards and boot units of older and newer versions read it, too, so these rules
hold:

- A new field has a default and asks for no new format: a version that does not know the field ignores it. No field is
  taken away, renamed, or given another meaning.
- A record gets a higher format only where a version that ignores its new field would do harm. FORMAT is then that
  number, and every other record keeps the lowest format whose readers do right by it.
- A record of a lower format, or of none, is read; the fields that it lacks have their defaults.
- Of a record of a higher format the known fields are read. Facts.newer names it, and a run that would change the
  deployment is refused (TooNew). The way back, the guard and the boot go on with what was read, and prune nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from typing import NamedTuple, Optional

from ..hooks.contract import FIRST, Attachment
from ..kernel import files

STATE = "/var/lib/ebpf_deploy"
RUN = "/run/ebpf_deploy"
PINS = os.path.join(files.BPFFS, "ebpf_deploy")
FORMAT = 2  # the highest that this version knows: 2 is a generation with a hook that not every version has
LOWEST = 1  # what all other records are
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
KEEP = 3  # generations that stay for going back
BOOT_OPTIONS = ("on_boot_refusal", "on_strikes", "proven_after")  # of a Generation, as bpf_attach takes them


class Home(NamedTuple):
    """Where a deployment lives. `is_locked`: this process holds its lock.

    `unlocked` is why its guard goes on without the lock, which it could not have past the deadline (see lock.py).
    """

    name: str
    folder: str
    pins: str
    is_locked: bool = False
    unlocked: str = ""
    held: object = None  # held.Held, where this process is the guard

    @property
    def may_change(self) -> bool:
        """Whether this process may change the deployment: by its lock, or by the deadline of its trial."""
        return self.is_locked or bool(self.unlocked)

    @property
    def loads(self) -> str:
        return os.path.join(self.pins, "loads")

    @property
    def links(self) -> str:
        return os.path.join(self.pins, "links")

    @property
    def carry(self) -> str:
        return os.path.join(self.pins, "carry")


class Staged(NamedTuple):
    """The load that the next bpf_attach takes. `policies` and `onto` as a Generation's."""

    load: str
    release: str
    rollout_id: str = ""
    policies: dict = {}
    onto: str = ""
    format: int = LOWEST


class Generation(NamedTuple):
    """A load and all attachments of the deployment; immutable once written. `attachments` is {id: Attachment}.

    `policies` says what the load's maps take over from those of the load `onto`: {map: {on_change, copied, counted}},
    rows as carry.moves gives them. `leaves` is the load whose counts go back where a rollback made this generation.
    `back_to` is the number of the generation that it goes back to as a trial; 0: nothing ran before it, None: an older
    record, which does not say. `number` is 0 until it is written.
    """

    number: int
    load: str
    release: str
    attachments: dict
    previous: Optional[int] = None
    rollout_id: str = ""
    guarded: bool = False
    boot_id: str = ""
    by: str = ""
    why: str = ""
    when: str = ""
    policies: dict = {}
    onto: str = ""
    leaves: str = ""
    on_boot_refusal: str = "previous"  # or "off": what a kernel that refuses the release at boot leads to
    back_to: Optional[int] = None
    on_strikes: str = "previous"  # or "off", "keep": what boots that end out of order lead to, see strikes.py
    proven_after: int = 86400  # seconds that it has run by then
    origin: dict = {}  # {login, controller, task}: whose run of Ansible made it, and a mark of its own
    format: int = LOWEST

    def as_record(self) -> dict:
        attachments = {key: attachment.as_record() for key, attachment in self.attachments.items()}
        is_first = all(attachment.hook in FIRST for attachment in self.attachments.values())
        return {**self._asdict(), "attachments": attachments, "format": LOWEST if is_first else FORMAT}

    @classmethod
    def from_record(cls, record: dict) -> Generation:
        known = {field: record[field] for field in cls._fields if field in record}
        known["attachments"] = {key: Attachment.from_record(each) for key, each in record["attachments"].items()}
        if record["load"]:
            return cls(**known)
        return LostTrial(**known) if record["number"] else NOTHING

    @property
    def is_written(self) -> bool:
        """Whether it has a record, or had one that is known: so it can run, and be gone back to by its number."""
        return True

    def runs_the_same(self, other: Optional[Generation]) -> bool:
        """Whether both put the same load at the same hooks."""
        return other is not None and (self.load, self.attachments) == (other.load, other.attachments)

    def has_options_of(self, other: Generation) -> bool:
        """Whether both say the same of what a boot may lead to."""
        return all(getattr(self, name) == getattr(other, name) for name in BOOT_OPTIONS)


class LostTrial(Generation):
    """A trial whose record cannot be read or is gone: its number alone is known."""

    __slots__ = ()
    is_written = False

    @classmethod
    def of(cls, number: int) -> LostTrial:
        return cls(number, "", "", {}, guarded=True)


class Nothing(Generation):
    """What hooks run where they run nothing of ours: before the first generation, and after all was taken off."""

    __slots__ = ()
    is_written = False


NOTHING = Nothing(0, "", "", {})


class Deadline(NamedTuple):
    """Until when a guarded trial must be confirmed.

    CLOCK_BOOTTIME in seconds, which goes on in suspend, of this boot alone. `over`: the trial ended so, the hooks
    went back, and the disk did not take the outcome (see trial.py). `passed`: the probe did, since the switch to this
    trial. `by_controller`: somebody confirms it from outside, besides; without, the probe decides alone.
    """

    generation: int
    end: float
    boot_id: str
    rollout_id: str = ""
    probe: str = ""
    over: Optional[dict] = None
    passed: bool = False
    by_controller: bool = True
    format: int = LOWEST

    def is_live(self, trial: Generation, boot_id: str) -> bool:
        """Whether it is this trial's, of this boot, and not passed."""
        return self.is_of(trial, boot_id) and not self.over and boottime() < self.end

    def is_of(self, trial: Generation, boot_id: str) -> bool:
        """Whether it is this trial's, of this boot."""
        return (self.generation, self.boot_id) == (trial.number, boot_id)


class Asked(NamedTuple):
    """A controller asks how the trial fares: by which [address, port] it first did, and whether by a later one, too."""

    generation: int
    came_by: Optional[list] = None
    is_answered: bool = False


class Keep(NamedTuple):
    """How many generations the user wants to stay."""

    keep: int
    format: int = LOWEST


class Serial(NamedTuple):
    """The last number that a generation of the deployment was given."""

    serial: int


ROLLED_BACK, SUPERSEDED, FAILED = "rolled_back", "superseded", "failed"


class Ended(NamedTuple):
    """How a trial ended that was not confirmed: ROLLED_BACK, SUPERSEDED or FAILED.

    It is written before the hooks move. `back`: they were seen back after that. `not_back`: those that were not, in
    words, and why; whoever comes next tries again. `gone`: those whose place there is no more, or somebody else's.
    """

    generation: int
    outcome: str
    why: str
    when: str = ""
    left_out: tuple = ()  # declared entries that the map gone back to cannot hold, in words
    back: bool = True
    not_back: tuple = ()
    gone: tuple = ()
    format: int = LOWEST


class Declared(NamedTuple):
    """What bpf_map declared of a map, in the layout of the map that it was declared in.

    `shape` is that map's record in the manifest, `cpus` how many values an entry has (0: one, whatever CPU). `gone`:
    keys that were declared once and that a map of another load may still hold.
    """

    shape: dict
    cpus: int = 0
    entries: tuple = ()  # (key, value) in bytes
    gone: tuple = ()

    @property
    def is_empty(self) -> bool:
        return not self.entries and not self.gone

    def as_file(self) -> bytes:
        """The bytes of its file: a line of JSON, which has the layout and a digest, and then keys and values."""
        body = b"".join([*(part for entry in self.entries for part in entry), *self.gone])
        head = {
            "format": LOWEST,
            "shape": self.shape,
            "cpus": self.cpus,
            "bytes_value": len(self.entries[0][1]) if self.entries else 0,
            "entries": len(self.entries),
            "digest": hashlib.sha256(body).hexdigest(),
        }
        return json.dumps(head, sort_keys=True).encode() + b"\n" + body

    @classmethod
    def from_file(cls, head: dict, body: bytes) -> Declared:
        """Of the file's first line, as the record that it is, and its other bytes."""
        if hashlib.sha256(body).hexdigest() != head["digest"]:
            raise ValueError("these are other bytes than were written")
        key, value, number = head["shape"]["key_size"], head["bytes_value"], head["entries"]
        step = key + value
        entries = tuple((body[at : at + key], body[at + key : at + step]) for at in range(0, number * step, step))
        gone = tuple(body[at : at + key] for at in range(number * step, len(body), key))
        return cls(head["shape"], head["cpus"], entries, gone)


def release_of(load: str) -> str:
    """R of R-K."""
    return load.rpartition("-")[0]


def sealed(record: dict) -> dict:
    """The record with a digest of its fields."""
    return {**record, "digest": _digest(record)}


def is_as_sealed(record: dict) -> bool:
    """Whether the record's fields are those that were sealed; one without a digest was written before there was one."""
    return record.get("digest", "") in ("", _digest(record))


def _digest(record):
    fields = {name: value for name, value in record.items() if name != "digest"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def boottime() -> float:
    """Seconds since boot, suspend included (CLOCK_BOOTTIME): the same for every process of this boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def now() -> str:
    """UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
