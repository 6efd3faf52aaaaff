# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What was seen of a deployment, as values: Facts (all of it), and Scene (what is at the places of one generation).

observe.py makes them, and nobody changes one: what somebody wants instead is an argument of who plans.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from ..hooks.contract import Attachment
from . import records


class Load(NamedTuple):
    """The pins of one load: {program: id}, {map: id}; ids of links that somebody pinned in their places."""

    programs: dict
    maps: dict
    links: tuple = ()


class Unnamed(NamedTuple):
    """A link of ours that no generation names, as its pin's id and the kernel tell it: attachment and load, where they
    do."""

    attachment: Optional[Attachment]
    load: str


class Facts(NamedTuple):
    """All that is so, whatever generation is wanted. `links`, `unnamed` and `known` go by attachment id."""

    name: str
    boot_id: str = ""
    staged: Optional[records.Staged] = None
    trial: Optional[records.Generation] = None
    confirmed: Optional[records.Generation] = None
    deadline: Optional[records.Deadline] = None
    ended: Optional[records.Ended] = None  # how the trial ended, where the way back from it is not finished
    generations: dict = {}
    releases: dict = {}  # None for one that a killed run had begun to remove
    loads: dict = {}
    debris: tuple = ()  # half-made loads: names in loads/
    links: dict = {}
    unnamed: dict = {}  # links that no generation names; all of them where what is confirmed cannot be read
    damage: tuple = ()  # paths of files of ours that cannot be read
    spoiled: dict = {}  # {release that is needed: path of a file of it that is damaged or lost}
    newer: tuple = ()  # a TooNew for each record that a newer version wrote; what is known of it here was read
    unsettled: frozenset = frozenset()  # ids whose new link is pinned at ID-next, not yet renamed over ID
    next_number: int = 1
    keep: int = records.KEEP
    proven: Optional[int] = None  # the newest generation that is, see strikes.py
    carries: dict = {}  # {load: whether its counts were moved in}, see store.py
    units: Optional[dict] = None  # {systemd unit: text of its drop-in}; None where systemd would not read it
    known: dict = {}  # {attachment id: Place} by identity, whatever it is called now (held.py)

    @property
    def trial_is_live(self) -> bool:
        """Whether a guard still waits for the trial's confirmation."""
        guarded = self.trial and self.trial.guarded and not self.trial_is_lost and not self.ended and self.deadline
        return bool(guarded and self.deadline.is_live(self.trial, self.boot_id))

    @property
    def trial_is_lost(self) -> bool:
        """Whether its record cannot be read; where what is confirmed cannot be read either, there is no trial."""
        return isinstance(self.trial, records.LostTrial)

    def runs(self, load: str) -> bool:
        """Whether some hook runs a program of the load; of one that is not pinned here none does."""
        programs = self.loads[load].programs.values() if load in self.loads else ()
        return any(not link.prog_ids.isdisjoint(programs) for link in self.links.values())

    @property
    def exists(self) -> bool:
        return any((self.staged, self.trial, self.confirmed, self.loads, self.links))


class Scene(NamedTuple):
    """The host before one generation: the Facts, and what is at the places of its attachments, by attachment id.

    observe.scene makes it. Of a generation without attachments there is nothing to look at: Scene(facts, NOTHING).
    """

    facts: Facts
    generation: records.Generation
    places: dict = {}  # contract.Place, or the Failure that says why there is none
    seats: dict = {}  # contract.Seat of each attachment that something is pinned for
    holders: dict = {}  # owners.describe of those that keep ours from its place, a tuple each
    sitting: dict = {}  # ids of all programs at its place
    fillings: dict = {}  # by map: what the generation's load lacks of what is declared (declared.Filling)
