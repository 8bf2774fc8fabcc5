"""Count, among the calls of the last minute, the retries and the failures by the client's own fault.

`probes.blame` decides the fault of each failure. A failure by another's fault counts nowhere, so that an outage leaves
nothing in a window when it is over; nor does a retry that follows one, or a refusal by a limit that the client obeyed.
A client whose own requests are wrong costs nothing and is told so; only one that sends them many times a second, second
after second, is held.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from msgspec import Struct

from probes.blame import Fault, excuses_retry
from probes.token_burn.settings import TokenBurnSettings
from probes.token_burn.verdict import Detector, Verdict
from probes.token_burn.window import WINDOW_SLOTS, WindowSum
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.containment import Rung
from statemachine.finding import Severity

K = TypeVar("K")
V = TypeVar("V")

HAMMERING_PER_SECOND = 5.0
"""Wrong requests: a batch that never looks at its answers sends hundreds, one that backs off fewer than one."""

MAX_REMEMBERED = 1_024
"""Turns in flight, and prompts whose last end is known."""

_COUNTED = frozenset({Fault.NOBODY, Fault.CLIENT})
"""Whose fault an end is that counts: a client is not to blame for anybody else's."""


class _Before(Struct, frozen=True, gc=False):
    """Holds the ending of a prompt's last try, and the wait that the client was told."""

    fault: Fault
    at: float
    told_seconds: float = 0.0

    def excuses(self, now: float) -> bool:
        return excuses_retry(self.fault, waited_seconds=now - self.at, told_seconds=self.told_seconds)


@dataclass(frozen=True, slots=True)
class _Wrong:
    """The last request that was wrong: for which model, and with which status or refusal it was answered."""

    model: str = ""
    status: int = 0
    code: str = ""

    @property
    def what(self) -> str:
        return self.code or (f"HTTP {self.status}" if self.status else "no answer")


class Ratios:
    """Counts them for one subsystem. Below `min_calls` a ratio means nothing."""

    def __init__(self, settings: TokenBurnSettings) -> None:
        self._settings = settings
        seconds = settings.window_seconds
        self._calls, self._retries = WindowSum(seconds), WindowSum(seconds)
        self._ends, self._failures = WindowSum(seconds), WindowSum(seconds)
        self._hammered = Hammered(seconds)
        self._open: OrderedDict[str, TurnAdmitted] = OrderedDict()
        self._before: OrderedDict[bytes, _Before] = OrderedDict()
        self._wrong = _Wrong()

    def admitted(self, event: TurnAdmitted) -> Verdict | None:
        _remember(self._open, event.turn, event)
        if event.retry > 0 and self._is_excused(event):
            return None
        self._calls.add(event.at, 1)
        if event.retry > 0:
            self._retries.add(event.at, 1)
        return self._retrying(event.at) if self._retries.at_most else None

    def refused(self, event: TurnRefused) -> Verdict | None:
        """Take in a refusal: the weight of a retry after it, and the client's own fault."""
        # One that is turned away before its body is read has no digest: then any retry may be of it.
        before = _Before(event.fault, event.at, event.retry_after_seconds)
        _remember(self._before, event.prompt_digest, before)
        return self._failed(event.at, _Wrong(code=event.code)) if event.fault is Fault.CLIENT else None

    def finished(self, event: TurnFinished) -> Verdict | None:
        opened = self._open.pop(event.turn, None)
        if opened is not None and opened.prompt_digest:
            _remember(self._before, opened.prompt_digest, _Before(event.fault, event.at))
        if event.outcome == "failed" and event.fault is Fault.CLIENT:
            model = opened.model if opened is not None else ""
            return self._failed(event.at, _Wrong(model, event.http_status))
        if event.fault in _COUNTED:
            self._ends.add(event.at, 1)
        return None

    def verdict(self, now: float) -> Verdict | None:
        """Return the warning of the window as of now, if any."""
        if not (self._failures.at_most or self._retries.at_most):
            return None
        for verdict in (self._failing(now), self._retrying(now)):
            if verdict is not None and not verdict.bad:
                return verdict
        return None

    def _is_excused(self, event: TurnAdmitted) -> bool:
        """Tell if the former ending of the same request, or the last unread one, excuses the retry."""
        known = [self._before[key] for key in {event.prompt_digest, b""} if key in self._before]
        seconds = self._settings.window_seconds
        recent = [before for before in known if event.at - before.at <= before.told_seconds + seconds]
        last = max(recent, key=lambda before: before.at, default=None)
        return last is not None and last.excuses(event.at)

    def _failed(self, at: float, wrong: _Wrong) -> Verdict | None:
        self._wrong = wrong
        self._ends.add(at, 1)
        self._failures.add(at, 1)
        self._hammered.add(at)
        return self._failing(at)

    def _retrying(self, now: float) -> Verdict | None:
        t, retries = self._settings, self._retries.total(now)
        if not retries:
            return None
        calls = self._calls.total(now)
        ratio = retries / calls if calls >= t.min_calls else 0.0
        if ratio <= t.retry_warn_ratio:
            return None
        acting = ratio > t.retry_ratio
        return Verdict(
            Detector.RETRY_RATIO,
            Severity.ANOMALY if acting else Severity.WARNING,
            t.rung(Detector.RETRY_RATIO) if acting else Rung.OPEN,
            f"{retries} of its {calls} calls in {t.window_seconds:g} s were retries that nobody else gave a "
            "reason for: why does it ask again?",
            round(ratio, 3),
            t.retry_ratio if acting else t.retry_warn_ratio,
            "ratio",
            {"calls": calls, "retries": retries, "window_seconds": t.window_seconds},
        )

    def _failing(self, now: float) -> Verdict | None:
        t, ends, failures = self._settings, self._ends.total(now), self._failures.total(now)
        if ends < t.min_calls or failures / ends < t.error_ratio:
            return None
        acting = self._hammered.slots(now) >= t.hammering_slots
        model = f" of model {self._wrong.model}" if self._wrong.model else ""
        pace = (
            f", in {self._hammered.slots(now)} seconds of it more than {HAMMERING_PER_SECOND:g}"
            if acting
            else ""
        )
        return Verdict(
            Detector.ERROR_RATIO,
            Severity.ANOMALY if acting else Severity.WARNING,
            t.rung(Detector.ERROR_RATIO) if acting else Rung.OPEN,
            f"{failures} of its {ends} calls in {t.window_seconds:g} s were wrong{pace}, the last{model} with "
            f"{self._wrong.what}: correct what it sends",
            round(failures / ends, 3),
            t.error_ratio,
            "ratio",
            {
                "calls": ends,
                "failures": failures,
                "http_status": self._wrong.status,
                "code": self._wrong.code,
                "model": self._wrong.model,
                "window_seconds": t.window_seconds,
            },
        )


class Hammered:
    """In how many parts of the window came more than so many a second."""

    def __init__(self, seconds: float) -> None:
        self._slot_seconds = seconds / WINDOW_SLOTS
        self._least = max(2.0, HAMMERING_PER_SECOND * self._slot_seconds)
        self._slots = WindowSum(seconds)
        self._slot, self._count = -1, 0

    def add(self, at: float) -> None:
        """Count one."""
        slot = int(at // self._slot_seconds)
        if slot != self._slot:
            self._slot, self._count = slot, 0
        self._count += 1
        if self._count >= self._least:
            self._slots.add(at, 1)

    def slots(self, now: float) -> int:
        """Return how many of the window's parts they spanned."""
        return self._slots.slots(now)


def _remember(known: OrderedDict[K, V], key: K, value: V) -> None:
    if key in known:
        del known[key]
    known[key] = value
    if len(known) > MAX_REMEMBERED:
        known.popitem(last=False)
