# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""What a release costs: the verifier's figures beside the kernel's bounds, the user's limits and the release that runs.

Pure: figures and bytes in, figures or a refusal out. Where they come from is the business of verifier.py and memory.py.
"""

from __future__ import annotations

from ..errors import BeyondLimits

MOST_INSNS, MOST_STACK = 1_000_000, 512  # BPF_COMPLEXITY_LIMIT_INSNS, MAX_BPF_STACK
FIGURES = {"insns": "processed_insns", "states": "total_states", "stack": "stack_depth"}  # our word: the verifier's
SECTIONS = ("data", "bss", "rodata", "kconfig")  # their maps have one entry
WORDS = {
    "insns": ("instructions were verified", "Split it, or bound its loops by smaller constants"),
    "states": ("states were held", "Make its branches fewer, or bound its loops by smaller constants"),
    "stack": ("bytes of stack are used by one function", "Move large variables into a per-CPU array's value"),
}


def shares(figures: dict) -> dict:
    """What a program's figures are of the kernel's own bounds, 0 to 1; nothing where the verifier gave none."""
    found = {}
    if "processed_insns" in figures:
        found["insns_share"] = round(figures["processed_insns"] / figures.get("limit", MOST_INSNS), 6)
    if "stack_depth" in figures:
        found["stack_share"] = round(figures["stack_depth"] / MOST_STACK, 6)
    return found


def expect_within(limits: dict, programs: dict, maps: dict) -> None:
    """Nothing is above the user's `limits`: insns, states and stack of each program, map_bytes of all maps together.

    `programs` and `maps` are elf.Loaded's rows. BeyondLimits names the first that is.
    """
    _expect_programs_within(limits, programs)
    expect_maps_within(limits, {name: row["bytes"] for name, row in maps.items()})


def expect_maps_within(limits: dict, sizes: dict) -> None:
    """The maps {name: bytes} together are not above limits.map_bytes."""
    limit, needed = limits.get("map_bytes"), sum(sizes.values())
    if limit is not None and needed > limit:
        largest = max(sizes, key=sizes.get)
        smaller = "Make the variables smaller in" if largest in SECTIONS else "Lower max_entries of"
        raise BeyondLimits(
            f"The maps are beyond limits.map_bytes: they take {needed} bytes, and {limit} are allowed",
            f"{smaller} map {largest}, which takes {sizes[largest]}, or raise limits.map_bytes",
            map=largest,
            limit="map_bytes",
            allowed=limit,
            counted=needed,
        )


def compared(before: dict, after: dict) -> dict:
    """{program: {insns, states, stack: {before, after}}} of the programs in both, by their figures."""
    found = {}
    for program in sorted(before.keys() & after.keys()):
        rows = {
            word: {"before": before[program][name], "after": after[program][name]}
            for word, name in FIGURES.items()
            if name in before[program] and name in after[program]
        }
        if rows:
            found[program] = rows
    return found


def _expect_programs_within(limits, figures):
    for program, counted in figures.items():
        for word, name in FIGURES.items():
            limit = limits.get(word)
            if limit is not None and counted.get(name, 0) > limit:
                what, do = WORDS[word]
                raise BeyondLimits(
                    f"Program {program} is beyond limits.{word}: {counted[name]} {what}, and {limit} are allowed",
                    f"{do}, or raise limits.{word}",
                    program=program,
                    limit=word,
                    allowed=limit,
                    counted=counted[name],
                )
