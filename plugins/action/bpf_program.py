# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ship bpf_program's source inside the task, so that copying it is no task of its own."""

from __future__ import annotations

import base64
import contextlib
import importlib
import os
import re

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils._core.errors import BadRequest, NotFound
from ..module_utils._core.objects import signature
from ..module_utils._core.objects.source import headers_beside
from ..plugin_utils import rollout, whose

INLINE_BYTES = 64 * 1024  # up to here the bytes travel as an argument, above as a file of their own
VAULT = b"$ANSIBLE_VAULT"  # how what ansible-vault encrypted begins
IN_COLLECTION = re.compile(r"([a-z_][a-z0-9_]*)\.([a-z_][a-z0-9_]*)\.([A-Za-z0-9_]+)")


class ActionModule(ActionBase):
    """Reads src on the controller; everything else is the module's."""

    TRANSFERS_FILES = True
    _requires_connection = True
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        arguments["rollout_id"] = whose.rollout_id(arguments.get("rollout_id"), task_vars)  # as bpf_attach's
        ours = rollout.known(self._loader) if "_rollout_checks" in arguments else None
        try:
            checks = self._of_the_rollout(arguments.pop("_rollout_checks"), task_vars, ours) if ours else {}
        except (BadRequest, NotFound) as failure:
            return {**result, "failed": True, "msg": str(failure), "failure": failure.as_fields()}
        if not self._is_remote(arguments) and arguments.get("state") != "absent":
            try:
                arguments.update(self._shipped(arguments.get("src"), arguments.get("signature")))
            except (BadRequest, NotFound) as failure:
                # returned: of what is raised, ansible-core before 2.19 shows a traceback
                return {**result, "failed": True, "msg": str(failure), "failure": failure.as_fields()}
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val))
        result.update(checks)
        if ours and result.get("failed"):
            result["msg"] = rollout.in_its_words(result.get("msg", ""), ours)
        if not self._task.async_val:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _of_the_rollout(self, checks, task_vars, ours):
        """What role and playbook rollout were given is sound, as {checks: the file found}; a stray variable is told."""
        for name in rollout.unknown(task_vars, ours):
            Display().warning(f"{name} is no variable of role rollout, which does not read it.")
        return {"checks": rollout.checks(checks, self._task, self._loader)}

    def _is_remote(self, arguments):
        return str(arguments.get("remote_src", False)).lower() in ("true", "yes", "on", "1", "y", "t")

    def _shipped(self, source, seal):
        """The argument _shipped, where the module needs any of the controller's files."""
        path = self._find(str(source)) if source else None
        shipped = self._source(path) if path else {}
        seal = self._find(str(seal), "signature") if seal else path and signature.beside(path)
        if seal:
            listed = signature.signed_path(seal)
            shipped["signature"] = _encoded(self._bytes_of(seal))
            shipped["listed"] = _encoded(self._bytes_of(self._find(listed, "signed list"))) if listed else ""
        return {"_shipped": shipped} if shipped else {}

    def _source(self, path):
        data = self._bytes_of(path)
        shipped = {"file": os.path.basename(path), "headers": {}}
        if len(data) > INLINE_BYTES:
            shipped["path"] = self._transferred(path)
        else:
            shipped["data"] = _encoded(data)
        if path.endswith(".c"):
            shipped["headers"] = {name: _encoded(text) for name, text in headers_beside(path, data, self._bytes_of)}
        return shipped

    def _find(self, source, what="source"):
        """The file on the controller.

        Beside role or playbook, in the working directory, or a collection's bpf/NAME.bpf.c.
        """
        try:
            return self._find_needle("files", source)
        except AnsibleError:
            named = IN_COLLECTION.fullmatch(source)
            for path in (os.path.abspath(source), named and in_collection(*named.groups())):
                if path and os.path.isfile(path):
                    return path
        raise NotFound(
            f"There is no {what} {source} on the controller: not in files/ of role or playbook, nor in {os.getcwd()}",
            "Give a path, or NAMESPACE.COLLECTION.NAME for the file bpf/NAME.bpf.c of an installed collection",
            src=source,
        )

    def _transferred(self, path):
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, os.path.basename(path))
        with self._decrypted(path) as local:
            self._transfer_file(local, remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote))
        return remote

    def _bytes_of(self, path):
        """What the file holds, in plain where ansible-vault encrypted it."""
        data = _read(path)
        if data.startswith(VAULT):
            with self._decrypted(path) as plain:
                return _read(plain)
        return data

    @contextlib.contextmanager
    def _decrypted(self, path):
        """A file with the plain content, as copy makes it: `path`, or one in Ansible's private folder until the end."""
        try:
            plain = self._loader.get_real_file(path, decrypt=True)
        except AnsibleError as error:
            raise BadRequest(
                f"{path} is encrypted by ansible-vault, and no password that was given decrypts it",
                "Give the right one to ansible-playbook, by --vault-password-file, --vault-id or --ask-vault-pass",
                path=path,
            ) from error
        try:
            yield plain
        finally:
            self._loader.cleanup_tmp_file(plain)


def _read(path):
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be read on the controller: {error.strerror}", "Give a file that can be read", path=path
        ) from error


def _encoded(data):
    return base64.b64encode(data).decode()


def in_collection(namespace, collection, name):
    """The path of bpf/NAME.bpf.c in an installed collection, None where there is none."""
    try:
        package = importlib.import_module(f"ansible_collections.{namespace}.{collection}")
    except ImportError:
        return None
    for folder in package.__path__:
        path = os.path.join(folder, "bpf", f"{name}.bpf.c")
        if os.path.exists(path):
            return path
    return None
