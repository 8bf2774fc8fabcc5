"""Count one scope of a budget: its windows, its caps, and the limits that a reservation would cross.

A reservation counts in full until it is settled, however long that takes; a settled turn counts from the moment of its
settling. Any spending in a window is therefore covered either by a settlement in that window or by a reservation still
open at its end, and no window, at any place, exceeds its limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from msgspec import Struct

from epad.configuration.schema import BudgetConfig, LimitsConfig, SharedBudgetConfig
from epad.gateway.money import microusd

IN_FLIGHT = "max_in_flight"
REQUESTS = "requests_per_minute"
OVERRUN = "overrun"
ENDED = "ended"
"""Stands in the place of a limit where an agent has ended, whose amount has been given back."""
IN_ALL_SECONDS = math.inf
# How long to wait for turns in flight to settle: nobody knows, so ask again soon.
IN_FLIGHT_RETRY_SECONDS = 1.0
# How long the most turns at once are remembered, and what stands for them before any turn has ended: a quarter of
# what is left to each lets eight at once begin on 20,000 tokens, the last of them with 494.
PARALLEL_SECONDS = 60.0
UNKNOWN_PARALLEL = 4


@dataclass(frozen=True, slots=True)
class WindowShape:
    """A sliding window: its limit's name, its length, and into how many buckets it is cut."""

    limit: str
    seconds: float
    buckets: int


# Expiry is by whole buckets: a spend counts up to one (1 s, 30 s, 5 min, 1 h) too long, never too short.
_SPANS = (
    ("per_minute", 60.0, 60),
    ("per_hour", 3_600.0, 120),
    ("per_day", 86_400.0, 288),
    ("per_month", 31 * 86_400.0, 744),
    ("in_all", IN_ALL_SECONDS, 1),
)
WINDOWS = tuple(WindowShape(f"tokens_{name}", seconds, buckets) for name, seconds, buckets in _SPANS)
MONEY_WINDOWS = tuple(WindowShape(f"microusd_{name}", seconds, buckets) for name, seconds, buckets in _SPANS)
_REQUEST_WINDOW = WindowShape(REQUESTS, 60.0, 60)
# A window counts a bucket longer than it is long.
REQUEST_SECONDS = _REQUEST_WINDOW.seconds * (1 + 1 / _REQUEST_WINDOW.buckets)
LONGEST_WINDOW_SECONDS = max(shape.seconds for shape in WINDOWS if math.isfinite(shape.seconds))


class Refused(Struct, frozen=True, gc=False):
    """Says why a reservation was not made. `permanent` means that no waiting helps: the request is too large."""

    scope: str
    limit: str
    allowed: int
    used: int
    asked: int
    retry_after_seconds: float
    permanent: bool = False


class Usage(NamedTuple):
    """Holds the spent or reserved part of a limit; a limit of 0 is none."""

    limit: int
    used: int


class Window:
    """Sums the amounts spent within the last `shape.seconds`, never less than the truth, in constant memory."""

    def __init__(self, shape: WindowShape) -> None:
        self.shape = shape
        self.spent = 0
        self._width = shape.seconds / shape.buckets
        # One bucket more than fit: the oldest still overlaps the window while the newest is filling.
        self._size = shape.buckets + 1
        self._amounts = [0] * self._size
        self._newest: int | None = None
        # Until this time there is nothing to forget: asked several times in every turn.
        self.stands_until = -math.inf

    def advance(self, now: float) -> None:
        """Forget amounts older than the window. Time that goes backwards is taken as standing still."""
        if now < self.stands_until:
            return
        bucket = math.floor(now / self._width)
        if self._newest is None:
            self._newest = bucket
        self.stands_until = (self._newest + 1) * self._width
        if bucket <= self._newest:
            return
        for passed in range(self._newest + 1, min(bucket, self._newest + self._size) + 1):
            self.spent -= self._amounts[passed % self._size]
            self._amounts[passed % self._size] = 0
        self._newest = bucket
        self.stands_until = (bucket + 1) * self._width

    def add(self, amount: int, at: float, now: float) -> None:
        """Count an amount spent at `at`; one older than the window is not counted."""
        if now >= self.stands_until:
            self.advance(now)
        newest = self._newest or 0
        bucket = math.floor(at / self._width)
        bucket = min(bucket, newest)
        if bucket > newest - self._size:
            self._amounts[bucket % self._size] += amount
            self.spent += amount

    def seconds_until_freed(self, amount: int, now: float) -> float | None:
        """Say when that much will have left the window; None if so much is not in it."""
        self.advance(now)
        if amount > self.spent:
            return None
        freed, newest = 0, self._newest or 0
        for bucket in range(newest - self._size + 1, newest + 1):
            freed += self._amounts[bucket % self._size]
            if freed >= amount:
                return max(0.0, (bucket + self._size) * self._width - now)
        return None


class Sum:
    """Sums all amounts ever spent: nothing leaves it."""

    stands_until = math.inf

    def __init__(self, shape: WindowShape) -> None:
        self.shape = shape
        self.spent = 0

    def advance(self, now: float) -> None:
        """Time changes nothing."""

    def add(self, amount: int, at: float, now: float) -> None:
        """Count a spent amount."""
        del at, now
        self.spent += amount

    def seconds_until_freed(self, amount: int, now: float) -> float | None:
        """Return None: waiting frees only the unused parts of open reservations."""
        del now
        return math.inf if amount <= self.spent else None


class Meter:
    """Counts one kind of amount in a scope: its reserved part, and its limited windows."""

    def __init__(self, scope: str, limits: dict[WindowShape, int]) -> None:
        self.reserved = 0
        # Whether there is any limit at all, and the smallest.
        self.limited = False
        self.smallest_limit: int | None = None
        self._scope = scope
        self._limited: tuple[tuple[Window | Sum, int], ...] = ()
        self._fresh: frozenset[WindowShape] = frozenset()
        self.change(limits)

    def change(self, limits: dict[WindowShape, int]) -> None:
        """Have these limits from now on. A window that had one keeps its count; a new one is fresh until told."""
        counted = {window.shape: window for window, _ in self._limited}
        self._limited = tuple(
            (counted.get(shape) or _window(shape), limit) for shape, limit in limits.items() if limit
        )
        self.limited = bool(self._limited)
        self.smallest_limit = min((limit for _, limit in self._limited), default=None)
        former = counted.keys() - self._fresh
        self._fresh = frozenset(window.shape for window, _ in self._limited) - former

    def told(self) -> None:
        """Note that the former spending has been counted in every window."""
        self._fresh = frozenset()

    @property
    def smallest(self) -> Refused | None:
        """Return the smallest limit, as the refusal of a larger amount; the used part may be from before."""
        if not self._limited:
            return None
        window, limit = min(self._limited, key=itemgetter(1))
        used = window.spent + self.reserved
        return Refused(self._scope, window.shape.limit, limit, used, 0, 0.0, True)

    def left(self, now: float) -> int | None:
        """Return how much may be reserved before a limit is reached; None if there is none."""
        least: int | None = None
        for window, limit in self._limited:
            if now >= window.stands_until:
                window.advance(now)
            left = limit - window.spent - self.reserved
            if least is None or left < least:
                least = left
        return 0 if least is not None and least < 0 else least

    def fits(self, amount: int, now: float) -> bool:
        """Say whether no limit would be crossed, which is the case nearly always; by how much is for `refuses`."""
        taken = self.reserved + amount
        for window, limit in self._limited:
            if now >= window.stands_until:
                window.advance(now)
            if window.spent + taken > limit:
                return False
        return True

    def too_large(self, amount: int, now: float) -> Refused | None:
        """Say which limit is smaller than the amount alone."""
        for window, limit in self._limited:
            if amount > limit:
                window.advance(now)
                used = window.spent + self.reserved
                return Refused(self._scope, window.shape.limit, limit, used, amount, 0.0, True)
        return None

    def refuses(self, amount: int, now: float) -> Refused | None:
        """Say which limit would be crossed, the one that takes longest to make room first."""
        longest: Refused | None = None
        for window, limit in self._limited:
            window.advance(now)
            used = window.spent + self.reserved
            if used + amount > limit:
                freed = window.seconds_until_freed(used + amount - limit, now)
                wait = IN_FLIGHT_RETRY_SECONDS if freed is None else freed
                if longest is None or wait > longest.retry_after_seconds:
                    longest = Refused(self._scope, window.shape.limit, limit, used, amount, wait)
        return longest

    def settle(self, reserved: int, spent: int, now: float) -> None:
        """Replace a reservation by the spent amount."""
        self.reserved -= reserved
        for window, _ in self._limited:
            window.add(spent, now, now)

    def spend(self, amount: int, at: float, now: float) -> None:
        """Count an amount spent at `at`."""
        for window, _ in self._limited:
            window.add(amount, at, now)

    def spent_before(self, amount: int, at: float, now: float) -> None:
        """Count, in the fresh windows alone, an amount spent before they were there."""
        for window, _ in self._limited:
            if window.shape in self._fresh:
                window.add(amount, at, now)

    def usage(self, now: float) -> dict[str, Usage]:
        """Report every limit, and the amount spent or reserved against it."""
        usages = {}
        for window, limit in self._limited:
            window.advance(now)
            usages[window.shape.limit] = Usage(limit, window.spent + self.reserved)
        return usages


class Parallel:
    """Tracks how many turns of a scope ran at once, of late: as many are to be expected again."""

    def __init__(self) -> None:
        self.known = False
        self._most = 0
        self._seen_at = -math.inf

    def began(self, under_way: int, now: float) -> None:
        """Count one more running turn."""
        if under_way >= self._most or now - self._seen_at >= PARALLEL_SECONDS:
            self._most, self._seen_at = under_way, now

    def ended(self) -> None:
        """Count the end of a turn: from now on the scope's habit is known."""
        self.known = True

    def expected(self, others: int) -> int:
        """Return how many more may come while so many others run, this one among them."""
        if not self.known or self._most <= others:
            return 1 if self.known and not others else UNKNOWN_PARALLEL
        return self._most - others


class Scope:
    """Holds one set of limits and the amounts that count against it: a subsystem's own, its group's, or everyone's."""

    def __init__(self, name: str, limits: BudgetConfig | SharedBudgetConfig) -> None:
        self.name = name
        self.in_flight = 0
        self.waiting = 0
        self.parallel = Parallel()
        self.overrun: Refused | None = None
        self.tokens = Meter(name, {})
        self.money = Meter(name, {})
        self.requests = Meter(name, {})
        self.change(limits)

    def change(self, limits: BudgetConfig | SharedBudgetConfig) -> None:
        """Replace the limits; the spent and reserved amounts stay."""
        self._max_in_flight = limits.max_in_flight
        self.tokens.change({shape: _limit(limits, shape) for shape in WINDOWS})
        self.money.change({shape: _limit(limits, shape) for shape in MONEY_WINDOWS})
        self.requests.change({_REQUEST_WINDOW: limits.requests_per_minute})
        # Whether there is any limit but that of turns at once.
        self.limited = self.tokens.limited or self.money.limited or self.requests.limited

    @property
    def max_in_flight(self) -> int:
        """Return how many turns at once; 0: any number."""
        return self._max_in_flight

    def told(self) -> None:
        """Note that the former spending has been counted."""
        for meter in (self.tokens, self.money, self.requests):
            meter.told()

    def fits(self, tokens: int, amount_microusd: int, now: float) -> bool:
        """Say whether a reservation would cross no limit at all."""
        if self.overrun is not None or (self._max_in_flight and self.in_flight >= self._max_in_flight):
            return False
        if not self.limited:
            return True
        if self.tokens.limited and not self.tokens.fits(tokens, now):
            return False
        if self.requests.limited and not self.requests.fits(1, now):
            return False
        return not self.money.limited or self.money.fits(amount_microusd, now)

    def refuses(self, tokens: int, amount_microusd: int, now: float) -> Refused | None:
        """Say which limit a reservation would cross, if any: one that no waiting helps with comes first."""
        if self.fits(tokens, amount_microusd, now):
            return None
        return (
            self.overrun
            or self.tokens.too_large(tokens, now)
            or self.money.too_large(amount_microusd, now)
            or self.crowded(now)
            or _longer(self.tokens.refuses(tokens, now), self.money.refuses(amount_microusd, now))
        )

    def too_much(self, tokens: int, amount_microusd: int, now: float) -> Refused | None:
        """Say which limit an amount would cross that is set aside for more than one turn."""
        return (
            self.overrun
            or self.tokens.too_large(tokens, now)
            or self.money.too_large(amount_microusd, now)
            or _longer(self.tokens.refuses(tokens, now), self.money.refuses(amount_microusd, now))
        )

    def crowded(self, now: float) -> Refused | None:
        """Say whether as many turns are in flight, or began within the minute, as may."""
        if self._max_in_flight and self.in_flight >= self._max_in_flight:
            allowed = self._max_in_flight
            return Refused(self.name, IN_FLIGHT, allowed, self.in_flight, 1, IN_FLIGHT_RETRY_SECONDS)
        return self.requests.refuses(1, now) if self.requests.limited else None

    def hold(self, tokens: int, amount_microusd: int, now: float) -> None:
        """Count a reservation."""
        self.tokens.reserved += tokens
        self.money.reserved += amount_microusd
        if self.requests.limited:
            self.requests.spend(1, now, now)
        self.in_flight += 1
        self.parallel.began(self.in_flight + self.waiting, now)

    def settle(self, held: tuple[int, int], spent: tuple[int, int], now: float) -> None:
        """Replace a reservation, in tokens and micro-USD, by the spent amount."""
        self.in_flight -= 1
        self.parallel.ended()
        self.tokens.settle(held[0], spent[0], now)
        if held[1] or spent[1]:
            self.money.settle(held[1], spent[1], now)

    def usage(self, now: float) -> dict[str, Usage]:
        """Report every limit by its name."""
        return self.tokens.usage(now) | self.money.usage(now) | self.requests.usage(now)


def _window(shape: WindowShape) -> Window | Sum:
    return Sum(shape) if math.isinf(shape.seconds) else Window(shape)


def _limit(limits: LimitsConfig, shape: WindowShape) -> int:
    unit, _, span = shape.limit.partition("_")
    if unit == "tokens":
        tokens: int = getattr(limits, shape.limit)
        return tokens
    return microusd(getattr(limits, f"usd_{span}"))


def _longer(first: Refused | None, second: Refused | None) -> Refused | None:
    if first is None or second is None:
        return first or second
    return max(first, second, key=lambda refused: refused.retry_after_seconds)
