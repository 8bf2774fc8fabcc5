"""Screen turns beside their way: a queue with a bound, batches to the child, labels on the record.

| a turn | what comes of it |
|---|---|
| offered | it waits for the batch under way, and is judged with all that came meanwhile |
| offered to a full queue, or too long | it is counted as unscreened, and why |
| judged | its label goes to the ledger within RECORD_SECONDS, to the probe, to the series, and to the answer's header |
| its batch fails | it is counted as unscreened |

Nothing here is awaited by a request, and no decision reads it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from epad.gateway.screening import Tell
from epad.intent.child import IntentChildError, Judged
from epad.intent.metrics import SCREENED, SECONDS, UNSCREENED
from epad.ledger.entry import NoteScreened
from epad.ledger.record import Screening
from epad.metrics.registry import Metrics
from probes.intent import TurnScreened
from statemachine.clock import Clock

MOST_BYTES: Final = 1 << 20
"""A longer request is not screened: to read one takes the child 10 ms."""
MOST_WAITING: Final = 512
MOST_WAITING_BYTES: Final = 16 << 20
BATCH: Final = 64
BATCH_BYTES: Final = 4 << 20
RECORD_SECONDS: Final = 0.25
"""Labels wait so long for others, so that a record holds many."""
_PAUSES: Final = (0.0, 0.5, 2.0, 8.0, 30.0)
"""How long to wait before the next attempt, after so many failures in a row."""


class Unscreened(StrEnum):
    """Says why a turn has no label."""

    TOO_LONG = "too_long"
    BUSY = "busy"
    FAILED = "failed"


class Judge(Protocol):
    """Judges requests; `IntentChild` is one."""

    async def judge(self, bodies: Sequence[bytes]) -> Judged: ...

    async def close(self) -> None: ...

    @property
    def pids(self) -> frozenset[int]: ...


class ScreenLedger(Protocol):
    """Records labels."""

    def note_screened(self, screened: NoteScreened) -> asyncio.Future[int]: ...


@dataclass(frozen=True, slots=True)
class _Offered:
    turn: str
    subsystem: str
    body: bytes
    tell: Tell


class IntentScreen:
    """Implements `Screen`. `observe` is told each label."""

    def __init__(
        self,
        child: Judge,
        ledger: ScreenLedger,
        metrics: Metrics,
        observe: Callable[[TurnScreened], None],
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self.child = child
        self._ledger = ledger
        self._observe = observe
        self._clock = clock
        self._log = log
        self._screened, self._unscreened = metrics.of(SCREENED), metrics.of(UNSCREENED)
        self._seconds = metrics.of(SECONDS)
        self._queue: deque[_Offered] = deque()
        self._bytes = 0
        self._come = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._labels: list[Screening] = []
        self._of: tuple[int, str] = (0, "")
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0

    def offer(self, turn: str, subsystem: str, body: bytes, tell: Tell) -> None:
        """Take a turn as it is forwarded."""
        size = len(body)
        if size > MOST_BYTES:
            self._unscreened.labels(Unscreened.TOO_LONG).inc()
        elif len(self._queue) >= MOST_WAITING or self._bytes + size > MOST_WAITING_BYTES:
            self._unscreened.labels(Unscreened.BUSY).inc()
        else:
            self._queue.append(_Offered(turn, subsystem, body, tell))
            self._bytes += size
            self._come.set()

    def start(self) -> None:
        """Judge from now on; the child is started at once, since that takes it a second."""
        self._running = asyncio.create_task(self._run(), name="intent")

    async def close(self) -> None:
        """Judge no more, record what has been judged, and end the child."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._record()
        await self.child.close()

    async def _run(self) -> None:
        await self._judge([])
        while True:
            if not self._queue:
                self._come.clear()
                await self._come.wait()
            await asyncio.sleep(_PAUSES[min(self._failures, len(_PAUSES) - 1)])
            await self._judge(self._batch())

    def _batch(self) -> list[_Offered]:
        batch, size = list[_Offered](), 0
        while self._queue and len(batch) < BATCH and size < BATCH_BYTES:
            batch.append(self._queue.popleft())
            size += len(batch[-1].body)
        self._bytes -= size
        return batch

    async def _judge(self, batch: list[_Offered]) -> None:
        begun = self._clock.monotonic()
        try:
            judged = await self.child.judge([one.body for one in batch])
        except IntentChildError as error:
            self._failures += 1
            self._unscreened.labels(Unscreened.FAILED).inc(len(batch))
            self._log.warning(
                "intent.not_judged", turns=len(batch), failures=self._failures, error=str(error)
            )
            return
        self._failures = 0
        now = self._clock.monotonic()
        for one, verdict in zip(batch, judged.verdicts, strict=True):
            self._seconds.add((), now - begun)
            self._tell(one, verdict, now)
        self._keep(batch, judged)

    def _tell(self, one: _Offered, verdict: tuple[str, str, float], now: float) -> None:
        label, group, chance = verdict
        self._screened.labels(one.subsystem, label).inc()
        one.tell(f"{label};group={group};score={chance:.3f}" if group else f"{label};score={chance:.3f}")
        self._observe(TurnScreened(one.subsystem, now, one.turn, label, group, chance))

    def _keep(self, batch: list[_Offered], judged: Judged) -> None:
        """Keep labels for the next record; those of another version begin one of their own."""
        if (judged.version, judged.digest) != self._of:
            self._record()
            self._log.info("intent.version", version=judged.version, training_sha256=judged.digest)
            self._of = judged.version, judged.digest
        self._labels += [
            Screening(one.turn, one.subsystem, label, group, round(1000 * chance))
            for one, (label, group, chance) in zip(batch, judged.verdicts, strict=True)
        ]
        if len(self._labels) >= BATCH:
            self._record()
        elif self._labels and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RECORD_SECONDS, self._record)

    def _record(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._labels:
            return
        labels, self._labels = self._labels, []
        version, digest = self._of
        noted = self._ledger.note_screened(NoteScreened(tuple(labels), version, bytes.fromhex(digest)))
        noted.add_done_callback(self._recorded)

    def _recorded(self, noted: asyncio.Future[int]) -> None:
        error = None if noted.cancelled() else noted.exception()
        if error is not None:
            self._log.error("intent.not_recorded", error=str(error))
