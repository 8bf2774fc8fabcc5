"""Files that are held open: whether their names still lead to them, and nothing was taken from them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOM_BYTES = 65_536
"""A file system with less is full: one record and its page, in a ledger and in `state.db`."""


def has_room(path: Path) -> bool:
    """Say whether anything more can be written to the file system of `path`; True where that cannot be known."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return True
    free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return free * disk.f_frsize >= ROOM_BYTES


@dataclass(slots=True)
class OpenFile:
    """Remembers the file behind a name at its opening.

    A file whose name was taken is written to, and gone at the end.

    `size` is the most that it has had; `grows` says that it never has less.
    """

    path: Path
    device: int
    inode: int
    size: int = 0
    grows: bool = False

    @classmethod
    def at(cls, path: Path, *, grows: bool = False) -> OpenFile:
        """Return the file or directory that is there now. Raises OSError."""
        status = path.stat()  # not open(): closing it would drop SQLite's locks
        return cls(path, status.st_dev, status.st_ino, status.st_size, grows)

    def loss(self) -> str:
        """Return the reason for which the file's name no longer leads to the written data; empty while it does."""
        size = self.size  # before the file is measured: another thread may measure a larger one in between
        try:
            status = os.stat(self.path)  # noqa: PTH116  asked at each commit: Path.stat takes twice as long
        except FileNotFoundError:
            what = "was deleted"
        except OSError as error:
            what = f"cannot be seen ({error.strerror})"
        else:
            if (status.st_dev, status.st_ino) != (self.device, self.inode):
                what = "was replaced by another file"
            elif self.grows and status.st_size < size:
                what = f"was cut from {size} to {status.st_size} bytes"
            else:
                self.size = max(self.size, status.st_size)
                return ""
        return (
            f"{self.path} {what} while it is in use: what is written now ends with the daemon; copy it from "
            f"/proc/{os.getpid()}/fd while it runs, or stop it and restore the newest checkpoint"
        )

    def refusal(self) -> str:
        """Say why a next start could not write to the file; empty where it could, or where it is gone (a loss)."""
        if os.access(self.path, os.W_OK, effective_ids=True) or not self.path.exists():
            return ""
        return (
            f"{self.path} was made read-only while it is in use, and a next start could not write to it: make it "
            "writable again (its mode, or its mount)"
        )


class OpenFiles:
    """Some of them together."""

    def __init__(self, files: Iterable[OpenFile]) -> None:
        self._files = tuple(files)
        self._on_each_disk = tuple({file.device: file for file in reversed(self._files)}.values())

    @classmethod
    def of_databases(cls, *databases: Path) -> OpenFiles:
        """Return the open SQLite databases, each with its log, which alone holds the newest data.

        Neither ever gets shorter while a connection is open: SQLite begins a log again at its start, and keeps its
        length, unless `journal_size_limit` or a checkpoint with TRUNCATE says otherwise, which nothing here does.
        """
        logs = [path.with_name(f"{path.name}-wal") for path in databases]
        files = [*databases, *(log for log in logs if log.exists())]
        return cls(OpenFile.at(file, grows=True) for file in files)

    def and_directories(self, *directories: Path) -> OpenFiles:
        """These, and the directories that others look for them in."""
        return OpenFiles([*self._files, *map(OpenFile.at, directories)])

    def losses(self) -> tuple[str, ...]:
        """Return the reasons for which written data will not be found."""
        return tuple(loss for file in self._files if (loss := file.loss()))

    def loss(self) -> str:
        """Say the first of these, and which other files it is so with; empty while there is none."""
        lost = [(file.path, loss) for file in self._files if (loss := file.loss())]
        if not lost:
            return ""
        others = ", ".join(path.name for path, _ in lost[1:])
        return lost[0][1] + (f"; the same holds for {others}" if others else "")

    def refusal(self) -> str:
        """Say why a next write to one of them would fail; empty while none would."""
        for file in self._on_each_disk:
            if not has_room(file.path):
                return f"no room is left on the file system of {file.path}: free some space"
        return next((refusal for file in self._files if (refusal := file.refusal())), "")
