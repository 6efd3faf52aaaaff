# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""A deployment's state on the disk: where it lies, how it is read, written and removed.

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

What the kernel runs is not here: it is read from the kernel (observe.py). What stands in the records, and what they may
become, records.py says; the lock is lock.py's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from typing import Any, Optional

from ..errors import BadRequest, Damaged, Failure, NotRootsAlone, TooNew, Unprivileged
from ..kernel import files, owned
from .records import (
    FORMAT,
    LOWEST,
    NAME,
    PINS,
    RUN,
    STATE,
    Asked,
    Deadline,
    Declared,
    Ended,
    Generation,
    Home,
    Keep,
    Serial,
    Staged,
    is_as_sealed,
    now,
    sealed,
)
from .release import Release

JOURNAL_BYTES = 1 << 18  # then it becomes journal.jsonl.1: some 500 changes are kept, and twice this on the disk
GONE = ".gone.aside"  # a release on its way out has this behind its id
FOLDERS = ("releases", "generations", "outcomes", "quarantine", "entries")
OUTLIVES = {"serial", "quarantine"}  # what stays in the folder of a deployment that was removed


# ---- places --------------------------------------------------------------------------------------


def home(name: str) -> Home:
    """Where the deployment lives, for reading. BadRequest for a name that is none."""
    if not NAME.fullmatch(name):
        raise BadRequest(
            f"{name!r} cannot name a deployment",
            "Use lower-case letters, digits, - and _, at most 63, beginning with a letter or digit",
            name=name,
        )
    return Home(name, os.path.join(STATE, name), os.path.join(PINS, name))


def take_places() -> list:
    """Sentences on what somebody else had put where our folders are to be: it was moved aside, so that nobody keeps a
    way back or a boot from its work by being there first. What cannot be taken stays: expect_private tells of it."""
    told = []
    with contextlib.suppress(OSError, Failure):
        told.append(files.has_bpffs() and owned.make_sticky(files.BPFFS))
        for path in (STATE, RUN, PINS):
            if os.path.lexists(path):
                told.append(owned.take_folder(path))
    return [text for text in told if text]


def take_own(place: Home) -> list:
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


def expect_private() -> None:
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


def has_own_pins() -> bool:
    """Whether what is pinned under our name is root's: what is in another's folder is none of ours."""
    try:
        facts = os.lstat(PINS)
    except OSError:
        return True  # there is none
    return facts.st_uid == 0


def make_pins_folder(path: str) -> None:
    """The folder `path` below PINS is there, root's alone like those above it."""
    owned.take_folder(PINS)
    files.make_private_folder(path)


# ---- reading -------------------------------------------------------------------------------------


def deployments() -> list:
    """The names of all deployments that have state on this host's disk, or pins."""
    return sorted(
        name
        for name in {*files.names_in(os.path.realpath(STATE)), *(files.names_in(PINS) if has_own_pins() else ())}
        if NAME.fullmatch(name)
    )


def has_remains(place: Home) -> bool:
    """Whether anything is on the disk or pinned, but for what outlives a deployment; a killed run may have left it."""
    is_there = os.path.lexists(place.pins) or os.path.islink(place.folder)
    try:
        return is_there or bool({*files.names_in(place.folder)} - OUTLIVES)
    except PermissionError:  # what only root may read is somebody's
        return True


def staged(place: Home) -> Optional[Staged]:
    """What stands in staged.json, or None."""
    return _read(Staged, os.path.join(place.folder, "staged.json"))


def pointed(place: Home, pointer: str) -> Optional[Generation]:
    """The Generation that `trial` or `confirmed` names, or None. Damaged where it is no symlink to a generation."""
    number, path = pointed_number(place, pointer), os.path.join(place.folder, pointer)
    if number is None and os.path.lexists(path):
        raise Damaged(f"{path} names no generation", path=path)
    return None if number is None else generation(place, number)


def pointed_number(place: Home, pointer: str) -> Optional[int]:
    """The number that `trial` or `confirmed` names, whether there is such a generation or not; None: names nothing."""
    path = os.path.join(place.folder, pointer)
    named = re.fullmatch(r"generations/([0-9]+)\.json", os.readlink(path) if os.path.islink(path) else "")
    return int(named[1]) if named else None


def generation(place: Home, number: int) -> Optional[Generation]:
    """The Generation with this number, or None where it is not kept."""
    path = _generation_path(place, number)
    return _numbered(_read(Generation, path), "number", number, path)


def _numbered(found, field, number, path):
    """What was read, the record of this number; Damaged where it is another's: a copy, or a symlink to that."""
    if found is not None and getattr(found, field) != number:
        raise Damaged(f"{path} is the record of {getattr(found, field)}", path=path)
    return found


def generation_numbers(place: Home) -> list:
    names = files.names_in(os.path.join(place.folder, "generations"))
    return sorted(int(name[:-5]) for name in names if re.fullmatch(r"[0-9]+\.json", name))


def next_number(place: Home) -> int:
    """A generation's number that was never used: serial counts on although generations are pruned."""
    serial = _read(Serial, os.path.join(place.folder, "serial"))
    return max([serial.serial if serial else 0, *generation_numbers(place)]) + 1


def releases(place: Home) -> list:
    """The ids of the releases on this disk, and R.gone.aside of one that a killed run had begun to remove."""
    names = files.names_in(os.path.join(place.folder, "releases"))
    return [name for name in names if "." not in name or name.endswith(GONE)]


def release(place: Home, number: str) -> Optional[Release]:
    """The Release with this id, None where its manifest is not on this disk. `spoiled` says whether its files are."""
    if number.endswith(GONE):
        return None
    path = release_path(place, number, "manifest.json")
    return _numbered(_read(Release, path), "id", number, path)


def release_path(place: Home, number: str, name: str) -> str:
    return os.path.join(place.folder, "releases", number, name)


def spoiled(place: Home, made: Release) -> str:
    """The path of a file of the release that is lost, or has other bytes than were written; "" where all are whole."""
    for name, digest in made.digests.items():
        path = release_path(place, made.id, name)
        found = files.sha256_of(path)
        if not found or digest not in (None, found):
            return path
    return ""


def deadline_path(name: str) -> str:
    """The file that is there while a guarded trial waits."""
    return os.path.join(RUN, name + ".deadline")


def deadline(place: Home) -> Optional[Deadline]:
    """The Deadline of the trial, or None. Damaged where it is not as it was written: the trial might never end."""
    path = deadline_path(place.name)
    with contextlib.suppress(FileNotFoundError):
        if not is_as_sealed(files.read_json(path)):
            raise Damaged(f"{path} is not as it was written", path=path)
    return _read(Deadline, path)


def asked(place: Home) -> Optional[Asked]:
    """The Asked of the trial; None where no controller asks."""
    return _read(Asked, _asked_path(place.name))


def _asked_path(name):
    return os.path.join(RUN, name + ".asked")


def keep(place: Home) -> Optional[Keep]:
    """The Keep of the deployment, or None where KEEP holds."""
    return _read(Keep, os.path.join(place.folder, "keep.json"))


def newer(place: Home) -> list:
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


def ended(place: Home, number: int) -> Optional[Ended]:
    """How the trial of this generation ended, None while it did not or where it was confirmed."""
    path = os.path.join(place.folder, "outcomes", f"{number}.json")
    return _numbered(_read(Ended, path), "generation", number, path)


def ran(place: Home, kind: type) -> Any:
    """The record in ran.json as the NamedTuple `kind` (strikes.Ran), or None."""
    return _read(kind, os.path.join(place.folder, "ran.json"))


def record_of(kind: type, path: str) -> Any:
    """The host's own record in `path` as the NamedTuple that it was, or None; failures as those of a deployment's."""
    return _read(kind, path)


def quarantined(place: Home, digest: str) -> Optional[dict]:
    """{why, when, generation} where this host threw back what has this digest, or None.

    A record that cannot be read keeps it out, too, until the user wants it tried again.
    """
    unknown = {"why": "its own record cannot be read", "when": "", "generation": 0}
    try:
        record = _record(os.path.join(place.folder, "quarantine", digest + ".json"))
    except Damaged:
        return unknown
    return None if record is None else {**unknown, **record}


def quarantined_under_another_key(place: Home, private_id: str) -> list:
    """The digests of what was thrown back with the same names of secrets as the private_id (release.py) has, under
    another key; none for a source_id."""
    source_id, key, *dummy = [*private_id.split("."), ""]
    names = [name[: -len(".json")].split(".") for name in files.names_in(os.path.join(place.folder, "quarantine"))]
    return [".".join(each) for each in names if len(each) == 3 and each[0] == source_id and each[1] != key]


def declared_maps(place: Home) -> list:
    """The names of the maps that entries are declared of."""
    return [name for name in files.names_in(os.path.join(place.folder, "entries")) if not name.endswith(".aside")]


def declared(place: Home, name: str) -> Optional[Declared]:
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
        return Declared.from_file(record, body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(
            f"{path}, what is declared of map {name}, cannot be read",
            "Run bpf_map with purge: true and all its entries: it is written anew",
            path=path,
            error=repr(error),
        ) from error


def _declared_path(place, name):
    return os.path.join(place.folder, "entries", name)


def release_file(place: Home, made: Release, name: str) -> bytes:
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


def lost_release(number: str, path: str, **detail: Any) -> Damaged:
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


def write_release(place: Home, made: Release, contents: dict) -> None:
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


def mend_release(place: Home, made: Release, contents: dict) -> None:
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


def write_manifest(place: Home, made: Release) -> None:
    """The manifest of a release that is on the disk tells what `made` does."""
    files.write_json(release_path(place, made.id, "manifest.json"), made.as_record())


def remove_release(place: Home, number: str) -> None:
    """releases/R is gone: renamed first, so that what a kill leaves of it is not taken for the whole."""
    folder = os.path.join(place.folder, "releases", number)
    files.remove_whole(folder, folder if number.endswith(GONE) else folder + GONE)


def write_staged(place: Home, what: Staged) -> None:
    files.make_private_folder(place.folder)
    files.write_json(os.path.join(place.folder, "staged.json"), {**what._asdict(), "format": LOWEST})


def remove_staged(place: Home) -> None:
    files.remove(os.path.join(place.folder, "staged.json"))


def write_generation(place: Home, what: Generation) -> None:
    """generations/N.json is on the disk, and N will not be given again."""
    folder = os.path.join(place.folder, "generations")
    files.make_private_folder(folder)
    _sweep(folder)
    files.write_json(os.path.join(place.folder, "serial"), {**Serial(what.number)._asdict(), "format": LOWEST})
    files.write_json(_generation_path(place, what.number), what.as_record())


def mend_generation(place: Home, what: Generation) -> None:
    """generations/N.json says again what it said: it was lost while a guard knew it. The serial stays."""
    files.make_private_folder(os.path.join(place.folder, "generations"))
    files.write_json(_generation_path(place, what.number), what.as_record())


def _sweep(folder):
    """What killed runs left half written is gone: its name may never be written again."""
    for name in files.names_in(folder):
        if name.endswith(".aside"):
            path = os.path.join(folder, name)
            files.remove_tree(path) if os.path.isdir(path) else files.remove(path)


def remove_damaged(path: str) -> None:
    """The file that could not be read is gone."""
    files.remove(path)
    with contextlib.suppress(FileNotFoundError):  # its folder went before
        files.sync_folder(os.path.dirname(path))


def remove_generation(place: Home, number: int) -> None:
    files.remove(_generation_path(place, number))


def point(place: Home, pointer: str, number: Optional[int]) -> None:
    """`trial` or `confirmed` names generation `number`; None: names nothing."""
    path = os.path.join(place.folder, pointer)
    if number is None:
        files.remove(path)
        if os.path.isdir(place.folder):
            files.sync_folder(place.folder)
    else:
        files.point_symlink(path, f"generations/{number}.json")


def point_back(place: Home, pointer: str, number: Optional[int]) -> None:
    """As point, and nothing is written where the pointer never left: a full disk would not let it."""
    path = os.path.join(place.folder, pointer)
    now_at = os.readlink(path) if os.path.islink(path) else None
    if now_at != (None if number is None else f"generations/{number}.json"):
        point(place, pointer, number)


def write_deadline(place: Home, what: Deadline) -> None:
    files.make_private_folder(RUN)
    files.write_json(deadline_path(place.name), sealed({**what._asdict(), "format": LOWEST}))


def remove_deadline(place: Home) -> None:
    """No trial waits, and no guard has to find again what it held (held.py)."""
    files.remove(deadline_path(place.name))
    files.remove(_asked_path(place.name))
    files.remove(os.path.join(RUN, place.name + ".held"))


def write_asked(place: Home, what: Asked) -> None:
    files.make_private_folder(RUN)
    files.write_json(_asked_path(place.name), {**what._asdict(), "format": LOWEST})


def write_ended(place: Home, what: Ended) -> None:
    files.make_private_folder(os.path.join(place.folder, "outcomes"))
    record = {**what._asdict(), "when": now(), "format": LOWEST}
    files.write_json(os.path.join(place.folder, "outcomes", f"{what.generation}.json"), record)


def write_keep(place: Home, number: int) -> None:
    files.write_json(os.path.join(place.folder, "keep.json"), {**Keep(number)._asdict(), "format": LOWEST})


def remove_ended(place: Home, number: int) -> None:
    files.remove(os.path.join(place.folder, "outcomes", f"{number}.json"))


def write_quarantine(place: Home, digest: str, why: str, number: int) -> None:
    files.make_private_folder(os.path.join(place.folder, "quarantine"))
    record = {"why": why, "generation": number, "when": now(), "format": LOWEST}
    files.write_json(os.path.join(place.folder, "quarantine", digest + ".json"), record)


def write_ran(place: Home, what) -> None:
    files.make_private_folder(place.folder)
    files.write_json(os.path.join(place.folder, "ran.json"), {**what._asdict(), "format": LOWEST})


def remove_quarantine(place: Home, digest: str) -> None:
    files.remove(os.path.join(place.folder, "quarantine", digest + ".json"))


def write_declared(place: Home, name: str, what: Optional[Declared]) -> None:
    """entries/MAP holds what is declared; there is no such file where nothing is (None, or empty)."""
    path = _declared_path(place, name)
    if what is None or what.is_empty:
        files.remove(path)
        files.remove_if_empty(os.path.dirname(path))
        return
    files.make_private_folder(os.path.dirname(path))
    files.write_durably(path, what.as_file())


def journal(place: Home, event: str, **fields: Any) -> None:
    """One line more in the deployment's journal: when, what, and the fields.

    A disk that takes none costs the line and no more: what it tells of is done, and must not be told as failed.
    """
    path = os.path.join(place.folder, "journal.jsonl")
    line = {"when": now(), "event": event, **fields}
    with contextlib.suppress(OSError):
        if os.path.exists(path) and os.path.getsize(path) >= JOURNAL_BYTES:
            os.rename(path, path + ".1")
        files.append_line(path, json.dumps(line, sort_keys=True))
