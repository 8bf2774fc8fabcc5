"""Files that are whole or as they were before, whatever kills the process and however full the disk is."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write beside, make durable, rename into place; a pipe or device is written to directly. Raises OSError."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    target = path.resolve()  # a link stays one
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        if target.exists():
            draft.chmod(stat.S_IMODE(target.stat().st_mode))
        sync_and_rename(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def sync_and_rename(draft: Path, path: Path) -> None:
    """Make the draft the file, so that after a power cut there is the whole file or the one before."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
