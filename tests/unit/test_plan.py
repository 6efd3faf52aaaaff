# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan, case by case: plans/*.json each say why, what was seen, what is wanted, and the steps in the plan's words.

attachments   by a word that the rest of the case uses
seen          loads {R-K: {program: id}}, generations, pointers; links {word: {runs, severed, sits_at}};
              units {service: word whose drop-in it has, or empty}; none of it where no systemd reads them;
              fillings {map: {puts, deletes, left_out}}: how many entries the map lacks of what is declared
wanted        the function of ways.py, and what it is given
steps         as users read them; or `refused`: the kind of Failure, and words of its sentence
"""

from __future__ import annotations

import json
import pathlib
from typing import NamedTuple

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import (
    apply,
    declared,
    plan,
    records,
    release,
    steps,
    units,
    ways,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment.facts import Facts, Load, Scene, Unnamed
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Failure, NotFound
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue, contract
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks.contract import Attachment, Place
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import contents

CASES = {
    path.stem: json.loads(path.read_text()) for path in sorted((pathlib.Path(__file__).parent / "plans").iterdir())
}
WORKING = sorted(name for name in CASES if "steps" in CASES[name])
REFUSED = sorted(name for name in CASES if "refused" in CASES[name])
ATTACH_TYPES = {"xdp": bpf.ATTACH_XDP, "tcx": bpf.ATTACH_TCX_INGRESS, "cgroup": bpf.ATTACH_CGROUP_EGRESS}


class Host(NamedTuple):
    """What there is, whatever is wanted: the Facts, and by attachment id what is at places; `modes` is what the kernel
    would tell of XDP's."""

    facts: Facts
    places: dict
    holders: dict
    fillings: dict
    modes: dict

    def scene(self, generation):
        """As observe.scene makes it."""
        wanted, seats = generation.attachments, {}
        for key, each in self.facts.links.items():
            place, runs = self.places.get(key), frozenset() if each.is_severed else each.prog_ids
            is_here = isinstance(place, Place) and not each.is_severed and contract.Hook().is_at(place, each)
            options = (("mode", self.modes[key]),) if self.modes.get(key) and is_here else ()
            seats[key] = contract.Seat(runs, is_here, each.is_severed, options)
        there = [
            {key: each for key, each in known.items() if key in wanted} for known in (self.places, seats, self.holders)
        ]
        return Scene(self.facts, generation, *there, fillings=self.fillings)


class Case(NamedTuple):
    """A case as values: `generation` is the one that hooks are to run in the end, None where the plan moves none."""

    host: Host
    steps: list
    generation: object
    words: dict


@pytest.mark.parametrize("name", WORKING)
def test_plan_is_as_written(name):
    case = made(CASES[name])
    assert [described(step, case.words) for step in case.steps] == CASES[name]["steps"]


@pytest.mark.parametrize("name", REFUSED)
def test_plan_refuses(name):
    code, words = CASES[name]["refused"]
    with pytest.raises(Failure) as refusal:
        made(CASES[name])
    assert refusal.value.code == code
    assert words in refusal.value.what
    assert refusal.value.do


@pytest.mark.parametrize("name", WORKING)
def test_plan_is_empty_once_its_steps_are_done(name):
    case = made(CASES[name])
    if case.generation is not None:
        done = after(case.host, case.steps)
        by_link = "back" in CASES[name]["wanted"]
        assert plan.switch(done.scene(case.generation), skip_blocked=True, by_link=by_link) == []


@pytest.mark.parametrize("name", WORKING)
def test_no_hook_gets_a_map_before_it_holds_what_is_declared(name):
    kinds = [type(step) for step in made(CASES[name]).steps]
    if steps.FillMap in kinds and any(kind.is_hook_step for kind in kinds):
        moves = [at for at, kind in enumerate(kinds) if kind.is_hook_step]
        assert max(at for at, kind in enumerate(kinds) if kind is steps.FillMap) < min(moves)


@pytest.mark.parametrize("name", WORKING)
def test_repair_empties_no_map_and_copies_into_none(name):
    case = made(CASES[name])
    if case.generation is not None:
        kinds = {type(step) for step in plan.mend(case.host.scene(case.generation), skip_blocked=True)}
        assert not kinds & {steps.EmptyMap, steps.CopyMap}


@pytest.mark.parametrize("name", WORKING)
def test_no_hook_moves_before_the_disk_says_where_to(name):
    """A run killed at its first hook leaves a trial, an outcome or a confirmed generation that says what to do."""
    case = made(CASES[name])
    kinds = [type(step) for step in case.steps]
    moves = [at for at, kind in enumerate(kinds) if kind.is_hook_step]
    written = [at for at, kind in enumerate(kinds) if kind in (steps.Point, steps.WriteEnded)]
    if moves and any(kind is steps.WriteGeneration for kind in kinds):
        assert min(written) < min(moves)


def test_what_cannot_run_any_more_is_no_way_back_and_nothing_is_neither():
    """The pins of what ran before went in the boot that it ran in: the hooks stay, and it is told."""
    case = CASES["back_to_what_is_pointed_at_no_more"]
    given = {**case, "seen": {**case["seen"], "loads": {"new-1": {"count": 21}}}}

    host = made(given).host
    scene = host.scene(plan.fallback(host.facts))

    assert scene.generation.number == 1
    assert plan.hooks_back(scene) == []
    assert plan.not_back(scene) == ["xdp eth0 (native) runs program 21, and what ran before cannot be loaded"]


def test_expect_empty_names_what_is_missing():
    with pytest.raises(Failure) as refusal:
        steps.expect_empty([steps.Settle("abc")])
    assert refusal.value.can_retry
    assert refusal.value.detail["missing"] == ["finish the interrupted attachment abc"]


KINDS = {
    each
    for each in vars(steps).values()
    if getattr(each, "__module__", "") == steps.__name__ and hasattr(each, "_fields")
}


def test_every_step_is_in_a_case():
    """But for what arms a guard: see tests/kernel."""
    seen = {type(step) for name in WORKING for step in made(CASES[name]).steps}
    assert seen >= KINDS - {steps.WriteDeadline}


def test_every_step_is_carried_out():
    assert set(apply.DEEDS) == KINDS


@pytest.mark.parametrize("kind", sorted(KINDS, key=lambda kind: kind.__name__))
def test_every_step_says_what_can_be_told_of_it(kind):
    assert callable(kind.describe)
    for question in steps.QUESTIONS:
        answer = getattr(kind, question)
        assert isinstance(answer, (bool, property))
        assert question not in kind._fields


def test_steps_that_say_yes():
    """Those that decide a transition and those that may fail once it is decided are few, and named here on purpose."""
    yes = {question: {kind.__name__ for kind in KINDS if getattr(kind, question)} for question in steps.QUESTIONS}
    hooks = {"Settle", "PutOn", "Replace", "TakeOff"}
    assert yes == {
        "is_commit": {"WriteStaged", "WriteEnded", "Point"},
        "may_be_passed_over": {*hooks, "MergeBack", "FillMap"},
        "is_hook_step": hooks,
    }
    assert [steps.Point(pointer, 1, None).is_commit for pointer in ("trial", "confirmed")] == [False, True]
    assert [steps.FillMap("a-1", "m", None, can).may_be_passed_over for can in (False, True)] == [False, True]


# ---- a case made of its words --------------------------------------------------------------------


def made(case):
    attachments = {word: Attachment.from_record(fields) for word, fields in case["attachments"].items()}
    ids = {word: catalogue.hook_of(each).id(each) for word, each in attachments.items()}
    host = seen(case["seen"], attachments, ids)
    (work, given), *dummy = case["wanted"].items()
    steps, generation = WORK[work](host, given, attachments)
    return Case(host, steps, generation, {key: word for word, key in ids.items() if word != "was"})


def seen(given, attachments, ids):
    loads = {name: Load(ids_, given.get("maps", {}).get(name, {})) for name, ids_ in given.get("loads", {}).items()}
    generations = {
        int(number): records.Generation(
            int(number),
            each["load"],
            records.release_of(each["load"]),
            ways.by_id([attachments[word] for word in each["at"]]),
            previous=each.get("previous"),
            policies={name: policy(each["maps"][name]) for name in each.get("maps", {})},
            onto=each.get("onto", ""),
            leaves=each.get("leaves", ""),
        )
        for number, each in given.get("generations", {}).items()
    }
    names = given.get("releases") or {records.release_of(name) for name in loads}
    trial = generations.get(given.get("trial"))
    facts = Facts(
        name="counted",
        staged=staged(given, generations.get(given.get("confirmed"))),
        trial=trial
        and trial._replace(
            guarded="deadline" in given, boot_id=given.get("boot_of_trial", ""), back_to=given.get("back_to")
        ),
        confirmed=generations.get(given.get("confirmed")),
        deadline=records.Deadline(given["deadline"], 0.0, "") if "deadline" in given else None,
        generations=generations,
        releases={name: made_release(name) for name in names},
        loads=loads,
        keep=given.get("keep", records.KEEP),
        debris=tuple(given.get("debris", ())),
        damage=tuple(given.get("damage", ())),
        spoiled=given.get("spoiled", {}),
        unnamed={
            ids[word]: Unnamed(attachments[word] if load else None, load)
            for word, load in given.get("unnamed", {}).items()
        },
        links={ids[word]: link(attachments[word], **each) for word, each in given.get("links", {}).items()},
        unsettled=frozenset(ids[word] for word in given.get("unsettled", ())),
        next_number=max([0, *generations]) + 1,
        carries=given.get("carries", {}),
        units=drop_ins(given.get("units"), attachments),
    )
    return Host(
        facts,
        places={ids[word]: place(each, given.get("places", {}).get(word)) for word, each in attachments.items()},
        holders={ids[word]: holders(given.get("holders", {}).get(word)) for word in attachments},
        fillings={name: filling(**each) for name, each in given.get("fillings", {}).items()},
        modes={ids[word]: given.get("modes", {}).get(word, each.option("mode")) for word, each in attachments.items()},
    )


def drop_ins(given, attachments):
    if given is None:
        return None
    return {unit: word and units.drop_in(attachments[word].target) for unit, word in given.items()}


def staged(given, confirmed):
    if not given.get("staged"):
        return None
    load, policies = given["staged"], {name: policy(how) for name, how in given.get("takes_over", {}).items()}
    return records.Staged(load, records.release_of(load), "", policies, confirmed.load if confirmed else "")


def policy(how):
    copied, counted = [[0, 8, 8, 8, "bytes"]], [[0, 8, 8, 8, "sum"]]
    return {
        "on_change": how,
        "copied": copied if how == "copy" else [],
        "counted": counted if how == "merge" else [],
    }


def filling(left_out=(), **numbers):
    return declared.Filling(edited(**numbers), tuple(left_out))


def edited(puts=0, deletes=0):
    keys = [bytes([number]) for number in range(puts + deletes)]
    return contents.Edit(tuple((key, b"v") for key in keys[:puts]), tuple(keys[puts:]), 0, False)


def made_release(name):
    return release.Release(name, name, f"source-of-{name}", "", (), ({"name": "flows"},), "", "", ())


def link(attachment, runs, severed=False, sits_at=2):
    number = 0 if severed else sits_at
    is_cgroup = attachment.hook == "cgroup"
    return bpf.Link(
        id=runs,
        type=attachment.hook,
        prog_id=runs,
        ifindex=None if is_cgroup else number,
        cgroup_id=number if is_cgroup else None,
        attach_type=ATTACH_TYPES[attachment.hook],
    )


def place(attachment, gone):
    if gone:
        return NotFound(f"There is no interface {attachment.target} on this host", "See ip link")
    return Place(2, ATTACH_TYPES[attachment.hook])


def holders(name):
    return ({"prog_id": 99, "name": name},) if name else ()


def described(step, words):
    text = step.describe()
    return text.replace(step.key, words[step.key]) if isinstance(step, steps.Settle) else text


# ---- what a case wants ---------------------------------------------------------------------------


def _change(host, given, attachments):
    seen = host.facts
    chosen = [attachments[word] for word in given["at"]]
    without = [attachments[word] for word in given.get("without", ())]
    generation = ways.wanted(seen, chosen, given["load"], replace=given.get("replace", False), without=without)
    plan.expect_maps_fit(seen, generation)
    return ways.change(host.scene(generation)), generation


def _finish(host, given, attachments):
    return ways.finish(host.scene(host.facts.trial)), host.facts.trial


def _back(host, given, attachments):
    ended = records.Ended(host.facts.trial.number, given["outcome"], given["reason"]) if given else None
    generation = plan.fallback(host.facts)
    return ways.back(host.scene(generation), ended, given.get("quarantine", "")), generation


def _going_back(host, given, attachments):
    target = host.facts.generations.get(given["to"])
    lifted = steps.RemoveQuarantine(given["lifted"], "as it was", target.number) if "lifted" in given else None
    generation = ways.returning(host.facts, target)
    return ways.going_back(host.scene(generation), given["reason"], lifted), generation


def _adoption(host, given, attachments):
    generation = ways.adopted(host.facts)
    return ways.adoption(host.scene(generation)), generation


def _declare(host, given, attachments):
    what = records.Declared({}, entries=tuple((bytes([number]), b"v") for number in range(given["declared"])))
    edit = edited(given["puts"], given["deletes"])
    return ways.declare(given["load"], given["map"], edit, None, what), None


def _stage(host, given, attachments):
    wanted = made_release(records.release_of(given["load"]))
    staged = records.Staged(given["load"], wanted.id)
    hidden = tuple(made_release(name) for name in given.get("hides", ()))
    return ways.stage(host.facts, wanted, given.get("aside"), staged, {"object.o": b"object"}, hidden), None


WORK = {
    "change": _change,
    "finish": _finish,
    "back": _back,
    "going_back": _going_back,
    "adoption": _adoption,
    "stage": _stage,
    "declare": _declare,
    "prune": lambda host, given, attachments: (ways.prune(host.facts), None),
    "keeping": lambda host, given, attachments: (ways.keeping(host.facts, given["keep"]), None),
    "removal": lambda host, given, attachments: (ways.removal(host.facts), records.NOTHING),
}


# ---- what the steps do, in a few lines -----------------------------------------------------------


def after(host, planned):
    """The Host after the hooks' steps, as the kernel would have it."""
    links, unsettled, loads = dict(host.facts.links), set(host.facts.unsettled), host.facts.loads
    modes, fillings = dict(host.modes), dict(host.fillings)
    for step in planned:
        if isinstance(step, steps.Settle):
            unsettled.discard(step.key)
        elif isinstance(step, steps.FillMap):
            del fillings[step.map]  # a hook runs with it from here on: what is left out is said once
        elif isinstance(step, steps.TakeOff):
            del links[step.key]
        elif isinstance(step, steps.PutOn):
            links[step.key] = link(step.attachment, loads[step.load].programs[step.attachment.program])
            modes[step.key] = step.attachment.option("mode")
        elif isinstance(step, steps.Replace):
            assert links[step.key].prog_id == step.expected
            program = loads[step.load].programs[step.attachment.program]
            links[step.key] = links[step.key]._replace(prog_id=program)
    facts = host.facts._replace(links=links, unsettled=frozenset(unsettled))
    return host._replace(facts=facts, fillings=fillings, modes=modes)
