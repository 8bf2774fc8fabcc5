"""Keep results that were too long for their answers, to be read as `epad://result/TURN` by the session that made them.

| limit | what happens above it |
|---|---|
| SPILLED_BYTES, of one result | the worker refuses it: the call fails, and says to ask for less |
| SESSION_BYTES, of a session | the oldest results of the session go |
| KEPT_SECONDS | the result goes, also if the daemon has been started anew |

The files lie in the state directory, where no cell shows them, and are named after their session and turn.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from epad.tools.answers import End
from epad.tools.sessions import Session

SPILLED_BYTES: Final = 6 << 20
SESSION_BYTES: Final = 64 << 20
KEPT_SECONDS: Final = 3_600.0
WHOLE: Final = "whole"
"""The field of a result that names where the whole is."""
URI: Final = "epad://result/"
_turn_of = re.compile(r"epad://result/([0-9a-f]{32})").fullmatch


@dataclass(frozen=True, slots=True)
class KeptResult:
    """Describes a result that can be read: its URI, and its bytes of JSON."""

    uri: str
    size: int


@dataclass(frozen=True, slots=True)
class ResultStore:
    """The results of all sessions. `now` is in seconds of UTC, as the files' times are."""

    directory: Path
    now: Callable[[], float] = time.time

    async def spilled(self, session: Session, turn: str, end: End) -> End:
        """Return the end of a call without the whole of its result, which is kept; without it if the disk is full."""
        if not end.whole:
            return end
        where = ""
        with suppress(OSError):
            await asyncio.to_thread(self._keep, session.name, turn, end.whole)
            where = f"{URI}{turn}"
        return replace(end, content={**end.content, WHOLE: where or "it could not be kept"}, whole=b"")

    def listed(self, session: str) -> list[KeptResult]:
        """Return the results of a session, oldest first."""
        return [
            KeptResult(f"{URI}{path.name.partition('.')[2]}", size)
            for at, size, path in self._of(f"{session}.")
            if self.now() - at <= KEPT_SECONDS
        ]

    def read(self, session: str, uri: str) -> bytes | None:
        """Return a result as JSON; None if this session has none of that URI, or no more."""
        found = _turn_of(uri)
        if found is None or uri not in {one.uri for one in self.listed(session)}:
            return None
        with suppress(OSError):
            return (self.directory / f"{session}.{found[1]}").read_bytes()
        return None

    def sweep(self, now: float) -> int:
        """Remove the results that are too old; return their number."""
        old = [path for at, _, path in self._of("") if now - at > KEPT_SECONDS]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _keep(self, session: str, turn: str, whole: bytes) -> None:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        path = self.directory / f"{session}.{turn}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(whole)
        used = 0
        for _, size, other in reversed(self._of(f"{session}.")):
            used += size
            if used > SESSION_BYTES:
                other.unlink(missing_ok=True)

    def _of(self, prefix: str) -> list[tuple[float, int, Path]]:
        """Return the time, the size and the path of each result whose name begins so, oldest first."""
        found: list[tuple[float, int, Path]] = []
        with suppress(OSError), os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.startswith(prefix):
                    with suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime, status.st_size, Path(entry.path)))
        return sorted(found)
