# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Confirm, roll back or remove a deployment, without hanging on a connection that a change on trial has cut."""

from __future__ import annotations

from ansible.plugins.action import ActionBase

from ..plugin_utils import attempts, whose


class ActionModule(attempts.Attempting, ActionBase):
    """Runs the module, in bounded attempts. A generation is named after a switch: then over a new connection."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        arguments["rollout_id"] = whose.rollout_id(arguments.get("rollout_id"), task_vars)
        if self._task.async_val:
            more = {"module_args": arguments, "task_vars": task_vars, "wrap_async": self._task.async_val}
            return {**result, **self._execute_module(**more)}
        is_named = bool(arguments.get("generation"))
        goes_on = arguments.get("state") == "rolled_back" and not is_named and not arguments.get("release")
        is_repeatable = self._task.check_mode or not goes_on  # each run of it goes one release further back
        return {**result, **self.run_module(arguments, task_vars, anew=is_named, is_repeatable=is_repeatable)}
