"""Looking again at a store that changes while it is looked at, or did just before.

A program that rewrites a file in place leaves half of it there for a moment; a rename leaves no file for a moment; a
copy that lies over a database has pages of both. One look at such a file is no fact. Bad news is a fact when the file
rested from before the look until after it. A writer that never rests hides it for a bounded time only: then the look
says that it cannot judge. Good news is taken at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from epad.copying.file_copy import SQLITE_MAGIC
from epad.inspection.baseline import newest_age_seconds, signature

MISSING = "missing"
SAME_LOOKS = 3
"""A database that commits all the time and shows the same fault in so many looks is damaged: each was of one commit."""
_WRITING = os.O_WRONLY | os.O_RDWR
_PAGE_BYTES, _CHANGES, _PAGES = slice(16, 18), slice(24, 28), slice(28, 32)
_LARGEST_PAGE = 1  # 65,536 as its two bytes have it


@dataclass(frozen=True, slots=True)
class Patience:
    """Sets how long a file must rest before its faults are believed, and how long that is waited for.

    A file that somebody holds open for writing, or that is shorter than its own header says, is being written: it
    must rest as long as is waited at most.
    """

    rest_seconds: float = 2.0
    limit_seconds: float = 10.0
    step_seconds: float = 0.25


class Seen(Protocol):
    """Holds the faults of one look, each a kind and a sentence."""

    @property
    def faults(self) -> tuple[tuple[str, str], ...]: ...


S = TypeVar("S", bound=Seen)


def look_until_sure(
    look_once: Callable[[], S], path: Path, never_rests: Callable[[str], S], patience: Patience
) -> S:
    """Look until there is no fault, or it is certain; `never_rests` reports that neither was reached."""
    watch = _Watch(path, patience)
    while True:
        rested_before = watch.rested_seconds()
        seen = look_once()
        if not seen.faults or watch.is_fact(rested_before) or watch.is_committed_fact(seen.faults):
            return seen
        if not watch.wait():
            gone = all(kind == MISSING for kind, _ in seen.faults)
            return seen if gone else never_rests(": ".join(seen.faults[0]))


class _Watch:
    """The file between two looks."""

    def __init__(self, path: Path, patience: Patience) -> None:
        self._path = path
        self._patience = patience
        self._left = patience.limit_seconds
        self._state = signature(path)
        self._since = time.monotonic()
        self._was_seen_to_change = False
        self._history: list[tuple[str, str]] = []

    def has_changed(self) -> bool:
        """Take in the present state of the file, and tell if it differs from the last."""
        now = signature(self._path)
        changed = now != self._state
        if changed:
            self._state, self._since, self._was_seen_to_change = now, time.monotonic(), True
        return changed

    def rested_seconds(self) -> float:
        """Return for how long nobody has written to it."""
        self.has_changed()
        watched = time.monotonic() - self._since
        # What its time says counts only for a file that was not seen to change: one moved here brings its own.
        return watched if self._was_seen_to_change else max(watched, newest_age_seconds(self._path))

    def is_fact(self, rested_before: float) -> bool:
        """Tell if the file had rested for long enough before the look, and still does."""
        return not self.has_changed() and self._is_enough(rested_before)

    def is_committed_fact(self, faults: tuple[tuple[str, str], ...]) -> bool:
        """Tell if commit after commit has shown the same fault: its writer keeps to SQLite's locks."""
        self._history.append((": ".join(faults[0]), _commit_mark(self._path)))
        last = self._history[-SAME_LOOKS:]
        marks, texts = {mark for _, mark in last if mark}, {text for text, _ in last}
        return len(marks) == SAME_LOOKS and len(texts) == 1

    def wait(self) -> bool:
        """Wait until it has rested, or for as long as a rest takes; False if patience has come to its end."""
        until_next = self._patience.rest_seconds
        if self._left <= 0:
            return False
        while self._left > 0 and not self._is_enough(self.rested_seconds()):
            if until_next <= 0 and not self._is_unfinished():
                break
            time.sleep(self._patience.step_seconds)
            self._left -= self._patience.step_seconds
            until_next -= self._patience.step_seconds
        return True

    def _is_enough(self, seconds: float) -> bool:
        # Who has it open is asked last: that reads all of /proc.
        enough = self._patience.rest_seconds
        return seconds >= enough and (seconds >= self._patience.limit_seconds or not self._is_unfinished())

    def _is_unfinished(self) -> bool:
        header = _header(self._path)
        if header.startswith(SQLITE_MAGIC):
            with suppress(OSError):  # it went away meanwhile
                return self._path.stat().st_size < _declared_bytes(header)
        return is_held_for_writing(self._path)


def is_held_for_writing(path: Path) -> bool:
    """Tell if a process that we may look into has it open for writing."""
    try:
        status = path.stat()
    except OSError:
        return False
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError, ValueError):
                for descriptor in (process / "fd").iterdir():
                    if (
                        _is_same(descriptor, status)
                        and _flags(process / "fdinfo" / descriptor.name) & _WRITING
                    ):
                        return True
    return False


def _is_same(descriptor: Path, status: os.stat_result) -> bool:
    with suppress(OSError):  # closed meanwhile
        other = descriptor.stat()
        return (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino)
    return False


def _flags(fdinfo: Path) -> int:
    for line in fdinfo.read_text().splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8)
    return 0


def _header(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(100)
    except OSError:
        return b""


def _declared_bytes(header: bytes) -> int:
    page = int.from_bytes(header[_PAGE_BYTES], "big")
    page = 65_536 if page == _LARGEST_PAGE else page
    return page * int.from_bytes(header[_PAGES], "big")


def _commit_mark(path: Path) -> str:
    """Return the marks that a commit changes: the counter in the header, or the write-ahead log.

    Empty for no database.
    """
    header = _header(path)
    if not header.startswith(SQLITE_MAGIC):
        return ""
    wal = path.with_name(f"{path.name}-wal")
    with suppress(OSError):
        status = wal.stat()
        return f"{header[_CHANGES].hex()} {status.st_size} {status.st_mtime_ns}"
    return header[_CHANGES].hex()
