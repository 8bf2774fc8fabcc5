"""Durable writing, one method for each thing a crash can fall between."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from epad.copying.rights import Rights, having, our_own, rights_beside

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Owner:
    """Names the owner of a file."""

    uid: int
    gid: int

    @classmethod
    def of(cls, path: Path) -> Owner:
        """Return the owner of a path, or of its nearest existing parent. Raises OSError."""
        while True:
            try:
                status = path.lstat()
            except FileNotFoundError:
                path = path.parent
            else:
                return cls(status.st_uid, status.st_gid)


class Disk:
    """The real disk; tests hand in one that fails or dies at a chosen call. All methods raise OSError."""

    def make_directory(self, path: Path) -> None:
        """Make a directory and its missing parents, for the owner alone; it may exist already."""
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)

    def write(self, path: Path, data: bytes) -> None:
        """Write a whole file and fsync it; its directory is not."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def copy(self, source: Path, destination: Path, like: os.stat_result) -> None:
        """Copy a file of any size to a new one and fsync that; it belongs to whom `like` does, and has its mode.

        The directory may be another's: a name that is there already, be it a link, is not followed.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with our_own():
            origin = source.open("rb")
        with origin, os.fdopen(os.open(destination, flags, FILE_MODE), "wb") as file:
            own = os.fstat(file.fileno())
            if (own.st_uid, own.st_gid) != (like.st_uid, like.st_gid):
                os.fchown(file.fileno(), like.st_uid, like.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode))
            shutil.copyfileobj(origin, file)
            file.flush()
            os.fsync(file.fileno())

    def give(self, path: Path, owner: Owner) -> None:
        """Let a file or directory belong to somebody, unless it does already."""
        if Owner.of(path) != owner:
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, destination: Path) -> None:
        """Rename within one file system; durable once the parent is synced."""
        source.rename(destination)

    def remove_file(self, path: Path) -> None:
        """Remove a file that may be gone already."""
        path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Remove a directory and all below it; it may be gone already."""
        if path.exists():
            shutil.rmtree(path)


class OwnersDisk(Disk):
    """Does what it does in the directory of a file with the rights of its owner: a child of one thread alone.

    `path` is the file as a person has named it: a link on the way belongs to whom has put it there.
    """

    def __init__(self, path: Path) -> None:
        self._rights = rights_beside(path)
        self._place = path.resolve().parent

    def rights_at(self, path: Path) -> Rights | None:
        """Return the rights for a path: the owner's beside the file, else our own."""
        return self._rights if self._place in {path.parent, path} else None

    def copy(self, source: Path, destination: Path, like: os.stat_result) -> None:
        with having(self.rights_at(destination)):
            super().copy(source, destination, like)

    def sync_directory(self, path: Path) -> None:
        with having(self.rights_at(path)):
            super().sync_directory(path)

    def rename(self, source: Path, destination: Path) -> None:
        with having(self.rights_at(destination)):
            super().rename(source, destination)

    def remove_file(self, path: Path) -> None:
        with having(self.rights_at(path)):
            super().remove_file(path)
