"""A table of states: the state that an event leads to, and a refusal in words for every pair without a row."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from epad.gateway.errors import StateError

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


class _Row(dict[Event, State]):
    """What each event makes of one state. As a dict it costs the request path no call."""

    def __init__(self, subject: str, moves: Mapping[Event, State]) -> None:
        super().__init__(moves)
        self._subject = subject

    def __missing__(self, event: Event) -> State:
        raise StateError(f"{self._subject} takes no {event}")


def state_table(
    who: str, moves: Mapping[State, Mapping[Event, State]]
) -> Mapping[State, Mapping[Event, State]]:
    """Return a table to be read as `TABLE[state][event]`, which raises StateError for a pair without a row."""
    return {state: _Row(f"{who} that is {state}", row) for state, row in moves.items()}
