"""Judge how a subsystem uses its tools: in circles, in vain, against the gate, or for a flood of output.

| detector | is found |
|---|---|
| `identical_calls` | the same call with the same result again and again, with nothing new between |
| `failing_calls` | so many calls of a tool fail in a row |
| `refusals` | so many calls within a window that the gate does not let it make |
| `output_flood` | so many bytes of results within a window |

An honest one polls slower than `poll_seconds`, or does something between that it has not done before; it misses a file,
and runs into its tier, now and then; it reads many files.

Whoever is found is held at the tool first (`tool:NAME@SUBSYSTEM`), at its category if it goes on within
`memory_seconds`, and then as a whole. It goes on if it is found again there, or calls what is held for it
`persist_calls` times. Nobody else is held. A call that is refused by a hold, by a limit, or while a phase passes is no
attempt against the gate.

A tool that changes something which cannot be undone, although its changes could be before, is told as a warning
(`undo_full`): the store of the session is full. It holds nobody.

A category that takes longer than its own history is told as a warning (`latency`), and holds nobody: a CUSUM over the
logarithm of its seconds, against their mean and spread.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, Final

from probes.probe import Push
from probes.settings import EnforcedSettings
from probes.token_burn.window import WindowSum
from probes.tool_calls import ToolCalled
from statemachine.clock import Clock
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung
from statemachine.tool_targets import category_target, tool_target, whose
from statemachine.value_types import Count, Positive, Seconds

NAME: Final = "tools"
_MOST_CALLS: Final = 512
"""Different calls that are remembered of a subsystem; the oldest is forgotten first."""
_AGAINST_THE_GATE: Final = frozenset({"tier_too_low", "tool_not_given", "consent_refused"})
_BY_HOLD: Final = frozenset({"held"})
_TOLD_SECONDS: Final = 5.0
"""One finding stands for all attempts at what is held in this time."""
_LEAST_SPREAD: Final = 0.25
_CEILING: Final = 1.5


class Detector(StrEnum):
    """Names the anomalies that the probe acts upon."""

    IDENTICAL_CALLS = "identical_calls"
    FAILING_CALLS = "failing_calls"
    REFUSALS = "refusals"
    OUTPUT_FLOOD = "output_flood"


class ToolsSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets how many calls of a kind are too many."""

    identical_calls: Count
    identical_window_seconds: Seconds
    poll_seconds: Seconds
    failing_calls: Count
    refusals: Count
    refusal_window_seconds: Seconds
    output_bytes: Count
    output_window_seconds: Seconds
    persist_calls: Count
    memory_seconds: Seconds
    latency_history_calls: Count
    latency_deviations: Positive

    DETECTORS: ClassVar[frozenset[str]] = frozenset(Detector)


class _Stage(IntEnum):
    """Says how widely a subsystem is held for what it does with one category."""

    NONE = 0
    TOOL = 1
    CATEGORY = 2
    WHOLE = 3


@dataclass(slots=True)
class _Hold:
    """Holds the stage for one category, when it was last found, and the attempts at what is held since."""

    stage: _Stage = _Stage.NONE
    found_at: float = -math.inf
    target: str = ""
    attempts: int = 0
    last: Finding | None = None


@dataclass(slots=True)
class _Repeats:
    """Counts one call with one result: how often in a row with nothing new between, and when it last came."""

    count: int
    at: float


@dataclass(slots=True)
class _Caller:
    """Remembers one subsystem's calls."""

    output: WindowSum
    repeats: dict[tuple[str, bytes, bytes], _Repeats] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)
    refused_at: deque[float] = field(default_factory=deque)
    holds: dict[str, _Hold] = field(default_factory=dict)
    undoable: set[str] = field(default_factory=set)
    full_at: float = -math.inf


@dataclass(slots=True)
class _Latency:
    """Keeps the history of one category: mean and spread of the logarithm of its seconds, and the sum of excess."""

    calls: int = 0
    mean: float = 0.0
    variance: float = 0.0
    total: float = 0.0
    told: bool = False

    def add(self, seconds: float, history: int, deviations: float) -> None:
        value = math.log(max(seconds, 1e-3))
        if self.calls >= history:
            excess = (value - self.mean) / max(math.sqrt(self.variance), _LEAST_SPREAD) - 1.0
            self.total = min(max(0.0, self.total + excess), _CEILING * deviations)
            if self.total >= deviations:
                return  # nothing is learnt from what is slow
        self.calls = min(self.calls + 1, 10 * history)
        off = value - self.mean
        self.mean += off / self.calls
        self.variance += (off * (value - self.mean) - self.variance) / self.calls

    def is_news(self, deviations: float) -> bool:
        """Tell if it is slow, and was not when this was last asked."""
        was, self.told = self.told, self.total >= deviations
        return self.told and not was


class Tools:
    """Implements `Probe` and `ToolObserver`."""

    name = NAME

    def __init__(self, settings: ToolsSettings, *, clock: Clock, push: Push) -> None:
        self._settings = settings
        self._clock = clock
        self._push = push
        self._callers: dict[str, _Caller] = {}
        self._latency: dict[str, _Latency] = {}

    @property
    def interval_seconds(self) -> float:
        return self._settings.interval_seconds

    def called(self, event: ToolCalled) -> None:
        """Take note of the end of a call, and state at once what is found."""
        t = self._settings
        caller = self._callers.setdefault(event.subsystem, _Caller(WindowSum(t.output_window_seconds)))
        if event.is_refused:
            self._refused(caller, event)
            return
        if event.outcome not in {"done", "failed", "timed_out"}:
            return  # it was ended by a hold, its caller or the daemon
        self._latency.setdefault(event.category, _Latency()).add(
            event.seconds, t.latency_history_calls, t.latency_deviations
        )
        caller.output.add(event.at, event.output_bytes)
        self._undo(caller, event)
        self._again(caller, event)
        self._in_vain(caller, event)
        if (total := caller.output.total(event.at)) >= t.output_bytes:
            words = f"read {total} bytes by tools within {t.output_window_seconds:g} s"
            self._found(caller, event, Detector.OUTPUT_FLOOD, words, (total, t.output_bytes, "bytes"))
            caller.output = WindowSum(t.output_window_seconds)

    def forget(self, subsystem: str) -> None:
        """Start afresh with a subsystem that was released, or whose tool was."""
        self._callers.pop(whose(subsystem) or subsystem, None)

    async def sample(self) -> Sequence[Finding]:
        """State, once, which categories take longer than they used to."""
        now, limit = self._clock.monotonic(), self._settings.latency_deviations
        slow = [(name, one) for name, one in sorted(self._latency.items()) if one.is_news(limit)]
        return [
            Finding(
                NAME,
                category_target(category),
                Severity.WARNING,
                now,
                f"calls take longer than they used to ({math.exp(one.mean):.3f} s)",
                round(one.total, 1),
                limit,
                "deviations",
                {"detector": "latency", "usual_seconds": round(math.exp(one.mean), 3)},
                rung=Rung.OPEN,
            )
            for category, one in slow
        ]

    def _undo(self, caller: _Caller, event: ToolCalled) -> None:
        """State, once in a while, that a tool whose changes could be undone has made one that cannot."""
        if not event.changes:
            return
        if event.can_undo:
            caller.undoable.add(event.tool)
        elif event.tool in caller.undoable and event.at - caller.full_at > self._settings.memory_seconds:
            caller.full_at = event.at
            words = f"{event.tool} has made a change that cannot be undone: no more of its session is kept"
            evidence = {"detector": "undo_full", "tool": event.tool, "turn": event.turn}
            self._push(
                Finding(
                    NAME,
                    event.subsystem,
                    Severity.WARNING,
                    event.at,
                    words,
                    evidence=evidence,
                    rung=Rung.OPEN,
                )
            )

    def _again(self, caller: _Caller, event: ToolCalled) -> None:
        """Count the same call with the same result; anything new lets every count begin again."""
        t, key = self._settings, (event.tool, event.arguments, event.result)
        known = caller.repeats.pop(key, None)
        if known is None or event.at - known.at > t.identical_window_seconds:
            for other in caller.repeats.values():
                other.count = 0
            caller.repeats[key] = _Repeats(1, event.at)
            if len(caller.repeats) > _MOST_CALLS:
                del caller.repeats[next(iter(caller.repeats))]
            return
        polls = event.at - known.at >= t.poll_seconds
        caller.repeats[key] = again = _Repeats(1 if polls else known.count + 1, event.at)
        if again.count >= t.identical_calls:
            words = f"called {event.tool} {again.count} times with the same result, and nothing new between"
            held = again.count, t.identical_calls, "calls"
            self._found(caller, event, Detector.IDENTICAL_CALLS, words, held)
            again.count = 0

    def _in_vain(self, caller: _Caller, event: ToolCalled) -> None:
        if event.is_done:
            caller.failing.pop(event.tool, None)
            return
        count = caller.failing[event.tool] = caller.failing.get(event.tool, 0) + 1
        if count >= self._settings.failing_calls:
            words = f"called {event.tool} {count} times in a row in vain, last: {event.code}"
            held = count, self._settings.failing_calls, "calls"
            self._found(caller, event, Detector.FAILING_CALLS, words, held)
            caller.failing.pop(event.tool)

    def _refused(self, caller: _Caller, event: ToolCalled) -> None:
        t = self._settings
        if event.code in _BY_HOLD:
            self._against_a_hold(caller, event)
        elif event.code in _AGAINST_THE_GATE:
            times = caller.refused_at
            times.append(event.at)
            while times[0] <= event.at - t.refusal_window_seconds:
                times.popleft()
            if len(times) >= t.refusals:
                words = f"was refused {len(times)} times by the gate within {t.refusal_window_seconds:g} s"
                held = len(times), t.refusals, "refusals"
                self._found(caller, event, Detector.REFUSALS, f"{words}, last by {event.row}", held)
                times.clear()

    def _against_a_hold(self, caller: _Caller, event: ToolCalled) -> None:
        """Count an attempt at what is held for this caller: many of them are going on."""
        hold = caller.holds.get(event.category)
        if hold is None or hold.last is None or event.at - hold.found_at > self._settings.memory_seconds:
            return  # a person holds it
        hold.attempts += 1
        if hold.attempts >= self._settings.persist_calls and hold.stage is not _Stage.WHOLE:
            words = f"called {event.tool} {hold.attempts} times although {hold.target} is held"
            held = hold.attempts, self._settings.persist_calls, "calls"
            self._found(caller, event, Detector(hold.last.evidence["detector"]), words, held)
        elif event.at - hold.found_at >= _TOLD_SECONDS:
            self._state(hold, hold.last, event.at)

    def _found(
        self,
        caller: _Caller,
        event: ToolCalled,
        detector: Detector,
        words: str,
        held: tuple[int, int, str],
    ) -> None:
        """State an anomaly: of the tool at first, then of what is wider."""
        hold = caller.holds.setdefault(event.category, _Hold())
        if event.at - hold.found_at > self._settings.memory_seconds:
            hold.stage = _Stage.NONE
        hold.stage = _Stage(min(hold.stage + 1, _Stage.WHOLE))
        hold.attempts = 0
        hold.target = {
            _Stage.TOOL: tool_target(event.tool, event.subsystem),
            _Stage.CATEGORY: category_target(event.category, event.subsystem),
        }.get(hold.stage, event.subsystem)
        evidence: dict[str, Any] = {
            "detector": detector.value,
            "tool": event.tool,
            "turn": event.turn,
            "stage": hold.stage.name.lower(),
        }
        value, limit, unit = held
        reason = f"{event.subsystem} {words}"
        self._state(
            hold,
            Finding(NAME, hold.target, Severity.ANOMALY, event.at, reason, value, limit, unit, evidence),
            event.at,
        )

    def _state(self, hold: _Hold, finding: Finding, at: float) -> None:
        """State a finding as of now, and remember it."""
        hold.found_at, hold.last = at, replace(finding, at=at)
        self._push(hold.last)
