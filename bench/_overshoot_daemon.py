"""`epad` with a wall clock that may be set: `python _overshoot_daemon.py STEP_FILE run --config ... --state ...`.

STEP_FILE has the seconds by which the wall clock is off; it is read anew each time, so the clock can be set under a
running daemon. The time since the boot is the machine's own.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from epad.daemon.cli import main
from epad.runtime.clock import SystemClock


def set_wall_clock(step: Path) -> None:
    """Have the daemon's wall clock be off by what the file says."""

    def utc(self: SystemClock) -> datetime:
        del self
        return datetime.now(tz=UTC) + timedelta(seconds=float(step.read_text() or 0))

    SystemClock.utc = utc  # type: ignore[method-assign]


if __name__ == "__main__":
    set_wall_clock(Path(sys.argv.pop(1)))
    sys.exit(main())
