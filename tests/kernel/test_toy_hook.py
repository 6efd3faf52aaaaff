# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hook is one file, one row, one paragraph: toy_hook.py adds one from outside, and nothing else is touched."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
SHOWN = """
import json, toy_hook
from ansible_collections.ebpf.deploy.plugins.doc_fragments import _attachment
shown = json.loads(_attachment.ModuleDocFragment.DOCUMENTATION)["options"]
listed = shown["attachments"]["suboptions"]
print(json.dumps({"hook": shown["hook"], "note": shown["note"], "in a list": listed["note"]}))
"""


def suite(*words, without=""):
    """The end of pytest with the toy, over the suites that take hooks from the table."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "toy_hook", "-k", "toy", *words],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{HERE}", "TOY_WITHOUT": without},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("file", ["test_hook_conformance.py", "test_kill_sweep.py"])
def test_suites_take_it(file):
    ended = suite(file)

    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout


@pytest.mark.parametrize("method", ["place", "is_there", "attach", "rows"])
def test_what_its_author_forgot_is_found(method):
    ended = suite("test_hook_conformance.py", "-x", without=method)

    assert ended.returncode == 1, ended.stdout


def test_what_may_cut_off_by_default_wants_a_guard():
    """Toy says nothing of it."""
    import toy_hook

    assert "cuts_off" not in vars(toy_hook.Toy)
    assert toy_hook.Toy().cuts_off(None, None)


def test_ansible_doc_has_it():
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{HERE}"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(shown.stdout)
    assert "toy" in told["hook"]["choices"]
    assert "V(toy) is the two system calls that the program's name ends with." in told["hook"]["description"]
    assert told["note"] == {"description": ["For V(toy).", "What it is for."], "type": "str"}
    assert told["in a list"]["description"] == "As O(note)."
