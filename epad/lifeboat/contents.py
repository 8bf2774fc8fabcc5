"""List the contents of the first tier, the small and irreplaceable first; each is read at its turn."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import msgspec

from epad.ledger.anchor import HEAD_FILE, KEYS_FILE, LOG_FILE, LOG_TAIL_BYTES
from epad.ledger.payload import kept_payload
from epad.ledger.query import unclosed_turns
from epad.ledger.rows import open_reader
from epad.lifeboat.first_tier import Item
from epad.storage.database import connect, fetch

WHY, JOURNAL, OPEN_TURNS, CONFIG, LEDGER_TAIL = (
    "why.json",
    "journal.json",
    "open_turns.json",
    "config.json",
    "ledger_tail.msgpack",
)
_JOURNAL_ROWS = 200
TAIL_SECONDS = 0.2
"""For reading the ledger's tail: then what was read goes in, the newest records, and the rest stays out."""
_JOURNAL_TABLES = ("transition", "anomaly", "operation", "step")
_TAIL = (
    "SELECT seq, turn, kind, subsystem, wall_ns, body, leaf, link FROM record WHERE seq > ? ORDER BY seq DESC"
)

TailRow = tuple[int, str | None, int, str | None, int, bytes | None, bytes, bytes]
"""A row of the ledger as stored; the chain says whether it may be believed."""


@dataclass(frozen=True, slots=True)
class Cargo:
    """Holds the paths to save. `saved_records` is the last record in the newest good checkpoint's ledger."""

    state_database: Path
    ledger_database: Path
    anchor: Path
    config: Callable[[], bytes]
    facts: Callable[[], Mapping[str, Any]]
    saved_records: Callable[[], int]

    def items(self, reason: str) -> Sequence[Item]:
        """Return them in the order of their worth by size."""
        # What the daemon itself knows is taken now, in its own thread; the rest is read from the disk later.
        config = self.config()
        why = {"reason": reason, **self.facts(), "config_sha256": hashlib.sha256(config).hexdigest()}
        heads = (KEYS_FILE, HEAD_FILE, LOG_FILE)
        return (
            Item(WHY, lambda _: json.dumps(why, default=str).encode()),
            Item(JOURNAL, lambda _: self._journal()),
            *(Item(f"anchor/{name}", lambda _, name=name: self._tail_of(name)) for name in heads),  # type: ignore[misc]
            Item(OPEN_TURNS, lambda _: self._open_turns()),
            Item(CONFIG, lambda _: config),
            Item(LEDGER_TAIL, self._ledger_tail),
        )

    def _journal(self) -> bytes:
        """Phases, anomalies, operations and steps, the newest of each, and every note."""
        with contextlib.closing(connect(self.state_database, readonly=True)) as connection:
            saved: dict[str, Any] = {name: list(_newest(connection, name)) for name in _JOURNAL_TABLES}
            saved["note"] = dict(fetch(connection, "SELECT key, value FROM note"))
        return json.dumps(saved, default=str).encode()

    def _tail_of(self, name: str) -> bytes:
        with (self.anchor / name).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_TAIL_BYTES))
            return file.read()

    def _open_turns(self) -> bytes:
        """Return every turn without a closing, with its request if that is kept."""
        with contextlib.closing(open_reader(self.ledger_database)) as connection:
            turns = []
            for turn in unclosed_turns(connection):
                payload = kept_payload(connection, turn.request_sha256)
                request = base64.b64encode(payload).decode() if payload is not None else None
                turns.append([*msgspec.to_builtins(turn), request])
        return json.dumps(turns).encode()

    def _ledger_tail(self, room: int) -> bytes:
        """Return the records that no checkpoint has; the newest, where they are more than fit."""
        rows: list[TailRow] = []
        size, ends = 16, time.monotonic() + TAIL_SECONDS
        with contextlib.closing(open_reader(self.ledger_database)) as connection:
            for row in connection.execute(_TAIL, (self.saved_records(),)):
                size += len(msgspec.msgpack.encode(row))
                if size > room or time.monotonic() > ends:
                    break
                rows.append(row)
        return msgspec.msgpack.encode(rows[::-1])


def read_tail(data: bytes) -> list[TailRow]:
    """Return the ledger rows of a first tier, oldest first. Raises msgspec.MsgspecError."""
    return msgspec.msgpack.decode(data, type=list[TailRow])


def _newest(connection: apsw.Connection, table: str) -> Iterator[dict[str, Any]]:
    names = [row[1] for row in fetch(connection, f"PRAGMA table_info({table})")]
    statement = f"SELECT * FROM {table} ORDER BY id DESC LIMIT {_JOURNAL_ROWS}"  # noqa: S608 - constants only
    for row in fetch(connection, statement):
        yield dict(zip(names, row, strict=True))
