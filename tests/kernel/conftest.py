# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests on the real kernel, as root: each on a host of its own, and nothing may be left when it ends."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import uuid

import private_host
import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import records, units
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import memory, source

BOOT_ID = "/proc/sys/kernel/random/boot_id"
CAN_RUN = os.geteuid() == 0 and shutil.which("clang") and shutil.which("bpftool")
FIGURES = []


def pytest_addoption(parser):
    parser.addoption("--thorough", action="store_true", help="faults at every step, not at every eighth")
    parser.addoption("--rounds", type=int, default=25, help="of the soak: 200 for a long one")
    parser.addoption("--stranger-rounds", type=int, default=40, help="of the stranger's attacks: 2000 for all of them")
    parser.addoption("--mutations", type=int, default=15, help="of the state that is damaged: 1000 for all")
    parser.addoption("--first", type=int, default=0, help="the number of the first of them, to have one again")
    parser.addoption("--seed", type=int, default=random.randrange(10**6), help="of the soak; it is printed")
    parser.addoption("--damage-seed", type=int, default=18, help="of the damage: another one finds other faults")


def pytest_collection_modifyitems(config, items):
    """Whoever asks for more rounds than by default waits for them: --timeout is for a test that hangs."""
    asked = config.option
    if asked.thorough or asked.rounds > 25 or asked.stranger_rounds > 40 or asked.mutations > 15:
        for each in items:
            each.add_marker(pytest.mark.timeout(0))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """Objects compiled once for the whole run."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def this_kernel():
    """What forecasts of memory are made with, read once for the whole run: each load would take 50 ms for it."""
    return memory.of_this_host()


@pytest.fixture
def host(shared_cache, this_kernel, tmp_path):
    """A private_host.Host. Its temporary files lie in tmp_path, its compiled objects in the run's cache.

    Drop-ins are written to its own folder, and no systemd reads them: target comes_back has a real one.
    """
    if not CAN_RUN:
        pytest.skip("needs root, clang and bpftool")
    with private(shared_cache, this_kernel, str(tmp_path)) as (made, left):
        yield made
    assert left == []


@contextlib.contextmanager
def private(shared_cache, this_kernel, folder):
    """(a private_host.Host, a list of what was left on it, which is known afterwards)."""
    left = []
    with pytest.MonkeyPatch.context() as patch:  # its own: a test may undo all of its monkeypatch's
        patch.setattr(source, "CACHE", shared_cache)
        patch.setattr(memory, "of_this_host", lambda: this_kernel)
        patch.setattr(tempfile, "tempdir", folder)
        patch.setattr(units, "are_read", lambda: True)
        patch.setattr(units, "_read_anew", lambda: None)
        made = private_host.Host().enter()
        try:
            yield made, left
        finally:
            left += made.leave()


@pytest.fixture
def reboot(host, tmp_path):
    """A function that takes what a boot takes: pins, links, filters and /run; and the kernel's boot id is another."""

    def rebooted():
        other = tmp_path / "boot_id"
        other.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
        private_host.run("mount", "--bind", str(other), BOOT_ID)
        files.remove_tree(records.PINS)
        private_host.forget_filters()
        for name in files.names_in(records.RUN):
            files.remove(f"{records.RUN}/{name}")

    return rebooted


@pytest.fixture
def figures():
    """A list of lines for the reader, shown when all tests have run."""
    return FIGURES


@pytest.fixture(scope="session", autouse=True)
def nothing_left_in_the_kernel():
    """At the end of the run no program, map or link of ours is in the kernel, whoever would hold it."""
    yield
    if CAN_RUN:
        private_host.eventually(lambda: not private_host.ours_in_kernel())
        assert private_host.ours_in_kernel() == []


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("figures")
        for line in FIGURES:
            terminalreporter.write_line(line)
