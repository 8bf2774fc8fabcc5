"""Decide which subsystems the gateway is open to now, and cut the turns of one it is closed to.

The daemon rebuilds the holds from its journal at every start; nothing is decided by memory alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from epad.gateway import refusal
from epad.gateway.refusal import Refusal
from statemachine.clock import Clock
from statemachine.containment import Hold, Rung

# A throttled subsystem gets one request in this time: enough to show life, too few to burn.
THROTTLE_INTERVAL_SECONDS = 10.0

# A client that hammers is told the same words for this long: when a hold ends is worked out once in that time.
WORDS_SECONDS = 1.0

_OPEN = Hold(Rung.OPEN)


class Severable(Protocol):
    """A turn in flight."""

    def sever(self, why: Refusal) -> None:
        """Stop the upstream and end the client's answer with its dialect's own error."""
        ...


class Access:
    """Holds by subsystem, the cuts that concern everyone, and the turns in flight."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._holds: dict[str, Hold] = {}
        self._throttled_until: dict[str, float] = {}
        self._closed = ""
        self._turns: dict[str, set[Severable]] = {}
        self._words: dict[str, tuple[float, str]] = {}
        self.tell: Callable[[str], str] = lambda _: ""
        """Says in one line how a subsystem is held, until when, and what ends it; empty where nobody knows more."""
        self.held_now: Callable[[str], None] = lambda _: None
        """Called with each subsystem that comes under a hold."""

    def hold(self, name: str, rung: Rung, reason: str) -> None:
        """Hold a subsystem at `rung`. Turns in flight drain; `sever` ends them."""
        if rung is Rung.OPEN:
            self.release(name)
        else:
            self._holds[name] = Hold(rung, reason)
            self._words.pop(name, None)
            self.held_now(name)

    def release(self, name: str) -> None:
        """Open to the subsystem again."""
        self._holds.pop(name, None)
        self._throttled_until.pop(name, None)
        self._words.pop(name, None)

    def held(self, name: str) -> Hold:
        """Say how a subsystem is held, and why."""
        return self._holds.get(name, _OPEN)

    def quarantined(self) -> tuple[str, ...]:
        """Name those that are held at block or above, sorted."""
        return tuple(sorted(name for name, hold in self._holds.items() if hold.rung >= Rung.BLOCK))

    def close_all(self, reason: str) -> None:
        """Shut to everyone; an empty reason opens again."""
        self._closed = reason

    def check(self, name: str) -> Refusal | None:
        """Decide about one request as it arrives. A throttled subsystem's allowance is taken by it."""
        if not self._closed and name not in self._holds:
            return None
        return self.shut(name) or self._throttle(name)

    def shut(self, name: str) -> Refusal | None:
        """Say why the gateway is shut to a subsystem, if it is; takes nothing, so it may be asked again."""
        if self._closed:
            return refusal.closed("gateway_closed", self._closed)
        hold = self._holds.get(name)
        if hold is None or hold.rung < Rung.BLOCK:
            return None
        return refusal.quarantined(name, hold.rung, hold.reason, self._line(name))

    def enter(self, name: str, turn: Severable) -> None:
        """Remember a turn in flight."""
        self._turns.setdefault(name, set()).add(turn)

    def leave(self, name: str, turn: Severable) -> None:
        """Forget a turn that ended."""
        turns = self._turns.get(name, set())
        turns.discard(turn)
        if not turns:
            self._turns.pop(name, None)

    def sever(self, name: str | None = None, why: Refusal | None = None) -> int:
        """End the turns in flight of one subsystem, or of all; return how many there were."""
        names = list(self._turns) if name is None else [name]
        severed: set[Severable] = set()
        for each in names:
            reason = why or self.shut(each) or refusal.quarantined(each, Rung.BLOCK, "its turns were severed")
            turns = set(self._turns.get(each, ())) - severed  # a tool's is under several names
            for turn in turns:
                turn.sever(reason)
            severed |= turns
        return len(severed)

    def _throttle(self, name: str) -> Refusal | None:
        hold = self.held(name)
        if hold.rung is not Rung.THROTTLE:
            return None
        now = self._clock.monotonic()
        wait = self._throttled_until.get(name, now) - now
        if wait > 0:
            return refusal.throttled(name, hold.reason, wait, self._line(name))
        self._throttled_until[name] = now + THROTTLE_INTERVAL_SECONDS
        return None

    def _line(self, name: str) -> str:
        now = self._clock.monotonic()
        at, line = self._words.get(name, (float("-inf"), ""))
        if now - at >= WORDS_SECONDS:
            line = self.tell(name)
            self._words[name] = (now, line)
        return line
