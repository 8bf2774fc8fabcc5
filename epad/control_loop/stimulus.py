"""Define the decider's inputs: findings, the ends of operations, the passing of time, and a person's orders."""

from __future__ import annotations

from dataclasses import dataclass

from epad.control_loop.step import OperationEnded, Plan
from statemachine.finding import Finding
from statemachine.phase import Phase
from statemachine.situation import Order


@dataclass(frozen=True, slots=True)
class Released:
    """An order to let a subsystem go."""

    subsystem: str
    reason: str


@dataclass(frozen=True, slots=True)
class Paused:
    """An order to let a subsystem rest: nothing is wrong with it, so the phase does not change."""

    subsystem: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """Orders the end of a rest. Other holds of the subsystem go on."""

    subsystem: str


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order about the whole daemon."""

    order: Order
    reason: str


@dataclass(frozen=True, slots=True)
class Forced:
    """An order to enter a phase without waiting. Where nothing but time stood in the way, it is obeyed."""

    phase: Phase
    reason: str


@dataclass(frozen=True, slots=True)
class Requested:
    """Work asked for by a person or the schedule, which changes no phase."""

    plan: Plan


Stimulus = Finding | Released | Paused | Resumed | Ordered | Forced | Requested | OperationEnded | None
"""What the decider takes in; None is the passing of time."""
