"""Define the answers that commands of `epactl` make out of files, without the daemon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class Move(TypedDict):
    """A transition that happened (-), would have happened (+), or both (=)."""

    which: str
    at: str
    source: str
    trigger: str
    destination: str
    guard: str
    because: str


class RefusedTurns(TypedDict):
    """Counts the refusals of a subsystem's turns with a code, in the past and in the replay."""

    subsystem: str
    code: str
    did: int
    would: int


class Simulation(TypedDict):
    """Compares the past with its replay under other settings."""

    settings: Sequence[str]
    since: str
    until: str
    records: int
    lives: int
    same: bool
    transitions: Sequence[Move]
    refusals: Sequence[RefusedTurns]


class Recorded(Simulation):
    """The same, with the file that it is read from."""

    recording: str


class Key(TypedDict):
    """A key that the gateway takes, by its digest."""

    subsystem: str
    issued: str
    sha256: str
