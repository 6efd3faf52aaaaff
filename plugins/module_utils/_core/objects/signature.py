# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Who signed what is to be compiled or loaded, judged by ssh-keygen and this host's own list of signers.

What is signed covers all that is compiled: the file, the headers that travel with it, the compiler's further flags.

    x.bpf.c.sig           signs x.bpf.c, which includes no header from beside itself and is compiled without cflags
    x.bpf.c.sha256.sig    signs x.bpf.c.sha256: lines of sha256sum for x.bpf.c and each such header, and `# cflags: …`

Only new releases are judged. What a boot, a rollback or bpf_attach takes was accepted on this host before, and lies
where root alone writes: a way back that somebody could refuse would be none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import subprocess
from typing import NamedTuple, Optional

from ..errors import BadRequest, NotRootsAlone, SignatureRefused, ToolMissing, Unsigned
from ..kernel import owned, tools

NAMESPACE = "ebpf.deploy"  # a signature made for something else (a file, git) is none for us
SIGNERS = "/etc/ebpf_deploy/allowed_signers"  # where it is, this host demands a signature
LIST_SUFFIX = ".sha256"
LIST_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
FLAGS_LINE = "# cflags:"


class Seal(NamedTuple):
    """A signature as it came with the source, and the list it signs (empty: it signs the file itself)."""

    signature: bytes = b""
    listed: bytes = b""


def signed_path(path: str) -> str:
    """What the signature at `path` signs, by its name: a list beside it, or empty for the file itself."""
    covered = path[: -len(".sig")] if path.endswith(".sig") else ""
    return covered if covered.endswith(LIST_SUFFIX) else ""


def beside(path: str) -> Optional[str]:
    """The signature that lies beside the source at `path`: its list's, else its own, else None."""
    for name in (path + LIST_SUFFIX + ".sig", path + ".sig"):
        if os.path.isfile(name):
            return name
    return None


def signer(source, seal: Seal, named: str = "") -> str:
    """Who signed the source (source.Source; an object has neither headers nor flags); empty where nobody asks.

    The host's own list counts wherever it is; `named`, a list that the user names, counts as well and not instead.
    Unsigned, SignatureRefused, ToolMissing otherwise.
    """
    lists = [path for path in (SIGNERS, named) if path and (path == named or _is_there(path))]
    if not lists:
        return ""
    if not seal.signature:
        raise Unsigned(
            f"{source.file} is not signed, and {lists[0]} on this host demands it", _how_to_sign(source), signers=lists
        )
    listed = {path: _read_roots_own(path) for path in lists}  # once, and ssh-keygen is given what was read
    names = [_principal(source, seal.listed or source.text, seal.signature, *row) for row in listed.items()]
    if seal.listed:
        _expect_listed(source, seal.listed, names[0])
    elif source.headers or source.cflags:
        raise _uncovered(source)
    return names[0]


def _is_there(path):
    """Whether anything is: a link to nowhere is no permission, and a folder where others could remove it no word."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        with _told_of(path):
            owned.expect(_nearest_folder(path))
        return False
    return True


def _nearest_folder(path):
    folder = os.path.dirname(path)
    return folder if os.path.isdir(folder) else _nearest_folder(folder)


def _read_roots_own(path):
    """The list, which only root can write or put another in the place of."""
    with _told_of(path):
        return owned.read(path)


@contextlib.contextmanager
def _told_of(path):
    try:
        yield
    except NotRootsAlone as error:
        at = error.detail["path"]
        raise SignatureRefused(
            f"Others than root can write {at}, so {path} proves nothing",
            f"Make it root's alone: chown root {at}; chmod go-w {at}",
            path=at,
        ) from error
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be read on the host: {error.strerror}", "It lists the allowed signers", path=path
        ) from error


# ---- what ssh-keygen says ------------------------------------------------------------------------


def _principal(source, data, signature, path, signers):
    """The principal whom the list `signers`, read at `path`, lets sign for us, and who signed `data`."""
    found = _ssh_keygen("find-principals", b"", {"-s": signature, "-f": signers})
    # since OpenSSH 9.0 a line each, before as they stand in the list
    names = re.split(r"[,\n]", found.stdout.decode(errors="replace").strip()) if found.returncode == 0 else []
    judged = found
    for name in (each for each in names if each and not each.startswith("!")):
        judged = _ssh_keygen("verify", data, {"-s": signature, "-f": signers}, "-I", name, "-n", NAMESPACE)
        if judged.returncode == 0:
            return name
    raise _refusal(source, data, signature, path, judged)


def _refusal(source, data, signature, signers, judged):
    """Which of the three it is: the bytes, the signer, or what the signer may do."""
    said = judged.stderr.decode(errors="replace").splitlines()
    whole = _ssh_keygen("check-novalidate", data, {"-s": signature}, "-n", NAMESPACE)
    if whole.returncode != 0:
        said = whole.stderr.decode(errors="replace").splitlines()
        return SignatureRefused(
            f"The signature of {source.file} does not fit it: one of them was altered, or it was made for another file "
            f"or namespace than {NAMESPACE}",
            _how_to_sign(source),
            log=said,
        )
    key = whole.stdout.decode(errors="replace").strip().rpartition("with ")[2]
    return SignatureRefused(
        f"{source.file} is signed by one whom {signers} on this host does not allow: {key}",
        "Have an allowed signer sign it, or add the signer by role ebpf.deploy.host",
        key=key,
        signers=signers,
        log=said,
    )


def _ssh_keygen(verb, data, given, *options):
    """What ssh-keygen answers. `given` are {option: bytes} for files, which lie in memory: no path leads to them."""
    tool = tools.find("ssh-keygen")
    if tool is None:
        raise ToolMissing(
            "ssh-keygen is not installed on this host, and it judges signatures",
            "Install the package openssh-client (RHEL family and SUSE: openssh), as role ebpf.deploy.host does",
            tool="ssh-keygen",
        )
    with contextlib.ExitStack() as held:
        command, descriptors = [tool, "-Y", verb, *options], []
        for option, content in given.items():
            stream = held.enter_context(os.fdopen(os.memfd_create("ebpf_deploy"), "wb", buffering=0))
            stream.write(content)
            descriptors.append(stream.fileno())
            command += [option, f"/proc/self/fd/{descriptors[-1]}"]
        return subprocess.run(  # pylint: disable=ansible-bad-function  # the core knows no AnsibleModule
            command, input=data, env=tools.ENVIRONMENT, pass_fds=descriptors, capture_output=True, check=False
        )


# ---- what a list covers --------------------------------------------------------------------------


def _expect_listed(source, listed, name):
    """The signed list names exactly what is given: a header left out would let another of its name be found."""
    files, flags = _read_list(listed, source.file)
    given = {(each, hashlib.sha256(text).hexdigest()) for each, text in _parts(source)}
    differing = sorted({each for each, dummy in files ^ given})
    if differing:
        raise SignatureRefused(
            f"{source.file} and its headers are not what {name} signed: {', '.join(differing)}",
            "Give the files as they were signed, or sign these. " + _how_to_sign(source),
            files=differing,
        )
    if flags != source.cflags:
        raise SignatureRefused(
            f"{source.file} was signed by {name} with other cflags: {shlex.join(flags) or '(none)'}",
            "Give these cflags, or sign the list with yours. " + _how_to_sign(source),
            signed=list(flags),
            given=list(source.cflags),
        )


def _read_list(listed, file):
    """({(name, digest)}, cflags) of a list that was verified."""
    files, flags = set(), []
    for line in listed.decode(errors="replace").splitlines():
        found = LIST_LINE.fullmatch(line)
        if found:
            files.add((os.path.normpath(found[2]), found[1]))
        elif line.startswith(FLAGS_LINE):
            flags += _flags_in(line, file)
        elif line.strip() and not line.startswith("#"):
            raise _no_list(file, line)
    return files, tuple(flags)


def _flags_in(line, file):
    try:
        return shlex.split(line[len(FLAGS_LINE) :])
    except ValueError as error:  # a quotation mark without its other
        raise _no_list(file, line) from error


def _no_list(file, line):
    return SignatureRefused(f"The signed list of {file} has a line that is none", "Write it with sha256sum", line=line)


def _parts(source):
    return ((source.file, source.text), *source.headers)


def _uncovered(source):
    names = [name for name, dummy in source.headers]
    rest = [*(f"header {name}" for name in names), *(["cflags"] if source.cflags else [])]
    return Unsigned(
        f"The signature covers {source.file} alone, and not {', '.join(rest)}",
        _how_to_sign(source),
        headers=names,
        cflags=list(source.cflags),
    )


def _how_to_sign(source):
    """The commands that sign just this."""
    sign = f"ssh-keygen -Y sign -n {NAMESPACE} -f KEY"
    if not source.headers and not source.cflags:
        return f"Sign it on the controller: {sign} {shlex.quote(source.file)}"
    listed = shlex.quote(source.file + LIST_SUFFIX)
    names = shlex.join(name for name, dummy in _parts(source))
    flags = f"; echo {shlex.quote(f'{FLAGS_LINE} {shlex.join(source.cflags)}')} >>{listed}" if source.cflags else ""
    return f"Sign all of it on the controller, beside the source: sha256sum {names} >{listed}{flags}; {sign} {listed}"
