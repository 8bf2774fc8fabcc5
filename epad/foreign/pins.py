"""Keep the pinned definitions of each foreign server on the disk, with who accepted them and when.

A file that cannot be read is never taken for one that is not there: its server is held until a person accepts what it
lists now. The ledger has a record of each change of the pins.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from epad.foreign.definitions import Pinned, UnfitError, digest_of, read_tool
from epad.foreign.errors import ServerError


class Pins(Struct, frozen=True):
    """Holds a server's accepted tools. `by` is `first use`, or who accepted them; `at` is in seconds of UTC.

    `version` and `identity` are what the server spoke and called itself then; they may change.
    """

    tools: tuple[Pinned, ...]
    sha256: str
    by: str
    at: float
    reason: str = ""
    version: str = ""
    identity: str = ""


class _Kept(Struct, frozen=True):
    format: int
    definitions: list[dict[str, object]]
    sha256: str
    by: str
    at: float
    reason: str = ""
    version: str = ""
    identity: str = ""


_FORMAT = 1


@dataclass(frozen=True, slots=True)
class PinStore:
    """Reads and writes the files, one a server."""

    directory: Path

    def read(self, server: str) -> Pins | None:
        """Return a server's pins; None if it was never seen. Raises ServerError for a file that cannot be read."""
        path = self._path(server)
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
            tools = tuple(read_tool(one) for one in kept.definitions)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnfitError, UnicodeDecodeError) as error:
            raise ServerError(f"{path}: the pins cannot be read: {error}") from error
        if kept.format != _FORMAT or digest_of(tools) != kept.sha256:
            raise ServerError(f"{path}: the pins are not as epad has written them")
        return Pins(tools, kept.sha256, kept.by, kept.at, kept.reason, kept.version, kept.identity)

    def write(self, server: str, pins: Pins) -> None:
        """Put a server's pins on the disk, whole or not at all. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = _Kept(
            _FORMAT,
            [one.definition for one in pins.tools],
            *(pins.sha256, pins.by, pins.at, pins.reason, pins.version, pins.identity),
        )
        path = self._path(server)
        new = path.with_suffix(".new")
        with suppress(FileNotFoundError):
            new.unlink()
        with os.fdopen(
            os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
        ) as file:
            file.write(msgspec.json.format(msgspec.json.encode(kept), indent=1))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _path(self, server: str) -> Path:
        return self.directory / f"{server}.json"
