"""Resolve the ledger's paths beside its database: its key, its heads, its sealed segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KEY_FILE = "ledger.key"
LOSSES_FILE = "losses.json"
STARTS_FILE = "starts"
"""In the anchor: how often the stores were opened and closed (`epad/ledger/starts.py`)."""
ANY_COUNT = -1
"""That count after a restore: whatever `state.db` has counted is right."""
ANY_STARTS = b'{"count":-1}\n'


@dataclass(frozen=True, slots=True)
class Places:
    """Holds the paths. `losses` is the file of missing records, with a copy of it among the heads.

    `witness` is a copy of the newest head outside of the state directory: it knows that there was a ledger when all of
    that is gone.
    """

    anchor: Path
    key: Path
    segments: Path
    losses: Path
    losses_copy: Path
    witness: Path | None = None

    @classmethod
    def under(cls, state: Path, environment: Mapping[str, str]) -> Places:
        """Return the daemon's paths: in its state directory, the key from systemd if it gives one."""
        credentials = environment.get("CREDENTIALS_DIRECTORY", "")
        given = Path(credentials, KEY_FILE)
        key = given if credentials and given.is_file() else state / "keys" / KEY_FILE
        anchor, losses = state / "anchor", state / LOSSES_FILE
        return cls(anchor, key, state / "segments", losses, anchor / LOSSES_FILE, witness_of(state))


def witness_of(state: Path) -> Path:
    """Return the path of the copy of the newest head: with the logs of a service, else beside the state directory."""
    if state.parent == Path("/var/lib"):
        return Path("/var/log", state.name, "ledger-witness")
    return state.with_name(f".{state.name}.witness")
