"""Walk a directory tree in order of names, without following links and within bounds."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from runners.tools import beneath
from runners.tools.protected import never_read

MOST_DEPTH: Final = 64
MOST_ENTRIES: Final = 200_000
SKIPPED_NAMES: Final = frozenset(
    {".git", "node_modules", "__pycache__", ".venv", ".mypy_cache", ".ruff_cache"}
)
"""Directories that a search does not enter: they are not what people have written."""


@dataclass(frozen=True, slots=True)
class Found:
    """Describes one entry: its path in the workspace, its own status, and the open directory that it is in."""

    path: str
    name: str
    status: os.stat_result
    folder: int

    @property
    def kind(self) -> str:
        """Return its kind: `file`, `directory`, `link`, ..."""
        return beneath.kind_of(self.status.st_mode)

    def open(self) -> int:
        """Open it as a regular file, if it is one still. Raises OSError."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(self.name, flags, dir_fd=self.folder)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise FileNotFoundError(self.path)


def _anything(_: object) -> bool:
    return True


def entries(
    path: str,
    depth: int = MOST_DEPTH,
    *,
    enter: Callable[[Found], bool] = _anything,
    unreadable: bool = False,
) -> Iterator[Found]:
    """Yield what is in a directory, and in those below it that `enter` wants.

    Names that are never read are left out, unless `unreadable`.
    """
    descriptor = beneath.open_directory(path)
    try:
        base = beneath.real_path(descriptor)
        wanted = _anything if unreadable else (lambda name: not never_read(name))
        yield from _Walk(enter, wanted).below(descriptor, "" if base == "." else base, depth)
    finally:
        os.close(descriptor)


def files(path: str) -> Iterator[Found]:
    """Yield the regular files that a search looks into: those below a directory, or the one at the path."""
    descriptor = beneath.open_path(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status, real = os.fstat(descriptor), beneath.real_path(descriptor)
    finally:
        os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        folder, _, name = real.rpartition("/")
        descriptor = beneath.open_directory(folder or ".")
        try:
            yield Found(real, name, status, descriptor)
        finally:
            os.close(descriptor)
        return
    for found in entries(path, enter=lambda each: each.name not in SKIPPED_NAMES):
        if stat.S_ISREG(found.status.st_mode):
            yield found


class _Walk:
    """Holds the choices of one walk, and how many entries it may still see."""

    def __init__(self, enter: Callable[[Found], bool], wanted: Callable[[str], bool]) -> None:
        self._enter = enter
        self._wanted = wanted
        self._left = MOST_ENTRIES

    def below(self, folder: int, base: str, depth: int) -> Iterator[Found]:
        """Yield the entries of an open directory, and of those below it."""
        for name in sorted(os.listdir(folder)):
            self._left -= 1
            if self._left < 0:
                return
            path = f"{base}/{name}" if base else name
            status = beneath.status(folder, name)
            if status is None or not self._wanted(path):
                continue
            found = Found(path, name, status, folder)
            yield found
            if depth > 1 and stat.S_ISDIR(status.st_mode) and self._enter(found):
                yield from self._enter_directory(folder, name, path, depth)

    def _enter_directory(self, folder: int, name: str, path: str, depth: int) -> Iterator[Found]:
        try:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            return  # it was taken away, or its mode refuses
        try:
            yield from self.below(below, path, depth - 1)
        finally:
            os.close(below)
