"""Catch and false alarm, always together: either alone is half a measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from runners.wargame.consensus.measures import matthews
from runners.wargame.report.statistics import Proportion

Row = tuple[str, bool]
"""(label, flagged)"""


@dataclass(frozen=True, slots=True)
class Rates:
    """Catch and false alarm over one part of the scored rounds."""

    catch: Proportion
    false_alarm: Proportion

    @property
    def advantage(self) -> float | None:
        """Catch rate less false-alarm rate: always attack and always benign both have exactly 0."""
        if self.catch.rate is None or self.false_alarm.rate is None:
            return None
        return self.catch.rate - self.false_alarm.rate

    @property
    def matthews(self) -> float | None:
        caught, alarmed = self.catch.successes, self.false_alarm.successes
        return matthews(caught, self.catch.trials - caught, alarmed, self.false_alarm.trials - alarmed)

    def as_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "catch": self.catch.as_json(),
            "false_alarm": self.false_alarm.as_json(),
            "advantage": self.advantage,
            "matthews": self.matthews,
        }


def rates(rows: Iterable[Row]) -> Rates:
    """Count decided rounds."""
    counted = Counter((label, bool(flagged)) for label, flagged in rows)
    return Rates(
        Proportion(counted["attack", True], counted["attack", True] + counted["attack", False]),
        Proportion(counted["benign", True], counted["benign", True] + counted["benign", False]),
    )


def rates_by(rows: Iterable[tuple[str, str, bool]]) -> dict[str, Rates]:
    """Count (name, label, flagged) by name."""
    groups: dict[str, list[Row]] = {}
    for name, label, flagged in rows:
        groups.setdefault(name, []).append((label, bool(flagged)))
    return {name: rates(groups[name]) for name in sorted(groups)}
