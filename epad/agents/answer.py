"""Read what an agent has left: data of a file that the agent may have put anything in the place of."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from epad.agents.agent import Written
from epad.configuration.directories import Directories
from epad.supervisor.regular_file import open_regular

ANSWER: Final = "answer"
"""The file, in the agent's own directory."""
MOST_ANSWER_BYTES: Final = 64 << 10


def read_answer(directories: Directories, name: str) -> Written:
    """Read what an agent has left: its answer's file, or else the end of what it has printed."""
    with suppress(OSError):
        return _first(directories.work(name) / ANSWER)
    with suppress(OSError):
        return _last(directories.log(name))
    return Written()


def _first(path: Path) -> Written:
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        data = file.read(MOST_ANSWER_BYTES + 1)
    return Written(data[:MOST_ANSWER_BYTES].decode(errors="replace"), len(data) > MOST_ANSWER_BYTES)


def _last(path: Path) -> Written:
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MOST_ANSWER_BYTES))
        return Written(file.read().decode(errors="replace"), size > MOST_ANSWER_BYTES)
