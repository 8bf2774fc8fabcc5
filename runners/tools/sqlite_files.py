"""Give SQLite a database by the descriptors of its files, opened beneath the workspace, to read and never to write.

SQLite opens files by their names, and others beside them by names that it makes. Here it gets a file system that has
three files only: the database, its `-journal` and its `-wal`, each opened by `beneath.py` before, if it is there.

| beside the database | what is done |
|---|---|
| nothing | a shared lock is held while it is read, as SQLite does, so that no writer changes it meanwhile |
| `-wal` | it is read too: its index is built in memory, so neither `-shm` nor the right to write is needed |
| `-wal`, and a checkpoint while it is read | the answer is thrown away, and the caller told to ask again |
| `-journal` of a program that is writing | the lock says so, or what was there before is read |
| `-journal` of a program that has died while it wrote | refused: to put it right is to write |
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from typing import Final, cast

import apsw

from runners.tools import beneath
from runners.tools.signature import ToolError

NAME: Final = "database"
VFS_NAME: Final = "epad-descriptors"
_PENDING: Final = 0x40000000
_RESERVED: Final = _PENDING + 1
_SHARED_FIRST: Final = _PENDING + 2
_SHARED_BYTES: Final = 510
_MOST_WAL: Final = 256 << 20
_SIBLINGS: Final = ("-journal", "-wal")
_PAGE_SIZE_AT: Final = 16
_LARGEST_PAGE: Final = b"\0\1"
_WAL_VERSION_AT: Final = 18


class DatabaseFiles:
    """Holds the open files of one database."""

    def __init__(self, path: str) -> None:
        """Open them. Raises ToolError for what is no database."""
        self._path = path
        self.main = beneath.open_file(path)
        head = os.pread(self.main, 100, 0)
        if head and not head.startswith(b"SQLite format 3\0"):
            raise ToolError(
                f"{path!r} is no SQLite database", "it is of another kind, or encrypted; file_stat tells more"
            )
        self.is_wal = head[_WAL_VERSION_AT : _WAL_VERSION_AT + 2] == b"\2\2"
        real = beneath.real_path(self.main)
        self._siblings = {suffix: found for suffix in _SIBLINGS if (found := _sibling(real + suffix)) >= 0}
        if self.is_wal and os.fstat(self._siblings.get("-wal", self.main)).st_size > _MOST_WAL:
            raise ToolError(f"the log of {path!r} is too large", "have its own program do a checkpoint")
        self._state = self._now()

    def by_name(self) -> Mapping[str, int]:
        """Return the descriptors by the names that SQLite asks for."""
        return {NAME: self.main, **{NAME + suffix: found for suffix, found in self._siblings.items()}}

    def refuse_cut(self) -> None:
        """Raise ToolError for a file that ends within a page, whose rows SQLite would read as NULL. Wants the lock."""
        size, told = os.fstat(self.main).st_size, os.pread(self.main, 2, _PAGE_SIZE_AT)
        page = int.from_bytes(told, "big") if told != _LARGEST_PAGE else 1 << 16
        if size and size % max(1, page):
            raise ToolError(f"the database {self._path!r} is cut short", "restore it from a copy")

    def refuse_changed(self) -> None:
        """Raise ToolError where a program with a log has changed the database since it was opened."""
        if self.is_wal and self._now() != self._state:
            raise ToolError(f"{self._path!r} was changed while it was read", "ask again")

    def _now(self) -> tuple[tuple[int, int], bytes]:
        status, log = os.fstat(self.main), self._siblings.get("-wal", -1)
        return (status.st_mtime_ns, status.st_size), os.pread(log, 32, 0) if log >= 0 else b""


def _sibling(path: str) -> int:
    try:
        return beneath.open_file(path)
    except ToolError:
        return -1


class DescriptorVfs(apsw.VFS):
    """Is a file system with the files of one database."""

    def __init__(self, files: DatabaseFiles) -> None:
        super().__init__(VFS_NAME, base="")
        self._files = files.by_name()

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        """Tell if there is such a file."""
        return pathname in self._files and flags != apsw.SQLITE_ACCESS_READWRITE

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        """Return the name: there are no directories."""
        return name

    def xDelete(self, filename: str, *_: object) -> None:  # noqa: N802
        """Refuse to remove a file."""
        raise apsw.ReadOnlyError(f"{filename} is not removed")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        """Open one of the files; a log that is not there is an empty one."""
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        if text is None or (text not in self._files and not text.endswith("-wal")):
            raise apsw.CantOpenError(f"there is no file {text}")
        flags[1] = (flags[0] & ~apsw.SQLITE_OPEN_READWRITE & ~apsw.SQLITE_OPEN_CREATE) | (
            apsw.SQLITE_OPEN_READONLY
        )
        return cast("apsw.VFSFile", DescriptorFile(self._files.get(text, -1), locks=text == NAME))


class DescriptorFile:
    """Is one open file, by its descriptor; -1: an empty one. Implements what SQLite wants of `apsw.VFSFile`."""

    def __init__(self, descriptor: int, *, locks: bool) -> None:
        self._descriptor = descriptor
        self._locks = locks

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        """Return bytes; fewer at the end."""
        return os.pread(self._descriptor, amount, offset) if self._descriptor >= 0 else b""

    def xFileSize(self) -> int:  # noqa: N802
        """Return the size in bytes."""
        return os.fstat(self._descriptor).st_size if self._descriptor >= 0 else 0

    def xLock(self, level: int) -> None:  # noqa: N802
        """Take the shared lock as SQLite does. A firmer one protects writing alone: it is not taken."""
        if not self._locks or level != apsw.SQLITE_LOCK_SHARED:
            return
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _PENDING)
            fcntl.lockf(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED_BYTES, _SHARED_FIRST)
        except OSError as error:
            raise apsw.BusyError(str(error)) from None
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _PENDING)

    def xUnlock(self, level: int) -> None:  # noqa: N802
        """Give the lock back."""
        if self._locks and level == apsw.SQLITE_LOCK_NONE:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _SHARED_BYTES, _SHARED_FIRST)

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        """Tell if another program is about to write: then a journal is that program's, and not one of the dead."""
        if not self._locks:
            return False
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _RESERVED)
        except OSError:
            return True
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _RESERVED)
        return False

    def xWrite(self, *_: object) -> None:  # noqa: N802
        """Refuse to write."""
        raise apsw.ReadOnlyError("the database is opened to be read")

    def xTruncate(self, *_: object) -> None:  # noqa: N802
        """Refuse to cut."""
        raise apsw.ReadOnlyError("the database is opened to be read")

    def xSync(self, *_: object) -> None:  # noqa: N802
        """Do nothing: nothing was written."""

    def xSectorSize(self) -> int:  # noqa: N802
        """Return the usual size."""
        return 4096

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        """Return that the device promises nothing."""
        return 0

    def xFileControl(self, *_: object) -> bool:  # noqa: N802
        """Know no further orders."""
        return False

    def xClose(self) -> None:  # noqa: N802
        """Keep the descriptor, which belongs to `DatabaseFiles`."""
