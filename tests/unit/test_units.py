# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which attachments get a drop-in, and what stands in it. What systemd makes of it: target comes_back, on a machine."""

from __future__ import annotations

import os

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import units
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks.contract import Attachment
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files

UNITS = {
    "/system.slice/web.service": "web.service",
    "/web.slice/web-inner.slice/web.service": "web.service",
    "/system.slice/getty@tty1.service": "getty@tty1.service",
    "/web.service": "web.service",
    "/system.slice": "",
    "/system.slice/web.service/worker": "",  # the service makes it, some time after its start
    "/user.slice/user@1000.service/app.slice/a.service": "",  # another systemd's
    "/docker/web.service": "",
    "/": "",
}


@pytest.mark.parametrize("cgroup", UNITS)
def test_service_below_slices_has_a_unit(cgroup):
    attachment = Attachment.of("cgroup", "judge", cgroup=cgroup)
    assert catalogue.hook_of(attachment).unit(attachment) == UNITS[cgroup]


def test_interface_has_no_unit():
    attachment = Attachment.of("xdp", "count", interface="web.service")
    assert catalogue.hook_of(attachment).unit(attachment) == ""


@pytest.mark.parametrize("spelt", ["a.slice/b.service", "/a.slice/b.service/", "//a.slice/b.service"])
def test_cgroup_has_one_name_however_it_is_spelt(spelt):
    root = files.cgroup2_root()
    for cgroup in (spelt, f"{root}/{spelt}"):
        options = {"hook": "cgroup", "program": "judge", "cgroup": cgroup}
        assert catalogue.attachment_from(options).target == "/a.slice/b.service"


def test_drop_in_quotes_what_systemd_would_read_as_its_own():
    text = units.drop_in(r'/system.slice/a\x2db "$HOME" 100%.service')
    assert r'run back "/system.slice/a\\x2db \"$$HOME\" 100%%.service"' in text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where units are, with no systemd that reads them."""
    monkeypatch.setattr(units, "FOLDER", str(tmp_path))
    monkeypatch.setattr(units, "_read_anew", lambda: None)
    return tmp_path / "web.service.d"


def test_copy_that_an_admin_made_beside_the_drop_in_is_not_ours(folder):
    units.write("edge", "web.service", "[Service]\n")
    copy = folder / "50-ebpf-deploy-edge.conf.bak"
    copy.write_text("mine")

    assert units.found("edge") == {"web.service": "[Service]\n"}
    units.remove("edge", "web.service")

    assert os.listdir(folder) == [copy.name]


@pytest.mark.parametrize("left", [".unread", ".aside", ".unread.aside"])
def test_what_a_killed_run_left_beside_the_drop_in_goes_with_it(folder, left):
    units.write("edge", "web.service", "[Service]\n")
    (folder / f"50-ebpf-deploy-edge.conf{left}").touch()

    assert units.found("edge") == {"web.service": ""}, "systemd may not have read it"
    units.remove("edge", "web.service")

    assert not folder.exists()
