# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A deployment's state on the disk: releases, generations, pointers, journal, lock.

    /var/lib/ebpf_deploy/NAME/           0700; every write aside, fsync, rename, fsync of the folder
        releases/R/{object.o, source, btf, manifest.json}; btf only where one was given, no object.o of BCC's dialect
        staged.json                      the load that the next bpf_attach takes
        generations/N.json               immutable; N is never used twice (serial)
        {trial,confirmed}                symlinks to generations: each change of state is one rename
        outcomes/N.json                  how a trial ended that was not confirmed, and why
        quarantine/DIGEST.json           what this host threw back
        keep.json                        how many generations stay, where it is not KEEP
        entries/MAP                      what bpf_map declared: a line of JSON with the layout, then bytes
        ran.json                         how long what ran here, and its strikes (strikes.py)
        journal.jsonl, journal.jsonl.1   one line per event, the older ones in .1; a torn last line is ignored
    /run/ebpf_deploy/NAME.lock           held by whoever changes the deployment, never while waiting
    /run/ebpf_deploy/NAME.deadline       until when the trial must be confirmed
    /run/ebpf_deploy/NAME.asked          whether a controller that asks for the trial was answered
    /sys/fs/bpf/ebpf_deploy/NAME/loads/R-K/{progs,maps}/…, links/ID
    /sys/fs/bpf/ebpf_deploy/NAME/carry/R-K/{MAP-in, MAP-back}   programs that move counts to load R-K's map, and back;
                                     merged/ beside them once the counts are there

What the kernel runs is not here: it is read from the kernel (observe.py).

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

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from typing import NamedTuple, Optional

from ..errors import BadRequest, Busy, Damaged, Failure, NotRootsAlone, TooNew, Unprivileged
from ..hooks.contract import FIRST, Attachment
from ..kernel import files, owned
from .release import Release

STATE = "/var/lib/ebpf_deploy"
RUN = "/run/ebpf_deploy"
PINS = os.path.join(files.BPFFS, "ebpf_deploy")
FORMAT = 2  # the highest that this version knows: 2 is a generation with a hook that not every version has
LOWEST = 1  # what all other records are
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
KEEP = 3  # generations that stay for going back
LOCK_SECONDS = 30
BOOT_OPTIONS = ("on_boot_refusal", "on_strikes", "proven_after")  # of a Generation, as bpf_attach takes them
JOURNAL_BYTES = 1 << 18  # then it becomes journal.jsonl.1: some 500 changes are kept, and twice this on the disk
GONE = ".gone.aside"  # a release on its way out has this behind its id
FOLDERS = ("releases", "generations", "outcomes", "quarantine", "entries")
OUTLIVES = {"serial", "quarantine"}  # what stays in the folder of a deployment that was removed


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
    def loads(self):
        return os.path.join(self.pins, "loads")

    @property
    def links(self):
        return os.path.join(self.pins, "links")

    @property
    def carry(self):
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
    record, which does not say.
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

    def as_record(self):
        attachments = {key: attachment.as_record() for key, attachment in self.attachments.items()}
        is_first = all(attachment.hook in FIRST for attachment in self.attachments.values())
        return {**self._asdict(), "attachments": attachments, "format": LOWEST if is_first else FORMAT}

    @classmethod
    def from_record(cls, record):
        known = {field: record[field] for field in cls._fields if field in record}
        known["attachments"] = {key: Attachment.from_record(each) for key, each in record["attachments"].items()}
        return cls(**known)

    def runs_the_same(self, other):
        """Whether both put the same load at the same hooks."""
        return other is not None and (self.load, self.attachments) == (other.load, other.attachments)

    def has_options_of(self, other):
        """Whether both say the same of what a boot may lead to."""
        return all(getattr(self, name) == getattr(other, name) for name in BOOT_OPTIONS)


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

    def is_live(self, trial, boot_id):
        """Whether it is this trial's, of this boot, and not passed."""
        return self.is_of(trial, boot_id) and not self.over and boottime() < self.end

    def is_of(self, trial, boot_id):
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
    def is_empty(self):
        return not self.entries and not self.gone


# ---- names and the lock --------------------------------------------------------------------------


def home(name):
    """Where the deployment lives, for reading. BadRequest for a name that is none."""
    if not NAME.fullmatch(name):
        raise BadRequest(
            f"{name!r} cannot name a deployment",
            "Use lower-case letters, digits, - and _, at most 63, beginning with a letter or digit",
            name=name,
        )
    return Home(name, os.path.join(STATE, name), os.path.join(PINS, name))


def release_of(load):
    """R of R-K."""
    return load.rpartition("-")[0]


def take_places():
    """Sentences on what somebody else had put where our folders are to be: it was moved aside, so that nobody keeps a
    way back or a boot from its work by being there first. What cannot be taken stays: expect_private tells of it."""
    told = []
    with contextlib.suppress(OSError, Failure):
        told.append(files.has_bpffs() and owned.make_sticky(files.BPFFS))
        for path in (STATE, RUN, PINS):
            if os.path.lexists(path):
                told.append(owned.take_folder(path))
    return [text for text in told if text]


def take_own(place):
    """Sentences on what of the deployment was a symlink in the place of a folder of ours, or of a pin: each was moved
    aside. What one leads to is not ours: nothing is read, written or removed through it."""
    told = []
    with contextlib.suppress(OSError):  # of a disk that gives errors: no way back is shut by it
        for path in _may_be_links(place):  # and none is looked at below one that could not be moved
            told += [files.move_link_aside(path)] if os.path.islink(path) else []
    return told


def _may_be_links(place):
    """Paths of ours that none may be at, those above first: what is below one is looked at when that has gone."""
    yield PINS
    yield place.folder
    for name in FOLDERS:
        yield os.path.join(place.folder, name)
    for name in releases(place):
        yield os.path.join(place.folder, "releases", name)
    yield place.pins
    for root, names, others in os.walk(place.pins):
        for name in (*names, *others):
            yield os.path.join(root, name)


def expect_private():
    """Our folders are root's alone, each on its whole way, where they are there; NotRootsAlone names what is not.

    For what begins something new. What goes back asks nobody.
    """
    for path in (STATE, RUN, PINS):
        try:
            owned.expect(path)
        except FileNotFoundError:
            pass
        except NotRootsAlone as refusal:
            at, uid = refusal.detail["path"], refusal.detail["uid"]
            if (at == path and uid) or (at == files.BPFFS and not uid):
                continue  # take_places does what is to be done
            raise


def has_own_pins():
    """Whether what is pinned under our name is root's: what is in another's folder is none of ours."""
    try:
        facts = os.lstat(PINS)
    except OSError:
        return True  # there is none
    return facts.st_uid == 0


def make_pins_folder(path):
    """The folder `path` below PINS is there, root's alone like those above it."""
    owned.take_folder(PINS)
    files.make_private_folder(path)


@contextlib.contextmanager
def locked(name, seconds=LOCK_SECONDS):
    """The deployment's Home, with the right to change it.

    It is an flock on /run/ebpf_deploy/NAME.lock, gone with this process and those of its children that inherited it.
    """
    place = home(name)
    with files.disk_told():
        told = take_places()
        descriptor = _held_lock(lock_path(place.name), place.name, time.monotonic() + seconds)
        try:
            _sign(descriptor)
            for text in (*told, *take_own(place)):
                journal(place, "moved_aside", what=text)
            yield place._replace(is_locked=True)
        finally:
            os.close(descriptor)


def lock_path(name):
    """The file that whoever changes the deployment has locked, its pid in it."""
    return os.path.join(RUN, name + ".lock")


def _held_lock(path, name, end):
    """A descriptor of the file that is at `path`, locked; one that was taken away meanwhile keeps nobody out."""
    while True:
        descriptor = _open_lock(path)
        try:
            _take_lock(descriptor, name, end)
            if files.is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open_lock(path):
    """What is no file there (a symlink, a folder) is moved aside: it would keep the guard, too, from its work."""
    try:
        files.make_private_folder(RUN)
        if not files.is_plain(path):
            os.rename(path, f"{path}.{os.getpid()}.aside")
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except PermissionError as error:
        raise Unprivileged("This needs root on the host", "Add become: true", errno=error.errno) from error


def _sign(descriptor):
    """The lock says whose it is, where there is room for that: a full /run shall not keep the way back shut."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _take_lock(descriptor, name, end):
    begun = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
                raise Busy(
                    f"Another run (process {holder or 'unknown'}) has been changing deployment {name} for "
                    f"{round(end - begun)} s",
                    "Run again when it has ended",
                    pid=holder,
                ) from None
            time.sleep(0.05)


# ---- reading -------------------------------------------------------------------------------------


def deployments():
    """The names of all deployments that have state on this host's disk, or pins."""
    return sorted(
        name
        for name in {*files.names_in(os.path.realpath(STATE)), *(files.names_in(PINS) if has_own_pins() else ())}
        if NAME.fullmatch(name)
    )


def has_remains(place):
    """Whether anything is on the disk or pinned, but for what outlives a deployment; a killed run may have left it."""
    is_there = os.path.lexists(place.pins) or os.path.islink(place.folder)
    return is_there or bool({*files.names_in(place.folder)} - OUTLIVES)


def staged(place):
    """What stands in staged.json, or None."""
    return _read(Staged, os.path.join(place.folder, "staged.json"))


def pointed(place, pointer):
    """The Generation that `trial` or `confirmed` names, or None. Damaged where it is no symlink to a generation."""
    number, path = pointed_number(place, pointer), os.path.join(place.folder, pointer)
    if number is None and os.path.lexists(path):
        raise Damaged(f"{path} names no generation", path=path)
    return None if number is None else generation(place, number)


def pointed_number(place, pointer):
    """The number that `trial` or `confirmed` names, whether there is such a generation or not; None: names nothing."""
    path = os.path.join(place.folder, pointer)
    named = re.fullmatch(r"generations/([0-9]+)\.json", os.readlink(path) if os.path.islink(path) else "")
    return int(named[1]) if named else None


def lost_trial(number):
    """Stands for a trial whose record cannot be read or is gone: its number alone is known."""
    return Generation(number, "", "", {}, guarded=True)


def generation(place, number):
    """The Generation with this number, or None where it is not kept."""
    path = _generation_path(place, number)
    return _numbered(_read(Generation, path), "number", number, path)


def _numbered(found, field, number, path):
    """What was read, the record of this number; Damaged where it is another's: a copy, or a symlink to that."""
    if found is not None and getattr(found, field) != number:
        raise Damaged(f"{path} is the record of {getattr(found, field)}", path=path)
    return found


def generation_numbers(place):
    names = files.names_in(os.path.join(place.folder, "generations"))
    return sorted(int(name[:-5]) for name in names if re.fullmatch(r"[0-9]+\.json", name))


def next_number(place):
    """A generation's number that was never used: serial counts on although generations are pruned."""
    serial = _read(Serial, os.path.join(place.folder, "serial"))
    return max([serial.serial if serial else 0, *generation_numbers(place)]) + 1


def releases(place):
    """The ids of the releases on this disk, and R.gone.aside of one that a killed run had begun to remove."""
    names = files.names_in(os.path.join(place.folder, "releases"))
    return [name for name in names if "." not in name or name.endswith(GONE)]


def release(place, number):
    """The Release with this id, None where its manifest is not on this disk. `spoiled` says whether its files are."""
    if number.endswith(GONE):
        return None
    path = release_path(place, number, "manifest.json")
    return _numbered(_read(Release, path), "id", number, path)


def release_path(place, number, name):
    return os.path.join(place.folder, "releases", number, name)


def spoiled(place, made):
    """The path of a file of the release that is lost, or has other bytes than were written; "" where all are whole."""
    for name, digest in made.digests.items():
        path = release_path(place, made.id, name)
        found = files.sha256_of(path)
        if not found or digest not in (None, found):
            return path
    return ""


def deadline_path(name):
    """The file that is there while a guarded trial waits."""
    return os.path.join(RUN, name + ".deadline")


def deadline(place):
    """The Deadline of the trial, or None. Damaged where it is not as it was written: the trial might never end."""
    path = deadline_path(place.name)
    with contextlib.suppress(FileNotFoundError):
        if not is_as_sealed(files.read_json(path)):
            raise Damaged(f"{path} is not as it was written", path=path)
    return _read(Deadline, path)


def sealed(record):
    """The record with a digest of its fields."""
    return {**record, "digest": _digest(record)}


def is_as_sealed(record):
    """Whether the record's fields are those that were sealed; one without a digest was written before there was one."""
    return record.get("digest", "") in ("", _digest(record))


def _digest(record):
    fields = {name: value for name, value in record.items() if name != "digest"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def asked(place):
    """The Asked of the trial; None where no controller asks."""
    return _read(Asked, _asked_path(place.name))


def _asked_path(name):
    return os.path.join(RUN, name + ".asked")


def keep(place):
    """The Keep of the deployment, or None where KEEP holds."""
    return _read(Keep, os.path.join(place.folder, "keep.json"))


def newer(place):
    """A TooNew for each record of the deployment that is of a higher format than ours."""
    found = []
    for path in [*_records(place), deadline_path(place.name)]:
        with contextlib.suppress(FileNotFoundError, Damaged):
            record = files.read_json(path)
            if _format(record, path) > FORMAT:
                found.append(_too_new(record, path))
    return found


def _records(place):
    return sorted(
        os.path.join(root, name)
        for root, dummy, names in os.walk(place.folder)
        for name in names
        if name.endswith(".json") and not os.path.islink(os.path.join(root, name))
    )


def ended(place, number):
    """How the trial of this generation ended, None while it did not or where it was confirmed."""
    path = os.path.join(place.folder, "outcomes", f"{number}.json")
    return _numbered(_read(Ended, path), "generation", number, path)


def ran(place, kind):
    """The record in ran.json as the NamedTuple `kind` (strikes.Ran), or None."""
    return _read(kind, os.path.join(place.folder, "ran.json"))


def record_of(kind, path):
    """The host's own record in `path` as the NamedTuple that it was, or None; failures as those of a deployment's."""
    return _read(kind, path)


def quarantined(place, digest):
    """{why, when, generation} where this host threw back what has this digest, or None.

    A record that cannot be read keeps it out, too, until the user wants it tried again.
    """
    unknown = {"why": "its own record cannot be read", "when": "", "generation": 0}
    try:
        record = _record(os.path.join(place.folder, "quarantine", digest + ".json"))
    except Damaged:
        return unknown
    return None if record is None else {**unknown, **record}


def quarantined_under_another_key(place, private_id):
    """The digests of what was thrown back with the same names of secrets as the private_id (release.py) has, under
    another key; none for a source_id."""
    source_id, key, *dummy = [*private_id.split("."), ""]
    names = [name[: -len(".json")].split(".") for name in files.names_in(os.path.join(place.folder, "quarantine"))]
    return [".".join(each) for each in names if len(each) == 3 and each[0] == source_id and each[1] != key]


def declared_maps(place):
    """The names of the maps that entries are declared of."""
    return [name for name in files.names_in(os.path.join(place.folder, "entries")) if not name.endswith(".aside")]


def declared(place, name):
    """What is declared of the map with this name, or None. Damaged where the file is not as it was written."""
    path = _declared_path(place, name)
    try:
        with open(path, "rb") as stream:
            head, dummy, body = stream.read().partition(b"\n")
    except FileNotFoundError:
        return None
    try:
        record = json.loads(head)
        if _format(record, path) > FORMAT:
            raise _too_new(record, path)
        return _parsed(record, body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(
            f"{path}, what is declared of map {name}, cannot be read",
            "Run bpf_map with purge: true and all its entries: it is written anew",
            path=path,
            error=repr(error),
        ) from error


def _parsed(head, body):
    if hashlib.sha256(body).hexdigest() != head["digest"]:
        raise ValueError("these are other bytes than were written")
    key, value, number = head["shape"]["key_size"], head["bytes_value"], head["entries"]
    step = key + value
    entries = tuple((body[at : at + key], body[at + key : at + step]) for at in range(0, number * step, step))
    gone = tuple(body[at : at + key] for at in range(number * step, len(body), key))
    return Declared(head["shape"], head["cpus"], entries, gone)


def _declared_path(place, name):
    return os.path.join(place.folder, "entries", name)


def release_file(place, made, name):
    """The bytes of a release's file on this disk: object.o, source or btf. Damaged where they are not as written."""
    path, digest = release_path(place, made.id, name), made.digests.get(name)
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise lost_release(made.id, path, error=str(error)) from error
    if digest not in (None, hashlib.sha256(data).hexdigest()):
        raise lost_release(made.id, path)
    return data


def lost_release(number, path, **detail):
    """What is heard of a release that cannot be loaded again from the disk."""
    return Damaged(
        f"{path} of release {number} is damaged or lost",
        "Run bpf_program with the same source again: it writes the file anew",
        path=path,
        release=number,
        **detail,
    )


def _read(kind, path):
    """The record in `path` as the NamedTuple that it was, or None where there is no file.

    Fields that a later version added are left out, those that an earlier one did not have take their defaults. Where a
    field without a default is missing: Damaged, or TooNew if the record is of a higher format than ours.
    """
    record = _record(path)
    if record is None:
        return None
    try:
        if hasattr(kind, "from_record"):
            return kind.from_record(record)
        return kind(**{field: record[field] for field in kind._fields if field in record})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if record["format"] > FORMAT:
            raise _too_new(record, path) from error
        raise Damaged(f"{path} is no {kind.__name__.lower()}", path=files.behind(path), error=repr(error)) from error


def _record(path):
    try:
        record = files.read_json(path)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise Unprivileged("This needs root on the host", "Add become: true", errno=error.errno) from error
    return {**record, "format": _format(record, path)}


def _format(record, path):
    """The record's format, 0 where it says none."""
    number = record.get("format", 0)
    if isinstance(number, bool) or not isinstance(number, int):
        raise Damaged(f"{path} says no format that is a number", path=files.behind(path), format=number)
    return number


def _too_new(record, path):
    return TooNew(
        f"{path} was written by a newer ebpf.deploy: it is of format {record['format']}, and this one knows {FORMAT}",
        "Update the collection on the controller",
        path=files.behind(path),
        format=record["format"],
        known=FORMAT,
    )


def _generation_path(place, number):
    return os.path.join(place.folder, "generations", f"{number}.json")


# ---- changing: the steps that apply.py carries out -----------------------------------------------


def write_release(place, made, contents):
    """releases/R is on the disk with its files {name: bytes} and the manifest, whole or not at all."""
    folder = os.path.join(place.folder, "releases", made.id)
    aside = folder + ".aside"
    _sweep(os.path.dirname(folder))
    files.make_private_folder(aside)
    for name, data in contents.items():
        files.write_durably(os.path.join(aside, name), data)
    files.write_json(os.path.join(aside, "manifest.json"), _with_digests(made, contents).as_record())
    remove_release(place, made.id)
    os.rename(aside, folder)
    files.sync_folder(os.path.dirname(folder))


def mend_release(place, made, contents):
    """The release's files {name: bytes} are on the disk again: each is whole or as it was.

    What is whole already stays, and the manifest comes first: until the last one is mended the release counts as
    damaged, so that the next run finishes what a kill left.
    """
    made = _with_digests(made, contents)
    write_manifest(place, made)
    for name, data in contents.items():
        path = release_path(place, made.id, name)
        if files.sha256_of(path) != made.files[name]:
            files.write_durably(path, data)


def _with_digests(made, contents):
    return made._replace(files={name: hashlib.sha256(data).hexdigest() for name, data in contents.items()})


def write_manifest(place, made):
    """The manifest of a release that is on the disk tells what `made` does."""
    files.write_json(release_path(place, made.id, "manifest.json"), made.as_record())


def remove_release(place, number):
    """releases/R is gone: renamed first, so that what a kill leaves of it is not taken for the whole."""
    folder = os.path.join(place.folder, "releases", number)
    files.remove_whole(folder, folder if number.endswith(GONE) else folder + GONE)


def write_staged(place, what):
    files.make_private_folder(place.folder)
    files.write_json(os.path.join(place.folder, "staged.json"), {**what._asdict(), "format": LOWEST})


def remove_staged(place):
    files.remove(os.path.join(place.folder, "staged.json"))


def write_generation(place, what):
    """generations/N.json is on the disk, and N will not be given again."""
    folder = os.path.join(place.folder, "generations")
    files.make_private_folder(folder)
    _sweep(folder)
    files.write_json(os.path.join(place.folder, "serial"), {**Serial(what.number)._asdict(), "format": LOWEST})
    files.write_json(_generation_path(place, what.number), what.as_record())


def mend_generation(place, what):
    """generations/N.json says again what it said: it was lost while a guard knew it. The serial stays."""
    files.make_private_folder(os.path.join(place.folder, "generations"))
    files.write_json(_generation_path(place, what.number), what.as_record())


def _sweep(folder):
    """What killed runs left half written is gone: its name may never be written again."""
    for name in files.names_in(folder):
        if name.endswith(".aside"):
            path = os.path.join(folder, name)
            files.remove_tree(path) if os.path.isdir(path) else files.remove(path)


def remove_damaged(path):
    """The file that could not be read is gone."""
    files.remove(path)
    with contextlib.suppress(FileNotFoundError):  # its folder went before
        files.sync_folder(os.path.dirname(path))


def remove_generation(place, number):
    files.remove(_generation_path(place, number))


def point(place, pointer, number):
    """`trial` or `confirmed` names generation `number`; None: names nothing."""
    path = os.path.join(place.folder, pointer)
    if number is None:
        files.remove(path)
        if os.path.isdir(place.folder):
            files.sync_folder(place.folder)
    else:
        files.point_symlink(path, f"generations/{number}.json")


def point_back(place, pointer, number):
    """As point, and nothing is written where the pointer never left: a full disk would not let it."""
    path = os.path.join(place.folder, pointer)
    now_at = os.readlink(path) if os.path.islink(path) else None
    if now_at != (None if number is None else f"generations/{number}.json"):
        point(place, pointer, number)


def write_deadline(place, what):
    files.make_private_folder(RUN)
    files.write_json(deadline_path(place.name), sealed({**what._asdict(), "format": LOWEST}))


def remove_deadline(place):
    """No trial waits, and no guard has to find again what it held (held.py)."""
    files.remove(deadline_path(place.name))
    files.remove(_asked_path(place.name))
    files.remove(os.path.join(RUN, place.name + ".held"))


def write_asked(place, what):
    files.make_private_folder(RUN)
    files.write_json(_asked_path(place.name), {**what._asdict(), "format": LOWEST})


def write_ended(place, what):
    files.make_private_folder(os.path.join(place.folder, "outcomes"))
    record = {**what._asdict(), "when": now(), "format": LOWEST}
    files.write_json(os.path.join(place.folder, "outcomes", f"{what.generation}.json"), record)


def write_keep(place, number):
    files.write_json(os.path.join(place.folder, "keep.json"), {**Keep(number)._asdict(), "format": LOWEST})


def remove_ended(place, number):
    files.remove(os.path.join(place.folder, "outcomes", f"{number}.json"))


def write_quarantine(place, digest, why, number):
    files.make_private_folder(os.path.join(place.folder, "quarantine"))
    record = {"why": why, "generation": number, "when": now(), "format": LOWEST}
    files.write_json(os.path.join(place.folder, "quarantine", digest + ".json"), record)


def write_ran(place, what):
    files.make_private_folder(place.folder)
    files.write_json(os.path.join(place.folder, "ran.json"), {**what._asdict(), "format": LOWEST})


def remove_quarantine(place, digest):
    files.remove(os.path.join(place.folder, "quarantine", digest + ".json"))


def write_declared(place, name, what):
    """entries/MAP holds what is declared; there is no such file where nothing is (None, or empty)."""
    path = _declared_path(place, name)
    if what is None or what.is_empty:
        files.remove(path)
        files.remove_if_empty(os.path.dirname(path))
        return
    files.make_private_folder(os.path.dirname(path))
    body = b"".join([*(part for entry in what.entries for part in entry), *what.gone])
    head = {
        "format": LOWEST,
        "shape": what.shape,
        "cpus": what.cpus,
        "bytes_value": len(what.entries[0][1]) if what.entries else 0,
        "entries": len(what.entries),
        "digest": hashlib.sha256(body).hexdigest(),
    }
    files.write_durably(path, json.dumps(head, sort_keys=True).encode() + b"\n" + body)


def journal(place, event, **fields):
    """One line more in the deployment's journal: when, what, and the fields.

    A disk that takes none costs the line and no more: what it tells of is done, and must not be told as failed.
    """
    path = os.path.join(place.folder, "journal.jsonl")
    line = {"when": now(), "event": event, **fields}
    with contextlib.suppress(OSError):
        if os.path.exists(path) and os.path.getsize(path) >= JOURNAL_BYTES:
            os.rename(path, path + ".1")
        files.append_line(path, json.dumps(line, sort_keys=True))


def boottime():
    """Seconds since boot, suspend included (CLOCK_BOOTTIME): the same for every process of this boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def now():
    """UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
