"""Two runs beside each other: paired on the same rounds, and silent about better or worse when too much differs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from runners.wargame.report.count import Report
from runners.wargame.settings import differences

SURE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Paired:
    """Holds one rate on the rounds that both runs scored: how often only the first or only the second flagged."""

    rounds: int
    only_first: int
    only_second: int

    @property
    def p_value(self) -> float:
        """McNemar's exact test: how likely so lopsided a split is if both flag alike."""
        discordant = self.only_first + self.only_second
        fewer = min(self.only_first, self.only_second)
        tail = sum(math.comb(discordant, k) for k in range(fewer + 1)) / 2.0**discordant
        return min(1.0, 2.0 * tail)

    @property
    def difference(self) -> float | None:
        return (self.only_second - self.only_first) / self.rounds if self.rounds else None

    @property
    def least_detectable(self) -> float | None:
        """Return the difference that so many rounds, with so much discord, would show four times in five."""
        if not self.rounds:
            return None
        discord = max(self.only_first + self.only_second, 1) / self.rounds
        return (1.96 + 0.84) * math.sqrt(discord / self.rounds)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Holds the differences between two runs, and their effect."""

    differences: list[str]
    refusal: str
    catch: Paired
    false_alarm: Paired

    @property
    def verdict(self) -> str:
        """Say it in one sentence; a refusal if the runs cannot be compared."""
        if self.refusal:
            return f"NOT COMPARABLE: {self.refusal}"
        said = []
        for name, paired in (("catch", self.catch), ("false alarm", self.false_alarm)):
            difference, detectable = paired.difference, paired.least_detectable
            if difference is None or detectable is None:
                said.append(f"{name}: no common round")
            elif paired.p_value < SURE:
                said.append(f"{name} {100 * difference:+.1f} points (p = {paired.p_value:.3g})")
            else:
                said.append(
                    f"{name}: no difference shown (p = {paired.p_value:.2f}; "
                    f"{100 * detectable:.1f} points would have shown)"
                )
        return "; ".join(said)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "differences": self.differences,
            "comparable": not self.refusal,
            "verdict": self.verdict,
            "catch": asdict(self.catch) | {"p_value": self.catch.p_value},
            "false_alarm": asdict(self.false_alarm) | {"p_value": self.false_alarm.p_value},
        }


def compare(first: Report, second: Report) -> Comparison:
    """Compare the second run with the first, on the held-out rounds that both have scored."""
    changed = differences(_comparable(second.run.settings), _comparable(first.run.settings))
    return Comparison(
        changed,
        _refusal(first, second, changed),
        _paired(first, second, "attack"),
        _paired(first, second, "benign"),
    )


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return one key for each role, so that a change of one defender is one change."""
    flat = {key: value for key, value in settings.items() if key != "roles"}
    return flat | {f"role {role['name']}": role for role in settings["roles"]}


def _refusal(first: Report, second: Report, changed: list[str]) -> str:
    if first.engine != second.engine:
        return f"one run was {first.engine}, the other {second.engine}"
    for name, report in (("first", first), ("second", second)):
        if report.obstacles:
            return f"the {name} run is not reportable: {report.obstacles[0]}"
    if len(changed) > 1:
        return f"{len(changed)} things differ, so none of them can be given the credit: {'; '.join(changed)}"
    if any(change.startswith(("seed:", "scenarios:", "grammar_version:", "splits:")) for change in changed):
        return f"they did not play the same rounds ({changed[0]})"
    return ""


def _paired(first: Report, second: Report, label: str) -> Paired:
    ours, theirs = (
        {index: flagged for index, truth, flagged, _ in report.analysis.decided if truth == label}
        for report in (first, second)
    )
    common = ours.keys() & theirs.keys()
    return Paired(
        len(common),
        sum(ours[i] and not theirs[i] for i in common),
        sum(theirs[i] and not ours[i] for i in common),
    )
