# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Door 1: an Ansible module's arguments in, the core's answer out. The one file of module_utils that knows Ansible.

A Failure becomes fail_json with one sentence what is wrong and one what to do, and the structured detail in `failure`.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from typing import Any, Callable, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.validation import check_type_dict

from ._core.errors import Failure, Unprivileged
from ._core.hooks import catalogue


def run(work: Callable, guarded: Optional[dict] = None, **spec: Any) -> None:
    """Run `work(module)` -> result fields, and end the process as Ansible wants it.

    `guarded` is {option: MaybeSecret}.
    """
    module = GuardedModule(guarded or {}, supports_check_mode=True, **spec)
    try:
        if os.geteuid() != 0:
            raise Unprivileged(
                "eBPF programs and their state need root on the host", "Add become: true", uid=os.geteuid()
            )
        module.exit_json(**work(module))
    except Failure as failure:
        module.fail_json(msg=str(failure), failure=failure.as_fields())
    except OSError as error:
        what = f"{error.filename or 'A system call'} failed: {error.strerror}"
        module.fail_json(
            msg=f"{what}. This errno was not expected here: please report it with -vvv.",
            failure={"code": "unexpected", "what": what, "errno": error.errno, "log": getattr(error, "log", [])},
            exception=traceback.format_exc(),
        )


NOT_SECRET = ("false", "no", "off", "0", "n", "f", "none", "")


class GuardedModule(AnsibleModule):
    """An AnsibleModule that takes secrets out of its arguments before it validates, logs or returns them.

    Its own no_log would mask a secret's digits wherever they stand in what is returned, in ids too.
    """

    def __init__(self, guarded, **spec):
        self._guarded = guarded
        super().__init__(**spec)

    def _load_params(self):
        super()._load_params()
        for option, values in self._guarded.items():
            with contextlib.suppress(TypeError):  # no mapping: the validation says so
                self.params[option] = values.read(self.params.get(option) or {})


class MaybeSecret:
    """A mapping argument whose values may come as {value, secret}. Of a secret only its name stays in the argument."""

    def __init__(self):
        self.values, self.secrets = {}, set()

    def read(self, given: Any) -> dict:
        """The argument without its secrets. TypeError where it is no mapping.

        A word misspelt, or a mark too deep within, hides the value too: the error that follows shall not tell it.
        """
        shown = {}
        for name, value in check_type_dict(given).items():
            is_wrapped = isinstance(value, dict) and "value" in value and not value.keys() - {"value", "secret"}
            self.values[str(name)] = value["value"] if is_wrapped else value
            if _is_marked({"secret": value["secret"]} if is_wrapped and "secret" in value else value):
                self.secrets.add(str(name))
            shown[name] = {"secret": True} if str(name) in self.secrets else value
        return shown


def _is_marked(value):
    """Whether any mapping within has a key that may be meant as `secret`, and does not say no to it."""
    if isinstance(value, (list, tuple)):
        return any(map(_is_marked, value))
    if not isinstance(value, dict):
        return False
    marks = [mark for key, mark in value.items() if str(key).lower().startswith("sec")]
    return any(str(mark).lower() not in NOT_SECRET for mark in marks) or any(map(_is_marked, value.values()))


def outcome_fields(module: AnsibleModule, outcome) -> dict:
    """What every module that moves a deployment returns.

    Changed, steps, generation, state, and the diff where wanted.
    """
    generation = outcome.generation
    fields = {
        "changed": outcome.changed,
        "steps": [step.describe() for step in outcome.steps],
        "repaired": [step.describe() for step in outcome.repaired],
        "carried": list(outcome.carried),
        "generation": generation.number if generation and generation.number else None,
        "release": generation.release if generation else None,
        "left_out": outcome.left_out,
        "gone": [failure.what for failure in outcome.gone.values()],
    }
    for sentence in outcome.cautions:
        module.warn(sentence + ".")
    for failure in outcome.gone.values():
        module.warn(f"An attachment is kept without its place, and runs when that comes back: {failure.what}")
    for text in outcome.left_out:
        module.warn(f"The release cannot hold all entries: {text}")
    if outcome.after.confirmed and not (module.check_mode and outcome.steps):
        fields["generation"] = outcome.after.confirmed.number
    if module._diff:
        fields["diff"] = diff(found(outcome.before, outcome.before.confirmed), view(generation, but=outcome.gone))
    return fields


def view(generation, but=()) -> dict:
    """What a generation puts where, free of ids that change with every load; `but` for these attachments."""
    if generation is None or not generation.attachments:
        return {"release": None, "attachments": {}}
    return {
        "release": generation.release,
        "attachments": {
            catalogue.words(each): each.program for key, each in generation.attachments.items() if key not in but
        },
    }


def found(seen, generation) -> dict:
    """The same of what the kernel was found to run: a drifted hook shows as a difference, too."""
    shown = view(generation)
    for key, each in (generation.attachments if generation else {}).items():
        link, load = seen.links.get(key), seen.loads.get(generation.load)
        if link is None or link.is_severed:
            del shown["attachments"][catalogue.words(each)]
        elif load is None or link.prog_id != load.programs.get(each.program):
            shown["attachments"][catalogue.words(each)] = "another program"
    return shown


def diff(before: dict, after: dict) -> dict:
    return {"before": before, "after": after}
