"""Keep the fitted classifiers of one machine, each under its number; which of them is in force can be taken back.

| a crash | what is there afterwards |
|---|---|
| before a version's file is in its place | the versions of before |
| before `current` is in its place | the new version too, not in force |
| before the line of the history | the new version in force; its own file tells what it was fitted to |
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

import msgspec

from runners.intent.fitting import Fitted

CURRENT: Final = "current"
HISTORY: Final = "history.jsonl"
_LOCK: Final = "lock"


class VersionError(Exception):
    """A version is not there or cannot be read or kept; the message names the file and the fix."""


class Change(msgspec.Struct, frozen=True):
    """Records that a version came into force, by whom and why. `former` is 0 for the first."""

    version: int
    former: int
    at: str
    by: str
    reason: str
    training_digest: str
    auc: float


class Versions:
    """The versions in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def current(self) -> int:
        """Return the number of the version in force; 0 without one. Raises VersionError."""
        path = self.directory / CURRENT
        try:
            words = path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return 0
        except (OSError, UnicodeDecodeError) as error:
            raise VersionError(f"{path}: {error}") from error
        if not words.isdecimal():
            raise VersionError(
                f"{path}: {words!r} is no version: write the number of one into it, or remove it"
            )
        return int(words)

    def known(self) -> list[int]:
        """Return the numbers of the kept versions, ascending."""
        return sorted(int(path.stem) for path in self.directory.glob("[0-9]*.json") if path.stem.isdecimal())

    def load(self, version: int) -> Fitted:
        """Read a version. Raises VersionError."""
        path = self._path(version)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Fitted)
        except FileNotFoundError as error:
            there = ", ".join(map(str, self.known())) or "none"
            raise VersionError(f"{self.directory} has no version {version}; there are: {there}") from error
        except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
            raise VersionError(f"{path}: {error}: roll back to another version") from error

    def keep(self, fitted: Fitted, by: str, reason: str) -> int:
        """Keep a classifier as the next version, in force from now on; return its number. Raises VersionError."""
        with self._alone():
            version = max(self.known(), default=0) + 1
            self._write(self._path(version), msgspec.json.encode(fitted))
            self._put_in_force(version, fitted, by, reason)
            return version

    def roll_back(self, version: int, by: str, reason: str) -> None:
        """Put an earlier version in force again. Raises VersionError."""
        with self._alone():
            self._put_in_force(version, self.load(version), by, reason)

    def history(self) -> list[Change]:
        """Return which version came into force when, oldest first. Raises VersionError."""
        path = self.directory / HISTORY
        try:
            lines = path.read_bytes().splitlines()
            return [msgspec.json.decode(line, type=Change) for line in lines if line]
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
            raise VersionError(f"{path}: {error}") from error

    def _put_in_force(self, version: int, fitted: Fitted, by: str, reason: str) -> None:
        former = self.current()
        self._write(self.directory / CURRENT, f"{version}\n".encode())
        at = datetime.now(tz=UTC).isoformat(timespec="seconds")
        change = Change(version, former, at, by, reason, fitted.training_digest, fitted.auc)
        with self._saying(self.directory / HISTORY), (self.directory / HISTORY).open("ab") as file:
            file.write(msgspec.json.encode(change) + b"\n")

    def _path(self, version: int) -> Path:
        return self.directory / f"{version:06}.json"

    def _write(self, path: Path, data: bytes) -> None:
        new = path.with_suffix(".new")
        with self._saying(path):
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time change anything."""
        with self._saying(self.directory):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self.directory / _LOCK).open("wb") as file:
                flock(file, LOCK_EX)
                yield

    @contextmanager
    def _saying(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise VersionError(f"{path}: {error}") from error
