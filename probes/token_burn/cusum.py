"""Add up the minutes that are busier than this subsystem's busy minutes ever were.

The textbook CUSUM over all minutes gave 38 false alarms a day on traffic that comes in sessions; against the mean of
the *busy* minutes plus one deviation it gave none (20 synthetic days). It counts tokens when they are reserved: the
reference is in the same measure, so the request that tips the sum is known as it comes, and a generous bound is
generous on both sides.
"""

from __future__ import annotations

import math

from probes.token_burn.settings import TokenBurnSettings
from probes.token_burn.verdict import Detector, Verdict
from statemachine.containment import Rung
from statemachine.finding import Severity

MINUTE_SECONDS = 60.0
MEMORY_MINUTES = 1_440
"""An older busy minute weighs less and less: what is usual may change, in about a day of busy minutes."""

LEAST_SPREAD = 0.25
"""Of the mean: a job of great regularity must not become an anomaly for a tenth more."""

CEILING = 1.5
"""Times `cusum_act`: after a great excess the sum comes down within minutes, not hours."""


class BusyMinutes:
    """The mean and the spread of busy minutes."""

    def __init__(self) -> None:
        self.minutes = 0
        self.mean = 0.0
        self._squares = 0.0

    def learn(self, tokens: int) -> None:
        self.minutes = min(self.minutes + 1, MEMORY_MINUTES)
        off = tokens - self.mean
        self.mean += off / self.minutes
        self._squares += (off * (tokens - self.mean) - self._squares) / self.minutes

    @property
    def spread(self) -> float:
        return max(math.sqrt(max(0.0, self._squares)), LEAST_SPREAD * self.mean, 1.0)


class BusyCusum:
    """The sum for one subsystem. It learns only from minutes in which nothing was wrong."""

    def __init__(self, settings: TokenBurnSettings) -> None:
        self._settings = settings
        self.reference = BusyMinutes()
        self._minute: int | None = None
        self._rolls_at = -math.inf
        self._tokens = 0
        self._tainted = False
        self._sum = 0.0
        self._acting_since: float | None = None

    def reserved(self, at: float, tokens: int) -> None:
        """Count a reservation."""
        if at >= self._rolls_at:
            self._roll(at)
        self._tokens += tokens

    def taint(self) -> None:
        """Something is wrong in this minute: nothing is learnt from it."""
        self._tainted = True

    def verdict(self, now: float) -> Verdict | None:
        if now >= self._rolls_at:
            self._roll(now)
        t = self._settings
        if self.reference.minutes < t.cusum_history_minutes:
            self._acting_since = None
            return None
        total = self._sum_now()
        if total < t.cusum_act:
            self._acting_since = None
        if total < t.cusum_warn:
            return None
        acting = total >= t.cusum_act
        if acting and self._acting_since is None:
            self._acting_since = now
        return self._verdict(total, now) if acting else self._warning(total)

    def _verdict(self, total: float, now: float) -> Verdict:
        t, rung = self._settings, self._settings.rung(Detector.BUSY_CUSUM)
        held = now - (now if self._acting_since is None else self._acting_since)
        patience = held >= t.cusum_patience_seconds
        still = f", and still so after {held / MINUTE_SECONDS:.0f} min" if patience else ""
        return self._state(
            Severity.ANOMALY, max(rung, Rung.FREEZE) if patience and rung else rung, total, t.cusum_act, still
        )

    def _warning(self, total: float) -> Verdict:
        return self._state(Severity.WARNING, Rung.OPEN, total, self._settings.cusum_warn, "")

    def _state(self, severity: Severity, rung: Rung, total: float, limit: float, still: str) -> Verdict:
        usual = self.reference
        return Verdict(
            Detector.BUSY_CUSUM,
            severity,
            rung,
            f"busier than its busy minutes are ({usual.mean:.0f} tokens reserved, give or take "
            f"{usual.spread:.0f}): {self._tokens} in this minute, {total:.1f} deviations in all{still}",
            round(total, 3),
            limit,
            "deviations",
            {
                "busy_mean_tokens": round(usual.mean),
                "busy_spread_tokens": round(usual.spread),
                "busy_minutes": usual.minutes,
                "minute_tokens": self._tokens,
            },
        )

    def _sum_now(self) -> float:
        """Return the sum with the minute that is not over yet: it can only add to it."""
        return min(self._sum + max(0.0, self._excess(self._tokens)), CEILING * self._settings.cusum_act)

    def _excess(self, tokens: int) -> float:
        return (tokens - self.reference.mean) / self.reference.spread - 1.0

    def _roll(self, now: float) -> None:
        minute = int(now // MINUTE_SECONDS)
        if self._minute is None:
            self._minute = minute
        self._rolls_at = max(minute, self._minute) * MINUTE_SECONDS + MINUTE_SECONDS
        passed = minute - self._minute
        if passed <= 0:
            return
        self._close()
        if passed > 1:
            self._sum = max(0.0, self._sum + (passed - 1) * self._excess(0))
        self._minute, self._tokens, self._tainted = minute, 0, False

    def _close(self) -> None:
        """A minute is over: add it, and learn from it if it was busy and nothing was wrong."""
        if self.reference.minutes >= self._settings.cusum_history_minutes:
            ceiling = CEILING * self._settings.cusum_act
            self._sum = min(max(0.0, self._sum + self._excess(self._tokens)), ceiling)
        if self._tokens and not self._tainted and self._sum < self._settings.cusum_warn:
            self.reference.learn(self._tokens)
