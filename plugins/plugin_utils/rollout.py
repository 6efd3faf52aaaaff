# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What role and playbook rollout were given, judged on the controller before any host is changed: the variables'
names, and the file of checks. What the modules say to them comes in the words of the role.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re

from ansible.errors import AnsibleError, AnsibleFileNotFound
from ansible.playbook.helpers import load_list_of_blocks
from ansible.playbook.task_include import TaskInclude

from ..module_utils._core.errors import BadRequest, NotFound

PREFIX = "rollout_"
OF_THE_PLAYBOOK = ("rollout_hosts", "rollout_serial")
ROLES = os.path.join(os.path.dirname(__file__), "..", "..", "roles")
INCLUDED = (
    "{{ __rollout_program.checks }}"  # as the role includes it: ansible-core before 2.19 takes no import_tasks then
)
NEAR = 0.8  # of difflib's ratio, behind the prefix: rollout_check is near to rollout_checks, rollout_result to none


def known(loader) -> list[str]:
    """The names of the variables that role and playbook read; the role's come from its own documentation."""
    specification = loader.load_from_file(os.path.join(ROLES, "rollout", "meta", "argument_specs.yml"))
    return sorted({*specification["argument_specs"]["main"]["options"], *OF_THE_PLAYBOOK})


def unknown(names, ours) -> list[str]:
    """Those of the variables' names that begin as ours do and are none of ours.

    BadRequest where one nearly is: it was meant to be.
    """
    strange = sorted(name for name in names if name.startswith(PREFIX) and name not in ours)
    ends = {name[len(PREFIX) :]: name for name in ours}
    for name in strange:
        near = difflib.get_close_matches(name[len(PREFIX) :], ends, 1, NEAR)
        if near:
            raise BadRequest(
                f"There is no variable {name}, and {ends[near[0]]} is nearly its name",
                f"Write {ends[near[0]]}, or give a variable of your own another name",
                variable=name,
                near=ends[near[0]],
            )
    return strange


def checks(path, task, loader) -> str:
    """The file of checks on the controller, empty where none is asked for. It was read as Ansible will read it.

    Found beside the role that asks for it (tasks/ first), beside the playbook, or in the working directory. NotFound,
    or BadRequest where it holds no tasks.
    """
    if not path:
        return ""
    found = _found(path, task, loader)
    try:
        tasks = _loaded(found, loader)
        if tasks and not isinstance(tasks, list):
            raise AnsibleError("it holds no list of tasks")
        more = {"role": task._role, "variable_manager": task.get_variable_manager(), "loader": loader}
        include = TaskInclude.load({"ansible.builtin.include_tasks": INCLUDED}, block=task._parent, **more)
        load_list_of_blocks(tasks, play=task.play, parent_block=include.build_parent_block(), **more)
    except AnsibleError as error:
        raise BadRequest(
            f"rollout_checks: {found} cannot be read: {_said(error)}", "Correct it; no host was changed", checks=found
        ) from error
    return found


def _found(path, task, loader):
    own = os.path.realpath(os.path.join(ROLES, "rollout"))
    ours = (own, os.path.join(own, "tasks"))
    places = [place for place in task.get_search_path() if os.path.realpath(place) not in ours]
    try:
        candidates = [loader.path_dwim_relative_stack(places, "tasks", path)]
    except AnsibleFileNotFound:
        candidates = [os.path.abspath(path)]
    for candidate in filter(os.path.isfile, candidates):
        return candidate
    raise NotFound(
        f"rollout_checks: there is no file {path} on the controller: not in tasks/ of the role that asks for it, not "
        f"beside the playbook, nor in {os.getcwd()}",
        "Give the path of a file of tasks",
        checks=path,
    )


def _loaded(path, loader):
    """What the file holds; its templates count, which ansible-core wants to be told since 2.19."""
    takes_trust = "trusted_as_template" in inspect.signature(loader.load_from_file).parameters
    return loader.load_from_file(path, **({"trusted_as_template": True} if takes_trust else {}))


def _said(error):
    """Ansible's sentence, and the line that it means: it draws the place below, or since 2.19 keeps it apart."""
    said, dummy, drawn = " ".join(str(error).split()).partition(" The error appears to be in ")
    said = said.rpartition("Syntax Error while loading YAML. ")[2].rstrip(".")  # before stands what JSON would say
    line = re.search(r"line (\d+),|:(\d+):\d+", drawn or str(getattr(error, "_formatted_source_context", "")))
    return f"{said} (line {line[1] or line[2]})" if line else said


def in_its_words(text, ours) -> str:
    """The sentence of a module, with the role's variables for the module's options."""
    options = [name[len(PREFIX) :] for name in ours]
    plain = "|".join(each for each in options if "_" in each or each == "cflags")
    with_value = "|".join(each for each in options if "_" not in each)
    text = re.sub(rf"\bthe option ({plain}|{with_value})\b", rf"the variable {PREFIX}\g<1>", text)
    return re.sub(
        rf"\b({plain})\b|(?<![\w.])({with_value})(?=: [\[{{]|: (?:bcc|clang|auto)\b)", rf"{PREFIX}\g<0>", text
    )
