"""A circuit breaker: after enough failures in a row nobody is asked until one probe has succeeded. No I/O."""

from __future__ import annotations

from runners.wargame.outcomes import CallOutcome
from runners.wargame.settings import Limits

# An answer of these is a decision against the caller, not a fault that may pass by the next call.
DECISIONS = frozenset({401, 402, 403})
LEAST_PAUSE_SECONDS = 1.0
_NEUTRAL = frozenset({CallOutcome.CIRCUIT_OPEN, CallOutcome.DEADLINE, CallOutcome.HTTP_429})


class Breaker:
    """The state of one model at one endpoint. `now` is any clock that only grows."""

    def __init__(self, model: str, limits: Limits) -> None:
        self.model = model
        self.reason = ""
        self.retry_at = 0.0
        self._limits = limits
        self._failures = 0
        self._pause_seconds = limits.pause_first_seconds

    @property
    def is_open(self) -> bool:
        """Tell if asking is pointless now."""
        return bool(self.reason)

    @property
    def has_hung(self) -> bool:
        """Tell if a whole call, every try of it, has failed since the last answer: it is not merely slow."""
        return self._failures > self._limits.retries

    def record(self, outcome: CallOutcome, status: int, detail: str, now: float) -> None:
        """Take in the outcome of a call."""
        if outcome in _NEUTRAL:
            return
        if not outcome.is_infrastructure:
            self._failures, self.reason, self._pause_seconds = 0, "", self._limits.pause_first_seconds
            return
        self._failures += 1
        if status in DECISIONS or self._failures >= self._limits.breaker_failures:
            self._open(f"{self.model}: {outcome} ({detail})", now, self._pause_seconds)

    def hold(self, seconds: float, detail: str, now: float) -> None:
        """Stay away for as long as the server asked for, within the longest pause."""
        wait = min(seconds, self._limits.pause_max_seconds)
        self._open(f"{self.model}: asked to wait {seconds:.0f} s ({detail})", now, wait)

    def postpone(self, now: float, asked_seconds: float = 0.0) -> None:
        """The probe failed: wait for as long as its answer asked for, else twice as long for the next.

        Who says when to come back knows better than a pause that doubles: it would be half an outage late.
        """
        if asked_seconds > 0:
            self.retry_at = now + min(max(asked_seconds, LEAST_PAUSE_SECONDS), self._limits.pause_max_seconds)
            return
        self._pause_seconds = min(2 * self._pause_seconds, self._limits.pause_max_seconds)
        self.retry_at = now + self._pause_seconds

    def _open(self, reason: str, now: float, seconds: float) -> None:
        if not self.is_open:
            self.retry_at = now + seconds
        self.reason = reason
