"""Where the ledger keeps what is not its database: its key, its heads, its sealed segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KEY_FILE = "ledger.key"


@dataclass(frozen=True, slots=True)
class Places:
    """Three places, best on two disks: heads beside the data guard against accidents, not against its loss."""

    anchor: Path
    key: Path
    segments: Path

    @classmethod
    def under(cls, state: Path, environment: Mapping[str, str]) -> Places:
        """As the daemon has them: in its state directory, the key from systemd where it gives one."""
        credentials = environment.get("CREDENTIALS_DIRECTORY", "")
        given = Path(credentials, KEY_FILE)
        key = given if credentials and given.is_file() else state / "keys" / KEY_FILE
        return cls(state / "anchor", key, state / "segments")
