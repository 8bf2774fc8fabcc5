"""Define the errors of a bundle."""

from __future__ import annotations

import errno
from pathlib import Path

from epad import EpadError

# EFBIG is RLIMIT_FSIZE, EDQUOT the user's quota: to the writer both are a full disk.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class CheckpointError(EpadError):
    """A bundle could not be made, read, verified or removed."""


class DiskFullError(CheckpointError):
    """There is no room left for a bundle."""


class BundleDamagedError(CheckpointError):
    """A bundle's own files contradict each other or cannot be read."""


def disk_error(path: Path, error: OSError) -> CheckpointError:
    """Put a foreign OSError into this room's words."""
    if error.errno in NO_ROOM:
        return no_room(path, str(error.strerror))
    return CheckpointError(f"{path}: {error.strerror or error}; check the disk and who owns the directory")


def no_room(path: Path, reason: str) -> DiskFullError:
    """Return the error of a full disk, with the fix."""
    return DiskFullError(f"{path}: disk full ({reason}); free some space or lower [checkpoint] keep")
