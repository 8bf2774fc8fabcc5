"""What a subsystem may still spend. Pure and synchronous: between the check and the reservation nothing awaits.

A reservation counts in full until it is settled, however long that takes; a settled turn counts from the
moment of its settling. Tokens made at any time in a window are therefore covered either by a settlement in
that window or by a reservation still open at its end, and no window, wherever it is laid, exceeds its limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from epad.config import BudgetConfig
from epad.gateway.errors import BudgetError

GLOBAL_SCOPE = "all"
IN_FLIGHT = "max_in_flight"
# How long to wait for turns in flight to settle: nobody knows, so ask again soon.
_IN_FLIGHT_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class WindowShape:
    """A sliding window: its limit's name, its length, and into how many buckets it is cut."""

    limit: str
    seconds: float
    buckets: int


# Expiry is by whole buckets, so a spend counts up to one bucket (1 s, 30 s, 5 min) too long, never too short.
WINDOWS = (
    WindowShape("tokens_per_minute", 60.0, 60),
    WindowShape("tokens_per_hour", 3_600.0, 120),
    WindowShape("tokens_per_day", 86_400.0, 288),
)
LONGEST_WINDOW_SECONDS = max(shape.seconds for shape in WINDOWS)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Tokens held for one turn until it is settled."""

    number: int
    subsystem: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a reservation was not made. `permanent` means that no waiting helps: the request is too large."""

    scope: str
    limit: str
    allowed: int
    used: int
    asked: int
    retry_after_seconds: float
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Spend:
    """Tokens spent before a restart, and how long ago."""

    subsystem: str
    tokens: int
    age_seconds: float


class Usage(NamedTuple):
    """How much of a limit is spent or reserved; a limit of 0 is none."""

    limit: int
    used: int


class Window:
    """Tokens spent within the last `shape.seconds`, never less than the truth, in constant memory."""

    def __init__(self, shape: WindowShape) -> None:
        self.shape = shape
        self.spent_tokens = 0
        self._width = shape.seconds / shape.buckets
        # One bucket more than fit: the oldest still overlaps the window while the newest is filling.
        self._size = shape.buckets + 1
        self._tokens = [0] * self._size
        self._newest: int | None = None

    def advance(self, now: float) -> None:
        """Forget what is older than the window. Time that goes backwards is taken as standing still."""
        bucket = math.floor(now / self._width)
        if self._newest is None:
            self._newest = bucket
            return
        for passed in range(self._newest + 1, min(bucket, self._newest + self._size) + 1):
            self.spent_tokens -= self._tokens[passed % self._size]
            self._tokens[passed % self._size] = 0
        self._newest = max(self._newest, bucket)

    def add(self, tokens: int, at: float, now: float) -> None:
        """Count tokens spent at `at`; those older than the window are not counted."""
        self.advance(now)
        if self._newest is None:
            raise BudgetError("a window that was not advanced has no now")
        bucket = min(math.floor(at / self._width), self._newest)
        if bucket > self._newest - self._size:
            self._tokens[bucket % self._size] += tokens
            self.spent_tokens += tokens

    def seconds_until_freed(self, tokens: int, now: float) -> float | None:
        """Say when that many spent tokens will have left the window; None if so many are not in it."""
        self.advance(now)
        if self._newest is None or tokens > self.spent_tokens:
            return None
        freed = 0
        for bucket in range(self._newest - self._size + 1, self._newest + 1):
            freed += self._tokens[bucket % self._size]
            if freed >= tokens:
                return max(0.0, (bucket + self._size) * self._width - now)
        return None


class Scope:
    """One set of limits and what counts against it: a subsystem's own, or everyone's together."""

    def __init__(self, name: str, limits: BudgetConfig) -> None:
        self.name = name
        self.limits = limits
        self.reserved_tokens = 0
        self.in_flight = 0
        self._windows = tuple(Window(shape) for shape in WINDOWS)
        self._limited = tuple(
            (window, self._limit(window)) for window in self._windows if self._limit(window)
        )

    def refuses(self, tokens: int, now: float) -> Refused | None:
        """Say which limit a reservation would cross, if any: one that no waiting helps with comes first."""
        for window, limit in self._limited:
            if tokens > limit:
                return Refused(
                    self.name, window.shape.limit, limit, self._used(window, now), tokens, 0.0, True
                )
        crowded = self.crowded()
        if crowded is not None:
            return crowded
        longest: Refused | None = None
        for window, limit in self._limited:
            used = self._used(window, now)
            if used + tokens > limit:
                wait = _wait(window, used + tokens - limit, now)
                if longest is None or wait > longest.retry_after_seconds:
                    longest = Refused(self.name, window.shape.limit, limit, used, tokens, wait)
        return longest

    def crowded(self) -> Refused | None:
        """Say whether as many turns are in flight as may be."""
        allowed = self.limits.max_in_flight
        if self.in_flight < allowed:
            return None
        return Refused(self.name, IN_FLIGHT, allowed, self.in_flight, 1, _IN_FLIGHT_RETRY_SECONDS)

    def hold(self, tokens: int) -> None:
        """Count a reservation."""
        self.reserved_tokens += tokens
        self.in_flight += 1

    def settle(self, reserved: int, spent: int, now: float) -> None:
        """Replace a reservation by what was spent."""
        self.reserved_tokens -= reserved
        self.in_flight -= 1
        self.spend(spent, now, now)

    def spend(self, tokens: int, at: float, now: float) -> None:
        """Count tokens spent at `at`."""
        for window in self._windows:
            window.add(tokens, at, now)

    def usage(self, now: float) -> dict[str, Usage]:
        """Report every limit, and the tokens spent or reserved against it."""
        return {
            window.shape.limit: Usage(self._limit(window), self._used(window, now))
            for window in self._windows
        }

    def _limit(self, window: Window) -> int:
        limit: int = getattr(self.limits, window.shape.limit)
        return limit

    def _used(self, window: Window, now: float) -> int:
        window.advance(now)
        return window.spent_tokens + self.reserved_tokens


def _wait(window: Window, excess_tokens: int, now: float) -> float:
    wait = window.seconds_until_freed(excess_tokens, now)
    return _IN_FLIGHT_RETRY_SECONDS if wait is None else wait


class Budgets:
    """Every subsystem's budget and the cap on all of them together; one owner, one counter."""

    def __init__(self, budgets: Mapping[str, BudgetConfig], max_in_flight: int) -> None:
        self._everyone = Scope(GLOBAL_SCOPE, BudgetConfig(max_in_flight=max_in_flight))
        self._own = {name: Scope(name, limits) for name, limits in budgets.items()}
        self._open: dict[int, Reservation] = {}
        self._number = 0

    def covers(self, subsystem: str) -> bool:
        """Say whether the subsystem is configured; a key may outlive its subsystem."""
        return subsystem in self._own

    @property
    def subsystems(self) -> tuple[str, ...]:
        """Every subsystem with a budget."""
        return tuple(self._own)

    def crowded(self, subsystem: str) -> Refused | None:
        """Foresee, from nothing but who asks, that no reservation can be made: no body need be read for that."""
        own, everyone = self._scopes(subsystem)
        return own.crowded() or everyone.crowded()

    def reserve(self, subsystem: str, tokens: int, now: float) -> Reservation | Refused:
        """Hold `tokens`, or say which limit they would cross. Raises BudgetError for an unknown subsystem."""
        if tokens < 0:
            raise BudgetError(f"{subsystem}: cannot reserve {tokens} tokens")
        scopes = self._scopes(subsystem)
        for scope in scopes:
            refused = scope.refuses(tokens, now)
            if refused is not None:
                return refused
        for scope in scopes:
            scope.hold(tokens)
        self._number += 1
        reservation = Reservation(self._number, subsystem, tokens)
        self._open[reservation.number] = reservation
        return reservation

    def settle(self, reservation: Reservation, tokens: int, now: float) -> int:
        """Replace the reservation by what was spent, all of it; return by how much that exceeds it.

        Raises BudgetError if the reservation is not open.
        """
        if tokens < 0 or self._open.pop(reservation.number, None) is None:
            raise BudgetError(f"{reservation} cannot be settled with {tokens} tokens: settled before?")
        for scope in self._scopes(reservation.subsystem):
            scope.settle(reservation.tokens, tokens, now)
        return max(0, tokens - reservation.tokens)

    def restore(self, spends: Iterable[Spend], now: float) -> None:
        """Count what was spent before a restart, at its age. Those of unknown subsystems count for everyone."""
        for spend in spends:
            scopes = self._scopes(spend.subsystem) if self.covers(spend.subsystem) else (self._everyone,)
            for scope in scopes:
                scope.spend(spend.tokens, now - max(0.0, spend.age_seconds), now)

    def snapshot(self, subsystem: str, now: float) -> dict[str, Usage]:
        """Report the subsystem's limits by name, and what is spent or reserved against each."""
        return self._scope(subsystem).usage(now)

    def _scope(self, subsystem: str) -> Scope:
        scope = self._own.get(subsystem)
        if scope is None:
            raise BudgetError(f"{subsystem!r} has no budget: it is not in [subsystems]")
        return scope

    def _scopes(self, subsystem: str) -> tuple[Scope, ...]:
        return self._scope(subsystem), self._everyone
