"""Every pair of a turn's state and an event: the allowed ones lead where the table says, all others are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import product
from types import SimpleNamespace
from typing import Any, cast

import pytest

from epad.gateway import turn as turn_module
from epad.gateway.admission import Admitted
from epad.gateway.budget import Reservation
from epad.gateway.errors import StateError
from epad.gateway.refusal import STOPPING
from epad.gateway.turn import TABLE, Turn, TurnEvent, TurnState

# Written out once more: whoever changes a row says so here as well. A dot is a pair that is refused.
EXPECTED = """
            open        forward    sever       seal    finish
reserved    opening     .          called_off  unsent  .
opening     .           forwarded  called_off  unsent  .
forwarded   .           .          severed     sealed  .
called_off  called_off  severed    called_off  unsent  .
severed     .           .          severed     sealed  .
unsent      .           .          unsent      unsent  ended
sealed      .           .          sealed      sealed  ended
ended       .           .          ended       .       .
"""
FORWARDED = {TurnState.FORWARDED, TurnState.SEVERED, TurnState.SEALED}
Table = Mapping[TurnState, Mapping[TurnEvent, TurnState]]


def expected() -> dict[tuple[TurnState, TurnEvent], TurnState | None]:
    """Where each pair leads; None where it is refused."""
    head, *lines = [line.split() for line in EXPECTED.strip().splitlines()]
    return {
        (TurnState(state), TurnEvent(event)): None if to == "." else TurnState(to)
        for state, *row in lines
        for event, to in zip(head, row, strict=True)
    }


def a_turn(state: TurnState = TurnState.RESERVED) -> Turn:
    arrival = SimpleNamespace(ask=SimpleNamespace(choices=1), prompt=SimpleNamespace(tokens=7))
    turn = Turn("t1", cast("Any", arrival), Admitted(Reservation(1, "writer", 12), 5))
    turn.state = state
    return turn


def happen(turn: Turn, event: TurnEvent) -> None:
    """What `Turns`, the relay and `Access` do."""
    match event:
        case TurnEvent.OPEN:
            turn.opened(cast("Any", "the ledger's future"))
        case TurnEvent.FORWARD:
            turn.forward(1.0)
        case TurnEvent.SEVER:
            turn.sever(STOPPING)
        case TurnEvent.SEAL:
            turn.seal()
        case TurnEvent.FINISH:
            turn.finish()


def walk() -> Iterator[str]:
    """Have every event happen to a turn in every state, and name the pairs that do not do as is expected."""
    for (state, event), to in expected().items():
        turn = a_turn(state)
        turn._task = cast("Any", _Task())
        try:
            happen(turn, event)
        except StateError as error:
            if to is not None or str(error) != f"a turn that is {state} takes no {event}":
                yield f"{state} x {event}: {error}"
            continue
        if turn.state is not to:
            yield f"{state} x {event} leads to {turn.state}"
        elif turn._task.cancelling() != (event is TurnEvent.SEVER and to is not state):
            yield f"{state} x {event} interrupts {turn._task.cancelling()} times"


class _Task:
    """The handler of a turn; counts its interruptions."""

    cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1

    def cancelling(self) -> int:
        return self.cancelled


def broken_laws(table: Table) -> Iterator[str]:
    """The invariants of the header of `turn.py` that a table does not keep."""
    for state, row in table.items():
        for event, to in row.items():
            if event is TurnEvent.FORWARD and state not in {TurnState.OPENING, TurnState.CALLED_OFF}:
                yield f"{state} is forwarded, and the ledger does not know it"
            if state in FORWARDED and to not in {*FORWARDED, TurnState.ENDED}:
                yield f"{state} x {event} forgets that the upstream was asked"
            if state not in FORWARDED and to in FORWARDED and event is not TurnEvent.FORWARD:
                yield f"{state} x {event} charges for what was never forwarded"
        if TurnEvent.SEVER not in row:
            yield f"{state} cannot be severed: it may be at any moment"
        if state is not TurnState.ENDED and TurnState.ENDED not in reached(table, state):
            yield f"{state} has no end"
    if set(table[TurnState.ENDED].values()) != {TurnState.ENDED}:
        yield "a turn that has ended goes on"


def reached(table: Table, start: TurnState) -> set[TurnState]:
    found, todo = set[TurnState](), [start]
    while todo:
        new = set(table[todo.pop()].values()) - found
        found |= new
        todo += new
    return found


async def test_every_pair_of_state_and_event() -> None:
    """Forty of them, on a turn; what is refused is refused in words, and only a change by `sever` interrupts."""
    assert expected().keys() == set(product(TurnState, TurnEvent))
    assert list(walk()) == []


def test_the_table_keeps_the_invariants() -> None:
    """Opened before forwarded, charged if it was forwarded, and every turn comes to its end."""
    assert list(broken_laws(TABLE)) == []
    assert reached(TABLE, TurnState.RESERVED) == set(TurnState) - {TurnState.RESERVED}


@pytest.mark.parametrize(
    ("state", "event", "to", "fault"),
    [
        ("reserved", "forward", "forwarded", "reserved is forwarded, and the ledger does not know it"),
        ("sealed", "seal", "unsent", "sealed x seal forgets that the upstream was asked"),
        ("opening", "seal", "sealed", "opening x seal charges for what was never forwarded"),
        ("ended", "open", "opening", "a turn that has ended goes on"),
        ("sealed", "finish", "sealed", "sealed has no end"),
    ],
)
async def test_a_planted_row_is_found(
    monkeypatch: pytest.MonkeyPatch, state: str, event: str, to: str, fault: str
) -> None:
    """By the walk, and by the law that it breaks."""
    planted = {**TABLE, TurnState(state): {**TABLE[TurnState(state)], TurnEvent(event): TurnState(to)}}
    monkeypatch.setattr(turn_module, "TABLE", planted)
    assert any(found.startswith(f"{state} x {event}") for found in walk())
    assert fault in broken_laws(planted)


@pytest.mark.parametrize("state", list(TurnState))
def test_the_header_tells_every_state(state: TurnState) -> None:
    """A row each, in the order of the enum."""
    assert f"\n| {state.name} | " in (turn_module.__doc__ or "")


async def test_a_severed_turn_is_interrupted_once_and_keeps_the_first_reason() -> None:
    """The handler takes the interruption back, ends the answer, and is not interrupted again."""
    turn, task = a_turn(TurnState.FORWARDED), asyncio.current_task()
    assert task is not None
    first, second = STOPPING, cast("Any", "another reason")
    turn.sever(first)
    turn.sever(second)
    assert task.cancelling() == 1
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert (turn.was_severed(), turn.state, task.cancelling()) == (first, TurnState.SEALED, 0)
    assert turn.was_severed() is None  # the next cancellation is the client's
    turn.sever(second)
    assert task.cancelling() == 0
