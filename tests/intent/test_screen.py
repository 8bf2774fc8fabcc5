"""The screen beside the gateway: what is labelled and recorded, what is not and why; the child is a double here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import structlog
from patience import until

from epad.intent import metrics as series
from epad.intent import screen as screens
from epad.intent.child import IntentChildError, Judged
from epad.intent.screen import IntentScreen
from epad.ledger.entry import NoteScreened
from epad.metrics.registry import Metrics
from probes.intent import TurnScreened
from statemachine.clock import ManualClock

DIGEST = "ab" * 32
FAMILIES = (series.SCREENED, series.UNSCREENED, series.SECONDS)


class FakeChild:
    """Judges by a word in the body; fails, or waits, as long as it is told to."""

    def __init__(self) -> None:
        self.pids = frozenset[int]()
        self.batches: list[list[bytes]] = []
        self.failures = 0
        self.version = 1
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed = False

    async def judge(self, bodies: Sequence[bytes]) -> Judged:
        await self.gate.wait()
        self.batches.append(list(bodies))
        if self.failures:
            self.failures -= 1
            raise IntentChildError("it has died")
        each = tuple(
            ("attack", "injection", 0.9) if b"bad" in body else ("benign", "", 0.1) for body in bodies
        )
        return Judged(self.version, DIGEST, each)

    async def close(self) -> None:
        self.closed = True


class Place:
    """A screen with everything around it."""

    def __init__(self) -> None:
        self.child = FakeChild()
        self.notes: list[NoteScreened] = []
        self.seen: list[TurnScreened] = []
        self.metrics = Metrics(FAMILIES)
        self.told: dict[str, str] = {}
        self.screen = IntentScreen(
            self.child, self, self.metrics, self.seen.append, ManualClock(), structlog.get_logger()
        )

    def note_screened(self, screened: NoteScreened) -> asyncio.Future[int]:
        self.notes.append(screened)
        future = asyncio.get_running_loop().create_future()
        future.set_result(len(self.notes))
        return future

    def offer(self, turn: str, body: bytes = b"{}") -> None:
        self.screen.offer(turn, "agent", body, lambda word: self.told.__setitem__(turn, word))

    def unscreened(self, reason: str) -> float:
        return (
            self.metrics.registry.get_sample_value("epad_intent_unscreened_total", {"reason": reason}) or 0.0
        )

    def has_batches(self, count: int) -> bool:
        return len(self.child.batches) == count

    def recorded(self) -> list[str]:
        return [one.turn for note in self.notes for one in note.screenings]


@asynccontextmanager
async def placed() -> AsyncIterator[Place]:
    place = Place()
    place.screen.start()
    try:
        yield place
    finally:
        place.child.gate.set()
        await place.screen.close()
        assert place.child.closed


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens, "_PAUSES", (0.0,))


async def test_a_label_goes_to_the_ledger_the_probe_the_series_and_the_header() -> None:
    """All of one turn; and labels of a moment share a record."""
    async with placed() as place:
        place.offer("1", b'{"bad": 1}')
        place.offer("2")
        await until(lambda: len(place.recorded()) == 2, "both labels")
        [note] = place.notes
        assert (note.version, note.training_sha256.hex()) == (1, DIGEST)
        assert [(one.label, one.group, one.score) for one in note.screenings] == [
            ("attack", "injection", 900),
            ("benign", "", 100),
        ]
        assert [(one.turn, one.label) for one in place.seen] == [("1", "attack"), ("2", "benign")]
        assert place.told == {"1": "attack;group=injection;score=0.900", "2": "benign;score=0.100"}
        value = place.metrics.registry.get_sample_value
        assert value("epad_intent_turns_total", {"subsystem": "agent", "label": "attack"}) == 1


async def test_turns_that_come_during_a_batch_are_the_next_one() -> None:
    """No timer gathers them: a free child has a turn at once."""
    async with placed() as place:
        await until(lambda: place.child.batches == [[]], "the start")
        place.child.gate.clear()
        place.offer("first")
        await until(lambda: not place.screen._queue, "the first batch")
        for number in range(100):
            place.offer(str(number))
        place.child.gate.set()
        await until(lambda: len(place.seen) == 101, "all labels")
        assert [len(batch) for batch in place.child.batches] == [0, 1, 64, 36]


async def test_what_is_too_long_or_too_much_is_counted_and_left_out() -> None:
    """The queue has a bound in turns and in bytes, whatever the child does."""
    async with placed() as place:
        place.child.gate.clear()
        place.offer("long", b"x" * (screens.MOST_BYTES + 1))
        for number in range(screens.MOST_WAITING + 10):
            place.offer(str(number))
        assert (place.unscreened("too_long"), place.unscreened("busy")) == (1, 10)
    async with placed() as place:
        place.child.gate.clear()
        for number in range(20):
            place.offer(str(number), b"x" * screens.MOST_BYTES)
        assert place.unscreened("busy") == 4


async def test_a_child_that_fails_costs_its_batch_alone(no_pauses: None) -> None:
    """The turns of the batch have no label, later ones do."""
    async with placed() as place:
        await until(lambda: place.child.batches == [[]], "the start")
        place.child.failures = 2
        for number in range(3):
            place.offer(str(number))
            await until(partial(place.has_batches, number + 2), "a batch")
        await until(lambda: place.recorded() == ["2"], "the last label")
        assert place.unscreened("failed") == 2


async def test_another_version_begins_a_record_of_its_own() -> None:
    """A record names one version."""
    async with placed() as place:
        place.offer("1")
        await until(lambda: place.seen, "the first label")
        place.child.version = 2
        place.offer("2")
        await until(lambda: len(place.seen) == 2, "the second label")
        assert [note.version for note in place.notes] == [1]
        await until(lambda: len(place.notes) == 2, "the second record")
        assert [note.version for note in place.notes] == [1, 2]


async def test_what_was_judged_is_recorded_at_the_end() -> None:
    """Also if the daemon stops within the moment that labels wait for others."""
    async with placed() as place:
        place.offer("1")
        await until(lambda: place.seen, "the label")
    assert place.recorded() == ["1"]
