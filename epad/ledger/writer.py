"""Write records in one thread, many to a commit, while their callers wait on the event loop.

| state of a record | held by | a crash | a cancellation of its caller |
|---|---|---|---|
| gathered | `_gathered`, for one turn of the loop; lazily CLOSE_WAIT_SECONDS at most | it never was | it is written |
| handed over | the queue | it never was | it is written |
| in a commit | the thread | all of the commit is on the disk, or nothing (`append.py`) | it is written |
| answered | its caller, by the future | it is on the disk | nothing is left to cancel |

Invariants: a future is answered once, after the fsync of its record's commit, or with the error for which the record
is not on the disk as far as anybody was promised. Records are written in the order in which they came; `call` and
`note` run between two commits, after all that was gathered before them. `waiting` counts the records from gathered to
answered and never exceeds `ledger.waiting_turns`, so a disk that hangs costs that much memory and no more: later
records are refused at once. No error ends the thread (`outcome_of`); the last call does. A note behind that is not
carried out, so it may only say what a later one would say again.

The one await is in `call` and `close`, for the answer of the thread. Cancelled there, the work is done all the same,
and its result is dropped; whoever must know of it asks afterwards. Once the loop is gone there is nobody to answer
(`_answer`); what was written stays written.

Rejected: a thread of the pool for each record, with its own commit: 286 records a second on a busy machine where 100
to a commit come to 21,000; waiting for company before a commit, since records gather while the disk is busy with the
one before, and a turn on an idle machine would wait for nothing (a lazy closing alone waits: nobody waits for it);
handing each record over as it comes, since each hand-over makes both threads want the GIL.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import structlog

from epad.configuration.schema import LedgerConfig
from epad.ledger.entry import Entry
from epad.ledger.errors import LedgerBusyError, LedgerError, LedgerUnavailableError

T = TypeVar("T")

CLOSE_WAIT_SECONDS = 0.005
"""How long a closing may wait for an opening to share its commit. A crash meanwhile leaves the turn open, and an
open one counts with all that it had reserved: never with too little."""


@dataclass(slots=True)
class Batch:
    """Records on their way to the disk, and who waits for each."""

    entries: list[Entry] = field(default_factory=list)
    futures: list[asyncio.Future[int]] = field(default_factory=list)

    def parts(self, most: int) -> Iterator[Batch]:
        """Yield the same in batches of at most so many."""
        for start in range(0, len(self.entries), most):
            end = start + most
            yield Batch(self.entries[start:end], self.futures[start:end])


@dataclass(frozen=True, slots=True)
class Call:
    """Something else for the writer's thread to do; `last` ends the thread."""

    work: Callable[[], Any]
    future: asyncio.Future[Any] | None
    last: bool = False


class Writer:
    """The thread, and the way to it; for callers on the event loop in which it was made.

    `write` appends entries durably and returns the result of each. `committed` is called on the thread after each
    commit and each call.
    """

    def __init__(
        self,
        path: Path,
        config: LedgerConfig,
        write: Callable[[list[Entry]], list[Any]],
        committed: Callable[[], None],
    ) -> None:
        self.commits = 0
        """Transactions that have reached the disk; stands still only while nothing is `waiting`."""
        self.waiting = 0
        """Records that callers wait for."""
        self._path = path
        self._config = config
        self._write = write
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Batch | Call] = SimpleQueue()
        self._gathered = Batch()
        self._handing_over = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._log = structlog.get_logger("epad.ledger")
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def handed_over(self) -> int:
        """Return how many of the waiting records the thread has."""
        return self.waiting - len(self._gathered.entries)

    def append(self, entry: Entry) -> asyncio.Future[int]:
        """Gather a record for the next hand-over; its number. Raises LedgerError, when awaited."""
        future: asyncio.Future[int] = self._loop.create_future()
        if self._closed:
            future.set_exception(LedgerUnavailableError(f"{self._path} is closed"))
        elif self.waiting >= self._config.waiting_turns:
            why = f"{self.waiting} records wait for the disk, the most ledger.waiting_turns allows"
            future.set_exception(LedgerBusyError(f"{self._path}: {why}"))
        else:
            self.waiting += 1
            self._gathered.entries.append(entry)
            self._gathered.futures.append(future)
        return future

    def hand_over_soon(self) -> None:
        """Hand the gathered records over once the loop has heard every caller of this turn of it."""
        if not self._handing_over:
            self._handing_over = True
            self._loop.call_soon(self._hand_over)

    def hand_over_later(self) -> None:
        """Hand the gathered records over within CLOSE_WAIT_SECONDS, or with others that come before."""
        if self._timer is None:
            self._timer = self._loop.call_later(CLOSE_WAIT_SECONDS, self._waited)

    def require_open(self) -> None:
        """Raise LedgerUnavailableError once the ledger is closed."""
        if self._closed:
            raise LedgerUnavailableError(f"{self._path} is closed")

    async def call(self, work: Callable[[], T]) -> T:
        """Do something between two commits; return its result. Raises its LedgerError."""
        self.require_open()
        result: T = await self._enqueue(Call(work, self._loop.create_future()))
        return result

    def note(self, work: Callable[[], Any]) -> None:
        """Do something between two commits, some time; from any thread."""
        self._queue.put(Call(work, None))

    async def close(self, last: Callable[[], None]) -> None:
        """Write what was gathered, do `last`, and end the thread. Nothing is taken from here on."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._enqueue(Call(last, self._loop.create_future(), last=True))
        finally:
            await asyncio.to_thread(self._thread.join)

    def abandon(self, last: Callable[[], None]) -> None:
        """Do `last`, and end the thread, without waiting for it."""
        self._closed = True
        self._queue.put(Call(last, None, last=True))

    async def _enqueue(self, call: Call) -> Any:
        self._hand_over()
        self._queue.put(call)
        return await call.future if call.future is not None else None

    def _hand_over(self) -> None:
        self._handing_over = False
        if self._gathered.entries:
            self._queue.put(self._gathered)
            self._gathered = Batch()

    def _waited(self) -> None:
        self._timer = None
        self._hand_over()

    def _run(self) -> None:
        """The thread: batches of records, and calls in between, in the order they came."""
        call: Call | None = None
        while call is None or not call.last:
            batch, call = self._take()
            for part in batch.parts(self._config.batch_turns):
                self._commit(part)
            if call is not None:
                outcome = outcome_of(call.work)
                self._tell_committed()
                if call.future is not None:
                    self._answer([call.future], [outcome], appended=0)

    def _take(self) -> tuple[Batch, Call | None]:
        """Wait for work; then take it, up to a call or a full batch."""
        batch = Batch()
        item = self._queue.get()
        with contextlib.suppress(Empty):
            while isinstance(item, Batch):
                batch.entries += item.entries
                batch.futures += item.futures
                if len(batch.entries) >= self._config.batch_turns:
                    return batch, None
                item = self._queue.get_nowait()
            return batch, item
        return batch, None

    def _commit(self, batch: Batch) -> None:
        results = outcome_of(lambda: self._write(batch.entries))
        if isinstance(results, Exception):
            results = [type(results)(*results.args) for _ in batch.entries]
        else:
            self.commits += 1
        self._tell_committed()
        self._answer(batch.futures, results, appended=len(results))

    def _tell_committed(self) -> None:
        failed = outcome_of(self._committed)
        if failed is not None:
            self._log.error("ledger.not_followed", error=str(failed))

    def _answer(self, futures: list[asyncio.Future[Any]], results: list[Any], *, appended: int) -> None:
        # The loop may be gone when the daemon is killed mid-write; what was written stays written.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, futures, results, appended)

    def _deliver(self, futures: list[asyncio.Future[Any]], results: list[Any], appended: int) -> None:
        """On the loop: tell the callers; one that was cancelled has its record all the same."""
        self.waiting -= appended
        for future, result in zip(futures, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def outcome_of(work: Callable[[], Any]) -> Any:
    """A result, or the error as a value: nothing may end the writer's thread but the ledger's closing."""
    try:
        return work()
    except LedgerError as error:
        return error
    except Exception as error:
        return LedgerUnavailableError(f"the ledger's writer failed: {error!r}")
