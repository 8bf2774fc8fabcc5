"""Measure the history in a state directory: the number of each kind, the oldest, and the size of the files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import apsw

from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.paths import Places
from epad.ledger.rows import first_moment, last_sequence, open_reader, trimmed_through
from epad.ledger.segment import segment_paths
from epad.storage.database import DatabaseError, connect, fetch

_EVENTS = "SELECT count(*), unixepoch(min(utc)) FROM event"
_RECORDINGS = "SELECT count(*), min(utc) FROM recording"


@dataclass(frozen=True, slots=True)
class Kept:
    """Counts one kind of thing; `since` is empty if there is none, `bytes` 0 if it shares a file with another."""

    what: str
    number: int
    since: str
    bytes: int

    def line(self) -> str:
        """Return the same for people."""
        number = f"{self.number:,}" if self.number else "-"
        return f"{self.what:34} {number:>12}  {_size(self.bytes):>9}  {self.since or '-'}"


def kept_in(state: Path) -> list[Kept]:
    """Count everything that grows with time. Raises LedgerUnavailableError; apsw.Error for the ledger."""
    places = Places.under(state, {})
    segments = segment_paths(places.segments)
    anchor = [path for path in places.anchor.glob("*") if path.is_file()] if places.anchor.is_dir() else []
    with contextlib.closing(open_reader(state / "ledger.db")) as ledger:
        last, trimmed = last_sequence(ledger), trimmed_through(ledger)
        since_ns = first_moment(ledger)
    since = None if since_ns is None else since_ns / 1e9
    hashes = [Kept("of older records, the hashes alone", trimmed, "", 0)] if trimmed else []
    return [
        Kept("records (ledger.db)", last - trimmed, _moment(since), _bytes_of(_files(state / "ledger.db"))),
        *hashes,
        Kept("second copy of them (segments)", len(segments), "", _bytes_of(segments)),
        Kept("signed heads (anchor)", 0, "", _bytes_of(anchor)),
        *_of_state(state / "state.db"),
    ]


def _of_state(path: Path) -> Iterator[Kept]:
    if not path.is_file():
        return
    try:
        with contextlib.closing(connect(path, readonly=True)) as database:
            [(events, event)] = fetch(database, _EVENTS)
            [(recordings, recording)] = fetch(database, _RECORDINGS)
    except (DatabaseError, apsw.Error) as error:
        raise LedgerUnavailableError(f"{path}: {error}") from error
    yield Kept("events (state.db)", events, _moment(event), 0)
    yield Kept("recordings for simulate (state.db)", recordings, _moment(recording), 0)
    yield Kept("state.db in all", 0, "", _bytes_of(_files(path)))


def _files(path: Path) -> list[Path]:
    """Return a database and its log."""
    return [each for each in (path, path.with_name(f"{path.name}-wal")) if each.exists()]


def _bytes_of(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _size(count: int) -> str:
    if count < 1_000_000:
        return f"{count / 1e3:,.1f} kB" if count else "-"
    return f"{count / 1e6:,.1f} MB"
