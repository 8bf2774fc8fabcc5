"""The supervisor's memory: which process is which, in `state.db`, written before and after each act."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apsw

from epad.storage.database import Database, DatabaseError, connect, fetch
from epad.supervisor.identity import ProcessIdentity
from epad.supervisor.restart import History
from epad.supervisor.stage import Stage

PROCESS_SCHEMA = """
CREATE TABLE IF NOT EXISTS process(
    subsystem TEXT PRIMARY KEY, boot_id TEXT NOT NULL, stage TEXT NOT NULL, instance TEXT NOT NULL,
    pid INTEGER, start_ticks INTEGER, started_at REAL NOT NULL, ready INTEGER NOT NULL,
    beating INTEGER NOT NULL, frozen INTEGER NOT NULL, restarts INTEGER NOT NULL, history TEXT NOT NULL,
    reason TEXT NOT NULL) STRICT;
"""

_COLUMNS = (
    "subsystem, boot_id, stage, instance, pid, start_ticks, started_at, ready, beating, frozen, restarts,"
    " history, reason"
)


_COARSER = {Stage.BACKING_OFF: Stage.WAITING, Stage.FROZEN: Stage.RUNNING, Stage.ENDED: Stage.RUNNING}
"""The stages that a row names by another; a frozen process is told apart by a column of its own."""


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """Holds one subsystem's row. `beating` tells if it has ever sent a watchdog; times are of this boot."""

    subsystem: str
    boot_id: str
    stage: Stage
    instance: str = ""
    pid: int | None = None
    start_ticks: int | None = None
    started_at: float = 0.0
    ready: bool = False
    beating: bool = False
    restarts: int = 0
    history: History = field(default_factory=History)
    reason: str = ""

    @property
    def identity(self) -> ProcessIdentity | None:
        """Return the process it speaks of; None before one is known."""
        if self.pid is None or self.start_ticks is None:
            return None
        return ProcessIdentity(self.pid, self.start_ticks, self.boot_id)

    def of(self, identity: ProcessIdentity) -> ProcessRecord:
        """Return it with its process known."""
        return replace(self, pid=identity.pid, start_ticks=identity.start_ticks)


class ProcessRecords:
    """The table `process`."""

    def __init__(self, database: Database, boot_id: str) -> None:
        self._database = database
        self._boot_id = boot_id

    async def load(self) -> dict[str, ProcessRecord]:
        """Return the records of this boot, by subsystem; those of earlier ones mean nothing now."""
        rows = await self._database.read(
            lambda connection: fetch(
                connection,
                f"SELECT {_COLUMNS} FROM process WHERE boot_id = ?",  # noqa: S608 (a constant)
                (self._boot_id,),
            )
        )
        return {row[0]: _record(row) for row in rows}

    async def write(self, record: ProcessRecord) -> None:
        """Write a record; on return it is on the disk. Raises DatabaseError."""
        values = (
            record.subsystem,
            record.boot_id,
            _COARSER.get(record.stage, record.stage).value,
            record.instance,
            record.pid,
            record.start_ticks,
            record.started_at,
            int(record.ready),
            int(record.beating),
            int(record.stage is Stage.FROZEN),
            record.restarts,
            _history_text(record.history),
            record.reason,
        )

        def work(connection: apsw.Connection) -> None:
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT OR REPLACE INTO process({_COLUMNS}) VALUES ({marks})", values)  # noqa: S608 (constants)

        await self._database.write(work)

    async def forget(self, subsystem: str) -> None:
        """Delete a record: the subsystem was ended in order. Raises DatabaseError."""

        def work(connection: apsw.Connection) -> None:
            connection.execute("DELETE FROM process WHERE subsystem = ?", (subsystem,))

        await self._database.write(work)


def read_identities(path: Path, boot_id: str) -> frozenset[ProcessIdentity]:
    """Read which processes of this boot a dead daemon knew of, without changing its file. Raises DatabaseError."""
    connection = connect(path, readonly=True)
    try:
        rows = fetch(
            connection,
            "SELECT pid, start_ticks FROM process WHERE boot_id = ? AND pid > 0 AND start_ticks > 0",
            (boot_id,),
        )
    except apsw.Error as error:
        raise DatabaseError(f"{path}: {error}") from error
    finally:
        connection.close()
    return frozenset(ProcessIdentity(pid, start_ticks, boot_id) for pid, start_ticks in rows)


def _history_text(history: History) -> str:
    fields = {
        "in_a_row": history.in_a_row,
        "restarted_at": history.restarted_at,
        "lives": [round(seconds, 3) for seconds in history.lives],
        "failed_at": history.failed_at,
    }
    return json.dumps(fields)


def _history(text: str) -> History:
    """Read a history. A former version wrote a list: how many in a row, and when."""
    match json.loads(text):
        case [int(in_a_row), *restarted_at]:
            return History(tuple(restarted_at), in_a_row)
        case found:
            return History(
                tuple(found["restarted_at"]),
                found["in_a_row"],
                tuple(found["lives"]),
                tuple(found["failed_at"]),
            )


def _record(row: tuple[Any, ...]) -> ProcessRecord:
    return ProcessRecord(
        subsystem=row[0],
        boot_id=row[1],
        stage=Stage.FROZEN if row[9] and row[2] == Stage.RUNNING else Stage(row[2]),
        instance=row[3],
        pid=row[4],
        start_ticks=row[5],
        started_at=row[6],
        ready=bool(row[7]),
        beating=bool(row[8]),
        restarts=row[10],
        history=_history(row[11]),
        reason=row[12],
    )
