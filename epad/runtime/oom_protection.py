"""Keep from children what protects the daemon when memory runs out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def forgo(pid: int, proc: Path = Path("/proc")) -> None:
    """Let the kernel take this process when memory runs out, though the daemon itself is protected.

    A child inherits the daemon's OOMScoreAdjust=-900. Raising a score needs no privilege.
    """
    with suppress(OSError):  # it has ended already, or there is no such file here
        score = proc / str(pid) / "oom_score_adj"
        if int(score.read_text()) < 0:
            score.write_text("0")
