# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of allowed signers, on a host where somebody else (uid 4777) may write beside the way to it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

import pytest
from private_host import eventually, run

from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import BadRequest, SignatureRefused
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import signature
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects.source import Source

STRANGER = 4777
ROUNDS = 300  # before the mend a stranger won 3 of 100
SWAP = """
import os, sys
while True:
    for target in sys.argv[1:]:
        os.symlink(target, "next")
        os.rename("next", "link")
"""
SOURCE = Source("counter.bpf.c", b"int nothing;\n")


class Signed(NamedTuple):
    """A folder of root's, and what a signer whom the list there allows and the stranger made of SOURCE."""

    folder: pathlib.Path
    root: signature.Seal
    stranger: signature.Seal


@pytest.fixture
def signed(tmp_path, monkeypatch):
    """Where root alone writes; and no list of the machine's own counts."""
    folder = tmp_path / "signers"
    monkeypatch.setattr(signature, "SIGNERS", str(folder / "none"))
    seals = {}
    for name in ("root", "stranger"):
        (folder / name).mkdir(parents=True)
        key = folder / f"{name}.key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key))
        kind, public = pathlib.Path(f"{key}.pub").read_text().split()[:2]
        (folder / name / "list").write_text(f"{name}@example.com {kind} {public}\n")
        file = folder / name / SOURCE.file
        file.write_bytes(SOURCE.text)
        run(
            "ssh-keygen",
            "-Y",
            "sign",
            "-q",
            "-n",
            signature.NAMESPACE,
            "-f",
            str(key),
            str(folder / name / SOURCE.file),
        )
        seals[name] = signature.Seal(pathlib.Path(f"{file}.sig").read_bytes())
    return Signed(folder, **seals)


def test_list_of_roots_own_is_what_ssh_keygen_is_given(signed):
    listed = str(signed.folder / "root" / "list")

    assert signature.signer(SOURCE, signed.root, listed) == "root@example.com"
    with pytest.raises(SignatureRefused, match="does not allow"):
        signature.signer(SOURCE, signed.stranger, listed)


def test_stranger_who_swaps_a_link_on_the_way_never_has_his_own_list_believed(signed):
    """Wherever root looks, the list that is found is root's to write, and so is its folder."""
    home = signed.folder / "home"
    home.mkdir()
    os.chown(home, STRANGER, STRANGER)
    accepted = 0
    with swapping(home, signed.folder / "root", signed.folder / "stranger"):
        for dummy in range(ROUNDS):
            with contextlib.suppress(SignatureRefused, BadRequest):
                signature.signer(SOURCE, signed.stranger, str(home / "link" / "list"))
                accepted += 1

    assert accepted == 0, f"{accepted} of {ROUNDS}"


@contextlib.contextmanager
def swapping(home, one, other):
    """The stranger's `link` in his home leads to the one and to the other, in turn and as fast as he can."""
    process = subprocess.Popen(
        [sys.executable, "-c", SWAP, str(one), str(other)], cwd=home, user=STRANGER, group=STRANGER, extra_groups=[]
    )
    try:
        assert eventually(lambda: os.path.lexists(home / "link"))
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_list_below_a_folder_of_somebody_elses_proves_nothing(signed, depth):
    folder = signed.folder / "theirs"
    listed = folder.joinpath(*["ours"] * depth, "list")
    listed.parent.mkdir(parents=True)
    listed.write_bytes((signed.folder / "root" / "list").read_bytes())
    os.chown(folder, STRANGER, STRANGER)

    with pytest.raises(SignatureRefused, match=r"theirs, so .* proves nothing"):
        signature.signer(SOURCE, signed.root, str(listed))


def test_demand_that_somebody_else_could_have_removed_is_none_that_is_not_there(signed, monkeypatch):
    folder = signed.folder / "etc"
    folder.mkdir()
    monkeypatch.setattr(signature, "SIGNERS", str(folder / "ebpf_deploy" / "allowed_signers"))

    assert signature.signer(SOURCE, signature.Seal()) == ""

    os.chown(folder, STRANGER, STRANGER)
    with pytest.raises(SignatureRefused, match=r"etc, so .* proves nothing"):
        signature.signer(SOURCE, signature.Seal())
