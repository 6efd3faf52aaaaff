# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the folders beside this file were made: run by 6322a26's own code, on a private host of its own tests.

    git worktree add /tmp/old 6322a26; mkdir -p /tmp/at/ansible_collections/ebpf; ln -s /tmp/old $_/deploy
    PYTHONPATH=/tmp/at:/tmp/old/tests/kernel python3 tests/kernel/state_of_6322a26/record.py

One folder a state, as /var/lib/ebpf_deploy/counted was, with two files more: `deadline` is the one in /run, `kernel`
says which loads were pinned, and which of them each link ran. Releases are in releases/ once. code.zip holds the
sources that its boot unit, its command and its guard start from.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import tempfile
import zipfile

import private_host
import programs
from private_host import NAME, attachment

from ansible_collections.ebpf.deploy.plugins.module_utils._core import command
from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    apply,
    code,
    plan,
    store,
    transitions,
    trial,
    units,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import source

HERE = os.path.dirname(os.path.abspath(__file__))
MARK = "old"
TEXT = programs.TEXT.partition('SEC("cgroup_skb')[0] + 'char _license[] SEC("license") = "Dual BSD/GPL";\n'


def both():
    return (
        attachment("xdp", f"{MARK}_xdp", interface=private_host.DEVICE),
        attachment("tcx", f"{MARK}_tcx", interface=private_host.DEVICE, direction="ingress"),
    )


def stage(host, version):
    programs.stage.stage(NAME, programs.given(version, TEXT), rollout_id="its-rollout")


def attached(host, version, **more):
    stage(host, version)
    host.attach(*both(), rollout_id="its-rollout", by="admin", **more)


def confirmed(host):
    attached(host, 1)
    attached(host, 2)


def declared_and_kept(host):
    confirmed(host)
    transitions.keep(NAME, 5)
    host.declare(*[{"key": key, "value": 10 + key} for key in (250, 251)], map=f"{MARK}_seen")


def armed(host):
    attached(host, 1)
    attached(host, 2, confirm_within=60)


def on_trial(host):
    armed(host)
    assert trial.switch(NAME)


def leaving(host):
    """Killed when it was written how the trial ended, and no hook was back."""
    on_trial(host)

    def killed():
        apply.trace = lambda moment, step: (
            moment == "after" and isinstance(step, plan.WriteEnded) and private_host.kill_self()
        )
        transitions.roll_back(NAME)

    assert private_host.in_child(killed).signal


def thrown_back(host):
    on_trial(host)
    transitions.roll_back(NAME)


def torn(host):
    confirmed(host)
    path = os.path.join(store.home(NAME).folder, "confirmed")
    with open(path, "r+b") as stream:
        stream.truncate(os.path.getsize(path) // 2)


STATES = {
    "staged": lambda host: stage(host, 1),
    "confirmed": confirmed,
    "declared": declared_and_kept,
    "armed": armed,
    "trial": on_trial,
    "leaving": leaving,
    "thrown_back": thrown_back,
    "torn": torn,
}


def keep(host, state):
    """The state's folder is written anew."""
    place, target = store.home(NAME), os.path.join(HERE, state)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(place.folder, target, symlinks=True, ignore=shutil.ignore_patterns("releases"))
    for release in store.releases(place):
        folder = os.path.join(HERE, "releases", release)
        shutil.copytree(os.path.join(place.folder, "releases", release), folder, dirs_exist_ok=True)
        os.replace(os.path.join(folder, "object.o"), os.path.join(folder, "object"))  # git ignores *.o
    if os.path.exists(store.deadline_path(NAME)):
        shutil.copy(store.deadline_path(NAME), os.path.join(target, "deadline"))
    seen = host.facts()
    of_program = {number: load for load, each in seen.loads.items() for number in each.programs.values()}
    kernel = {"loads": sorted(seen.loads), "links": {key: of_program[each.prog_id] for key, each in seen.links.items()}}
    with open(os.path.join(target, "kernel"), "w", encoding="ascii") as stream:
        stream.write(json.dumps(kernel, indent=1, sort_keys=True) + "\n")


def _bytes(path):
    with open(path, "rb") as stream:
        return stream.read()


def keep_code():
    root = os.path.dirname(command.__file__)
    sources = {os.path.relpath(path, root): _bytes(path) for path in glob.glob(f"{root}/**/*.py", recursive=True)}
    with open(os.path.join(HERE, "code.zip"), "wb") as stream:
        stream.write(code._zipped(code.reached(sources, code.COMMAND)))
    with zipfile.ZipFile(stream.name) as archive:
        assert archive.testzip() is None


programs.MARK = MARK
units.are_read, units._read_anew = lambda: True, lambda: None
for state, made in STATES.items():
    with tempfile.TemporaryDirectory() as source.CACHE:
        host = private_host.Host().enter()
        try:
            made(host)
            keep(host, state)
        finally:
            assert host.leave() == []
keep_code()
assert not [path for path in glob.glob(f"{HERE}/**", recursive=True) if re.search(r"aside|tmp", path)]
