"""The run's memory: one SQLite file, one transaction a round, resumed by index after anything.

apsw is the only SQLite library here, as in the daemon: it bundles a SQLite with the WAL-reset fix.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final

import apsw

from runners.wargame.locking import StoreError, lock
from runners.wargame.outcomes import RoundState
from runners.wargame.play.round import RoundRecord
from runners.wargame.settings import differences, settings_hash

RUN_COLUMNS: Final = (
    "run_id", "engine", "wanted", "state", "detail", "updated_utc", "created_utc", "base_url", "settings_json",
    "settings_hash",
)  # fmt: skip

STORE_VERSION: Final = 2


class SettingsMismatchError(StoreError):
    """The store belongs to a run with other settings; resuming would mix two experiments."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """Holds the store's row of its run."""

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
    """Holds one run's rounds. Opened for writing it holds a lock, so that two runs cannot share a file."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.path = path
        self._lock: int | None = None
        if not readonly:
            self._lock = lock(path)
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
                self._check_version()
                self._connection.execute(_schema())
        except apsw.Error as error:
            self._unlock()
            raise StoreError(f"{path}: {error}") from error

    def _check_version(self) -> None:
        """Stamp a new file; refuse one that another version of this program made."""
        version, tables = self._connection.pragma("user_version"), self._connection.pragma("schema_version")
        if tables and version != STORE_VERSION:
            self._connection.close()
            self._unlock()
            raise StoreError(
                f"{self.path}: a store of version {version}, and this program writes {STORE_VERSION}: "
                "use another --store"
            )
        self._connection.pragma("user_version", STORE_VERSION)

    def close(self) -> None:
        """Close the file and let go of its lock."""
        self._connection.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def run(self, run_id: str | None = None) -> RunRow | None:
        """Return the run of that id, or the one that was begun last, if there is any."""
        try:
            row = self._connection.execute(
                f"SELECT {', '.join(RUN_COLUMNS)} FROM run WHERE run_id = coalesce(?, run_id)"  # noqa: S608 - our names
                " ORDER BY created_utc DESC, rowid DESC LIMIT 1",
                (run_id,),
            ).fetchone()
        except apsw.Error as error:
            raise StoreError(f"{self.path}: {error}") from error
        if row is None:
            return None
        values = dict(zip(RUN_COLUMNS, row, strict=True))
        return RunRow(settings=json.loads(values.pop("settings_json")), **values)

    def begin(
        self, description: Mapping[str, Any], engine: str, base_url: str, wanted: int, *, fork: bool = False
    ) -> RunRow:
        """Begin a run, or go on with the one that is there. Raises SettingsMismatchError, unless to `fork`."""
        existing = self.run()
        if existing is None or (fork and existing.settings_hash != settings_hash(description)):
            self._insert_run(description, engine, base_url, wanted, existing)
        else:
            self._check_same(existing, description, engine)
            self._execute(
                "UPDATE run SET wanted = max(wanted, ?), base_url = ? WHERE run_id = ?",
                (wanted, base_url, existing.run_id),
            )
        begun = self.run()
        if begun is None:
            raise StoreError(f"{self.path}: the run that was just written is not there")
        return begun

    def _insert_run(
        self,
        description: Mapping[str, Any],
        engine: str,
        base_url: str,
        wanted: int,
        parent: RunRow | None,
    ) -> None:
        run_id, now = f"wargame-{uuid.uuid4().hex[:12]}", _utc()
        values = (json.dumps(description), settings_hash(description), engine, base_url, now, wanted, now)
        with self._connection:
            self._execute("INSERT INTO run VALUES(?, ?, ?, ?, ?, ?, ?, 'running', '', ?)", (run_id, *values))
            if parent is not None:
                changed = "; ".join(differences(description, parent.settings))
                self._execute(
                    "INSERT INTO event(run_id, at_utc, kind, detail) VALUES(?, ?, 'forked', ?)",
                    (run_id, now, f"from {parent.run_id}: {changed}"),
                )

    def _check_same(self, existing: RunRow, description: Mapping[str, Any], engine: str) -> None:
        if existing.settings_hash != settings_hash(description):
            changed = "; ".join(differences(description, existing.settings))
            raise SettingsMismatchError(
                f"{self.path} belongs to a run with other settings ({changed}): "
                "use another --store, run with the old settings, or say --fork to begin another run in it"
            )
        if "embedded" in (existing.engine, engine) and existing.engine != engine:
            raise SettingsMismatchError(
                f"{self.path} was begun with engine {existing.engine}, and the endpoint now serves {engine}: "
                "use another --store; results of the two must not be mixed"
            )

    def note(self, run_id: str, state: str, detail: str = "") -> None:
        """Record that the run goes on, pauses or stops, and why."""
        with self._connection:
            self._execute(
                "UPDATE run SET state = ?, detail = ?, updated_utc = ? WHERE run_id = ?",
                (state, detail, _utc(), run_id),
            )
            self.note_event(run_id, state, detail)

    def note_event(self, run_id: str, kind: str, detail: str) -> None:
        """Record something that happened."""
        self._execute(
            "INSERT INTO event(run_id, at_utc, kind, detail) VALUES(?, ?, ?, ?)",
            (run_id, _utc(), kind, detail),
        )

    def controls(self, run_id: str) -> set[int]:
        """At which rounds the controls were judged."""
        rows = self._connection.execute("SELECT DISTINCT at_round FROM control WHERE run_id = ?", (run_id,))
        return {at_round for (at_round,) in rows}

    def attempts(self, run_id: str) -> dict[int, tuple[RoundState, int]]:
        """Return the last end of each round that ever ended, and the number of its attempts."""
        rows = self._connection.execute("SELECT idx, state, attempt FROM round WHERE run_id = ?", (run_id,))
        return {idx: (RoundState(state), attempt) for idx, state, attempt in rows}

    def claim(self, run_id: str, index: int, *, alone: bool) -> None:
        """Record that a round begins, so that the one that kills the process is known afterwards."""
        self._execute(
            "INSERT INTO claim VALUES(?, ?, 1, ?) ON CONFLICT DO UPDATE"
            " SET begun = begun + 1, alone = alone + excluded.alone",
            (run_id, index, int(alone)),
        )

    def claims(self, run_id: str) -> dict[int, tuple[int, int]]:
        """The rounds that were begun and never ended: how often, and how often with no other beside them."""
        rows = self._connection.execute("SELECT idx, begun, alone FROM claim WHERE run_id = ?", (run_id,))
        return {index: (begun, alone) for index, begun, alone in rows}

    def release(self, run_id: str) -> None:
        """Forget all claims: the process ends in good order, no round is to blame."""
        self._execute("DELETE FROM claim WHERE run_id = ?", (run_id,))

    def turns(self, run_id: str, index: int) -> tuple[str, ...]:
        """Return the turns of a round that was played."""
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
            self._execute("DELETE FROM claim WHERE run_id = ? AND idx = ?", key)
            # The process gets somewhere, so what ended it before need not have been another round's fault.
            self._execute("UPDATE claim SET alone = 0 WHERE run_id = ? AND alone > 0", key[:1])
            self._execute("UPDATE run SET updated_utc = ? WHERE run_id = ?", (_utc(), run_id))

    def _write_round(self, key: tuple[str, int], record: RoundRecord, attempt: int) -> None:
        card, outcome = record.card, record.outcome
        self._execute(
            "INSERT INTO round VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " state = excluded.state, outcome = excluded.outcome, attempt = excluded.attempt,"
            " duration_seconds = excluded.duration_seconds, ended_utc = excluded.ended_utc",
            (
                *key,
                card.pair,
                str(card.label),
                card.category,
                card.family,
                card.split,
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
                "INSERT INTO call VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *key,
                    attempt,
                    call.purpose,
                    call.model,
                    *values,
                    r.latency_seconds,
                    r.queue_seconds,
                    r.attempts,
                    r.content,
                ),
            )
        self._write_votes(key, record)

    def _write_votes(self, key: tuple[str, int], record: RoundRecord) -> None:
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

    def judge_again(self, run_id: str, records: Iterable[RoundRecord]) -> None:
        """Replace votes, decisions and outcomes of rounds that were played; all of them or none."""
        with self._connection:
            for record in records:
                key = (run_id, record.card.index)
                for table in ("vote", "decision"):
                    self._execute(f"DELETE FROM {table} WHERE run_id = ? AND idx = ?", key)  # noqa: S608 - our names
                self._execute(
                    "UPDATE round SET state = ?, outcome = ? WHERE run_id = ? AND idx = ?",
                    (str(record.outcome.state), str(record.outcome.reason), *key),
                )
                self._write_votes(key, record)

    def write(self, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
        """Do several writes in one transaction."""
        with self._connection:
            for query, bindings in statements:
                self._execute(query, bindings)

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


def _schema() -> str:
    return (resources.files("runners.wargame") / "schema.sql").read_text(encoding="utf-8")


def _utc() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="milliseconds")
