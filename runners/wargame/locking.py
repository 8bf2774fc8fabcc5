"""Let one process at a time write to a store: a lock beside the file, gone with its process."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

# `is_locked` takes the lock for a moment to look; a run that starts just then tries again.
LOCK_TRIES: Final = 5
LOCK_PAUSE_SECONDS: Final = 0.05


class StoreError(Exception):
    """The store cannot be used; the message names the file."""


class StoreBusyError(StoreError):
    """Another run is writing to this store."""


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def lock(path: Path) -> int:
    """Take the store's lock; gives the descriptor that holds it. Raises StoreBusyError or StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: {error}") from error
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return descriptor
    os.close(descriptor)
    raise StoreBusyError(f"{path}: another run is writing to it; stop it, or use another --store")


def is_locked(path: Path) -> bool:
    """Tell if a run is writing to this store now."""
    try:
        os.close(lock(path))
    except StoreBusyError:
        return True
    return False
