"""A ledger and a cost book in memory under two fake clocks, so that whole histories run in milliseconds.

Records are those of the real ledger, byte for byte; only the thread, the file and the chain are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import apsw

from epad.gateway.costs import COST_SCHEMA
from epad.ledger.entry import Stamp
from epad.ledger.hashes import leaf_hash
from epad.ledger.loss import Accepted
from epad.ledger.record import (
    EpochStarted,
    Outcome,
    Record,
    TurnClosed,
    TurnOpened,
    UsageSource,
    columns_of,
    encode,
)
from epad.ledger.rows import INDEXES, TABLES
from epad.ledger.spent import add_records
from epad.ledger.sums import Spending, Summing, decode_sums, encode_sums
from epad.storage.database import Database

T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class TwoClocks:
    """True time, the boot's clock that follows it, and a wall clock that can be set."""

    def __init__(self) -> None:
        self.true = 0.0
        self.booted = -1_000.0
        self.wall_ahead = 0.0
        self.boots = 1

    @property
    def boot_id(self) -> str:
        """Names this boot; nothing while `boots` is 0."""
        return f"boot-{self.boots}" if self.boots else ""

    def monotonic(self) -> float:
        return self.true - self.booted

    def utc(self) -> datetime:
        return EPOCH + timedelta(seconds=self.true + self.wall_ahead)

    def advance(self, seconds: float) -> None:
        self.true += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock."""
        self.wall_ahead += seconds

    def reboot(self) -> None:
        """Begin another boot, in no time: the boot's clock begins at 0, the wall clock goes on."""
        self.boots += 1
        self.booted = self.true

    def stamp(self, epoch: int) -> Stamp:
        wall_ns = int(self.utc().timestamp() * 1e9)
        return Stamp(wall_ns, self.boot_id, int(self.monotonic() * 1e9), epoch)


class MemoryFile(Database):
    """A database without a file or a thread, whose calls never wait."""

    def __init__(self, schema: str = COST_SCHEMA) -> None:
        self.connection = apsw.Connection(":memory:")
        self.connection.execute(schema)

    async def write(self, work: Callable[[apsw.Connection], T]) -> T:
        with self.connection:
            result = work(self.connection)
        return result

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        return work(self.connection)


class RecordedTurns:
    """A ledger's records, and the question that a start asks of them."""

    def __init__(self, clock: TwoClocks) -> None:
        self.clock = clock
        self.epoch = 0
        self.kept = encode_sums(Summing().sums())
        self.connection = apsw.Connection(":memory:")
        for statement in (TABLES, *INDEXES.values()):
            self.connection.execute(statement)

    def begin(self, *, clean: bool = False) -> None:
        """Begin an epoch, as each start of the daemon does."""
        self.epoch += 1
        stamp = self.clock.stamp(self.epoch)
        self.add(
            EpochStarted(b"n", b"l", clean, stamp.wall_ns, stamp.boot_id, stamp.monotonic_ns, stamp.epoch)
        )

    def open(self, number: int, subsystem: str = "a", reserved_tokens: int = 100) -> None:
        stamp = self.clock.stamp(self.epoch)
        self.add(
            TurnOpened(
                turn=f"{number:032x}",
                subsystem=subsystem,
                wall_ns=stamp.wall_ns,
                dialect="openai",
                model="m",
                prompt_bound=reserved_tokens,
                output_cap=0,
                reserved_tokens=reserved_tokens,
                idempotency_key=None,
                request_sha256=bytes(32),
                boot_id=stamp.boot_id,
                monotonic_ns=stamp.monotonic_ns,
                epoch=stamp.epoch,
            )
        )

    def close(self, number: int, subsystem: str = "a", charged_tokens: int = 10) -> None:
        stamp = self.clock.stamp(self.epoch)
        self.add(
            TurnClosed(
                turn=f"{number:032x}",
                subsystem=subsystem,
                wall_ns=stamp.wall_ns,
                outcome=Outcome.DONE,
                input_tokens=charged_tokens,
                output_tokens=0,
                charged_tokens=charged_tokens,
                usage_source=UsageSource.USAGE,
                http_status=200,
                reason="",
                boot_id=stamp.boot_id,
                monotonic_ns=stamp.monotonic_ns,
                epoch=stamp.epoch,
            )
        )

    def add(self, record: Record) -> None:
        turn, kind, subsystem, wall_ns = columns_of(record)
        body = encode(record)
        self.connection.execute(
            "INSERT INTO record(turn, kind, subsystem, wall_ns, body, leaf, link) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (turn, int(kind), subsystem, wall_ns, body, leaf_hash(body), bytes(32)),
        )

    def damage(self, kind: int) -> None:
        """Overwrite the newest record of a kind."""
        self.connection.execute(
            "UPDATE record SET body = zeroblob(9) WHERE seq = (SELECT max(seq) FROM record WHERE kind = ?)",
            (kind,),
        )

    async def spending(
        self, horizon_ns: int, requests_ns: int, marks: Mapping[str, Stamp] | None = None
    ) -> Spending:
        """What `Ledger.spending` answers; each time as if everything before the newest records had been sealed."""
        summing = self.summing()
        now = self.clock.stamp(self.epoch)
        self.kept = encode_sums(summing.sums())
        return summing.spending(now, horizon_ns, requests_ns, marks)

    def summing(self) -> Summing:
        """All records, from the kept sums on."""
        summing = Summing(decode_sums(self.kept))
        add_records(self.connection, summing)
        return summing

    async def accepted_losses(self) -> Sequence[Accepted]:
        """Nothing was ever given up."""
        return ()


def now(work: Coroutine[Any, Any, T]) -> T:
    """Run what never has to wait."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waited")
