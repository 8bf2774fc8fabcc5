"""A ledger as a year of a workstation leaves it, written fast: the rows, heads, seals and sums of the real writer.

What is left out is the waiting: no turn comes through a gateway, and no commit waits for its fsync.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from epad.configuration.load import load
from epad.ledger.anchor import Anchor
from epad.ledger.append import Appender
from epad.ledger.batch import insert, rows_of, tail_of
from epad.ledger.entry import CloseTurn, OpenTurn, Stamp
from epad.ledger.head import Head
from epad.ledger.heads_and_segments import note_sealed, sum_up
from epad.ledger.paths import Places
from epad.ledger.record import Outcome, UsageSource
from epad.ledger.rows import Values, open_reader
from epad.ledger.seal import Sealer

YEAR_SECONDS = 365 * 86_400.0
BOOTS = 12
SUBSYSTEMS = ("writer", "coder", "reader", "chat")
ROWS = 8_192
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class GivenClock:
    """Both clocks, set by hand; the boot began at 0."""

    wall: float
    since_boot: float = 0.0

    def utc(self) -> datetime:
        return _EPOCH + timedelta(seconds=self.wall)

    def monotonic(self) -> float:
        return self.since_boot


class YearOfTurns:
    """Writes so many turns, evenly over the year that ends now, in lives of the machine of a month each."""

    def __init__(self, state: Path, turns: int, now: float) -> None:
        self._path = state / "ledger.db"
        self._places = Places.under(state, {})
        self._turns = turns
        self._began = now - YEAR_SECONDS - 60.0
        self._config = load().ledger
        self._clock = GivenClock(self._began)
        # As long a tail as there can be is left behind the newest seal.
        self._next_seal = max(0, 2 * turns - self._config.seal_records + 100) % self._config.seal_records

    def write(self) -> None:
        """Write it all, and end in order."""
        state = self._path.parent
        state.mkdir(parents=True, mode=0o700)
        for boot in range(BOOTS):
            first, last = self._turns * boot // BOOTS, self._turns * (boot + 1) // BOOTS
            self._live(f"boot-{boot}", range(first, last))

    def _live(self, boot: str, turns: range) -> None:
        anchor = Anchor.open(self._places)
        begun = self._at(turns.start) - 30.0
        self._clock.wall, self._clock.since_boot = begun, 0.0
        appender = Appender(self._path, self._config, self._clock, boot, anchor.read())
        appender.open()
        appender.connection().pragma("synchronous", "off")
        for numbers in _parts(turns, ROWS // 2):
            rows: list[Values] = []
            tail = appender.tail
            for number in numbers:
                at = self._at(number)
                self._clock.wall, self._clock.since_boot = at, at - begun
                rows += rows_of(
                    _turn(number), tail, Stamp(int(at * 1e9), boot, int((at - begun) * 1e9), appender.epoch)
                )
                tail = tail_of(rows)
            with appender.connection() as connection:
                insert(connection, rows)
            appender.tail = tail
            assert appender.frontier is not None
            appender.frontier.extend(row[6] for row in rows)
            self._seal(appender, anchor)
        assert appender.frontier is not None
        wall_ns = int(self._clock.wall * 1e9)
        head = Head(appender.frontier.size, appender.frontier.root(), appender.tail.link, wall_ns)
        anchor.write(head, log=True)
        appender.close()

    def _seal(self, appender: Appender, anchor: Anchor) -> None:
        sealer = Sealer(self._places.segments, anchor.signer)
        while (self._next_seal and appender.tail.seq >= self._next_seal) or (
            not self._next_seal and appender.tail.seq >= self._config.seal_records
        ):
            with contextlib.closing(open_reader(self._path)) as reader:
                seal = sealer.seal(
                    reader, self._next_seal or self._config.seal_records, int(self._clock.wall * 1e9)
                )
                if seal is None:
                    return
                sums = sum_up(reader, seal, anchor.signer)
            assert sums is not None
            appender.write(lambda db: note_sealed(db, seal, sums))  # noqa: B023 (called at once)
            self._next_seal = seal.trailer.last + self._config.seal_records

    def _at(self, number: int) -> float:
        return self._began + 60.0 + YEAR_SECONDS * number / self._turns


def _turn(number: int) -> Sequence[OpenTurn | CloseTurn]:
    """A turn as a workstation's: its name begins with nothing, which is as good in order as the clock."""
    turn, subsystem = f"{number:032x}", SUBSYSTEMS[number % len(SUBSYSTEMS)]
    opening = OpenTurn(
        turn=turn,
        subsystem=subsystem,
        dialect="openai",
        model="qwen2.5-coder:7b-instruct-q4_K_M",
        prompt_bound=1_800,
        output_cap=1_024,
        reserved_tokens=2_824,
        request_sha256=sha256(number.to_bytes(8, "big")).digest(),
        path="/v1/chat/completions",
    )
    return opening, CloseTurn(turn, subsystem, Outcome.DONE, 900, 100, 1_000, UsageSource.USAGE, 200)


def _parts(numbers: range, most: int) -> Iterator[range]:
    for start in range(numbers.start, numbers.stop, most):
        yield range(start, min(start + most, numbers.stop))
