"""The turn ledger as the daemon uses it: awaitable, each record durable when its call returns.

One thread writes (`writer.py`), to one file (`append.py`); queries read beside it, each on a connection of its own.

| state | openings | closings | entered by | left by |
|---|---|---|---|---|
| opening | nobody has it yet | | `open` | its return, or its error: then the file is dropped |
| taking | yes | yes | `open` | |
| refusing (`_refused`) | no | yes | a store without room, or another's loss; a head that cannot be written | its end |
| lost (`_lost`) | no | no | a file that is gone; signed records that are missing | `repair`, `accept_loss`, a start |
| closed | no | no | `close` | nothing: the next daemon opens another epoch |

Invariants: no record is promised that the next start would not find, so the state is asked once more at each commit,
on the writer's thread, behind whatever the caller saw. A turn that is open may still be closed while turns are
refused: without its end it counts with all that it had reserved. A lost ledger takes neither, since the end would go
with the file, and its caller would take it for settled.

A crash, and a cancellation, by await:

- `open`, before `_begin`: keys and an empty anchor may be there, which the next start takes up. In it: the epoch's
  first record is on the disk or is not. Behind it: that epoch did not end in order, and the next one says so;
- `open_turn`, `close_turn`: nothing awaits in them; their future is answered behind the commit. The record of a caller
  that is cancelled is written all the same, and so is one whose daemon dies between commit and answer: a turn that was
  never forwarded then counts as open, never too little;
- `accept_loss`: given up as soon as its file is replaced. Cancelled behind that, this run stays shut, since its caller
  has not counted the budgets as spent; the next start does;
- `repair`: one transaction (`repair.py`). Cancelled behind it, sums of before are kept until the next start;
- `put_payload`, `drop_payload`, `prune_payloads`: done or not, as one transaction; no record depends on it;
- queries: nothing changes; a thread whose caller has gone reads on to its end and closes its connection;
- `close`: its work is done and waited for all the same. Killed in it: the next epoch's first record says so.

Rejected: queries on the writer's connection, since a long one would hold up each turn; refusing turns by the state that
the loop last saw, since the file may go between that look and the commit; ending the daemon when the ledger is lost,
since containment and children need no ledger, and a closed door is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, get_args

import apsw

from epad.configuration.schema import LedgerConfig
from epad.ledger import query
from epad.ledger.anchor import Anchor
from epad.ledger.append import Appender
from epad.ledger.chain import Fault
from epad.ledger.entry import (
    CloseTool,
    CloseTurn,
    Closing,
    Entry,
    NoteAudit,
    NoteLabel,
    NoteRoot,
    NoteScreened,
    NoteSession,
    OpenTool,
    OpenTurn,
    Stamp,
)
from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.heads_and_segments import Keeping
from epad.ledger.loss import Accepted, Losses, Missing
from epad.ledger.paths import Places
from epad.ledger.payload import drop_payloads, keep_payload, kept_payload, prune_payloads
from epad.ledger.query import Spend
from epad.ledger.record import ToolOpened, TurnOpened
from epad.ledger.repair import RepairOutcome, repair
from epad.ledger.rows import open_reader
from epad.ledger.spent import Past
from epad.ledger.sums import Spending, Totals
from epad.ledger.verify import Report
from epad.ledger.writer import Writer
from statemachine.clock import Clock

__all__ = ["CloseTurn", "Ledger", "OpenTurn", "Spend", "Totals"]

T = TypeVar("T")

TAKEN_WHILE_REFUSED = (*get_args(Closing), NoteAudit)
"""What is written while no turn may be opened: ends of those that are open, and what people order then."""

DAY_NS = 86_400 * 10**9


class Ledger:
    """The turns of this daemon. Make one with `Ledger.open`."""

    def __init__(
        self, path: Path, config: LedgerConfig, appender: Appender, keeping: Keeping | None, past: Past
    ) -> None:
        self._path = path
        self._config = config
        self._appender = appender
        self._keeping = keeping
        self._writer = Writer(path, config, self._written, self._committed)
        self._loss: Callable[[], str] = str
        self._refusal: Callable[[], str] = str
        self._losses = Losses(keeping.places.losses, keeping.places.losses_copy) if keeping else None
        self._missing: Missing | None = None
        self._past = past

    @classmethod
    async def open(
        cls,
        path: Path,
        config: LedgerConfig,
        clock: Clock,
        boot_id: str,
        places: Places | None = None,
        told: Callable[[int], None] = lambda _: None,
    ) -> Ledger:
        """Open or make the file and start an epoch; heads and segments are kept in `places`.

        Records behind the newest seal are read, and checked: `faults` has the findings. `told` is called meanwhile, in
        another thread, with the newest record that has been read. Raises LedgerUnavailableError, HeadError.
        """
        anchor = None if places is None else await asyncio.to_thread(Anchor.open, places)
        heads = None if anchor is None else await asyncio.to_thread(anchor.read)
        appender = Appender(path, config, clock, boot_id, heads)
        keeping = None
        if anchor is not None and places is not None:
            keeping = Keeping(path, config, clock, appender, anchor, places)
        past = Past(None if places is None else places.anchor, told)
        ledger = cls(path, config, appender, keeping, past)
        ledger._writer.start()
        try:
            await ledger._writer.call(ledger._begin)
            await ledger._read(ledger._past.begin)
        except BaseException:
            ledger._writer.abandon(appender.drop)
            raise
        ledger._writer.commits += 1
        return ledger

    @property
    def commits(self) -> int:
        """Return how many transactions have reached the disk; stands still only while nothing is `waiting`."""
        return self._writer.commits

    @property
    def waiting(self) -> int:
        """Records that callers wait for."""
        return self._writer.waiting

    @property
    def records(self) -> int:
        """Return the newest record's number, which is how many there are."""
        return self._appender.tail.seq

    @property
    def faults(self) -> Sequence[Fault]:
        """Return the faults found when the ledger was opened."""
        return self._past.faults

    @property
    def places(self) -> Places | None:
        """Return the places of heads and segments, if they are kept."""
        return self._keeping.places if self._keeping else None

    @property
    def trouble(self) -> str:
        """Return why no heads or segments are being kept; empty while they are, and if none are wanted."""
        return self._keeping.trouble if self._keeping else ""

    @property
    def epoch(self) -> int:
        """Return the number of this opening of the file, counted from 1."""
        return self._appender.epoch

    def guard(self, loss: Callable[[], str], refusal: Callable[[], str] = str) -> None:
        """Refuse records while `loss` gives a reason why they would not be found again, and turns while `refusal` does.

        Each says why. A turn that is open may still be closed under a `refusal`.
        """
        self._loss, self._refusal = loss, refusal

    @property
    def missing(self) -> Missing | None:
        """The signed records that are gone and that nobody has given up: while there are any, no turn is opened."""
        return self._missing

    def shut(self) -> str:
        """Say why no turn is taken; empty while turns are."""
        return self._lost() or self._refused()

    def _refused(self) -> str:
        """Return why no turn is taken although written records would be found again."""
        return self._refusal() or self._unwitnessed()

    def _lost(self) -> str:
        return self._loss() or (self._missing.sentence if self._missing else "")

    def _unwitnessed(self) -> str:
        """Say that records could be lost without anybody's noticing; it ends when a head can be written again."""
        why = self._keeping.unwitnessed if self._keeping else ""
        return (
            f"{why}; nothing would show if records were lost, so nothing is forwarded until it can be"
            if why
            else ""
        )

    async def accept_loss(self, reason: str, what: str = "") -> Missing | None:
        """Give up the missing records, and `what` beside them, on a person's word; return the records.

        Raises LedgerError.
        """
        stamp = self._appender.stamp()
        if self._losses is None:
            return None
        losses = self._losses
        given_up = await self._writer.call(lambda: losses.accept(reason, stamp, what))
        self._missing = None
        return given_up

    async def accepted_losses(self) -> Sequence[Accepted]:
        """Return everything that was ever given up, oldest first. Raises LedgerError."""
        return () if self._losses is None else await asyncio.to_thread(self._losses.accepted)

    def open_turn(self, turn: OpenTurn) -> asyncio.Future[int]:
        """Record, durably, that a turn is about to be forwarded; its number. Raises LedgerError, when awaited."""
        future = self._writer.append(turn)
        self._writer.hand_over_soon()
        return future

    def close_turn(self, turn: CloseTurn, *, lazily: bool = False) -> asyncio.Future[int]:
        """Record, durably, how a turn ended; its number. Raises LedgerError, when awaited.

        `lazily` lets it wait, up to CLOSE_WAIT_SECONDS, for an opening to share its commit.
        """
        return self._append_end(turn, lazily=lazily)

    def open_tool(self, tool: OpenTool) -> asyncio.Future[int]:
        """Record, durably, that a tool is about to be called; its number. Raises LedgerError, when awaited."""
        future = self._writer.append(tool)
        self._writer.hand_over_soon()
        return future

    def close_tool(self, tool: CloseTool, *, lazily: bool = False) -> asyncio.Future[int]:
        """Record, durably, how a tool's turn ended, as `close_turn`; its number. Raises LedgerError, when awaited."""
        return self._append_end(tool, lazily=lazily)

    def _append_end(self, entry: CloseTurn | CloseTool, *, lazily: bool) -> asyncio.Future[int]:
        future = self._writer.append(entry)
        if lazily:
            self._writer.hand_over_later()
        else:
            self._writer.hand_over_soon()
        return future

    def note_session(self, session: NoteSession) -> asyncio.Future[int]:
        """Record, durably, that a session began or ended; its number. Raises LedgerError, when awaited."""
        future = self._writer.append(session)
        self._writer.hand_over_soon()
        return future

    def note_label(self, label: NoteLabel) -> asyncio.Future[int]:
        """Record, durably, that a session was given a label; its number. Raises LedgerError, when awaited."""
        future = self._writer.append(label)
        self._writer.hand_over_soon()
        return future

    def note_root(self, root: NoteRoot) -> asyncio.Future[int]:
        """Record, durably, the root over a store's rows; its number. Raises LedgerError, when awaited."""
        future = self._writer.append(root)
        self._writer.hand_over_soon()
        return future

    def note_audit(self, noted: NoteAudit, *, lazily: bool = False) -> asyncio.Future[int]:
        """Record, durably, something done or decided; its number. Raises LedgerError, when awaited.

        It is taken while turns are refused; `lazily` as in `close_turn`.
        """
        future = self._writer.append(noted)
        if lazily:
            self._writer.hand_over_later()
        else:
            self._writer.hand_over_soon()
        return future

    def note_screened(self, screened: NoteScreened) -> asyncio.Future[int]:
        """Record what turns seemed to be for, with the next opening; its number. Raises LedgerError, when awaited."""
        future = self._writer.append(screened)
        self._writer.hand_over_later()
        return future

    async def unclosed_tools(self) -> list[ToolOpened]:
        """Return the tools' turns without an end, oldest first: those in flight, and those whose end is unknown."""
        return await self._read(lambda connection: list(query.unclosed_tools(connection)))

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run a query of one of this room's modules beside the writer. Raises LedgerError."""
        return await self._read(work)

    async def lost_turns(self) -> list[TurnOpened]:
        """Turns that an epoch before this one opened and none closed, oldest first."""
        return await self._read(lambda connection: self._past.lost_turns(connection, self.epoch))

    async def spending_since(self, wall_ns: int) -> list[Spend]:
        """Return the spending since then: charged by closed turns, reserved by those that never closed."""
        return await self._read(lambda connection: query.spending_since(connection, wall_ns))

    async def spending(
        self, horizon_ns: int, requests_ns: int, marks: Mapping[str, Stamp] | None = None
    ) -> Spending:
        """Return the use within the horizon, each at its age, which no step of the wall clock changes."""
        now = self._appender.stamp()
        return await self._read(
            lambda connection: self._past.spending(connection, now, horizon_ns, requests_ns, marks)
        )

    async def totals(self) -> dict[str, Totals]:
        """Return the sums of closed turns by subsystem; each record is read once, however often this is asked."""
        return await self._read(self._past.totals)

    async def put_payload(self, payload: bytes) -> bytes:
        """Keep a payload if payloads are kept; its SHA-256 in any case. Raises LedgerError."""
        digest = sha256(payload).digest()
        if self._config.payloads == "kept":
            stamp = self._appender.stamp()
            await self._writer.call(
                lambda: self._appender.write(lambda db: keep_payload(db, payload, stamp.wall_ns))
            )
        return digest

    async def payload(self, digest: bytes) -> bytes | None:
        """Return a payload by its SHA-256, if it is kept and whole."""
        return await self._read(lambda connection: kept_payload(connection, digest))

    async def drop_payload(self, digest: bytes) -> None:
        """Forget one payload: the turn it was kept for is settled. Raises LedgerError."""
        await self._writer.call(lambda: self._appender.write(lambda db: drop_payloads(db, [digest])))

    async def prune_payloads(self) -> int:
        """Drop payloads that are too old or too many by the configuration; how many went."""
        before = self._appender.stamp().wall_ns - int(self._config.payload_days * DAY_NS)
        limit = self._config.payload_bytes
        return await self._writer.call(
            lambda: self._appender.write(lambda db: prune_payloads(db, before, limit))
        )

    async def repair(self, report: Report, sources: Sequence[Path]) -> RepairOutcome:
        """Repair the faults in `report`, from the segments and these copies of the file.

        Raises LedgerUnavailableError.
        """
        segments = self._keeping.places.segments if self._keeping else None

        def work() -> RepairOutcome:
            outcome = repair(self._appender, report, sources, segments)
            if self._keeping is not None:
                self._keeping.mend(report)
            self._look_for_missing()
            return outcome

        outcome: RepairOutcome = await self._writer.call(work)
        self._past.forget()
        return outcome

    async def close(self) -> None:
        """Write the waiting records, end the epoch in order and close the file."""
        await self._writer.close(self._end)

    def _begin(self) -> None:
        """On the writer's thread, first of all."""
        self._appender.open()
        if self._losses is not None and self._appender.lacks is not None:
            self._losses.note(*self._appender.lacks)
        self._look_for_missing()
        if self._keeping is not None:
            self._keeping.begin(self._writer.note)

    def _look_for_missing(self) -> None:
        """Check, on the writer's thread, if the missing records are back."""
        self._missing = self._losses.missing(self._appender.connection()) if self._losses else None

    def _end(self) -> None:
        """On the writer's thread, last of all: the last head is written when the last record is."""
        try:
            if self._keeping is not None:
                self._keeping.end()
        finally:
            self._appender.close()

    async def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run a query beside the writer, which is never made to wait for it."""

        def read() -> T:
            connection = open_reader(self._path)
            try:
                return work(connection)
            except apsw.Error as error:
                raise LedgerUnavailableError(f"{self._path}: {error}") from error
            finally:
                connection.close()

        self._writer.require_open()
        return await asyncio.to_thread(read)

    def _committed(self) -> None:
        """Tell who keeps heads and segments how far the disk is."""
        if self._keeping is not None:
            self._keeping.committed()

    def _written(self, entries: list[Entry]) -> list[Any]:
        """Append, where it will be found again. Raises LedgerError."""
        if why := self._lost():
            raise LedgerUnavailableError(why)
        why = self._refused()
        if not why:
            return self._appender.append(entries)
        taken = [entry for entry in entries if isinstance(entry, TAKEN_WHILE_REFUSED)]
        written = iter(self._appender.append(taken) if taken else ())
        return [
            next(written) if isinstance(e, TAKEN_WHILE_REFUSED) else LedgerUnavailableError(why)
            for e in entries
        ]
