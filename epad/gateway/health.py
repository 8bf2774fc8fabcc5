"""Whether an upstream is fit to be asked: by how it answered turns, and by a look at it every few seconds.

The breaker opens when half of at least ten turns of the last minute failed, stays open for half a minute, and
then lets one turn through to see. A failed look alone shuts nothing: where another upstream has the model, that
is asked first; where none has, a turn finds out better than a look does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from statemachine.clock import Clock

WINDOW_SECONDS = 60.0
LEAST_TURNS = 10
OPEN_RATIO = 0.5
OPEN_SECONDS = 30.0
# Of the turns in the window, so that memory is bounded; at this rate a minute of them is evidence enough.
_MOST_TURNS = 1_000


@dataclass(frozen=True, slots=True)
class _Ended:
    at: float
    ok: bool


class Health:
    """One upstream's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ended: deque[_Ended] = deque(maxlen=_MOST_TURNS)
        self._failures = 0
        self._open_until: float | None = None
        self._trying_until = 0.0
        self._last_failure = ""
        self._look_failed = ""

    @property
    def reason(self) -> str:
        """Why it is not healthy; empty if it is."""
        if self._open_until is not None:
            return f"breaker open: {self._last_failure}"
        return self._look_failed

    def seconds_until_asked(self) -> float:
        """How long the breaker keeps turns away from it; 0 if one may go there now."""
        if self._open_until is None:
            return 0.0
        now = self._clock.monotonic()
        return max(0.0, self._open_until - now, self._trying_until - now)

    def ask(self) -> bool:
        """Take leave to send it one turn; an open breaker lets one through at a time, and only after a while."""
        if self.seconds_until_asked():
            return False
        if self._open_until is not None:
            # Should its end never be told, the next may try after the same time again.
            self._trying_until = self._clock.monotonic() + OPEN_SECONDS
        return True

    def succeeded(self) -> None:
        """A turn was answered."""
        self._look_failed = ""
        if self._open_until is not None:
            self._open_until, self._trying_until = None, 0.0
            self._ended.clear()
            self._failures = 0
        self._count(ok=True)

    def failed(self, reason: str) -> None:
        """A turn was not answered, or with a failure of the server."""
        self._last_failure = reason
        self._count(ok=False)
        now = self._clock.monotonic()
        enough = len(self._ended) >= LEAST_TURNS and self._failures >= OPEN_RATIO * len(self._ended)
        if self._open_until is not None or enough:
            self._open_until, self._trying_until = now + OPEN_SECONDS, 0.0

    def looked(self, failure: str) -> None:
        """The look at it ended; with what failure, if any. A breaker is closed by turns alone."""
        self._look_failed = failure

    def _count(self, *, ok: bool) -> None:
        now = self._clock.monotonic()
        if len(self._ended) == _MOST_TURNS:
            self._drop()
        self._ended.append(_Ended(now, ok))
        self._failures += not ok
        while self._ended[0].at <= now - WINDOW_SECONDS:
            self._drop()

    def _drop(self) -> None:
        self._failures -= not self._ended.popleft().ok
