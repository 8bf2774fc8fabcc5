"""Judge an upstream's health: by its answers to turns, and by epad's own looks.

| state     | begins with                                                            | ends with              |
|-----------|------------------------------------------------------------------------|------------------------|
| gone      | one turn that got no connection                                        | a look that is answered |
| loading   | a turn or a look that is told so; no connection while its process starts | a look that is answered |
| rejecting | two turns in a row whose key was refused                               | a look, or a turn       |
| failing   | half of at least ten turns of the last minute, where nobody was served; a hang | a look, or a turn |
| limiting  | a turn that is told to wait, for its model alone                       | the time it was told    |

In the first four the breaker is open: no turn goes there, and epad looks itself (`epad.gateway.looking`). A look says
that the server is well again where looks failed before; where they never did, as with a server that answers its health
route and fails every turn, one turn after the other is let through to try, `OPEN_SECONDS` apart.

A failed look alone opens nothing: where another upstream has the model, that is asked first; where none has, a turn
finds out better than a look does. One subsystem's failures shut nobody else out: who was served last time keeps the
breaker closed, and a breaker that one's failures have opened lets the others find out for themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from statemachine.clock import Clock

WINDOW_SECONDS = 60.0
LEAST_TURNS = 10
OPEN_RATIO = 0.5
# How long after the last turn that tried the next may: whoever waits for the server is served within two seconds.
OPEN_SECONDS = 1.0
# Where looks fail too, turns are kept away longer: but a look's route may be broken alone.
DOUBTED_SECONDS = 10.0
# One refusal of a key may be a server's mishap; the next turn finds out.
LEAST_REJECTIONS = 2
# However long a server says that it limits: its limits change, and nobody tells epad.
LONGEST_LIMIT_SECONDS = 600.0
SHORTEST_LIMIT_SECONDS = 1.0
# Of the turns in the window, so that memory is bounded; at this rate a minute of them is evidence enough.
_MOST_TURNS = 1_000
_MOST_LIMITS = 64


class State(StrEnum):
    """Names the state of an upstream; all but the first and the last keep turns away."""

    WELL = "well"
    GONE = "gone"
    LOADING = "loading"
    REJECTING = "rejecting"
    FAILING = "failing"
    LIMITING = "limiting"


# What one's own requests may bring about: a text that makes a server fail, or that a provider forbids.
_DOUBTFUL = frozenset({State.FAILING, State.REJECTING})
# Python 3.11 takes a third of a microsecond to find a member of an enum, and this is asked several times in every turn.
_WELL = State.WELL


@dataclass(frozen=True, slots=True)
class Look:
    """Holds the result of a look at an upstream; `reason` is empty if it is well."""

    state: State = State.WELL
    reason: str = ""


class _Ended(Struct, frozen=True, gc=False):
    at: float
    ok: bool
    who: str


@dataclass(frozen=True, slots=True)
class _Limit:
    until: float
    reason: str


_FINE = Look()


class Health:
    """Judges one upstream. `opened` is called whenever the breaker opens, so that a look follows."""

    def __init__(self, clock: Clock, opened: Callable[[], None] = lambda: None) -> None:
        self._clock = clock
        self._opened = opened
        self._ended: deque[_Ended] = deque(maxlen=_MOST_TURNS)
        self._failures = 0
        self._state = State.WELL
        self._why = ""
        self._since = clock.monotonic()
        self._try_at, self._kept_away_seconds = 0.0, 0.0
        self._tried_at = 0.0
        self._looks_failed = False
        self._rejections = 0
        self._look = _FINE
        self._limits: dict[str, _Limit] = {}
        self._failed_by: set[str] = set()

    @property
    def is_open(self) -> bool:
        """Tell if the breaker keeps turns away."""
        return self._state is not _WELL

    @property
    def state(self) -> State:
        """Return its present state."""
        if self.is_open:
            return self._state
        if self._look.reason:
            return self._look.state
        return State.LIMITING if self._limiting() is not None else State.WELL

    @property
    def since(self) -> float:
        """Return when the breaker opened or closed last."""
        return self._since

    @property
    def reason(self) -> str:
        """Return why it is not healthy; empty if it is. A limit is no illness."""
        if self.is_open:
            return f"breaker open: {self._why}" if self._state is State.FAILING else self._why
        return self._look.reason

    @property
    def why(self) -> str:
        """Return the text of the last failure, or of the last look."""
        return self._why if self.is_open else self._look.reason

    @property
    def limit(self) -> str:
        """Return the text of a server's limit; empty if none holds."""
        limit = self._limiting()
        return limit.reason if limit is not None else ""

    def seconds_until_asked(self, model: str = "", who: str = "") -> float:
        """Return how long a subsystem's turns for a model are kept away from it; 0 if one may go there now."""
        if self._state is _WELL and not self._limits:
            return 0.0
        wait = 0.0
        if self.is_open and not self._has_not_failed(who):
            # The difference of two moments is rounded: 10.000000000000114 for 10 was seen.
            wait = min(self._try_at - self._clock.monotonic(), self._kept_away_seconds)
        return max(0.0, wait, self.seconds_limited(model))

    def seconds_closed(self) -> float:
        """Return how long no turn at all goes there, as far as is known: its breaker's time, or its longest limit's."""
        if self.is_open:
            return self.seconds_until_asked()
        limit = self._limiting()
        return limit.until - self._clock.monotonic() if limit is not None else 0.0

    def seconds_limited(self, model: str) -> float:
        """Return how long the server itself told a model's turns to wait."""
        limit = self._limits.get(model)
        return max(0.0, limit.until - self._clock.monotonic()) if limit is not None else 0.0

    def ask(self, model: str = "", who: str = "") -> bool:
        """Take leave to send it one turn; an open breaker lets one through at a time, and only after a while."""
        if self._state is _WELL and not self._limits:
            return True
        if self.seconds_until_asked(model, who):
            return False
        if self.is_open and not self._has_not_failed(who):
            # Should its end never be told, the next may try after the same time again.
            self._tried_at = self._clock.monotonic()
            self._wait()
        return True

    def succeeded(self, who: str = "", model: str = "") -> None:
        """A turn was answered."""
        self._look, self._rejections = _FINE, 0
        self._limits.pop(model, None)
        self._close()
        self._count(who, ok=True)

    def failed(self, reason: str, who: str = "") -> None:
        """A turn was not answered, or with a failure of the server."""
        self._rejections = 0
        self._count(who, ok=False)
        enough = len(self._ended) >= LEAST_TURNS and self._failures >= OPEN_RATIO * len(self._ended)
        if self.is_open or (enough and not self._serves_somebody()):
            self._open(State.FAILING, reason)
            self._failed_by.update(ended.who for ended in self._ended if not ended.ok)

    def gone(self, reason: str, who: str = "", *, starting: bool = False) -> None:
        """A turn got no connection; `starting` if that is because its process has just begun."""
        self._count(who, ok=False)
        self._open(State.LOADING if starting else State.GONE, reason)

    def loading(self, reason: str) -> None:
        """A turn was told that the model is being loaded."""
        self._open(State.LOADING, reason)

    def rejected(self, reason: str, who: str = "") -> None:
        """A turn's key was refused."""
        self._rejections += 1
        self._count(who, ok=False)
        if self.is_open or (self._rejections >= LEAST_REJECTIONS and not self._serves_somebody()):
            self._open(State.REJECTING, reason)
            self._failed_by.update(ended.who for ended in self._ended if not ended.ok)

    def limited(self, reason: str, seconds: float, model: str = "") -> None:
        """A turn was told to wait; those of its model need not ask meanwhile."""
        self._rejections = 0
        seconds = min(max(seconds, SHORTEST_LIMIT_SECONDS), LONGEST_LIMIT_SECONDS)
        self._limits.pop(model, None)
        self._limits[model] = _Limit(self._clock.monotonic() + seconds, reason)
        if len(self._limits) > _MOST_LIMITS:
            del self._limits[next(iter(self._limits))]
        self._close()

    def unanswered(self, seconds: float) -> None:
        """A client left after so long without a byte. A server that does not answer looks either hangs."""
        if self._look.reason and not self.is_open:
            self._open(State.FAILING, f"nothing came for {seconds:.0f} s, and {self._look.reason}")

    def looked(self, look: Look | str) -> None:
        """A look at it ended: as one of those every few seconds, or as one of those while the breaker is open."""
        if isinstance(look, str):
            look = Look(State.FAILING if look else State.WELL, look)
        if look.state is State.REJECTING and self._serves_somebody():
            return  # turns are let in: the list of models alone is closed
        if look.state is State.REJECTING and self.is_open and self._state is not State.REJECTING:
            look = _FINE  # somebody is there; what becomes of turns, turns will tell
        self._look = look
        if not self.is_open:
            return
        if look.reason:
            self._looks_failed = True
            self._state, self._why = look.state, look.reason
        elif self._looks_failed or self._state in {State.GONE, State.LOADING}:
            self._close()
            return
        self._wait()

    def _open(self, state: State, why: str) -> None:
        begins = not self.is_open
        self._state, self._why = state, why
        if begins:
            self._since = self._tried_at = self._clock.monotonic()
            self._looks_failed = False
            self._failed_by.clear()
        self._wait()
        if begins:
            self._opened()

    def _wait(self) -> None:
        """Say when the next turn may try it."""
        seconds = DOUBTED_SECONDS if self._looks_failed and self._look.reason else OPEN_SECONDS
        self._try_at, self._kept_away_seconds = self._tried_at + seconds, seconds

    def _close(self) -> None:
        if not self.is_open:
            return
        self._state, self._why, self._look = State.WELL, "", _FINE
        self._since = self._clock.monotonic()
        self._rejections = 0
        self._ended.clear()
        self._failures = 0

    def _has_not_failed(self, who: str) -> bool:
        """Say whether turns of others alone have opened the breaker, and looks find nothing."""
        mine = not who or who in self._failed_by
        return self._state in _DOUBTFUL and not mine and not self._looks_failed

    def _serves_somebody(self) -> bool:
        """Say whether the last turn of any subsystem was answered."""
        last = {ended.who: ended.ok for ended in self._ended}
        return any(last.values())

    def _limiting(self) -> _Limit | None:
        now = self._clock.monotonic()
        return next((limit for limit in reversed(self._limits.values()) if limit.until > now), None)

    def _count(self, who: str, *, ok: bool) -> None:
        now = self._clock.monotonic()
        if len(self._ended) == _MOST_TURNS:
            self._drop()
        self._ended.append(_Ended(now, ok, who))
        self._failures += not ok
        while self._ended[0].at <= now - WINDOW_SECONDS:
            self._drop()

    def _drop(self) -> None:
        self._failures -= not self._ended.popleft().ok
