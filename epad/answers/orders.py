"""The answers to orders, to what was refused, and about the limits that can be set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class Result(TypedDict):
    """What came of an order, a sentence for each thing that was done; it is about a name, or the host."""

    subsystem: str
    phase: str
    failed: bool
    results: Sequence[str]


class Refusal(TypedDict):
    """Why something was not done: a code for programs, a sentence and what to do for people."""

    code: str
    message: str
    fix: str


class Error(TypedDict):
    """The answer to what was not done."""

    error: Refusal


class Limit(TypedDict):
    """One limit in its own unit: who set it, what is used, and what is left; null if it is no limit."""

    scope: str
    name: str
    limit: float
    used: float
    left: float | None
    configured: float
    origin: str


class Budgets(TypedDict):
    """Every limit that there is."""

    budgets: Sequence[Limit]
