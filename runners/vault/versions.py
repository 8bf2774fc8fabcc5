"""Keep the bytes of documents by their digests: a version is written once, and never again.

| directory | holds |
|---|---|
| `versions/ab/abcd...` | the bytes whose SHA-256 is the name |
| `incoming/abcd...` | bytes that wait for their row; after a kill the next start places those that have one |
| `aside/` | what nobody has added through epad, once a person has accepted that it was there |

A row is committed before its bytes are placed, so `versions/` never has bytes without a row.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from runners.vault.errors import VaultError

VERSIONS, INCOMING, ASIDE = "versions", "incoming", "aside"
MOST_BYTES: Final = 64 << 20
"""A larger document is refused."""
_MODE: Final = 0o400
WAITS_SECONDS: Final = 86_400.0
_HINT: Final = "`epactl vault verify` tells what was changed; `epactl vault add` puts the right bytes back"


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions below one directory."""

    directory: Path

    def make(self) -> None:
        """Make the directories that are missing. Raises OSError."""
        for name in (VERSIONS, INCOMING):
            (self.directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Return the place of a version."""
        return self.directory / VERSIONS / digest[:2] / digest

    def incoming(self, digest: str) -> Path:
        """Return the place where bytes wait for their row."""
        return self.directory / INCOMING / digest

    def offer(self, data: bytes) -> str:
        """Write bytes to where they wait, durably; return their digest. Raises OSError."""
        digest = sha256(data).hexdigest()
        if not self.path(digest).exists():
            self.make()
            waiting = self.incoming(f"{digest}.new")
            with waiting.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            waiting.rename(self.incoming(digest))
        return digest

    def take(self, digest: str) -> bytes:
        """Return bytes that wait, or that are a version already, once their digest is right. Raises VaultError."""
        waiting = self.incoming(digest)
        return self.read(digest) if self.path(digest).exists() else _checked(waiting, digest)

    def place(self, digest: str) -> None:
        """Give bytes that wait their place for good. Raises OSError."""
        waiting, place = self.incoming(digest), self.path(digest)
        if not waiting.exists():
            return
        if not place.exists():
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            waiting.chmod(_MODE)
            waiting.rename(place)
            for folder in (place.parent, place.parent.parent):
                _sync(folder)
            return
        waiting.unlink()

    def settle(self, known: Collection[str]) -> None:
        """Place what waits and has its row, and remove what has waited for a day: after a kill, before any request."""
        with suppress(FileNotFoundError), os.scandir(self.directory / INCOMING) as entries:
            for entry in list(entries):
                if entry.name in known:
                    self.place(entry.name)
                elif entry.stat(follow_symlinks=False).st_mtime < time.time() - WAITS_SECONDS:
                    self.incoming(entry.name).unlink()

    def read(self, digest: str) -> bytes:
        """Return the bytes of a version, whose digest is checked at each reading. Raises VaultError."""
        return _checked(self.path(digest), digest)

    def found(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the path below `versions/` and the status of everything that is there. Raises OSError."""
        top = self.directory / VERSIONS
        with suppress(FileNotFoundError), os.scandir(top) as folders:
            for folder in sorted(folders, key=lambda one: one.name):
                if not folder.is_dir(follow_symlinks=False) or len(folder.name) != 2:
                    yield folder.name, folder.stat(follow_symlinks=False)
                    continue
                with os.scandir(folder.path) as entries:
                    for entry in sorted(entries, key=lambda one: one.name):
                        yield f"{folder.name}/{entry.name}", entry.stat(follow_symlinks=False)

    def put_aside(self, names: Collection[str]) -> None:
        """Move what lies below `versions/` under these names out of it. Raises OSError."""
        for name in names:
            target = self.directory / ASIDE / name.replace("/", "-")
            target.parent.mkdir(mode=0o700, exist_ok=True)
            (self.directory / VERSIONS / name).rename(target)


def _checked(path: Path, digest: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise VaultError(f"version {digest[:16]} cannot be read: {error.strerror}", _HINT) from error
    if len(data) > MOST_BYTES or sha256(data).hexdigest() != digest:
        raise VaultError(f"version {digest[:16]} does not have the bytes that were added", _HINT)
    return data


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
