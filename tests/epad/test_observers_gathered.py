"""What the gateway saw in one turn of the event loop is told together, in order, and none of it is lost."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from epad.events import EventLog
from epad.observers import GatheredTurns, TurnFanout
from probes.turns import StreamObserver, TurnAdmitted, TurnFinished, TurnRefused, TurnStreamed
from statemachine.clock import ManualClock


class _NoEvents:
    """Keeps no event."""

    def emit(self, *_: object, **__: object) -> None:
        """Forget it."""


class _Heard:
    """Remembers what it is told; of the turn `bad` it cannot be told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def admitted(self, event: TurnAdmitted) -> None:
        self._hear("admitted", event.turn)

    def refused(self, event: TurnRefused) -> None:
        self._hear("refused", event.code)

    def finished(self, event: TurnFinished) -> None:
        self._hear("finished", event.turn)

    def streamed(self, event: TurnStreamed) -> str:
        self._hear("streamed", event.turn)
        return "it loops"

    def _hear(self, what: str, which: str) -> None:
        self.told.append((what, which))
        if which == "bad":
            raise ValueError(which)


def _admitted(turn: str) -> TurnAdmitted:
    return TurnAdmitted("a", 1.0, turn, "m", 10, b"")


def _finished(turn: str) -> TurnFinished:
    return TurnFinished("a", 2.0, turn, "done", 1, 1, 2)


def _gathered() -> tuple[GatheredTurns, _Heard]:
    heard = _Heard()
    return GatheredTurns(TurnFanout([heard], cast("EventLog", _NoEvents()), ManualClock())), heard


async def test_what_came_in_one_turn_of_the_loop_is_told_in_the_next_in_its_order() -> None:
    turns, heard = _gathered()
    turns.admitted(_admitted("1"))
    turns.finished(_finished("0"))
    turns.admitted(_admitted("2"))
    assert heard.told == []
    await asyncio.sleep(0)
    assert heard.told == [("admitted", "1"), ("finished", "0"), ("admitted", "2")]


async def test_what_is_streamed_or_refused_is_told_at_once_after_what_came_before() -> None:
    turns, heard = _gathered()
    assert isinstance(turns, StreamObserver)
    turns.admitted(_admitted("1"))
    assert turns.streamed(TurnStreamed("a", 1.5, "1", ("x",), 1)) == "it loops"
    turns.finished(_finished("1"))
    turns.refused(TurnRefused("a", 3.0, "budget_exceeded"))
    expected = [("admitted", "1"), ("streamed", "1"), ("finished", "1"), ("refused", "budget_exceeded")]
    assert heard.told == expected
    await asyncio.sleep(0)
    assert heard.told == expected


async def test_one_that_cannot_be_told_costs_itself_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns, heard = _gathered()
    said: list[object] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_exception_handler", said.append)
    for turn in ("1", "bad", "2"):
        turns.admitted(_admitted(turn))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [turn for _, turn in heard.told] == ["1", "bad", "2"]
    assert len(said) == 1
