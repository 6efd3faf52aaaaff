# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluate bpf_info's query on the controller: the hosts need no jmespath.

It does not hang on a connection that a change on trial has cut.
"""

from __future__ import annotations

from ansible.plugins.action import ActionBase

from ..module_utils._core.errors import BadRequest, Failure, ToolMissing
from ..plugin_utils import attempts

try:
    import jmespath
except ImportError:
    jmespath = None


class ActionModule(attempts.Attempting, ActionBase):
    """Runs the module in bounded attempts, then the query over its result."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        expression = arguments.pop("query", None)
        try:
            compiled = compiled_query(expression) if expression else None
            result.update(self.run_module(arguments, task_vars))
            if compiled is not None and not result.get("failed"):
                result["queried"] = searched(compiled, {key: result[key] for key in result if key != "invocation"})
        except Failure as failure:  # returned: of what is raised, ansible-core before 2.19 shows a traceback
            result.update(failed=True, msg=str(failure), failure=failure.as_fields())
        return result


def compiled_query(expression):
    """The JMESPath expression, checked before the host is asked."""
    if jmespath is None:
        raise ToolMissing(
            "query needs jmespath on the controller", "Install it beside ansible-core: pip install jmespath"
        )
    try:
        return jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as error:
        raise BadRequest(f"query is no JMESPath expression: {_said(error)}", f"Look at {expression}") from error


def searched(compiled, result):
    """What the expression finds; functions and their arguments are looked at only now."""
    try:
        return compiled.search(result)
    except jmespath.exceptions.JMESPathError as error:
        raise BadRequest(f"query cannot be evaluated: {_said(error)}", f"Look at {compiled.expression}") from error


def _said(error):
    """jmespath draws an arrow below its sentence."""
    return str(error).splitlines()[0].rstrip(":").replace("Invalid jmespath expression: ", "")
