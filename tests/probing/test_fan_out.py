"""What the gateway and the supervisor see, passed on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from epad_story import memory_database

from epad.metrics.registry import Metrics
from epad.probing.fan_out import REFUSAL_EVENT_SECONDS, ExitFanout, TurnFanout
from epad.storage.event_log import EventLog
from probes.subsystems import SubsystemExited
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.clock import ManualClock


class Watcher:
    """Remembers everything it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def admitted(self, event: TurnAdmitted) -> None:
        self.told.append(event)

    def refused(self, event: TurnRefused) -> None:
        self.told.append(event)

    def finished(self, event: TurnFinished) -> None:
        self.told.append(event)

    def exited(self, event: SubsystemExited) -> None:
        self.told.append(event)


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.watchers = [Watcher(), Watcher()]
        self.events = EventLog(memory_database(), self.clock)
        self.metrics = Metrics("test")
        self.turns = TurnFanout(self.watchers, self.events, self.clock)
        self.exits = ExitFanout(self.watchers[0], self.events, self.metrics)

    def refuse(self, subsystem: str = "chat", code: str = "budget_exceeded") -> None:
        at = self.clock.monotonic()
        self.turns.refused(TurnRefused(subsystem, at, code, "tokens_per_minute", 1_000, 900, 200))

    async def written(self) -> list[tuple[str, Mapping[str, object]]]:
        await self.events.flush()
        return [(event["subsystem"], event["fields"]) for event in await self.events.since(0, 100)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_every_observer_is_told_of_every_turn(bench: Bench) -> None:
    """Each refusal too, however few events they make."""
    admitted = TurnAdmitted("chat", 0.0, "t", "model", 10, b"")
    refused = TurnRefused("chat", 0.0, "budget_exceeded")
    finished = TurnFinished("chat", 0.0, "t", "done", 1, 2, 3)
    events = [admitted, refused, refused, refused, finished]
    bench.turns.admitted(admitted)
    for _ in range(3):
        bench.turns.refused(refused)
    bench.turns.finished(finished)
    assert [watcher.told for watcher in bench.watchers] == [events, events]


async def test_a_thousand_refusals_are_one_event_and_then_one_more(bench: Bench) -> None:
    """The next one, after a while, says how many there were in between."""
    for _ in range(1_000):
        bench.refuse()
    assert [fields["also_refused_since_last_event"] for _, fields in await bench.written()] == [0]
    bench.clock.advance(REFUSAL_EVENT_SECONDS)
    bench.refuse()
    (_, _), (name, fields) = await bench.written()
    assert name == "chat"
    assert fields == {
        "code": "budget_exceeded",
        "limit": "tokens_per_minute",
        "limit_tokens": 1_000,
        "used_tokens": 900,
        "asked_tokens": 200,
        "unit": "tokens",
        "also_refused_since_last_event": 999,
    }


async def test_one_subsystems_refusals_do_not_hide_anothers(bench: Bench) -> None:
    """Nor one code another."""
    for _ in range(3):
        bench.refuse()
        bench.refuse("game")
        bench.refuse("chat", "subsystem_quarantined")
    written = [(name, fields["code"]) for name, fields in await bench.written()]
    assert written == [
        ("chat", "budget_exceeded"),
        ("game", "budget_exceeded"),
        ("chat", "subsystem_quarantined"),
    ]


async def test_a_wall_clock_set_back_silences_no_event(bench: Bench) -> None:
    """The time between two is monotonic."""
    bench.refuse()
    bench.clock.advance(REFUSAL_EVENT_SECONDS)
    bench.clock.jump_wall_clock(-86_400)
    bench.refuse()
    assert len(await bench.written()) == 2


@pytest.mark.parametrize(
    ("wanted", "will_restart", "exits", "restarts"),
    [(False, True, 1, 1), (False, False, 1, 0), (True, False, 0, 0)],
)
async def test_an_exit_is_told_counted_and_written(
    bench: Bench, wanted: bool, will_restart: bool, exits: int, restarts: int
) -> None:
    """Only one that nobody asked for counts as an exit."""
    event = SubsystemExited("chat", 0.0, "exit 1", wanted, will_restart, "its policy is on-failure")
    bench.exits.exited(event)
    assert bench.watchers[0].told == [event]

    def count(name: str) -> float:
        return bench.metrics.registry.get_sample_value(name, {"subsystem": "chat"}) or 0

    assert (count("epad_subsystem_exits_total"), count("epad_subsystem_restarts_total")) == (exits, restarts)
    ((name, fields),) = await bench.written()
    assert name == "chat"
    assert (fields["status"], fields["wanted"], fields["will_restart"]) == ("exit 1", wanted, will_restart)
