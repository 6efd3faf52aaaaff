# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An argument whose values may be secret: what Ansible logs on the host and returns of it, read from Ansible itself."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils import basic

from ansible_collections.ebpf.deploy.plugins.module_utils._module import GuardedModule, MaybeSecret

GIVEN = {"limit": 7, "mode": {"value": "fast"}, "key": {"value": "s3cret", "secret": True}}


@pytest.fixture
def module(monkeypatch):
    """(a GuardedModule made with these globals, the MaybeSecret that read them, the lines it logged on the host)."""

    def made(given, **others):
        arguments = {"ANSIBLE_MODULE_ARGS": {"globals": given, **others}}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(arguments).encode())
        if hasattr(basic, "_ANSIBLE_PROFILE"):
            monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy")
        wishes, lines = MaybeSecret(), []
        monkeypatch.setattr(basic.AnsibleModule, "log", lambda self, *told, **more: lines.append(f"{told} {more}"))
        spec = {"globals": {"type": "dict", "default": {}}}
        return GuardedModule({"globals": wishes}, argument_spec=spec), wishes, lines

    return made


def test_secret_is_read_and_neither_logged_nor_kept_where_ansible_returns_it(module):
    made, wishes, lines = module(GIVEN)

    assert wishes.values == {"limit": 7, "mode": "fast", "key": "s3cret"}
    assert wishes.secrets == {"key"}
    assert made.params["globals"] == {"limit": 7, "mode": {"value": "fast"}, "key": {"secret": True}}
    assert "fast" in str(lines), "what is no secret is logged: this test sees the log"
    assert "s3cret" not in str(lines)
    assert made.no_log_values == set(), "or Ansible would mask these characters in ids as well"


def test_secret_is_not_returned_when_another_argument_is_wrong(module, capsys):
    with pytest.raises(SystemExit):
        module(GIVEN, nonsense=1)

    told = capsys.readouterr().out
    assert "nonsense" in told
    assert "s3cret" not in told


def test_argument_that_is_no_mapping_is_refused_by_ansible(module, capsys):
    with pytest.raises(SystemExit):
        module(["x"])

    assert "globals" in capsys.readouterr().out


@pytest.mark.parametrize("mark", [{"secret": "tru"}, {"secrit": True}, {"secret": 1, "more": 2}, {"Secret": "yes"}])
def test_misspelt_secret_is_one(module, mark):
    made, wishes, lines = module({"key": {"value": "s3cret", **mark}})

    assert wishes.secrets == {"key"}
    assert "s3cret" not in str(lines) + str(made.params)


@pytest.mark.parametrize(
    "given",
    [
        {"valeu": "s3cret", "secret": True},
        {"Value": "s3cret", "Secret": True},
        {"field": {"value": "s3cret", "secret": True}},
        {"value": {"fields": [{"value": "s3cret", "sec": "yes"}]}},
    ],
)
def test_value_that_is_marked_in_the_wrong_place_is_a_secret_all_the_same(module, given):
    made, wishes, lines = module({"key": given})

    assert wishes.secrets == {"key"}
    assert "s3cret" not in str(lines) + str(made.params)


@pytest.mark.parametrize(
    "value",
    [
        {"secret": False},
        {"value": {"seconds": 5}, "secret": False},
        {"value": 5, "secret": "no"},
        {"value": 5, "secret": None},
        {"a": 1},
    ],
)
def test_what_is_not_marked_is_no_secret(module, value):
    dummy, wishes, dummy = module({"limits": value})

    assert wishes.secrets == set()
