"""Track if epad itself was awake: silence during a standstill of its own loop is no evidence."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from statemachine.clock import Clock

MAX_LAGS = 256
"""How many are remembered; the oldest are forgotten."""

SLEEP_SECONDS = 15.0
"""No load keeps the loop from turning for so long: the machine slept."""


@dataclass(frozen=True, slots=True)
class Lag:
    """A time in which the event loop did not turn: it should have at `since`, and did at `until`."""

    since: float
    until: float

    @property
    def seconds(self) -> float:
        return self.until - self.since


class LoopLag:
    """Told at each beat of the loop; a beat that comes late is a lag. A suspended machine is one too."""

    def __init__(
        self, *, beat_seconds: float, lag_seconds: float, settle_seconds: float, clock: Clock
    ) -> None:
        self.beat_seconds = beat_seconds
        self._lag_seconds = lag_seconds
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._due: float | None = None
        self._lags: deque[Lag] = deque(maxlen=MAX_LAGS)
        self._worst = 0.0

    def beat(self) -> Lag | None:
        """Say that the loop turns; the lag that this beat ended, if it came too late."""
        now = self._clock.monotonic()
        due, self._due = self._due, now + self.beat_seconds
        late = 0.0 if due is None else max(0.0, now - due)
        self._worst = max(self._worst, late)
        if due is None or late < self._lag_seconds:
            return None
        lag = Lag(due, now)
        self._lags.append(lag)
        return lag

    def void(self, since: float, until: float) -> bool:
        """Say whether any of this time is void: the loop stood still then, or had only just begun to turn again.

        The lag that goes on at this moment counts: whoever asks may be the first to run after it.
        """
        if self._overdue(self._clock.monotonic()) and self._due is not None and self._due <= until:
            return True
        return any(lag.since <= until and since <= lag.until + self._settle_seconds for lag in self._lags)

    def void_since(self, since: float) -> bool:
        """Say whether any time from then to now is void."""
        return self.void(since, self._clock.monotonic())

    def slept_until(self, at: float) -> float:
        """Return when the machine last woke up before this time, now if the beat is that late; -inf: never."""
        if self._due is not None and at - self._due >= SLEEP_SECONDS:
            return at
        return max((lag.until for lag in self._lags if lag.seconds >= SLEEP_SECONDS), default=float("-inf"))

    def take_worst(self) -> float:
        """Return the latest that any beat was since this was last asked, in seconds."""
        worst, self._worst = self._worst, 0.0
        return worst

    def _overdue(self, now: float) -> bool:
        return self._due is not None and now - self._due >= self._lag_seconds
