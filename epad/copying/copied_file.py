"""Share between copying children: their report, the fsync and hash of a copy, and dying with the daemon."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from epad import EpadError
from epad.copying.errors import NO_ROOM

How = Literal["sqlite_backup", "copy", "copy_of_changing", "hard_link", "bytes", "none"]
"""How a file of a bundle was made."""

PARENT_VARIABLE = "EPAD_PARENT_PID"
CHUNK_BYTES = 1 << 20
_LOWEST_PRIORITY = 19
_PR_SET_PDEATHSIG = 1


class CopiedFile(Struct, frozen=True):
    """Reports one file that a child copied (`file` is relative to the destination), or the failure."""

    file: str
    size_bytes: int = 0
    sha256: str = ""
    how: How = "none"
    error: str = ""


class CopyReport(Struct, frozen=True):
    """A child's whole answer. `failure` is trouble with the destination: it ends the bundle."""

    files: tuple[CopiedFile, ...] = ()
    failure: str = ""
    disk_full: bool = False


class SourceError(EpadError):
    """The source could not be read: recorded, and the other sources go on."""


class DestinationError(EpadError):
    """The copy could not be written: no bundle can come of it."""

    def __init__(self, path: Path, reason: str, *, disk_full: bool) -> None:
        super().__init__(f"{path}: {reason}")
        self.disk_full = disk_full


def write_failure(path: Path, error: OSError) -> DestinationError:
    """Put an OSError at the destination into a child's words."""
    return DestinationError(path, error.strerror or str(error), disk_full=error.errno in NO_ROOM)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the daemon dies.

    A copier that outlived its daemon would unlink journal files by name, under the hands of the next one.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:  # started by hand
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGKILL)


def give_way() -> None:
    """Run behind everything else: a check of yesterday's copy must not slow down today's work.

    Where a seccomp filter or a container forbids that, the work goes on as it is.
    """
    with contextlib.suppress(OSError):
        os.nice(_LOWEST_PRIORITY)


def sealed(file: str, copy: Path, how: How) -> CopiedFile:
    """Fsync a finished copy, then hash it as read back. Raises DestinationError."""
    digest = hashlib.sha256()
    try:
        with copy.open("rb") as stream:
            os.fsync(stream.fileno())
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
            size = stream.tell()
    except OSError as error:
        raise write_failure(copy, error) from error
    return CopiedFile(file, size, digest.hexdigest(), how)


def answer(report: CopyReport) -> int:
    """Print the report for the daemon and give the exit status for a person."""
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    lost = report.failure or any(file.error for file in report.files)
    return 1 if lost else 0
