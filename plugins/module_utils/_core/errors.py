# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What can go wrong, by kind: the kind says who must act and whether trying again can help.

Kernel rooms raise OSError with the call's name as its filename. The room that made the call knows what that errno
means there, and raises a Failure from it. Each door catches Failure once; anything else is a fault of ours and keeps
its traceback.
"""

from __future__ import annotations


class Failure(Exception):
    """One sentence what is wrong, one what to do, and the facts beside them as fields."""

    code = "failure"
    can_retry = False

    def __init__(self, what, do="", **detail):
        super().__init__(what)
        self.what = _printable(what)
        self.do = do
        self.detail = detail

    def __str__(self):
        return " ".join(_sentence(part) for part in (self.what, self.do) if part)

    def as_fields(self) -> dict:
        """The same as plain data: code, what, do, and the detail."""
        return {"code": self.code, "what": self.what, "do": self.do, **self.detail}


def _printable(text):
    """Names out of a damaged object may hold anything, and a terminal would obey it."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _sentence(text):
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else text + "."


class BadRequest(Failure):
    """The user asked for something that cannot be: a name, an option, a value."""

    code = "bad_request"


class Unprivileged(Failure):
    """The user lacks root, or the process a capability."""

    code = "unprivileged"


class ToolMissing(Failure):
    """The host lacks a package."""

    code = "tool_missing"


class Unsigned(Failure):
    """The author has not signed all of what this host takes only signed."""

    code = "unsigned"


class SignatureRefused(Failure):
    """What was signed is something else, or the signer is none of this host's."""

    code = "signature_refused"


class NotRootsAlone(Failure):
    """Somebody else than root can change what root would run or believe: `path` in the detail says where."""

    code = "not_roots_alone"


class CompileError(Failure):
    """The author's source does not compile."""

    code = "compile_error"


class BadObject(Failure):
    """The bytes given are no BPF object that libbpf can open."""

    code = "bad_object"


class VerifierRefused(Failure):
    """The author must change the program: this host's verifier refused it."""

    code = "verifier_refused"


class LostUpdates(Failure):
    """The author must change the program, or say why it is right: two CPUs at once would lose updates."""

    code = "lost_updates"


class BeyondLimits(Failure):
    """The release costs more than the user allows."""

    code = "beyond_limits"


class Unsupported(Failure):
    """This kernel, driver or library cannot do it."""

    code = "unsupported"


class NoSuchHook(Unsupported):
    """This kernel has no such hook, or not for this program: another kernel may."""


class WrongType(Failure):
    """Program and hook do not go together."""

    code = "wrong_type"


class NotFound(Failure):
    """A name that was given stands for nothing on this host."""

    code = "not_found"


class HookHeld(Failure):
    """Somebody else's program sits where only one may sit."""

    code = "hook_held"


class HookMoved(Failure):
    """A hook no longer runs what was seen there: somebody moved it meanwhile."""

    code = "hook_moved"
    can_retry = True


class MapChanged(Failure):
    """A map of the new release does not fit the one whose entries must be kept."""

    code = "map_changed"


class NoMemory(Failure):
    """The host has not enough memory for a map or a program."""

    code = "no_memory"


class DiskRefused(Failure):
    """A file system of the host takes no writes: full, read-only, or broken."""

    code = "disk_refused"


class Busy(Failure):
    """Another run works on the same deployment."""

    code = "busy"
    can_retry = True


class WayInAtRisk(Failure):
    """The change could cut off the way that the controller came in by."""

    code = "way_in_at_risk"


class TrialRuns(Failure):
    """Another controller's guarded change is under way on this deployment."""

    code = "trial_runs"
    can_retry = True


class NotSwitched(Failure):
    """A guarded change is armed, and its guard has not switched the hooks yet."""

    code = "not_switched"
    can_retry = True


class NoProof(Failure):
    """Nothing could prove that the host is still reached after the change."""

    code = "no_proof"


class WayNotProved(Failure):
    """A confirmation came in late, or by a connection that says nothing of new ones."""

    code = "way_not_proved"
    can_retry = True


class ProbeNotPassed(Failure):
    """A guarded change is on trial, and the probe that it needs has not passed yet."""

    code = "probe_not_passed"
    can_retry = True


class RolledBack(Failure):
    """A guarded change was taken back."""

    code = "rolled_back"


class NotBack(Failure):
    """A guarded change is over, and a hook does not run yet what ran before: `not_back` in its detail."""

    code = "not_back"
    can_retry = True


class NoWayBack(Failure):
    """What a guarded change would go back to cannot run here: nothing was changed."""

    code = "no_way_back"


class Quarantined(Failure):
    """This host threw that content back before: the user changes it, or says to try again."""

    code = "quarantined"


class SwitchedOff(Failure):
    """This host was told, by hand, to go without our programs: only that hand lifts it."""

    code = "switched_off"


class Struck(Failure):
    """This host left a release because boots ended out of order while it ran unproven: the user changes it."""

    code = "struck"


class Damaged(Failure):
    """Our own state on the disk cannot be read: `path` in its detail."""

    code = "damaged"


class TooNew(Failure):
    """Our own state on the disk was written by a later version of this collection."""

    code = "too_new"


class NotConverged(Failure):
    """All steps were carried out, and still the host is not as planned."""

    code = "not_converged"
    can_retry = True
