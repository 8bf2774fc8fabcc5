"""Read a recording, and the journal of the same time, from the files of a state directory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from epad import EpadError
from epad.simulate.record import Record
from epad.simulate.replay import Move, Stamped
from epad.storage.database import connect, fetch

_COLUMNS = "SELECT utc, at, record FROM recording"


class RecordingError(EpadError):
    """There is no recording to replay; the message says where, and why."""


class RecordedHistory:
    """The recording of one state directory, read beside the daemon that may be writing it."""

    def __init__(self, state_database: Path) -> None:
        self._connection = connect(state_database, readonly=True)
        if not fetch(self._connection, "SELECT 1 FROM sqlite_master WHERE name = 'recording'"):
            raise RecordingError(f"{state_database}: holds no recording: a daemon of this version makes one")

    def records(self, since_utc: float) -> Iterator[Stamped]:
        """Yield the records, from the last place to begin at before a time. Raises RecordingError."""
        decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
        query = f"{_COLUMNS} WHERE id >= ? ORDER BY id"
        for utc, at, body in self._connection.execute(query, (self._first(since_utc),)):
            yield utc, at, _decoded(decoder, body)

    def _first(self, since_utc: float) -> int:
        rows = fetch(
            self._connection,
            "SELECT coalesce(max(id) FILTER (WHERE utc <= ?), min(id)) FROM recording WHERE began",
            (since_utc,),
        )
        if rows[0][0] is None:
            raise RecordingError("nothing is recorded yet")
        return int(rows[0][0])

    def transitions(self, since_utc: float) -> list[Move]:
        """Return the journal's transitions, from the place on at which `records` begins."""
        begun = fetch(self._connection, "SELECT utc FROM recording WHERE id = ?", (self._first(since_utc),))
        # The journal writes milliseconds.
        stamp = datetime.fromtimestamp(begun[0][0] - 0.001, UTC).isoformat(timespec="milliseconds")
        rows = fetch(
            self._connection,
            "SELECT utc, source, trigger, destination, guard, sentence FROM transition WHERE utc >= ? ORDER BY id",
            (stamp,),
        )
        return [Move(datetime.fromisoformat(r[0]).timestamp(), r[1], r[2], r[3], r[4], r[5]) for r in rows]


def _decoded(decoder: msgspec.json.Decoder[Record], body: bytes) -> Record:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise RecordingError(f"a record of another version: {error}") from error
