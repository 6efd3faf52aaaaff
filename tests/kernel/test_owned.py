# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a path is, from / to its last name."""

from __future__ import annotations

import os

import pytest
from private_host import open_fds

from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import NotRootsAlone
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import owned

STRANGER = 4777


@pytest.fixture
def file(tmp_path):
    """A file of root's below a folder of root's; no descriptor is left open in the end."""
    before = open_fds()
    tmp_path.chmod(0o755)
    (tmp_path / "of").mkdir()
    (tmp_path / "of" / "mine").write_text("mine")
    yield tmp_path / "of" / "mine"
    assert open_fds() - before == set()


def test_roots_own_is_read(file):
    assert owned.read(str(file)) == b"mine"


@pytest.mark.parametrize("target", ["of", "./of/../of", "/absolute"])
def test_way_over_roots_symlink_is_roots(file, target):
    link = file.parent.parent / "link"
    link.symlink_to(target if target != "/absolute" else file.parent)
    assert owned.read(str(link / "mine")) == b"mine"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: os.chown(file, STRANGER, 0), "mine is not root's alone: it is owned by uid 4777 (mode 0644)"),
        (lambda file: os.chown(file.parent, STRANGER, 0), "/of is owned by uid 4777 (mode 0755)"),
        (lambda file: os.chmod(file, 0o666), "it is not root's alone to write (mode 0666)"),
        (lambda file: os.chmod(file.parent, 0o775), "/of is not root's alone to write (mode 0775)"),
    ],
)
def test_somebody_elses_part_of_the_way_is_named(file, change, said):
    change(file)
    with pytest.raises(NotRootsAlone) as refusal:
        owned.read(str(file))
    assert said in str(refusal.value)
    assert not owned.is_roots(str(file))


def test_somebody_elses_symlink_is_refused_wherever_it_leads(file):
    link = file.parent / "link"
    link.symlink_to(file)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(NotRootsAlone):
        owned.read(str(link))


def test_roots_file_in_a_sticky_folder_is_roots(file):
    file.parent.chmod(0o1777)
    assert owned.read(str(file)) == b"mine"
    assert not owned.is_roots(str(file.parent)), "but others can make files in there"


def test_fifo_does_not_block_and_a_loop_ends(file):
    os.mkfifo(file.parent / "fifo")
    with pytest.raises(OSError, match="no regular file"):
        owned.read(str(file.parent / "fifo"))
    (file.parent / "round").symlink_to("round")
    with pytest.raises(OSError, match="symbolic links"):
        owned.read(str(file.parent / "round"))


def test_folder_that_its_maker_takes_away_while_root_looks_is_made_all_the_same(file, monkeypatch):
    """Two of 2,000 attacks kept a boot from its hooks so."""
    path, lstat = str(file.parent / "ours"), os.lstat
    os.mkdir(path)
    os.chown(path, STRANGER, STRANGER)

    def gone_first(name, **options):
        if name == path and lstat(path).st_uid:
            os.rmdir(path)
        return lstat(name, **options)

    monkeypatch.setattr(os, "lstat", gone_first)
    owned.take_folder(path)
    monkeypatch.undo()

    assert (lstat(path).st_uid, lstat(path).st_mode & 0o777) == (0, 0o700)


def test_folder_of_somebody_elses_is_moved_aside_and_told(file):
    path = str(file.parent / "ours")
    for make in (os.mkdir, lambda name: os.symlink("/", name)):
        make(path)
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
        told = owned.take_folder(path)
        assert told.startswith(f"{path} was owned by uid {STRANGER} and is root's now; what was there is {path}-of-")
        assert owned.is_roots(path)
        os.rmdir(path)
    assert len(list(file.parent.glob("ours-of-4777-*"))) == 2
