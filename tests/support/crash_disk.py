"""A disk that loses its power, or its writer, at a chosen operation; what was not synced may then be gone.

One tick counts every write, truncation, sync, rename and removal, be it SQLite's (through a VFS of apsw) or
the checkpoint's (through `Disk`). The n-th tick raises `Killed`, and so does all that is tried after it.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import apsw

from epad.copying.disk import Disk
from epad.storage import page_checksums

SECTOR = 512


class Killed(BaseException):
    """The daemon is no more."""


class Death(StrEnum):
    """What is left of what was written and not synced."""

    KILL_9 = "kill -9"  # all of it: the kernel lives on
    POWER = "power cut"  # nothing
    TORN = "torn"  # some sectors, some names


@dataclass
class Plug:
    """Counts what is done to the disk and pulls itself at the tick that was chosen; 0 is never."""

    pull_at: int = 0
    ticks: int = 0
    pulled: bool = False
    trace: list[str] = field(default_factory=list)

    def tick(self, what: str) -> None:
        if self.pulled:
            raise Killed(what)
        self.ticks += 1
        self.trace.append(what)
        if self.ticks == self.pull_at:
            self.pulled = True
            raise Killed(what)


@dataclass
class FullDisk(Plug):
    """Nobody dies: from the chosen tick on, this many operations find no room."""

    room_again_after: int = 4

    def tick(self, what: str) -> None:
        self.ticks += 1
        if self.pull_at <= self.ticks < self.pull_at + self.room_again_after and what.startswith("write"):
            if "state.db" in what:
                raise apsw.FullError("database or disk is full")
            raise OSError(errno.ENOSPC, "No space left on device")


@dataclass
class Platter:
    """A file of SQLite's: what is safe, and what is only written."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut off at this offset

    def sync(self) -> None:
        self.durable, self.pending = self.after(self.pending), []

    def after(self, writes: list[tuple[int, bytes | None]]) -> bytearray:
        """The content if of all that is pending only these had reached it."""
        content = bytearray(self.durable)
        for offset, data in writes:
            if data is None:
                del content[offset:]
                continue
            if len(content) < offset:
                content.extend(bytes(offset - len(content)))
            content[offset : offset + len(data)] = data
        return content

    def left_by(self, death: Death, dice: random.Random) -> bytes:
        """The content that the next life finds."""
        if death is Death.KILL_9:
            return bytes(self.after(self.pending))
        if death is Death.POWER:
            return bytes(self.durable)
        torn: list[tuple[int, bytes | None]] = []
        for offset, data in self.pending:
            pieces = (
                [data] if data is None else [data[at : at + SECTOR] for at in range(0, len(data), SECTOR)]
            )
            torn += [(offset + n * SECTOR, piece) for n, piece in enumerate(pieces) if dice.random() < 0.5]
        return bytes(self.after(torn))


class _File(apsw.VFSFile):
    def __init__(self, base: str, name: Any, flags: list[int], vfs: CrashVfs) -> None:
        super().__init__(base, name, flags)
        self._vfs, path = vfs, name.filename() if isinstance(name, apsw.URIFilename) else name
        self._path = Path(path or "anonymous")

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._vfs.plug.tick(f"write {self._path.name}")
        super().xWrite(data, offset)
        self._vfs.platter(self._path).pending.append((offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._vfs.plug.tick(f"truncate {self._path.name}")
        super().xTruncate(size)
        self._vfs.platter(self._path).pending.append((size, None))

    def xSync(self, _: int) -> None:  # noqa: N802
        self._vfs.plug.tick(f"fsync {self._path.name}")
        if not self._vfs.lies:
            self._vfs.platter(self._path).sync()


class CrashVfs(apsw.VFS):
    """The default VFS while it is mounted: so the real `connect` opens its files here. `lies`: no sync is one."""

    def __init__(self, *, lies: bool = False) -> None:
        self.plug = Plug()
        self.lies = lies
        self._platters: dict[Path, Platter] = {}
        # Registered only now, the page sums would stand on this one for ever, and fall with it (a segfault).
        page_checksums.register()
        super().__init__("crash", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802
        return _File("unix", name, flags, self)

    def xDelete(self, filename: str, sync_directory: bool) -> None:  # noqa: N802
        self.plug.tick(f"unlink {Path(filename).name}")
        super().xDelete(filename, sync_directory)
        self._platters.pop(Path(filename), None)

    def platter(self, path: Path) -> Platter:
        if path not in self._platters:
            self._platters[path] = Platter()
        return self._platters[path]

    def load(self, source: Path, destination: Path) -> None:
        """Put a file on the disk, safely."""
        destination.write_bytes(source.read_bytes())
        self._platters[destination] = Platter(bytearray(source.read_bytes()))

    def leave(self, database: Path, destination: Path, death: Death, dice: random.Random) -> None:
        """Give the next life what this death has left of a database and its log."""
        for suffix in ("", "-wal"):
            platter = self._platters.pop(Path(f"{database}{suffix}"), None)
            if platter is not None:
                content = platter.left_by(death, dice)
                Path(f"{destination}{suffix}").write_bytes(content)
                self._platters[Path(f"{destination}{suffix}")] = Platter(bytearray(content))


@contextmanager
def mounted(vfs: CrashVfs) -> Iterator[CrashVfs]:
    """Use a VFS, and leave none behind."""
    try:
        yield vfs
    finally:
        vfs.unregister()


class CrashDisk(Disk):
    """The checkpoint's disk: files and names are real, and undone where a power cut finds them unsynced."""

    def __init__(self, plug: Plug, graveyard: Path) -> None:
        self.plug = plug
        self._graveyard = graveyard
        self._unsynced_files: list[Path] = []
        self._unsynced_names: list[tuple[Path, Path, Path]] = []  # directory, where it is, where it was
        self._run_over: dict[tuple[Path, Path], Path] = {}
        self._buried = 0

    def make_directory(self, path: Path) -> None:
        self.plug.tick("mkdir")
        if not path.exists():
            super().make_directory(path)
            self._unsynced_names.append((path.parent, path, self._grave()))

    def write(self, path: Path, data: bytes) -> None:
        self.plug.tick(f"write {path.name}")
        path.write_bytes(data)
        self._unsynced_files.append(path)
        self._sync_file(path)

    def copy(self, source: Path, destination: Path, like: os.stat_result) -> None:
        self.plug.tick(f"copy {destination.name}")
        shutil.copyfile(source, destination)
        self._unsynced_files.append(destination)
        self._sync_file(destination)

    def _sync_file(self, path: Path) -> None:
        self.plug.tick(f"fsync {path.name}")
        self._unsynced_files.remove(path)

    def sync_directory(self, path: Path) -> None:
        self.plug.tick("fsync directory")
        self._unsynced_names = [each for each in self._unsynced_names if each[0] != path]

    def rename(self, source: Path, destination: Path) -> None:
        self.plug.tick("rename")
        former = self._grave()
        if destination.is_file():
            destination.rename(
                former
            )  # undone, the name is that of the former file again, in the same moment
        super().rename(source, destination)
        moved = [
            destination / p.relative_to(source) for p in self._unsynced_files if p.is_relative_to(source)
        ]
        self._unsynced_files = [p for p in self._unsynced_files if not p.is_relative_to(source)] + moved
        self._unsynced_names.append((destination.parent, destination, source))
        self._run_over[destination, source] = former

    def remove_file(self, path: Path) -> None:
        self.plug.tick("unlink")
        self._bury(path)

    def remove_tree(self, path: Path) -> None:
        self.plug.tick("rmtree")
        self._bury(path)

    def _bury(self, path: Path) -> None:
        if path.exists():
            grave = self._grave()
            path.rename(grave)
            self._unsynced_names.append((path.parent, grave, path))

    def _grave(self) -> Path:
        self._buried += 1
        return self._graveyard / str(self._buried)

    def die(self, death: Death, dice: random.Random) -> None:
        """Undo what this death takes away."""
        if death is not Death.KILL_9:
            for path in self._unsynced_files:
                if path.exists():
                    path.write_bytes(path.read_bytes()[: 0 if death is Death.POWER else dice.randrange(9)])
            lost = len(self._unsynced_names)
            if death is Death.TORN:
                lost = dice.randint(0, lost)
            for _, now, before in self._unsynced_names[::-1][:lost]:
                if now.exists() and not before.exists():
                    now.rename(before)
                    if (former := self._run_over.get((now, before))) is not None and former.exists():
                        former.rename(now)
        self._unsynced_files, self._unsynced_names, self._run_over = [], [], {}
        shutil.rmtree(self._graveyard)
        self._graveyard.mkdir()
