"""Leave the child its versions' folder alone, and no socket: libraries and weights it has read before."""

from __future__ import annotations

import contextlib
from pathlib import Path

from runners.cell import landlock
from runners.cell.plan import Wall
from runners.tools import sandbox


def confine(directory: Path) -> None:
    """Put this process behind what walls the kernel has."""
    sandbox.filter_system_calls()
    with contextlib.suppress(OSError):
        version = landlock.version()
        walls = landlock.ruleset(
            [wall for wall, needed in landlock.ABI.items() if version >= needed and wall in Wall]
        )
        rights = walls.files & ~landlock.EXECUTE & ~landlock.NEVER
        landlock.restrict(walls, [(str(directory), rights), ("/dev/urandom", landlock.READ)])
