"""Keep the directories of before-images: one for each subsystem, and in it one for each call.

They lie in the state directory, outside of every workspace, and belong to whom the subsystem runs as, since its workers
write them (`runners/tools/undo.py`). A worker's cell shows its own subsystem's, an agent's cell shows none.

| limit | where |
|---|---|
| 256 MiB a session | `runners/tools/undo.py`, before a file is kept; then the call says that it cannot be undone |
| KEPT_SECONDS | here, by `sweep` |
| MOST_BYTES a subsystem, of all its sessions | here, by `sweep`: the oldest calls go first |
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KEPT_SECONDS: Final = 86_400.0
MOST_BYTES: Final = 1 << 30
_SESSION_DIGITS: Final = 16

Owner = tuple[int, int]
"""The uid and gid of whom a subsystem runs as."""


def call_name(session: str, turn: str) -> str:
    """Return the name of a call's directory; those of a session begin alike."""
    return f"{session[:_SESSION_DIGITS]}.{turn}"


@dataclass(frozen=True, slots=True)
class UndoStore:
    """The directories of all subsystems. `owner` is None where a subsystem runs as the daemon does."""

    root: Path
    owner: Callable[[str], Owner | None]

    def directory(self, subsystem: str) -> str:
        """Return the real path of a subsystem's directory, made if it is not there. Raises OSError."""
        path = self.root / subsystem
        self.root.mkdir(mode=0o711, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        if (owner := self.owner(subsystem)) is not None:
            os.chown(path, *owner, follow_symlinks=False)
        return os.path.realpath(path)

    def has(self, subsystem: str, session: str, turn: str, name: str = "journal") -> bool:
        """Tell if a call has kept anything; by another `name` if it has made temporary files."""
        with suppress(OSError):
            return stat.S_ISREG((self.root / subsystem / call_name(session, turn) / name).lstat().st_mode)
        return False

    def sweep(self, now: float) -> int:
        """Remove calls that are too old at `now`, in seconds of UTC, or too many; return their number."""
        return sum(_sweep(path, now) for path in _directories(self.root))


def _sweep(directory: Path, now: float) -> int:
    gone, used = 0, 0
    for began, path in sorted(_dated(directory), reverse=True):
        used += _bytes_in(path)
        if now - began > KEPT_SECONDS or used > MOST_BYTES:
            shutil.rmtree(path, ignore_errors=True)
            gone += 1
    return gone


def _dated(directory: Path) -> list[tuple[float, Path]]:
    dated: list[tuple[float, Path]] = []
    for path in _directories(directory):
        with suppress(OSError):
            dated.append((path.lstat().st_mtime, path))
    return dated


def _directories(path: Path) -> list[Path]:
    with suppress(OSError), os.scandir(path) as entries:
        return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _bytes_in(path: Path) -> int:
    with suppress(OSError), os.scandir(path) as entries:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    return 0
