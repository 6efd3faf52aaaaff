# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue


def _options():
    """What each hook says of itself, in the form of a module's documentation."""
    shown = {
        "program": {"description": "The program of a single attachment, by its function's name.", "type": "str"},
        "hook": {
            "description": [
                "Where the program runs.",
                *(f"V({kind}) {hook.description}" for kind, hook in catalogue.HOOKS.items()),
                'V(auto) is the one that the program\'s section says, as SEC("xdp") and SEC("tcx/ingress") do. What '
                "the section says besides need not be written.",
            ],
            "type": "str",
            "choices": [*catalogue.HOOKS, catalogue.AUTO],
        },
    }
    for name, spec in catalogue.option_specs().items():
        shown[name] = {"description": _description(name), **spec}
    return shown


def _description(name):
    """Each hook's words for the option; hooks with the same words share them."""
    said = {}
    for kind, hook in catalogue.HOOKS.items():
        if name in hook.options:
            words = hook.options[name].description
            said.setdefault((words,) if isinstance(words, str) else words, []).append(f"V({kind})")
    lines = []
    for words, kinds in said.items():
        lines += [f"For {' and '.join([', '.join(kinds[:-1]), kinds[-1]] if kinds[1:] else kinds)}.", *words]
    return lines


def _as_suboptions(options):
    shown = {name: {"description": f"As O({name}).", **_without_words(each)} for name, each in options.items()}
    return {name: {**each, "required": True} if name in ("program", "hook") else each for name, each in shown.items()}


def _without_words(option):
    return {field: value for field, value in option.items() if field != "description"}


class ModuleDocFragment:
    """Options of one attachment, made from the hooks themselves; and `attachments`, a list of such."""

    # ansible-test's yamllint takes every plain assignment here for a string literal
    DOCUMENTATION: str = json.dumps(
        {
            "options": {
                **_options(),
                "attachments": {
                    "description": [
                        "Several attachments in one call, instead of the single one above.",
                        "V(auto) stands for all programs of the release, each at the hook that its section says, with "
                        "the options above where a hook takes them. What this host has no place for is left off and "
                        "named.",
                    ],
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "suboptions": _as_suboptions(_options()),
                },
            }
        }
    )
