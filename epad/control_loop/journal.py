"""The write-ahead journal of phases, anomalies and response steps, in `state.db`.

Everything the daemon has decided is here before it is done, in one transaction per decision. `kill -9` at any
instant, then start: `load` returns the phase, the anomalies and the operations whose steps are not all done.
While `state.db` takes nothing, writes are kept by `standby_journal.py`, where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import apsw
import structlog

from epad.control_loop.standby_journal import StandbyJournal
from epad.control_loop.step import Lane, Operation, Plan, Step, StepName, StepRecord, StepState
from epad.storage.database import Database, fetch
from statemachine.assessor import Anomaly, Change, Raised
from statemachine.clock import Clock
from statemachine.finding import Finding, Severity
from statemachine.phase import Phase
from statemachine.rung import Rung, UnknownRungError
from statemachine.table import Row

T = TypeVar("T")

RUNG = "rung"
"""The key of a finding's rung in the column `evidence`."""

JOURNAL_SCHEMA = """
CREATE TABLE IF NOT EXISTS anomaly(
    id INTEGER PRIMARY KEY, probe TEXT NOT NULL, subsystem TEXT NOT NULL, severity INTEGER NOT NULL,
    reason TEXT NOT NULL, value REAL, limit_value REAL, unit TEXT NOT NULL, evidence TEXT NOT NULL,
    hard INTEGER NOT NULL, raises INTEGER NOT NULL, raised_utc TEXT NOT NULL, raised_monotonic REAL NOT NULL,
    boot_id TEXT NOT NULL, cleared_utc TEXT, cleared_reason TEXT) STRICT;
CREATE INDEX IF NOT EXISTS anomaly_active ON anomaly(probe, subsystem) WHERE cleared_utc IS NULL;
CREATE TABLE IF NOT EXISTS transition(
    id INTEGER PRIMARY KEY, utc TEXT NOT NULL, monotonic REAL NOT NULL, boot_id TEXT NOT NULL,
    source TEXT NOT NULL, trigger TEXT NOT NULL, destination TEXT NOT NULL, guard TEXT NOT NULL,
    sentence TEXT NOT NULL, cause TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS operation(
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, utc TEXT NOT NULL, lane TEXT NOT NULL, purpose TEXT NOT NULL,
    transition INTEGER REFERENCES transition(id), cause TEXT NOT NULL, state TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS operation_open ON operation(state) WHERE state = 'pending';
CREATE TABLE IF NOT EXISTS step(
    id INTEGER PRIMARY KEY, operation INTEGER NOT NULL REFERENCES operation(id), name TEXT NOT NULL,
    target TEXT NOT NULL, arguments TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
    result TEXT NOT NULL, utc TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS step_operation ON step(operation);
CREATE TABLE IF NOT EXISTS note(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """Holds the changes of one turn of the control loop, written as one transaction."""

    changes: Sequence[Change] = ()
    row: Row | None = None
    cause: Mapping[str, Any] = field(default_factory=dict)
    plans: Sequence[Plan] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    abort_open: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Holds the state that the previous run of the daemon left."""

    phase: Phase
    entered_monotonic: float
    entered_utc: datetime | None
    anomalies: tuple[Anomaly, ...]
    open_operations: tuple[Operation, ...]
    last_phase_state: StepState | None
    notes: Mapping[str, Any]


class Journal:
    """Reads and writes the journal's tables."""

    def __init__(
        self, database: Database, clock: Clock, boot_id: str, standby: StandbyJournal | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._boot_id = boot_id
        self._standby = standby
        self._log = structlog.get_logger("epad.journal")

    def attach(self, begun: Callable[[str], None], ended: Callable[[], None]) -> None:
        """Call `begun` with the reason when writes begin to be kept in memory, `ended` when all are on the disk."""
        if self._standby is not None:
            self._standby.attach(begun, ended)

    @property
    def stands_by(self) -> str:
        """Say why writes are kept in memory; empty while they reach the disk."""
        return self._standby.sentence if self._standby else ""

    async def close(self) -> None:
        """Write the kept statements, if that can be done by now."""
        if self._standby is not None:
            await self._standby.close()

    async def commit(self, decision: Decision) -> tuple[Operation, ...]:
        """Write a decision, durably unless the journal stands by, and return its operations, ready to be run."""
        return await self._write(lambda connection: self._commit(connection, decision))

    def _commit(self, connection: apsw.Connection, decision: Decision) -> tuple[Operation, ...]:
        touched = {number for change in decision.changes for number in self._write_change(connection, change)}
        touched |= {row[0] for row in fetch(connection, "SELECT id FROM anomaly WHERE cleared_utc IS NULL")}
        cause = {**decision.cause, "anomalies": sorted(touched)}
        transition = self._write_transition(connection, decision.row, cause) if decision.row else None
        if decision.abort_open:
            self._abort(connection, decision.abort_open)
        for key, value in decision.notes.items():
            connection.execute("REPLACE INTO note VALUES (?, ?)", (key, json.dumps(value)))
        return tuple(self._write_plan(connection, plan, transition, cause) for plan in decision.plans)

    def _write_change(self, connection: apsw.Connection, change: Change) -> Sequence[int]:
        """Write an anomaly's change and return its id."""
        key = change.anomaly.key
        if not isinstance(change, Raised):
            cleared = fetch(
                connection,
                "UPDATE anomaly SET cleared_utc = ?, cleared_reason = ?"
                " WHERE probe = ? AND subsystem = ? AND cleared_utc IS NULL RETURNING id",
                (self._now(), change.reason, *key),
            )
            return [row[0] for row in cleared]
        finding = change.anomaly.finding
        facts = (int(finding.severity), finding.reason, finding.value, finding.limit, finding.unit)
        evidence = _written_evidence(finding)
        worsened = fetch(
            connection,
            "UPDATE anomaly SET severity = ?, reason = ?, value = ?, limit_value = ?, unit = ?, evidence = ?"
            " WHERE probe = ? AND subsystem = ? AND cleared_utc IS NULL RETURNING id",
            (*facts, evidence, *key),
        )
        if worsened:
            return [row[0] for row in worsened]
        raised = (change.anomaly.raises, self._now(), change.anomaly.raised_at, self._boot_id)
        connection.execute(
            "INSERT INTO anomaly(probe, subsystem, severity, reason, value, limit_value, unit, evidence,"
            " hard, raises, raised_utc, raised_monotonic, boot_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, *facts, evidence, int(finding.hard), *raised),
        )
        return [connection.last_insert_rowid()]

    def _write_transition(self, connection: apsw.Connection, row: Row, cause: Mapping[str, Any]) -> int:
        connection.execute(
            "INSERT INTO transition(utc, monotonic, boot_id, source, trigger, destination, guard, sentence,"
            " cause) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(self._now(), self._clock.monotonic(), self._boot_id),
                *(row.source, row.trigger, row.destination, row.guard, row.sentence),
                json.dumps(dict(cause), default=str),
            ),
        )
        return connection.last_insert_rowid()

    def _write_plan(
        self, connection: apsw.Connection, plan: Plan, transition: int | None, cause: Mapping[str, Any]
    ) -> Operation:
        now = self._now()
        connection.execute(
            "INSERT INTO operation(key, utc, lane, purpose, transition, cause, state)"
            " VALUES ('', ?, ?, ?, ?, ?, ?)",
            (
                now,
                plan.lane,
                plan.purpose,
                transition,
                json.dumps(dict(cause), default=str),
                StepState.PENDING,
            ),
        )
        number = connection.last_insert_rowid()
        key = f"{self._clock.utc():%Y%m%dT%H%M%SZ}-{number:06d}"
        connection.execute("UPDATE operation SET key = ? WHERE id = ?", (key, number))
        records = []
        for step in plan.steps:
            connection.execute(
                "INSERT INTO step(operation, name, target, arguments, state, attempts, result, utc)"
                " VALUES (?, ?, ?, ?, ?, 0, '', ?)",
                (number, step.name, step.target, json.dumps(dict(step.arguments)), StepState.PENDING, now),
            )
            records.append(StepRecord(connection.last_insert_rowid(), step, StepState.PENDING))
        return Operation(number, key, plan.lane, plan.purpose, tuple(records))

    def _abort(self, connection: apsw.Connection, reason: str) -> None:
        connection.execute(
            "UPDATE step SET state = ?, result = ? WHERE state = ? AND operation IN"
            " (SELECT id FROM operation WHERE state = ?)",
            (StepState.ABORTED, reason, StepState.PENDING, StepState.PENDING),
        )
        connection.execute(
            "UPDATE operation SET state = ? WHERE state = ?", (StepState.ABORTED, StepState.PENDING)
        )

    async def step_tried(self, step: int) -> None:
        """Count an attempt before it is made."""
        await self._execute(
            "UPDATE step SET attempts = attempts + 1, utc = ? WHERE id = ?", (self._now(), step)
        )

    async def step_let_go(self, step: int) -> None:
        """Take an attempt back that an orderly end of the daemon cut short: it says nothing about the step."""
        await self._execute(
            "UPDATE step SET attempts = attempts - 1, utc = ? WHERE id = ? AND attempts > 0",
            (self._now(), step),
        )

    async def step_ended(self, step: int, state: StepState, result: str) -> None:
        """Record the result of a step."""
        await self._execute(
            "UPDATE step SET state = ?, result = ?, utc = ? WHERE id = ? AND state = ?",
            (state, result, self._now(), step, StepState.PENDING),
        )

    async def operation_ended(self, operation: int, state: StepState) -> bool:
        """Write that nothing of an operation is left to do; False if it had been aborted meanwhile."""
        query = "UPDATE operation SET state = ? WHERE id = ? AND state = ? RETURNING id"
        bindings = (state, operation, StepState.PENDING)
        return bool(await self._write(lambda connection: fetch(connection, query, bindings)))

    async def is_open(self, operation: int) -> bool:
        """Tell if an operation is still to be done; a later decision may have aborted it."""
        query = "SELECT state FROM operation WHERE id = ?"
        source = self._standby or self._database
        rows = await source.read(lambda connection: fetch(connection, query, (operation,)))
        return bool(rows) and rows[0][0] == StepState.PENDING

    async def note(self, key: str, value: Any) -> None:
        """Remember one small JSON value."""
        await self._execute("REPLACE INTO note VALUES (?, ?)", (key, json.dumps(value)))

    async def _execute(self, statement: str, bindings: Sequence[Any]) -> None:
        await self._write(lambda connection: connection.execute(statement, tuple(bindings)))

    async def _write(self, work: Callable[[apsw.Connection], T]) -> T:
        return await (self._standby or self._database).write(work)

    async def load(self) -> Loaded:
        """Return the state that the previous run of the daemon left; NORMAL and nothing if there was none."""
        return await self._database.read(self._load)

    def _load(self, connection: apsw.Connection) -> Loaded:
        last = fetch(
            connection,
            "SELECT destination, monotonic, boot_id, utc FROM transition WHERE source <> destination"
            " ORDER BY id DESC LIMIT 1",
        )
        phase, entered, entered_utc = Phase.NORMAL, self._clock.monotonic(), None
        if last:
            phase = Phase(last[0][0])
            entered = self._to_monotonic(last[0][1], last[0][2], last[0][3])
            entered_utc = datetime.fromisoformat(last[0][3])
        return Loaded(
            phase,
            entered,
            entered_utc,
            tuple(self._load_anomalies(connection)),
            tuple(_load_operations(connection)),
            _last_phase_state(connection),
            {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM note")},
        )

    def _load_anomalies(self, connection: apsw.Connection) -> Sequence[Anomaly]:
        rows = fetch(
            connection,
            "SELECT probe, subsystem, severity, reason, value, limit_value, unit, evidence, hard, raises,"
            " raised_monotonic, boot_id, raised_utc FROM anomaly WHERE cleared_utc IS NULL ORDER BY id",
        )
        return [self._anomaly(row) for row in rows]

    def _anomaly(self, row: Sequence[Any]) -> Anomaly:
        raised_at = self._to_monotonic(row[10], row[11], row[12])
        evidence = json.loads(row[7])
        rung = self._take_rung(evidence, row[0], row[1])
        finding = Finding(
            probe=row[0],
            subsystem=row[1],
            severity=Severity(row[2]),
            at=raised_at,
            reason=row[3],
            value=row[4],
            limit=row[5],
            unit=row[6],
            evidence=evidence,
            hard=bool(row[8]),
            rung=rung,
        )
        # Its quiet time starts anew: nobody was looking while the daemon was away.
        return Anomaly(finding, raised_at, self._clock.monotonic(), row[9])

    def _take_rung(self, evidence: dict[str, Any], probe: str, subsystem: str) -> Rung | None:
        """Take the rung out of written evidence.

        An unknown one is reported, and stays in the evidence as `unknown_rung`: the probe's own holds. The daemon
        starts nevertheless, since raised anomalies must be held.
        """
        named = evidence.pop(RUNG, None)
        try:
            return None if named is None else Rung.labelled(named)
        except UnknownRungError as error:
            evidence["unknown_rung"] = named
            self._log.error("journal.unknown_rung", probe=probe, subsystem=subsystem, error=str(error))
            return None

    def _to_monotonic(self, monotonic: float, boot_id: str, utc: str) -> float:
        """Return a stamp of this boot as it is; one of a former boot by its age on the wall clock."""
        if boot_id == self._boot_id:
            return monotonic
        age = (self._clock.utc() - datetime.fromisoformat(utc)).total_seconds()
        return self._clock.monotonic() - max(age, 0.0)

    def _now(self) -> str:
        return self._clock.utc().astimezone(UTC).isoformat(timespec="milliseconds")


def _written_evidence(finding: Finding) -> str:
    """Return the contents of the column `evidence`, with the rung in it, so that any version reads any other's."""
    rung = {} if finding.rung is None else {RUNG: finding.rung.label}
    return json.dumps({**finding.evidence, **rung}, default=str)


def _last_phase_state(connection: apsw.Connection) -> StepState | None:
    rows = fetch(
        connection, "SELECT state FROM operation WHERE lane = ? ORDER BY id DESC LIMIT 1", (Lane.PHASE,)
    )
    return StepState(rows[0][0]) if rows else None


def _load_operations(connection: apsw.Connection) -> Sequence[Operation]:
    operations = fetch(
        connection,
        "SELECT id, key, lane, purpose FROM operation WHERE state = ? ORDER BY id",
        (StepState.PENDING,),
    )
    return [Operation(o[0], o[1], Lane(o[2]), o[3], _load_steps(connection, o[0])) for o in operations]


def _load_steps(connection: apsw.Connection, operation: int) -> tuple[StepRecord, ...]:
    rows = fetch(
        connection,
        "SELECT id, name, target, arguments, state, attempts, result FROM step"
        " WHERE operation = ? ORDER BY id",
        (operation,),
    )
    return tuple(
        StepRecord(r[0], Step(StepName(r[1]), r[2], json.loads(r[3])), StepState(r[4]), r[5], r[6])
        for r in rows
    )
