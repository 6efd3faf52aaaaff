"""What the demo shows, step by step: each command is printed as it is run, and each number comes out of one.

Where a number is not what the packets sent say, or a command does not end as it should, the demo shows that and ends
with 1. Making the hosts is not its business: `hosts` (the inventory), `ssh_config` and the sources lie in the working
directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import time
from importlib.metadata import version

WIDTH = 100
HOSTS = ("east", "west")
PLAYBOOK = "ansible-playbook -i hosts ebpf.deploy.rollout"
ROLLOUT = f"{PLAYBOOK} -e rollout_name=counter -e rollout_interface=data0"
FILTER = f"{PLAYBOOK} -e rollout_hosts=east -e rollout_name=filter -e rollout_interface=eth0"
EAST = "ssh -F ssh_config east"
PING = "ping -q -i 0.001"
WEST_ADDRESS = "10.78.1.2"


class Unexpected(Exception):
    """The demo did not go as it should; the text says how."""


def main():
    started = time.monotonic()
    try:
        tell()
    except Unexpected as problem:
        say("", f"demo: {problem}")
        return 1
    say("", f"All numbers add up. {time.monotonic() - started:.0f} s; nothing of it stays on this machine.")
    return 0


def tell():
    kernel, core = os.uname().release, version("ansible-core")
    say(
        f"Two hosts, east and west, joined by a line (data0). They share this kernel, {kernel};",
        f"interfaces, bpffs and sshd are their own. ansible-core {core} reaches them by SSH.",
    )
    roll_out()
    sent = count_packets()
    first, second = upgrade(sent)
    refuse(second)
    go_back(first)
    cut_off()
    remove()


# ---- the steps -----------------------------------------------------------------------------------


def roll_out():
    step("1. Compile, verify, load and attach a packet counter on both hosts")
    show(messages(ansible(f"{ROLLOUT} -e rollout_src=ebpf.deploy.xdp_packet_counter")))


def count_packets():
    """How many packets were sent, and counted by both hosts: requests in the west, answers in the east."""
    step("2. Packets are counted: requests by west, answers by east")
    sent = ping(1000)
    expect_counted(read_map("packet_count_map"), sent)
    return sent


def upgrade(sent_before):
    """What the first version counted, and the second, each by host."""
    step("3. A second version takes its place while packets flow; it counts in a map of its own")
    with flow() as flowing:
        show(messages(ansible(f"{ROLLOUT} -e rollout_src=counter_v2.bpf.c")))
    first, second = read_map("packet_count_map"), read_map("counted_by_v2")
    both, sent = {host: first[host] + second[host] for host in HOSTS}, sent_before + flowing.sent
    sums = {host: f"{first[host]} by the first + {second[host]} by the second = {both[host]}" for host in HOSTS}
    show({host: f"{text}; sent: {sent_before} + {flowing.sent} = {sent}" for host, text in sums.items()})
    expect_counted(both, sent)
    expect(min(second.values()) > 0, "the packets ended before the second version came")
    return first, second


def refuse(counted_before):
    step("4. A third version reads past the packet's end: the verifier refuses it, the second one stays")
    show(messages(ansible(f"{ROLLOUT} -e rollout_src=counter_v3.bpf.c", fails=True), "FAILED: "))
    sent = ping(1000)
    expect_counted(read_map("counted_by_v2"), sent, counted_before)


def go_back(counted_before):
    step("5. Back to the first version: it is still loaded, so neither compiler nor verifier is asked")
    results = ad_hoc("bpf_release", "name=counter state=rolled_back")
    show({host: next(text for text in results[host]["steps"] if "data0" in text) for host in HOSTS})
    sent = ping(1000)
    expect_counted(read_map("packet_count_map"), sent, counted_before)


def cut_off():
    step("6. A filter cuts east off, its SSH too: nobody can confirm it, so a guard on the host takes it back")
    with in_background(f"{FILTER} -e rollout_src=cut_off.bpf.c -e rollout_confirm_within=8") as rollout:
        end = json.loads(asked(f"{EAST} cat /run/ebpf_deploy/filter.deadline", until=rollout))["end"]
        count_down(end, f"{EAST} -o ConnectTimeout=1 true")
    show({"east": messages(results_of(rollout.output, ["east"]), "FAILED: ")["east"]}, ["east"])
    for line in run(f"{EAST} grep steps /var/lib/ebpf_deploy/filter/journal.jsonl").splitlines():
        told = json.loads(line)
        show({"east": f"{told['when'][11:19]} {told['event']}: {'; '.join(told['steps'])}"}, ["east"])


def count_down(end, question):
    """East is asked once a second until it answers again; the seconds are those of the deadline on its disk."""
    show_command(f"{question}  # once a second")
    was_gone = False
    while True:
        answers = subprocess.run([*shlex.split(question)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        is_gone, left = answers.returncode != 0, end - time.clock_gettime(time.CLOCK_BOOTTIME)
        if was_gone and not is_gone:
            break
        say(f"  {max(0, left):.0f} s left: east {'does not answer' if is_gone else 'answers'}")
        expect(left > -20, "east did not come back")
        was_gone = was_gone or is_gone
        time.sleep(0 if is_gone else 1)
    say(f"  east answers again, {-left:.1f} s after the deadline" if left < 0 else "  east answers again")


def remove():
    step("7. Remove all of it")
    for name in ("filter", "counter"):
        ad_hoc("bpf_release", f"name={name} state=absent")
    found = ad_hoc("bpf_info", "gather=deployments,attachments")
    deployments = {host: len(found[host]["deployments"]) for host in HOSTS}
    attached = {host: sum(row.get("interface") == "data0" for row in found[host]["attachments"]) for host in HOSTS}
    show({host: f"{deployments[host]} deployments, {attached[host]} programs at data0" for host in HOSTS})
    expect(not any((*deployments.values(), *attached.values())), "something was left behind")


# ---- packets -------------------------------------------------------------------------------------


def ping(number):
    """How many packets east sent to west; all were answered."""
    output = run(f"{EAST} {PING} -c {number} {WEST_ADDRESS}")
    sent, answered, line = summary(output)
    say(f"  {line}")
    expect(sent == answered == number, "packets were lost")
    return sent


class Flow:
    """Packets from east to west, one a millisecond. `sent` is there when it has ended."""

    sent = 0


@contextlib.contextmanager
def flow():
    """A Flow that goes on until the block ends, and two minutes at most."""
    flowing = Flow()
    command = f"{EAST} '{PING} -w 120 {WEST_ADDRESS} & read end; kill -INT $!; wait'"
    show_command(command)
    process = subprocess.Popen(
        shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield flowing
    finally:
        output, dummy = process.communicate("\n")
    flowing.sent = summary(output)[0]


def summary(output):
    """(sent, answered, line) of what ping said at its end."""
    found = re.search(r"^(\d+) packets transmitted, (\d+) received.*", output, re.M)
    expect(found, f"ping did not run:\n{output}")
    return int(found[1]), int(found[2]), found[0]


def read_map(name):
    """{host: the map's one counter, summed over the CPUs}."""
    results = ad_hoc("bpf_map", f"name=counter map={name}")
    values = {host: results[host]["entries"][0]["values"] for host in HOSTS}
    show({host: f"{' + '.join(map(str, values[host]))} (by CPU) = {sum(values[host])}" for host in HOSTS})
    return {host: sum(values[host]) for host in HOSTS}


def expect_counted(counted, sent, before=None):
    for host in HOSTS:
        number = counted[host] - (before[host] if before else 0)
        expect(number == sent, f"{sent} packets were sent, and {host} counted {number}")


# ---- commands ------------------------------------------------------------------------------------


def ad_hoc(module, arguments):
    """{host: result} of a module on all hosts."""
    return ansible(f"ansible -i hosts all -m ebpf.deploy.{module} -a '{arguments}'")


class Background:
    """A command that runs meanwhile. `output` is there when it has ended."""

    output = None

    def __init__(self, process):
        self.process = process

    def has_ended(self):
        return self.process.poll() is not None


@contextlib.contextmanager
def in_background(command):
    """The command runs during the block; it is to fail."""
    show_command(command)
    process = subprocess.Popen(
        shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    background = Background(process)
    try:
        yield background
    finally:
        background.output, dummy = process.communicate()
    expect(process.returncode != 0, f"this was to fail: {command}\n{background.output}")


def asked(question, until):
    """What the command printed, asked again until it ends with 0."""
    while not until.has_ended():
        done = subprocess.run(
            shlex.split(question), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout
    raise Unexpected(f"it ended before {question} succeeded:\n{until.process.stdout.read()}")


def ansible(command, fails=False):
    """{host: result} of the last task that printed one for the host."""
    return results_of(run(command, fails), HOSTS)


def results_of(output, hosts):
    for line in output.splitlines():
        if line.startswith(("[WARNING]", "[DEPRECATION")):
            say(f"  {line}")
    found = {}
    for match in re.finditer(r"^(?:\w+: \[(\w+)\].*|(\w+) \| [A-Z]+!?) => (?=\{)", output, re.M):
        found[match[1] or match[2]] = json.JSONDecoder().raw_decode(output, match.end())[0]
    expect(set(found) == set(hosts), f"not every host answered:\n{output}")
    return found


def run(command, fails=False):
    """What the command printed. It ends with 0, or with another status where it is to fail."""
    show_command(command)
    done = subprocess.run(
        shlex.split(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    expect((done.returncode != 0) == fails, f"this ended with status {done.returncode}: {command}\n{done.stdout}")
    return done.stdout


def messages(results, prefix=""):
    return {host: prefix + result["msg"] for host, result in results.items()}


# ---- the screen ----------------------------------------------------------------------------------


def say(*lines):
    print("\n".join(lines), flush=True)


def step(title):
    say("", title)


def show_command(command):
    lines = textwrap.wrap(command, WIDTH - 4, break_on_hyphens=False, break_long_words=False)
    say("$ " + " \\\n    ".join(lines))


def show(texts, hosts=HOSTS):
    """A line for each text, which names the hosts it is true for."""
    for text in dict.fromkeys(texts[host] for host in hosts):
        who = ", ".join(host for host in hosts if texts[host] == text)
        say(textwrap.fill(f"{who}: {text}", WIDTH, initial_indent="  ", subsequent_indent="    "))


def expect(holds, otherwise):
    if not holds:
        raise Unexpected(otherwise)


sys.exit(main())
