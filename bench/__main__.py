# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The measurements one after the other, each a table of its own. Ratios count: they compare what was measured in one
run, on a machine that may do other things meanwhile."""

from __future__ import annotations

import sys

import filling
import rolling_back
import starting

TABLES = {"rolling_back": rolling_back, "starting": starting, "filling": filling}


def main(names):
    unknown = set(names) - set(TABLES)
    if unknown:
        sys.exit(f"bench: no such measurement: {', '.join(sorted(unknown))} ({', '.join(TABLES)})")
    for name in names or TABLES:
        room = TABLES[name]
        show(room.TITLE, room.HEAD, room.rows())


def show(title, head, rows):
    """The rows as they come, each number with three digits."""
    print(f"\n{title}\n")
    widths = [max(len(name), 10) for name in head]
    widths[0] = 34
    print("  ".join(name.ljust(width) for name, width in zip(head, widths)))
    for row in rows:
        cells = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row]
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
