# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with other kernels, and fleets, on this machine.

lab up [KERNEL...] [--until-pid PID]   machines vm61 and vm612 with the kernels 6.1 and 6.12, or only with those named
lab fleet N [--until-pid PID]          N hosts h01, h02... in namespaces of this machine
lab status                             what is up; fails when something that should be is not
lab inventory                          the path of Ansible's inventory: groups vms and fleet
lab ssh HOST [COMMAND...]              a shell there, or a command
lab run [HOST...] -- COMMAND...        run a command here while watching these machines (all by default): when one dies
                                       or falls silent, stop the command and show the console's last lines
lab wait HOST...                       wait until they have booted
lab reboot HOST [KERNEL]               an orderly reboot, into another kernel
lab kernel HOST KERNEL                 the next boot, however it comes about, starts this kernel
lab words HOST [WORD...]               from the next boot on its kernel's command line says this, too
lab pstore HOST                        from the next boot on it has memory that outlives a panic
lab kill HOST                          cut its power
lab start HOST [KERNEL]                boot the same disk again
lab console HOST                       the path of its console's log, also after `down`
lab down                               nothing is left, but images, key and consoles

With --until-pid these hosts come down when that process ends, however it ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import fleet
import image
import inventory
import machine
from base import CONSOLES, HOME, Problem, detach, identity, locked, make_key, need, say
from machine import Ended, Machine

RUN_SECONDS = 3600


def main(words):
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    verb, words = (words[0], words[1:]) if words else ("help", [])
    if verb not in VERBS:
        raise Problem("no such verb: %s. `lab help` names them" % verb)
    HOME.mkdir(parents=True, exist_ok=True)
    return VERBS[verb](words)


# ---- up and down


def up(words):
    kernels, owner = _owner(words)
    for kernel in kernels:
        _expect_kernel(kernel)
    need("machines")
    make_key()
    with locked():
        wanted = {machine.name_of(kernel): kernel for kernel in kernels or image.KERNELS}
        folder = image.ensure()
        new = [Machine(name) for name, kernel in wanted.items() if not _is_up(Machine(name), kernel)]
        try:
            for each in new:
                each.create(folder, wanted[each.name])
            if owner:
                for name in wanted:
                    Machine(name).write("owner", owner)
                detach("_end-with", *owner.split(), log=HOME / "end-with.log")
            _bring_up(new, wanted)
        except BaseException:
            for each in new:
                each.clear()
            raise
        finally:
            inventory.write()
    print(inventory.FILE)


def _is_up(each, kernel):
    """What an earlier run left behind running is as good as new only if it runs what is asked, and answers."""
    return each.kernel == kernel and each.answers()


def _bring_up(new, wanted):
    start = time.monotonic()
    for each in new:
        each.start()
    for name in wanted:
        release = Machine(name).wait_ready()
        say("%s answers, kernel %s, %d s" % (name, release, time.monotonic() - start))


def scale(words):
    words, owner = _owner(words)
    if len(words) != 1 or not words[0].isdigit():
        raise Problem("lab fleet N: how many hosts?")
    need("fleet")
    make_key()
    with locked():
        try:
            if owner:
                fleet.own(owner)
                detach("_end-with", *owner.split(), log=HOME / "end-with.log")
            fleet.scale(int(words[0]))
        except BaseException:
            fleet.stop()
            raise
        finally:
            inventory.write()
    print(inventory.FILE)


def down(words):
    _expect(words, 0, 0)
    with locked():
        for each in machine.everyone():
            each.clear()
        fleet.stop()
        inventory.FILE.unlink(missing_ok=True)


def _owner(words):
    """The words without --until-pid PID, and that process's identity: taken at once, its number may pass to another."""
    if "--until-pid" not in words:
        return words, ""
    place = words.index("--until-pid")
    if place + 1 >= len(words) or not words[place + 1].isdigit() or not identity(int(words[place + 1])):
        raise Problem("--until-pid needs the PID of a living process")
    return words[:place] + words[place + 2 :], identity(int(words[place + 1]))


def end_with(words):
    """Wait for the end of the owner, and take down what it owns by then; stop waiting when it owns nothing any more."""
    owner, pid = " ".join(words), int(words[0])
    while identity(pid) == owner:
        if not _owned(owner) and fleet.owner() != owner:
            return
        time.sleep(1)
    with locked():
        for each in _owned(owner):
            each.clear()
        if fleet.owner() == owner:
            fleet.stop()
        inventory.write()


def _owned(owner):
    return [each for each in machine.everyone() if each.read("owner") == owner]


# ---- looking and talking


def status(words):
    _expect(words, 0, 0)
    hosts = [(each, each.kernel, each.port) for each in machine.everyone()]
    hosts += [(host, os.uname().release, host.address) for host in fleet.everyone()]
    states = [host.state() for host, dummy, dummy in hosts]
    for (host, kernel, door), state in zip(hosts, states):
        print("%-6s %-12s %-14s %s" % (host.name, kernel, door, state))
    if not hosts:
        print("nothing is up")
    return int(any(state != "answers" for state in states))


def show_inventory(words):
    _expect(words, 0, 0)
    print(inventory.write())


def ssh(words):
    _expect(words, 1, None)
    address, port = _door(words[0])
    command = ["ssh", *(["-t"] if len(words) == 1 else []), *machine.ssh_words(address, port), *words[1:]]
    os.execvp("ssh", command)


def _door(name):
    for host in fleet.everyone():
        if host.name == name:
            return host.address, 22
    return "127.0.0.1", _machine(name).port


def console(words):
    _expect(words, 1, 1)
    name = _short(words[0])
    for file in (Machine(name).folder / "console.log", CONSOLES / (name + ".log")):
        if file.exists():
            print(file)
            return
    raise Problem("no console of %s was kept" % name)


# ---- one machine's life


def wait(words):
    _expect(words, 1, None)
    for name in words:
        say("%s answers, kernel %s" % (name, _machine(name).wait_ready()))


def reboot(words):
    _expect(words, 1, 2)
    each = _machine(words[0], words[1:])
    say("%s answers, kernel %s" % (each.name, each.reboot()))
    inventory.write()


def set_kernel(words):
    _expect(words, 2, 2)
    _machine(words[0], words[1:])


def set_words(words):
    _expect(words, 1, None)
    _machine(words[0]).write("words", " ".join(words[1:]))


def give_pstore(words):
    _expect(words, 1, 1)
    (_machine(words[0]).folder / "erst").touch()


def cut_power(words):
    _expect(words, 1, 1)
    _machine(words[0]).cut_power()


def start(words):
    _expect(words, 1, 2)
    with locked():
        each = _machine(words[0], words[1:])
        if each.alive():
            raise Problem("%s runs already" % each.name)
        each.start()
        say("%s answers, kernel %s" % (each.name, each.wait_ready()))
        inventory.write()


def keep(words):
    machine.keep(words[0])


def _machine(name, kernel=()):
    """The machine of this name (or of this kernel's name); its next boot starts the kernel, if one is given."""
    each = Machine(_short(name))
    if not each.folder.exists():
        raise Problem("no such host is up: %s" % name)
    for version in kernel:
        _expect_kernel(version)
        each.write("kernel", version)
    return each


def _short(name):
    return machine.name_of(name) if name in image.KERNELS else name


# ---- a command under watch


def run_watched(words):
    """The command's own exit code; 70 and the console when a machine died, or was silent for too long, meanwhile."""
    if "--" not in words or words[-1] == "--":
        raise Problem("lab run [HOST...] -- COMMAND...")
    place = words.index("--")
    machines = [_machine(name) for name in words[:place]] or machine.everyone()
    command = subprocess.Popen(words[place + 1 :], start_new_session=True)
    try:
        return _watch(command, machines)
    except Ended as ended:
        say(str(ended))
        return 70
    finally:
        _stop(command)


def _watch(command, machines):
    end, heard = time.monotonic() + RUN_SECONDS, dict.fromkeys(machines, time.monotonic())
    while command.poll() is None:
        _expect_living(machines)
        _listen(heard)
        if time.monotonic() > end:
            raise Problem("the command did not end within %d s" % RUN_SECONDS)
        with suppress(subprocess.TimeoutExpired):
            command.wait(timeout=1)
    if command.returncode:
        time.sleep(3)  # it may have lost a machine that has not finished panicking
    _expect_living(machines)
    return command.returncode


def _expect_living(machines):
    """A machine that was shut down or cut off on purpose is fine: tests do that."""
    for each in machines:
        if each.end().startswith("dead"):
            raise Ended(each, each.end())


def _listen(heard):
    """Knock at every door each 30 s; `heard` is when that was answered last."""
    for each, last in heard.items():
        silent = time.monotonic() - last
        if silent > 30 and (each.end() or each.answers()):
            heard[each] = time.monotonic()
        elif silent > machine.SILENT_SECONDS:
            raise Ended(each, "no answer for %d s" % silent)


def _stop(command):
    """The command and what it started in its session are gone: asked first, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(command.pid, number)
            command.wait(timeout=5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


# ---- words


def _expect(words, least, most):
    if len(words) < least or (most is not None and len(words) > most):
        raise Problem("that verb takes other arguments, see `lab help`")


def _expect_kernel(version):
    if version not in image.KERNELS:
        raise Problem("no such kernel: %s; there are %s" % (version, ", ".join(image.KERNELS)))


def usage(words):
    print(__doc__.partition("\n\n")[2], end="")


VERBS = {
    "up": up,
    "fleet": scale,
    "down": down,
    "status": status,
    "inventory": show_inventory,
    "ssh": ssh,
    "run": run_watched,
    "wait": wait,
    "reboot": reboot,
    "kernel": set_kernel,
    "words": set_words,
    "pstore": give_pstore,
    "kill": cut_power,
    "start": start,
    "console": console,
    "help": usage,
    "_keep": keep,
    "_end-with": end_with,
}


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Problem as problem:
        say(str(problem))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
