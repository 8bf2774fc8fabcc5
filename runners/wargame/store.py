"""The run's memory: one SQLite file, one transaction a round, resumed by index after anything.

apsw is the only SQLite library here, as in the daemon: it bundles a SQLite with the WAL-reset fix.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import apsw

from runners.wargame.outcomes import RoundState
from runners.wargame.play.round import RoundRecord
from runners.wargame.settings import differences, settings_hash

# `is_locked` takes the lock for a moment to look; a run that starts just then tries again.
LOCK_TRIES: Final = 5
LOCK_PAUSE_SECONDS: Final = 0.05

RUN_COLUMNS: Final = (
    "run_id", "engine", "wanted", "state", "detail", "updated_utc", "created_utc", "base_url", "settings_json",
    "settings_hash",
)  # fmt: skip

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS run(
  run_id TEXT PRIMARY KEY, settings_json TEXT NOT NULL, settings_hash TEXT NOT NULL, engine TEXT NOT NULL,
  base_url TEXT NOT NULL, created_utc TEXT NOT NULL, wanted INTEGER NOT NULL,
  state TEXT NOT NULL, detail TEXT NOT NULL, updated_utc TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS round(
  run_id TEXT NOT NULL REFERENCES run, idx INTEGER NOT NULL, pair INTEGER NOT NULL, label TEXT NOT NULL,
  category TEXT NOT NULL, family TEXT NOT NULL, canary TEXT NOT NULL,
  state TEXT NOT NULL CHECK(state IN ('scored','void','failed')), outcome TEXT NOT NULL,
  attempt INTEGER NOT NULL, duration_seconds REAL NOT NULL, ended_utc TEXT NOT NULL,
  PRIMARY KEY(run_id, idx)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turn(
  run_id TEXT NOT NULL, idx INTEGER NOT NULL, number INTEGER NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY(run_id, idx, number), FOREIGN KEY(run_id, idx) REFERENCES round) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS call(
  run_id TEXT NOT NULL, idx INTEGER NOT NULL, attempt INTEGER NOT NULL, purpose TEXT NOT NULL,
  model TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL, status INTEGER NOT NULL,
  finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
  latency_seconds REAL NOT NULL, tries INTEGER NOT NULL, reply TEXT NOT NULL,
  PRIMARY KEY(run_id, idx, attempt, purpose), FOREIGN KEY(run_id, idx) REFERENCES round) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vote(
  run_id TEXT NOT NULL, idx INTEGER NOT NULL, role TEXT NOT NULL, model TEXT NOT NULL, weight REAL NOT NULL,
  kind TEXT NOT NULL, detail TEXT NOT NULL, confidence INTEGER, category TEXT, evidence_turn INTEGER, parser TEXT,
  PRIMARY KEY(run_id, idx, role), FOREIGN KEY(run_id, idx) REFERENCES round) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decision(
  run_id TEXT NOT NULL, idx INTEGER NOT NULL, rule TEXT NOT NULL, flagged INTEGER NOT NULL, score REAL NOT NULL,
  threshold REAL NOT NULL, voters INTEGER NOT NULL,
  PRIMARY KEY(run_id, idx, rule), FOREIGN KEY(run_id, idx) REFERENCES round) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event(
  id INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES run, at_utc TEXT NOT NULL, kind TEXT NOT NULL,
  detail TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS event_run ON event(run_id, id);
"""


class StoreError(Exception):
    """The store cannot be used; the message names the file."""


class StoreBusyError(StoreError):
    """Another run is writing to this store."""


class SettingsMismatchError(StoreError):
    """The store belongs to a run with other settings; resuming would mix two experiments."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """What the store says of its run."""

    run_id: str
    engine: str
    wanted: int
    state: str
    detail: str
    updated_utc: str
    created_utc: str
    base_url: str
    settings: dict[str, Any]
    settings_hash: str


class Store:
    """One run's rounds. Opened for writing it holds a lock, so that two runs cannot share a file."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.path = path
        self._lock: int | None = None
        if not readonly:
            self._lock = _lock(path)
        flags = (
            apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        )
        try:
            self._connection = apsw.Connection(str(path), flags=flags)
            self._connection.set_busy_timeout(2_000)
            if not readonly:
                self._connection.pragma("journal_mode", "wal")
                self._connection.pragma("foreign_keys", 1)
                # NORMAL loses nothing to kill -9, at most the last rounds to a power cut; those are asked
                # again. FULL costs 4 ms a round against 0.11 ms.
                self._connection.pragma("synchronous", "normal")
                self._connection.execute(SCHEMA)
        except apsw.Error as error:
            self._unlock()
            raise StoreError(f"{path}: {error}") from error

    def close(self) -> None:
        """Close the file and let go of its lock."""
        self._connection.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def run(self) -> RunRow | None:
        """The store's run, if one was ever begun."""
        try:
            row = self._connection.execute(
                f"SELECT {', '.join(RUN_COLUMNS)} FROM run ORDER BY created_utc DESC LIMIT 1"  # noqa: S608 - our names
            ).fetchone()
        except apsw.Error as error:
            raise StoreError(f"{self.path}: {error}") from error
        if row is None:
            return None
        values = dict(zip(RUN_COLUMNS, row, strict=True))
        return RunRow(settings=json.loads(values.pop("settings_json")), **values)

    def begin(self, description: Mapping[str, Any], engine: str, base_url: str, wanted: int) -> RunRow:
        """Begin a run, or go on with the one that is there. Raises SettingsMismatchError."""
        existing = self.run()
        if existing is None:
            now = _utc()
            values = (json.dumps(description), settings_hash(description), engine, base_url, now, wanted, now)
            self._execute(
                "INSERT INTO run VALUES(?, ?, ?, ?, ?, ?, ?, 'running', '', ?)",
                (f"wargame-{uuid.uuid4().hex[:12]}", *values),
            )
        elif existing.settings_hash != settings_hash(description):
            changed = "; ".join(differences(description, existing.settings))
            raise SettingsMismatchError(
                f"{self.path} belongs to a run with other settings ({changed}): "
                "use another --store, or run with the old settings"
            )
        elif "embedded" in (existing.engine, engine) and existing.engine != engine:
            raise SettingsMismatchError(
                f"{self.path} was begun with engine {existing.engine}, and the endpoint now serves {engine}: "
                "use another --store; results of the two must not be mixed"
            )
        else:
            self._execute(
                "UPDATE run SET wanted = max(wanted, ?), base_url = ? WHERE run_id = ?",
                (wanted, base_url, existing.run_id),
            )
        begun = self.run()
        if begun is None:
            raise StoreError(f"{self.path}: the run that was just written is not there")
        return begun

    def note(self, run_id: str, state: str, detail: str = "") -> None:
        """Record that the run goes on, pauses or stops, and why."""
        with self._connection:
            self._execute(
                "UPDATE run SET state = ?, detail = ?, updated_utc = ? WHERE run_id = ?",
                (state, detail, _utc(), run_id),
            )
            self._execute(
                "INSERT INTO event(run_id, at_utc, kind, detail) VALUES(?, ?, ?, ?)",
                (run_id, _utc(), state, detail),
            )

    def attempts(self, run_id: str) -> dict[int, tuple[RoundState, int]]:
        """How each round that was ever ended did end, and how often it was tried."""
        rows = self._connection.execute("SELECT idx, state, attempt FROM round WHERE run_id = ?", (run_id,))
        return {idx: (RoundState(state), attempt) for idx, state, attempt in rows}

    def turns(self, run_id: str, index: int) -> tuple[str, ...]:
        """The turns of a round that was played."""
        rows = self._connection.execute(
            "SELECT text FROM turn WHERE run_id = ? AND idx = ? ORDER BY number", (run_id, index)
        )
        return tuple(text for (text,) in rows)

    def commit(self, run_id: str, record: RoundRecord, attempt: int) -> None:
        """Write a round in one transaction. A scored or void round is final and never written again."""
        key = (run_id, record.card.index)
        with self._connection:
            final = self._connection.execute(
                "SELECT state FROM round WHERE run_id = ? AND idx = ? AND state <> 'failed'", key
            ).fetchone()
            if final is not None:
                raise StoreError(f"{self.path}: round {record.card.index} is {final[0]} already")
            self._write_round(key, record, attempt)
            for table in ("turn", "vote", "decision"):
                self._execute(f"DELETE FROM {table} WHERE run_id = ? AND idx = ?", key)  # noqa: S608 - our names
            self._write_details(key, record, attempt)
            self._execute("UPDATE run SET updated_utc = ? WHERE run_id = ?", (_utc(), run_id))

    def _write_round(self, key: tuple[str, int], record: RoundRecord, attempt: int) -> None:
        card, outcome = record.card, record.outcome
        self._execute(
            "INSERT INTO round VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " state = excluded.state, outcome = excluded.outcome, attempt = excluded.attempt,"
            " duration_seconds = excluded.duration_seconds, ended_utc = excluded.ended_utc",
            (
                *key,
                card.pair,
                str(card.label),
                card.category,
                card.family,
                card.canary,
                str(outcome.state),
                str(outcome.reason),
                attempt,
                record.duration_seconds,
                _utc(),
            ),
        )

    def _write_details(self, key: tuple[str, int], record: RoundRecord, attempt: int) -> None:
        for number, text in enumerate(record.turns, 1):
            self._execute("INSERT INTO turn VALUES(?, ?, ?, ?)", (*key, number, text))
        for call in record.calls:
            r = call.reply
            values = (
                str(r.outcome),
                r.detail,
                r.status,
                r.finish_reason,
                r.prompt_tokens,
                r.completion_tokens,
            )
            self._execute(
                "INSERT INTO call VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*key, attempt, call.purpose, call.model, *values, r.latency_seconds, r.attempts, r.content),
            )
        for vote in record.votes:
            v = vote.verdict
            read = (v.confidence, v.category, v.evidence_turn, v.parser) if v else (None, None, None, None)
            self._execute(
                "INSERT INTO vote VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*key, vote.role.name, vote.role.model, vote.role.weight, str(vote.kind), vote.detail, *read),
            )
        if record.decision is not None:
            d = record.decision
            self._execute(
                "INSERT INTO decision VALUES(?, ?, ?, ?, ?, ?, ?)",
                (*key, d.rule, int(d.flagged), d.score, d.threshold, d.voters),
            )

    def rows(self, query: str, bindings: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Read for a report. Raises StoreError."""
        try:
            return list(self._connection.execute(query, bindings))
        except apsw.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    def _execute(self, query: str, bindings: tuple[Any, ...]) -> None:
        try:
            self._connection.execute(query, bindings)
        except apsw.Error as error:
            raise StoreError(f"{self.path}: {error}") from error


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: {error}") from error
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return descriptor
    os.close(descriptor)
    raise StoreBusyError(f"{path}: another run is writing to it; stop it, or use another --store")


def is_locked(path: Path) -> bool:
    """Whether a run is writing to this store now."""
    try:
        os.close(_lock(path))
    except StoreBusyError:
        return True
    return False


def _utc() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="milliseconds")
