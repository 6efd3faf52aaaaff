# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attaching, by a process that a real sshd started, on real devices: what is on the way in is refused without a guard.

The host's interface k0 leads to the peer, too. Where a test has other devices, one of both is not the way in.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import select
import shlex
import struct
import subprocess
import sys
import threading

import private_host
import programs
import pytest
from private_host import DEVICE, NAME, PEER_ADDRESS, run

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import transitions
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import WayInAtRisk
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import catalogue
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import files, way_in

REFUSED, TAKEN = "way_in_at_risk", "attached"
PORT = "2222"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x1, 0x1000  # linux/if_tun.h
ATTACHES = pathlib.Path(__file__).with_name("attaches.py")


class Server:
    """An sshd on the host, and a client on the peer that logs in as root."""

    def __init__(self, host, folder):
        self.host, self.folder, self.cgroup = host, folder, os.path.join(host.cgroup, "sshd")
        os.mkdir(self.cgroup)
        os.makedirs("/run/sshd", exist_ok=True)
        for name in ("host_key", "key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        (folder / "shadow").write_text("root:*:19000:0:99999:7:::\n")  # "!" would be a locked account
        run("mount", "--bind", str(folder / "shadow"), "/etc/shadow")
        (folder / "config").write_text(
            f"Port {PORT}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/key.pub\nStrictModes no\nUsePAM no\n"
            "UseDNS no\nPidFile none\nPermitRootLogin prohibit-password\n"
        )
        enter = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
        command = [_sshd(), "-D", "-e", "-f", str(folder / "config")]
        self.process = subprocess.Popen(
            ["sh", "-ec", enter, "sh", self.cgroup, *command], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        while b"listening" not in (line := self.process.stderr.readline()):
            assert line, "sshd ended"

    def ask(self, address, command, client=None, more=()):
        """The last line that the command, run by sshd, wrote; it came in by `address`, from the peer unless `client`
        is a prefix of the client's command."""
        client = ("nsenter", "-t", str(self.host.peer.pid), "-n") if client is None else client
        done = run(*client, *self.words(address, command, *more), timeout=60)
        return json.loads(done.splitlines()[-1])

    def words(self, address, command, *more):
        """How a client calls ssh."""
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        key = ["-i", str(self.folder / "key"), "-p", PORT, *(f"-o{each}" for each in options)]
        return ["ssh", *key, *more, f"root@{address}", command]

    def attaching(self, address, *rows, before="", **how):
        """{target: what became of attaching there}, tried in this order by a process of the session."""
        return self.ask(address, f"{before} {_command(rows)}", **how)

    def end(self):
        """A session whose connection went with its device outlives the server, and holds its stderr open: all end."""
        folders = [each for each in sorted(pathlib.Path(self.host.cgroup).iterdir()) if each.is_dir()]
        for folder in folders:
            (folder / "cgroup.kill").write_text("1")
        self.process.communicate()
        transitions.remove(NAME)
        for folder in folders:
            assert private_host.eventually(lambda folder=folder: _removed(folder)), folder


def _sshd():
    return next(path for path in ("/usr/sbin/sshd", "/usr/bin/sshd") if os.path.exists(path))


def _removed(folder):
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def _command(rows):
    environment = f"PYTHONPATH={shlex.quote(':'.join(path for path in sys.path if path))}"
    return f"env {environment} {sys.executable} {shlex.quote(str(ATTACHES))} {shlex.quote(json.dumps(rows))}"


def ingress(*devices):
    return [{"hook": "tcx", "program": programs.TCX, "interface": each, "direction": "ingress"} for each in devices]


def wanted(*devices):
    return tuple(catalogue.attachment_from(row) for row in ingress(*devices))


def egress_of(*cgroups):
    return [{"hook": "cgroup", "program": programs.CGROUP, "cgroup": each} for each in cgroups]


@pytest.fixture
def server(host, tmp_path):
    host.stage(1)
    made = Server(host, tmp_path)
    try:
        yield made
    finally:
        made.end()


def links(host, here, there=""):
    """Devices on the host, and at the peer, by lines for ip; skipped where this kernel has no such type of device."""
    for inside, lines in (((), here), (("nsenter", "-t", str(host.peer.pid), "-n"), there)):
        done = subprocess.run([*inside, "ip", "-batch", "-"], input=lines, capture_output=True, text=True, check=False)
        if "Unknown device type" in done.stderr:
            pytest.skip(f"Linux {os.uname().release}: {done.stderr.splitlines()[0]}")
        assert done.returncode == 0, done.stderr


def with_ipv6(host, *devices):
    for inside, device in (((), devices[0]), (("nsenter", "-t", str(host.peer.pid), "-n"), devices[1])):
        run(*inside, "sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6")


@pytest.fixture
def bridge(host):
    """br0 with ports a0, which leads to the peer, and b0."""
    here = "link add br0 type bridge\nlink set br0 up\n"
    for name in ("a", "b"):
        here += f"link add {name}0 type veth peer name {name}1 netns {host.peer.pid}\n"
        here += f"link set {name}0 master br0\nlink set {name}0 up\n"
    links(host, here, "addr add 10.98.0.2/24 dev a1\nlink set a1 up\nlink set b1 up\n")


@pytest.fixture
def bond(host):
    """bond0 of m0 and m1, and on it vlan 10, which leads to the peer, and vlan 20."""
    here = "link add bond0 type bond mode active-backup miimon 100\n"
    there = "link add bond0 type bond mode active-backup miimon 100\n"
    for number in "01":
        here += f"link add m{number} type veth peer name p{number} netns {host.peer.pid}\n"
        here += f"link set m{number} master bond0\n"
        there += f"link set p{number} master bond0\n"
    here += "link set bond0 up\n" + "".join(
        f"link add link bond0 name bond0.{number} type vlan id {number}\nlink set bond0.{number} up\n"
        for number in (10, 20)
    )
    there += "link set bond0 up\nlink add link bond0 name bond0.10 type vlan id 10\nlink set bond0.10 up\n"
    links(host, here + "addr add 10.98.0.1/24 dev bond0.10\n", there + "addr add 10.98.0.2/24 dev bond0.10\n")


# ---- interfaces ----------------------------------------------------------------------------------


def test_interface_of_the_connection_is_refused_and_another_is_not(server, bridge):
    found = server.attaching(private_host.ADDRESS, *ingress(DEVICE, "br0", "a0"))

    assert found == {DEVICE: REFUSED, "br0": TAKEN, "a0": TAKEN}


def test_every_port_of_a_bridge_with_our_address_is_refused(server, bridge):
    """Which of them leads to the controller may change at any time."""
    links(server.host, "addr add 10.98.0.1/24 dev br0")

    found = server.attaching("10.98.0.1", *ingress("br0", "a0", "b0", DEVICE))

    assert found == {"br0": REFUSED, "a0": REFUSED, "b0": REFUSED, DEVICE: TAKEN}


def test_bond_its_members_and_its_vlan_are_refused_and_another_vlan_is_not(server, bond):
    found = server.attaching("10.98.0.1", *ingress("bond0.10", "bond0", "m0", "m1", "bond0.20", DEVICE))

    refused = dict.fromkeys(("bond0.10", "bond0", "m0", "m1"), REFUSED)
    assert found == {**refused, "bond0.20": TAKEN, DEVICE: TAKEN}


def test_xdp_on_a_member_of_the_bond_is_refused(server, bond):
    found = server.attaching("10.98.0.1", {"hook": "xdp", "program": programs.XDP, "interface": "m1"})

    assert found == {"m1": REFUSED}


def test_connection_by_ipv6(server, bridge):
    links(server.host, "addr add 10.98.0.1/24 dev br0")
    with_ipv6(server.host, DEVICE, private_host.PEER_DEVICE)
    links(
        server.host,
        f"addr add fd00:99::1/64 dev {DEVICE} nodad",
        f"addr add fd00:99::2/64 dev {private_host.PEER_DEVICE} nodad",
    )

    found = server.attaching("fd00:99::1", *ingress(DEVICE, "br0", "a0"))

    assert found == {DEVICE: REFUSED, "br0": TAKEN, "a0": TAKEN}


def test_interface_that_the_answers_leave_by_is_on_the_way(server, bridge):
    """The address is lo's, as where routers are told of it."""
    links(server.host, "addr add 10.97.0.1/32 dev lo", f"route add 10.97.0.1 via {private_host.ADDRESS}")

    found = server.attaching("10.97.0.1", *ingress(DEVICE, "a0"))

    assert found == {DEVICE: REFUSED, "a0": TAKEN}


def test_each_next_hop_that_the_answers_may_take_is_on_the_way(server, bridge):
    links(
        server.host,
        "addr add 10.97.0.1/32 dev lo\naddr add 10.98.0.1/24 dev b0\nlink set b0 nomaster\nneigh flush dev b0\n"
        "route add 10.96.0.2/32 "
        f"nexthop via {PEER_ADDRESS} dev {DEVICE} nexthop via 10.98.0.2 dev b0",
        "addr flush dev a1\naddr add 10.98.0.2/24 dev b1\naddr add 10.96.0.2/32 dev lo\n"
        f"route add 10.97.0.1 src 10.96.0.2 nexthop via {private_host.ADDRESS} nexthop via 10.98.0.1",
    )

    found = server.attaching("10.97.0.1", *ingress(DEVICE, "b0", "br0", "a0"))

    assert found == {DEVICE: REFUSED, "b0": REFUSED, "br0": TAKEN, "a0": TAKEN}


def test_interface_by_its_other_name_is_refused(server):
    links(server.host, f"link property add dev {DEVICE} altname way-in")

    found = server.attaching(private_host.ADDRESS, *ingress("way-in"))

    assert found == {"way-in": REFUSED}


def test_both_ends_of_a_pair_and_the_bridge_that_it_leads_to_are_refused(server, bridge):
    """As where the host's address is on a virtual switch's inner port."""
    links(server.host, "link add v0 type veth peer name v1\nlink set v1 master br0 up\naddr add 10.98.0.1/24 dev v0\n")
    links(server.host, "link set v0 up\n")

    found = server.attaching("10.98.0.1", *ingress("v0", "v1", "br0", "a0", "b0", DEVICE))

    assert found == {**dict.fromkeys(("v0", "v1", "br0", "a0", "b0"), REFUSED), DEVICE: TAKEN}


@pytest.mark.parametrize("rule", ["from 10.97.0.1", "fwmark 0x7", "ipproto tcp sport 2222", "tos 0x10"])
def test_interface_that_answers_may_leave_by_for_a_rule_is_on_the_way(server, bridge, rule):
    """The route to the peer's address without the rule is by the interface that its packets come in by."""
    links(
        server.host,
        "addr add 10.97.0.1/32 dev lo\naddr add 10.98.0.1/24 dev b0\nlink set b0 nomaster\nneigh flush dev b0\n"
        f"route add default via 10.98.0.2 dev b0 table 100\nrule add {rule} lookup 100\n",
        f"addr flush dev a1\naddr add 10.98.0.2/24 dev b1\nroute add 10.97.0.1 via {private_host.ADDRESS}",
    )

    found = server.attaching("10.97.0.1", *ingress(DEVICE, "b0", "br0", "a0"))

    assert found == {DEVICE: REFUSED, "b0": REFUSED, "br0": TAKEN, "a0": TAKEN}


# ---- what cannot be told -------------------------------------------------------------------------


def test_everything_may_be_on_the_way_of_a_connection_over_lo(server, bridge):
    """A tunnel, or a jump by this very host: who comes through it is not told."""
    os.mkdir(os.path.join(server.host.cgroup, "beside"))
    beside = "/" + os.path.relpath(server.host.cgroup, files.cgroup2_root()) + "/beside"
    rows = [*ingress(DEVICE, "br0", "lo"), *egress_of(beside)]
    targets = [DEVICE, "br0", "lo", beside]

    assert server.attaching("127.0.0.1", *rows, client=()) == dict.fromkeys(targets, REFUSED)
    assert server.attaching(private_host.ADDRESS, *rows, client=()) == dict.fromkeys(targets, REFUSED)


def test_everything_may_be_on_the_way_of_a_connection_that_is_no_tcp(server, bridge):
    """As with vsock, or an sshd that somebody else's proxy starts."""
    proxy = f"-oProxyCommand={_sshd()} -i -f {server.folder}/config"

    found = server.attaching("nowhere", *ingress(DEVICE, "br0"), client=(), more=(proxy,))

    assert found == {DEVICE: REFUSED, "br0": REFUSED}


def test_everything_may_be_on_the_way_of_a_connection_by_a_tunnel(server, bridge):
    """Its packets come in inside those of another interface: of the bridge's, here."""
    links(server.host, "addr add 10.98.0.1/24 dev br0")
    with tunnel(server.host):
        found = server.attaching("10.95.0.1", *ingress(DEVICE, "br0"))

    assert found == {DEVICE: REFUSED, "br0": REFUSED}


@contextlib.contextmanager
def tunnel(host):
    """t0 here and t0 at the peer, a program of ours between them as a VPN's would be."""
    ends = []
    for inside, address in ((contextlib.nullcontext(), "10.95.0.1"), (host.at_peer(), "10.95.0.2")):
        with inside:
            ends.append(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
            fcntl.ioctl(ends[-1], TUNSETIFF, struct.pack("16sH22x", b"t0", IFF_TUN | IFF_NO_PI))
            run("ip", "addr", "add", f"{address}/24", "dev", "t0")
            run("ip", "link", "set", "t0", "up")
    ender = os.pipe()
    carrier = threading.Thread(target=_carry, args=(*ends, ender[0]))
    carrier.start()
    try:
        yield
    finally:
        os.write(ender[1], b".")
        carrier.join()
        for each in (*ends, *ender):
            os.close(each)


def _carry(one, other, ender):
    while ender not in (ready := select.select([one, other, ender], [], [])[0]):
        for end in ready:
            os.write(other if end == one else one, os.read(end, 1 << 16))


# ---- network namespaces --------------------------------------------------------------------------


def test_name_for_the_hosts_own_namespace_is_the_host(server, bridge):
    run("ip", "netns", "attach", "own", str(os.getpid()))
    try:
        for name in ("own", "/proc/self/ns/net"):
            rows = [{**row, "netns": name} for row in ingress(DEVICE, "br0")]
            assert server.attaching(private_host.ADDRESS, *rows) == {DEVICE: REFUSED, "br0": TAKEN}, name
            transitions.remove(NAME)
            server.host.stage(1)
    finally:
        run("ip", "netns", "delete", "own")


def test_namespace_that_the_way_leads_into_is_on_it_and_with_another_way_it_is_not(server):
    """The other end of the veth is there; a program on it cuts the host off as well."""
    there = f"/proc/{server.host.peer.pid}/ns/net"
    row = {**ingress(private_host.PEER_DEVICE)[0], "netns": there}

    assert server.attaching(private_host.ADDRESS, row) == {private_host.PEER_DEVICE: REFUSED}

    attachment = catalogue.attachment_from(row)
    assert not catalogue.hook_of(attachment).cuts_off(way_in.WayIn({2: "eth0"}, frozenset("/")), attachment)


@pytest.mark.parametrize("where", [{"interface": "nowhere"}, {"interface": DEVICE, "netns": "nowhere"}])
@pytest.mark.parametrize("hook", [{"hook": "xdp"}, {"hook": "tcx", "direction": "ingress"}])
def test_interface_that_is_not_found_is_on_the_way(host, hook, where):
    attachment = catalogue.attachment_from({"program": "any", **hook, **where})

    assert catalogue.hook_of(attachment).cuts_off(way_in.WayIn({}, frozenset()), attachment)


# ---- processes -----------------------------------------------------------------------------------


def test_sudo_takes_the_environment_and_the_way_is_found(server, bridge):
    assert server.ask(private_host.ADDRESS, 'sudo sh -c "echo \\"[\\${#SSH_CONNECTION}]\\""') == [0]

    found = server.attaching(private_host.ADDRESS, *ingress(DEVICE, "br0"), before="sudo")

    assert found == {DEVICE: REFUSED, "br0": TAKEN}


def test_process_that_left_its_session_finds_the_way_of_every_session(server, bridge, tmp_path):
    """As async's does. The default route is not the way in."""
    links(server.host, "addr add 10.98.0.1/24 dev br0\nroute add default via 10.98.0.2")
    answer = str(tmp_path / "answer")
    away = shlex.quote(f"{_command(ingress(DEVICE, 'br0'))} >{answer}.aside; mv {answer}.aside {answer}")

    awaited = f"until [ -e {answer} ]; do sleep 0.05; done; cat {answer}"
    found = server.ask(private_host.ADDRESS, f"setsid --fork sh -c {away}; {awaited}")

    assert found == {DEVICE: REFUSED, "br0": TAKEN}


def test_without_sshd_the_default_route_stands_in(host, bridge):
    links(host, f"route add default via {PEER_ADDRESS}")
    host.stage(1)

    with pytest.raises(WayInAtRisk, match=DEVICE):
        host.attach(*wanted(DEVICE))
    with pytest.raises(WayInAtRisk):
        transitions.attach(NAME, transitions.Wish(attachments=wanted(DEVICE)), check_mode=True)

    host.attach(*wanted("br0"))


@pytest.mark.parametrize("word", [{"confirm_within": 60}, {"allow_management_path": True}])
def test_guard_or_the_users_word_lets_it_on_the_way(host, word):
    links(host, f"route add default via {PEER_ADDRESS}")
    host.stage(1)

    assert host.attach(*wanted(DEVICE), **word).steps


# ---- cgroups -------------------------------------------------------------------------------------


def test_cgroup_of_sshd_and_those_above_are_refused_and_one_beside_is_not(server):
    """The session has gone elsewhere, as with systemd; its packets are still judged where sshd listens."""
    for name in ("session", "beside"):
        os.mkdir(os.path.join(server.host.cgroup, name))
    ours = "/" + os.path.relpath(server.host.cgroup, files.cgroup2_root())
    leave = f"echo $PPID >{server.host.cgroup}/session/cgroup.procs;"

    paths = [ours, f"{ours}/sshd", f"{ours}/session", f"{ours}/beside"]
    found = server.attaching(private_host.ADDRESS, *egress_of(*paths), before=leave)

    assert found == dict(zip(paths, (REFUSED, REFUSED, REFUSED, TAKEN)))
