"""Keep on the disk the facts of a living cell that a later daemon needs: its profile, its doors, its gaps."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from epad.confinement.policy import Policy
from epad.runtime.owner_file import write_for_owner


class CellRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """Describes one cell as it was made, at `made_at` by the monotonic clock, under `policy`.

    `doors` are kinds and the addresses inside that they listen on.
    """

    policy: Policy
    made_at: float
    doors: dict[str, tuple[str, int]] = {}
    missing: dict[str, str] = {}
    own_network: bool = False
    placeholders: tuple[str, ...] = ()


class CellRecords:
    """One file a cell, written before it is made and once it stands; of a cell that was never made it does no harm."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, subsystem: str, record: CellRecord) -> None:
        """Write a record. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_for_owner(self._path(subsystem), msgspec.json.encode(record))

    def read(self, subsystem: str) -> CellRecord | None:
        """Read a record; None if there is none, or none that can be read."""
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self._path(subsystem).read_bytes(), type=CellRecord)
        return None

    def forget(self, subsystem: str) -> None:
        """Delete a record."""
        with suppress(OSError):
            self._path(subsystem).unlink(missing_ok=True)

    def _path(self, subsystem: str) -> Path:
        return self._directory / f"{subsystem}.json"
