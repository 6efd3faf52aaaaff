# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which connection a process came in by, told by a real sshd's sockets: what proves that new ones come through."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys

import private_host
import pytest
from private_host import PEER_ADDRESS
from test_way_in import server  # noqa: F401  # pylint: disable=unused-import  # a fixture

from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import way_in

CODE = """
import json, sys
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import way_in
print(json.dumps(way_in.peer()))
"""
PATH = f"PYTHONPATH={shlex.quote(':'.join(path for path in sys.path if path))}"
ASKS = f"env {PATH} {sys.executable} -c {shlex.quote(CODE)}"


def test_each_connection_has_another_far_end(server):  # noqa: F811
    first, second = (server.ask(private_host.ADDRESS, f"sh -c {shlex.quote(ASKS)}") for dummy in range(2))

    assert [first[0], first[2]] == [second[0], second[2]] == [PEER_ADDRESS, False]
    assert first[1] != second[1]


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "::1", private_host.ADDRESS])
def test_connection_from_the_host_itself_is_told_apart(server, address):  # noqa: F811
    """As what comes out of a tunnel's end here, by whatever address."""
    private_host.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/lo/disable_ipv6")

    found = json.loads(private_host.run(*server.words(address, ASKS), timeout=60).splitlines()[-1])

    assert found[2]


def test_connection_that_the_session_forwards_is_not_taken_for_its_own(server):  # noqa: F811
    with server.host.at_peer():
        beyond = socket.create_server((PEER_ADDRESS, 8098))
    forward = server.words(private_host.ADDRESS, f"read go; {ASKS}", f"-L127.0.0.1:9000:{PEER_ADDRESS}:8098")
    words = ["nsenter", "-t", str(server.host.peer.pid), "-n", *forward]
    session = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with beyond, _connected(server.host, 9000), beyond.accept()[0]:
        session.stdin.write(b"go\n")
        session.stdin.flush()
        found = json.loads(session.stdout.readline())
    session.communicate(timeout=60)

    assert found[0] == PEER_ADDRESS
    assert found[1] != 8098


def test_process_without_an_sshd_above_it_has_no_far_end(host):
    assert way_in.peer() is None


def _connected(host, port):
    """A connection at the peer to its own port, once somebody listens there."""
    made = []

    def connects():
        with host.at_peer():
            made.append(socket.socket())
        return made[-1].connect_ex(("127.0.0.1", port)) == 0 or made.pop().close()

    assert private_host.eventually(connects)
    return made[0]
