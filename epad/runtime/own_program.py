"""Start a program of epad's own that speaks with the daemon over one socket, and has nothing else of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_ENVIRONMENT: Final = {"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}


def start_own(
    *words: str, descriptor: int, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `python -m WORDS DESCRIPTOR` in a session of its own. It gets no variables but these. Raises OSError."""
    return subprocess.Popen(
        (sys.executable, "-P", "-m", *words, str(descriptor)),
        env={**_ENVIRONMENT, **(variables or {})},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[descriptor],
        start_new_session=True,
    )
