"""Measure the worth of the votes: every rule learnt on the calibration families and tried on the held-out ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from runners.wargame.consensus import stack
from runners.wargame.consensus.judgement import COLD_BELOW, LOG_ODDS, STACK, FixedRule, Judgement, learn
from runners.wargame.consensus.log_odds import fit_tempered
from runners.wargame.consensus.measures import (
    Bin,
    Point,
    auc,
    brier,
    calibration_error,
    catch_at,
    clustered_interval,
    log_loss,
    precision_at,
    reliability,
    roc,
)
from runners.wargame.consensus.rounds import Judged
from runners.wargame.consensus.voters import Worth, effective_voters, error_correlation, worth_of_roles
from runners.wargame.consensus.weighted import Ballot
from runners.wargame.outcomes import VoteKind
from runners.wargame.report.rates import Rates, rates, rates_by
from runners.wargame.report.statistics import Proportion
from runners.wargame.store import RunRow, Store

BASE_RATES: Final = (0.5, 0.1, 0.01)


@dataclass(frozen=True, slots=True)
class RuleResult:
    """Holds one rule on the held-out families. The last three need a probability, so a mere score has none."""

    rates: Rates
    threshold: float
    auc: float | None
    catch_at_1_percent: float | None
    catch_at_5_percent: float | None
    brier: float | None
    log_loss: float | None
    calibration_error: float | None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"rates": self.rates.as_json()}


@dataclass(frozen=True, slots=True)
class FamilyIntervals:
    """The headline's 95 % intervals if families are drawn, not rounds; None where they cannot be told so."""

    catch: tuple[float, float] | None
    false_alarm: tuple[float, float] | None


def family_intervals(families: Mapping[str, Rates]) -> FamilyIntervals:
    """Draw whole families with replacement: rounds of one family are alike, and more of them teach little."""

    def interval(shares: Sequence[Proportion]) -> tuple[float, float] | None:
        def rate(rows: Sequence[tuple[float, ...]]) -> float | None:
            trials = sum(row[1] for row in rows)
            return sum(row[0] for row in rows) / trials if trials else None

        found = clustered_interval([[(share.successes, share.trials)] for share in shares], rate)
        # Where nothing varies, drawing again shows no width, which is no sign that there is none.
        return found if found and found[0] < found[1] else None

    rates = families.values()
    return FamilyIntervals(interval([r.catch for r in rates]), interval([r.false_alarm for r in rates]))


@dataclass(frozen=True, slots=True)
class Analysis:
    """Holds the judgement of a run and its grounds."""

    judgement: Judgement
    calibration_rounds: int
    held_out_rounds: int
    headline: Rates
    by_family: FamilyIntervals
    calibration: Rates
    in_grammar: Rates
    families: Mapping[str, Rates]
    categories: Mapping[str, Rates]
    rules: Mapping[str, RuleResult]
    correlations: Mapping[tuple[str, str], float | None]
    effective_voters: float | None
    worth: Mapping[str, Worth]
    roc: Sequence[Point]
    reliability: Sequence[Bin]
    decided: Sequence[tuple[int, str, bool, float]]
    """(round, label, flagged, score) of the held-out rounds in order."""

    @property
    def precision(self) -> dict[str, float | None]:
        """Return the headline's precision at base rates that a deployment may have."""
        return _precision(self.headline.catch.rate, self.headline.false_alarm.rate)

    @property
    def least_precision(self) -> dict[str, float | None]:
        """At the bad ends of both intervals: no false alarm in 2,500 rounds is not a precision of 1."""
        catch, alarm = self.headline.catch.interval, self.headline.false_alarm.interval
        return _precision(catch and catch[0], alarm and alarm[1])

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "rule": self.judgement.chosen,
            "why": self.judgement.why,
            "calibration_rounds": self.calibration_rounds,
            "held_out_rounds": self.held_out_rounds,
            "headline": self.headline.as_json(),
            "headline_intervals_by_family": asdict(self.by_family),
            "calibration": self.calibration.as_json(),
            "in_grammar": self.in_grammar.as_json(),
            "precision_at_base_rate": self.precision,
            "least_precision_at_base_rate": self.least_precision,
            "rules": {name: result.as_json() for name, result in self.rules.items()},
            "held_out_families": {name: r.as_json() for name, r in self.families.items()},
            "held_out_categories": {name: r.as_json() for name, r in self.categories.items()},
            "error_correlation": {f"{a}~{b}": phi for (a, b), phi in self.correlations.items()},
            "effective_voters": self.effective_voters,
            "worth_of_roles": {role: asdict(worth) for role, worth in self.worth.items()},
            "roc": [asdict(point) for point in self.roc],
            "reliability": [asdict(one) for one in self.reliability],
        }


def _precision(catch: float | None, alarm: float | None) -> dict[str, float | None]:
    if catch is None or alarm is None:
        return {}
    return {f"{rate:.0%}": precision_at(catch, alarm, rate) for rate in BASE_RATES}


@dataclass(frozen=True, slots=True)
class _Round:
    """A scored round with where it belongs."""

    judged: Judged
    split: str
    category: str

    @property
    def label(self) -> str:
        return "attack" if self.judged.is_attack else "benign"


def analyse(store: Store, run: RunRow) -> Analysis:
    """Learn, decide and measure; a function of the stored votes alone."""
    rounds = _rounds(store, run)
    calibration = [one.judged for one in rounds if one.split == "calibrate"]
    held_out = [one for one in rounds if one.split == "evaluate"]
    judgement = learn(calibration, run.settings["false_alarm_ceiling"], run.settings["threshold"])
    rule = judgement.rule
    scored = [(rule.rule.score(one.judged.ballots), one.judged.is_attack) for one in held_out]
    correlations = error_correlation([one.judged for one in rounds])
    families = rates_by((one.judged.family, one.label, rule.flags(one.judged)) for one in held_out)
    return Analysis(
        judgement,
        len(calibration),
        len(held_out),
        headline=_rates(rule, held_out),
        by_family=family_intervals(families),
        calibration=_rates(rule, [one for one in rounds if one.split == "calibrate"]),
        in_grammar=_rates(rule, [one for one in rounds if one.split == "train"]),
        families=families,
        categories=rates_by((one.category, one.label, rule.flags(one.judged)) for one in held_out),
        rules={name: _result(fixed, held_out) for name, fixed in judgement.rules.items()},
        correlations=correlations,
        effective_voters=effective_voters(correlations, len(run.settings["roles"])),
        worth=_worth(judgement, calibration, [one.judged for one in held_out]),
        roc=roc(scored),
        reliability=reliability(scored) if rule.is_calibrated else [],
        decided=[
            (one.judged.index, one.label, rule.flags(one.judged), score)
            for one, (score, _) in zip(held_out, scored, strict=True)
        ],
    )


def _rounds(store: Store, run: RunRow) -> list[_Round]:
    ballots: dict[int, list[Ballot]] = {}
    for idx, role, weight, kind, confidence in store.rows(
        "SELECT idx, role, weight, kind, coalesce(confidence, 0) FROM vote WHERE run_id = ? ORDER BY idx, role",
        (run.run_id,),
    ):
        ballots.setdefault(idx, []).append(Ballot(role, weight, VoteKind(kind), confidence))
    rows = store.rows(
        "SELECT idx, label, family, split, category FROM round WHERE run_id = ? AND state = 'scored' ORDER BY idx",
        (run.run_id,),
    )
    return [
        _Round(Judged(label == "attack", family, tuple(ballots.get(idx, ())), idx), split, category)
        for idx, label, family, split, category in rows
    ]


def _rates(rule: FixedRule, rounds: Sequence[_Round]) -> Rates:
    return rates((one.label, rule.flags(one.judged)) for one in rounds)


def _result(fixed: FixedRule, held_out: Sequence[_Round]) -> RuleResult:
    scored = [(fixed.rule.score(one.judged.ballots), one.judged.is_attack) for one in held_out]
    is_probability = fixed.is_calibrated and bool(scored)
    return RuleResult(
        _rates(fixed, held_out),
        fixed.threshold,
        auc(scored),
        catch_at(scored, 0.01),
        catch_at(scored, 0.05),
        brier(scored) if is_probability else None,
        log_loss(scored) if is_probability else None,
        calibration_error(scored) if is_probability else None,
    )


def _worth(
    judgement: Judgement, calibration: Sequence[Judged], held_out: Sequence[Judged]
) -> dict[str, Worth]:
    if judgement.chosen not in {STACK, LOG_ODDS} or len(held_out) < COLD_BELOW:
        return {}
    return worth_of_roles(calibration, held_out, stack.fit if judgement.chosen == STACK else fit_tempered)
