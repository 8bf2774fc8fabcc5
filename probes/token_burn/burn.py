"""The day's budget, burnt too fast: several windows, each confirmed by its own last twelfth."""

from __future__ import annotations

import math
from dataclasses import dataclass

from probes.token_burn.settings import BurnWindow
from probes.token_burn.verdict import Detector, Verdict
from probes.token_burn.window import WINDOW_SLOTS, WindowSum
from statemachine.finding import Severity
from statemachine.rung import Rung

SHORT_SHARE = 12
"""The short window is this part of the long one (SRE workbook): a verdict ends soon after the burning does."""

MIN_TURNS = 10
"""Fewer turns than this are no rate: on a small budget a single large reservation is a share of the day."""


@dataclass(slots=True)
class _Sums:
    name: str
    window: BurnWindow
    long: WindowSum
    short: WindowSum
    turns: WindowSum


class BurnRate:
    """Counts spent tokens, and reserved ones in full, so that the request that exceeds a limit is found.

    Within a tick, the shortest slot there is, nothing leaves a window: new amounts are gathered, and as long as they
    fit the room that the tick began with, no window is over and none is asked.
    """

    def __init__(self, windows: dict[str, BurnWindow]) -> None:
        self._sums = [
            _Sums(
                name,
                window,
                WindowSum(window.seconds),
                WindowSum(window.seconds / SHORT_SHARE),
                WindowSum(window.seconds),
            )
            for name, window in windows.items()
        ]
        shortest = min((window.seconds for window in windows.values()), default=1.0)
        self._tick_seconds = shortest / SHORT_SHARE / WINDOW_SLOTS
        self._tick, self._rolls_at = -1, -math.inf
        self._at = 0.0
        self._gathered_turns = 0
        self._gathered_tokens = 0
        self._room: tuple[int, float] | None = None  # for a day's budget of so many tokens, what may come yet

    def admitted(self, at: float) -> None:
        """Count a turn; its reservation is handed to `verdict`, since it may change until it is settled."""
        if at >= self._rolls_at:
            self._roll(at)
        self._gathered_turns += 1

    def spent(self, at: float, tokens: int) -> None:
        if at >= self._rolls_at:
            self._roll(at)
        self._gathered_tokens += tokens

    def verdict(self, now: float, day_tokens: int, reserved: int) -> Verdict | None:
        """The firmest window that is over; None without a day's budget, for then there is no share of it."""
        if not day_tokens:
            return None
        if now >= self._rolls_at:
            self._roll(now)
        if self._room is None or self._room[0] != day_tokens:
            self._empty()
            self._room = (
                day_tokens,
                min((_room(sums, now, day_tokens) for sums in self._sums), default=math.inf),
            )
        if self._gathered_tokens + reserved <= self._room[1]:
            return None
        self._empty()
        over = [v for sums in self._sums if (v := _judge(sums, now, day_tokens, reserved)) is not None]
        return max(over, key=lambda verdict: (verdict.rung, verdict.value / verdict.limit), default=None)

    def _roll(self, at: float) -> None:
        tick = int(at // self._tick_seconds)
        if tick > self._tick:
            self._empty()
            self._tick, self._at = tick, at
            self._rolls_at = (tick + 1) * self._tick_seconds

    def _empty(self) -> None:
        """Add the gathered amounts to the sums."""
        turns, tokens = self._gathered_turns, self._gathered_tokens
        self._gathered_turns, self._gathered_tokens, self._room = 0, 0, None
        if not turns and not tokens:
            return
        for sums in self._sums:
            sums.turns.add(self._at, turns)
            sums.long.add(self._at, tokens)
            sums.short.add(self._at, tokens)


def _room(sums: _Sums, now: float, day_tokens: int) -> float:
    return sums.window.day_share * day_tokens - sums.long.total(now)


def _judge(sums: _Sums, now: float, day_tokens: int, reserved: int) -> Verdict | None:
    window = sums.window
    limit = window.day_share * day_tokens
    burnt = sums.long.total(now) + reserved
    if burnt <= limit:
        return None
    lately = sums.short.total(now) + reserved
    if lately <= limit / SHORT_SHARE or sums.turns.total(now) < MIN_TURNS:
        return None
    return Verdict(
        Detector.BURN_RATE,
        Severity.ANOMALY,
        Rung.labelled(window.rung),
        f"{burnt / day_tokens:.1%} of the day's budget in {window.seconds / 60:g} min ({reserved} tokens of it "
        f"reserved): {burnt * window.pace / limit:.1f} times the pace that lasts a day, "
        f"{window.pace:.1f} is the limit",
        burnt,
        limit,
        "tokens",
        {
            "window": sums.name,
            "window_seconds": window.seconds,
            "short_window_tokens": lately,
            "reserved_tokens": reserved,
            "day_tokens": day_tokens,
        },
    )
