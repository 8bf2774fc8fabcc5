"""Of the calls of the last minute, how many were retries, and how many failed."""

from __future__ import annotations

from probes.token_burn.thresholds import TokenBurnThresholds
from probes.token_burn.verdict import Detector, Verdict
from probes.token_burn.window import WindowSum
from probes.turns import TurnAdmitted, TurnFinished
from statemachine.containment import Rung
from statemachine.finding import Severity


class Ratios:
    """Counts them for one subsystem. Below `min_calls` a ratio means nothing."""

    def __init__(self, thresholds: TokenBurnThresholds) -> None:
        self._thresholds = thresholds
        seconds = thresholds.window_seconds
        self._calls, self._retries = WindowSum(seconds), WindowSum(seconds)
        self._ends, self._failures = WindowSum(seconds), WindowSum(seconds)

    def admitted(self, event: TurnAdmitted) -> Verdict | None:
        self._calls.add(event.at, 1)
        if event.retry > 0:
            self._retries.add(event.at, 1)
        return self._retrying(event.at)

    def finished(self, event: TurnFinished) -> Verdict | None:
        failed = event.outcome == "failed" or event.http_status >= 400
        self._ends.add(event.at, 1)
        if not failed:
            return None
        self._failures.add(event.at, 1)
        return self._failing(event)

    def _retrying(self, now: float) -> Verdict | None:
        t, retries = self._thresholds, self._retries.total(now)
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
            f"{retries} of its {calls} calls in {t.window_seconds:g} s were retries: look at what fails, "
            "retrying harder makes it worse",
            round(ratio, 3),
            t.retry_ratio if acting else t.retry_warn_ratio,
            "ratio",
            {"calls": calls, "retries": retries, "window_seconds": t.window_seconds},
        )

    def _failing(self, event: TurnFinished) -> Verdict | None:
        t, ends, failures = self._thresholds, self._ends.total(event.at), self._failures.total(event.at)
        if ends < t.min_calls or failures / ends < t.error_ratio:
            return None
        last = f", the last with HTTP {event.http_status}" if event.http_status else ""
        return Verdict(
            Detector.ERROR_RATIO,
            Severity.ANOMALY,
            t.rung(Detector.ERROR_RATIO),
            f"{failures} of its {ends} calls in {t.window_seconds:g} s failed{last}: is the upstream well, "
            "and does it take what is sent?",
            round(failures / ends, 3),
            t.error_ratio,
            "ratio",
            {
                "calls": ends,
                "failures": failures,
                "http_status": event.http_status,
                "window_seconds": t.window_seconds,
            },
        )
