"""Define the answers to orders, to refusals, and about the limits that can be set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class Result(TypedDict):
    """Holds the results of an order, a sentence for each; it is about a name, or the host."""

    subsystem: str
    phase: str
    failed: bool
    results: Sequence[str]


class Refusal(TypedDict):
    """Gives the reason of a refusal: a code for programs, a sentence and the fix for people."""

    code: str
    message: str
    fix: str


class Error(TypedDict):
    """Answers a request that was refused."""

    error: Refusal


class Limit(TypedDict):
    """Holds one limit in its own unit: its origin, its use, and its rest; null if it is no limit."""

    scope: str
    name: str
    limit: float
    used: float
    left: float | None
    configured: float
    origin: str


class Budgets(TypedDict):
    """Holds every limit that there is."""

    budgets: Sequence[Limit]
