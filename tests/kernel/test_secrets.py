# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secret globals: what is shown of a release tells nothing of them, and the host still knows what it runs and threw
back, also where its key was lost."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib

import private_host
import pytest
from private_host import DEVICE, NAME, attachment, run

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    hostkey,
    lock,
    observe,
    records,
    stage,
    steps,
    store,
    transitions,
    ways,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Quarantined
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import source

TEXT = b"""
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
const volatile __u16 pin = 7;
const volatile __u16 step = 1;
SEC("xdp") int count(struct xdp_md *ctx) { return pin == step ? XDP_DROP : XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""
ATTACHMENT = attachment("xdp", "count", interface=DEVICE, mode="generic")


def given(pin, **more):
    made = source.Source("secret.bpf.c", TEXT)
    return stage.Given(source=made, file=made.file, **{"globals": {"pin": pin}, "secrets": frozenset({"pin"}), **more})


def staged(pin, **more):
    return stage.stage(NAME, given(pin), **more)


def attached(pin):
    staged(pin)
    return transitions.attach(NAME, transitions.Wish(attachments=(ATTACHMENT,)))


def thrown_back(pin):
    """The host ran it, and went back to what ran before."""
    attached(pin)
    transitions.roll_back(NAME)


@pytest.fixture(params=["lost", "cut", "readable"])
def spoilt(request):
    """A function that makes this host's key one that counts no more."""
    path = pathlib.Path(hostkey.path())

    def spoil():
        if request.param == "lost":
            path.unlink()
        elif request.param == "cut":
            path.write_bytes(path.read_bytes()[:16])
        else:
            path.chmod(0o644)

    return spoil


def test_nothing_that_is_shown_can_be_made_again_by_who_tries_all_values(host):
    """As whoever reads reports would: each digest over a candidate in the forms that were used."""
    built = staged(0xBEEF).built

    shown = {built.release.id, built.release.source_id, built.release.digest}
    found = set()
    for pin in range(1 << 16):
        candidate = given(pin)
        row = ["rodata", 0, pin.to_bytes(2, "little").hex()]
        found |= {candidate.plain_id, *old_digests(built, [row, [".rodata", *row[1:]]])}
    assert not [each for each in shown for other in found if each in other or other in each]
    assert given(1).source_id == built.release.source_id, "reports compare it, whatever the values"


def old_digests(built, rows):
    for row in rows:
        facts = {
            "object": built.release.object_sha256,
            "programs": [[each[0], *each[2:]] for each in built.release.programs],
        }
        text = json.dumps({**facts, "tuning": {"globals": [row]}}, sort_keys=True)
        yield hashlib.sha256(text.encode()).hexdigest()


def test_two_secrets_are_two_releases_and_the_same_one_is_unchanged(host):
    """Their ids begin alike: with what is known without the secret, even where it is what the source says."""
    first, again, second, as_in_source = staged(1), staged(1), staged(2), staged(7)

    ids = [each.built.release.id for each in (first, second, as_in_source)]
    assert again.steps == ()
    assert len(set(ids)) == 3
    assert len({each[:16] for each in ids}) == 1


def test_key_is_made_once_root_alone_reads_it_and_no_output_has_it(host, capfd):
    assert not os.path.exists(hostkey.path())
    stage.stage(NAME, given(1, globals={"pin": 1}, secrets=frozenset()))
    staged(1, check_mode=True)
    assert not os.path.exists(hostkey.path()), "nothing secret was staged"

    attached(1)
    key = pathlib.Path(hostkey.path()).read_bytes()
    attached(2)

    facts = os.stat(hostkey.path())
    assert (facts.st_mode & 0o7777, facts.st_uid, len(key)) == (0o600, 0, 32)
    assert pathlib.Path(hostkey.path()).read_bytes() == key == hostkey.get()
    texts = [pathlib.Path(each) for each in private_host.tree(records.STATE) if os.path.isfile(each)]
    assert not [path for path in texts if path.name != ".key" and key.hex().encode() in path.read_bytes()]
    assert os.listdir(records.STATE).count(".key") == 1 and not list(pathlib.Path(records.STATE).glob(".key.*"))


def test_what_was_thrown_back_is_known_and_another_secret_is_not_it(host):
    attached(1)
    thrown_back(2)

    with pytest.raises(Quarantined):
        staged(2)
    assert staged(3).steps
    assert staged(1).steps == () or staged(1).state == "confirmed"
    assert staged(2, retry_quarantined=True).steps


def test_with_another_key_the_same_is_staged_again_and_what_was_thrown_back_stays_so(host, spoilt):
    """Nobody can tell any more whether it is the same secret: it is not taken for another one."""
    first = attached(1)
    spoilt()

    again, once_more = staged(1), staged(1)

    assert (again.load != first.generation.load, once_more.steps) == (True, ())

    thrown_back(2)
    spoilt()
    for pin in (2, 3):
        with pytest.raises(Quarantined, match="the host's lost key"):
            staged(pin)
    assert staged(2, retry_quarantined=True).steps
    transitions.attach(NAME, transitions.Wish(attachments=(ATTACHMENT,), retry_quarantined=True))
    assert staged(3).steps, "the user lifted it"


def test_attaching_refuses_too_what_a_lost_key_may_have_told(host, spoilt):
    attached(1)
    thrown_back(2)
    spoilt()
    staged(2, retry_quarantined=True)

    with pytest.raises(Quarantined, match="the host's lost key"):
        transitions.attach(NAME, transitions.Wish(attachments=(ATTACHMENT,)))


def test_clone_knows_what_runs_and_what_was_thrown_back(host, tmp_path):
    """It has the state folder and another machine-id; of its secrets it is told that they are the other host's."""
    attached(1)
    thrown_back(2)
    other = tmp_path / "machine-id"
    other.write_text("f" * 32 + "\n")
    if os.path.exists("/etc/machine-id"):  # some containers have none
        run("mount", "--bind", str(other), "/etc/machine-id")

    assert staged(1).steps == ()
    with pytest.raises(Quarantined):
        staged(2)


def test_quarantine_of_before_there_were_keys_is_honoured(host):
    attached(1)
    with lock.locked(NAME) as home:
        store.write_quarantine(home, given(2).plain_id, "rolled back by a user", 1)

    with pytest.raises(Quarantined):
        staged(2)
    assert staged(3).steps


def test_ids_without_a_secret_are_what_they_were(host):
    """Old state is recognised: the digests are over the same text as ever."""
    plain = given(5, secrets=frozenset())
    text = json.dumps([plain.source.id, {"pin": 5}, {}, []], sort_keys=True)

    release = stage.stage(NAME, plain).built.release

    assert release.source_id == plain.plain_id == hashlib.sha256(text.encode()).hexdigest()
    assert (len(release.id), release.private_id) == (16, "")
    row = next(iter(release.tuning["globals"]))
    assert release.digest in old_digests(stage.build(NAME, plain), [row])


def test_quarantine_names_no_secret_in_its_step(host):
    attached(1)
    attached(2)
    seen = observe.facts(store.home(NAME))
    digest = ways.source_left(seen, seen.confirmed)

    step = steps.WriteQuarantine(digest, "why", 1).describe()

    assert given(1).source_id[:16] in step
    assert digest.split(".")[2][:8] not in step
