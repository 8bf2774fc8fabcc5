"""Room held back: a file of zeros that is removed when something must be written on a full disk."""

from __future__ import annotations

import os
from pathlib import Path

from epad.lifeboat.frames import FILE_MODE, fill, sync_directory

# Beside the ballast itself this share of it must stay free: it must not be what fills the disk.
SPARE_RATIO = 2.0


class Ballast:
    """The file. Its methods raise OSError."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    @property
    def is_there(self) -> bool:
        return self._path.exists()

    def make(self) -> bool:
        """Make it if it is not there and the disk has room for it; whether it is there now."""
        if self._path.exists():
            return True
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.statvfs(self._path.parent)
        if status.f_bavail * status.f_frsize < SPARE_RATIO * self._size:
            return False
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            fill(descriptor, self._size)
        except OSError:
            self._path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        sync_directory(self._path.parent)
        return True

    def release(self) -> int:
        """Give its room back; how many bytes that were."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return 0
        self._path.unlink()
        return size
