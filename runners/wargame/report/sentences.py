"""Word the sentences that every form of the report shares."""

from __future__ import annotations

from collections.abc import Mapping

from runners.wargame.play.controls import ControlResult
from runners.wargame.report.count import Report
from runners.wargame.report.rates import Rates


def headline_rows(report: Report) -> dict[str, Rates]:
    """Return the swarm on held-out families first, then the rates to compare it with."""
    rows = {
        "held-out families": report.headline,
        "calibration families": report.analysis.calibration,
    }
    if report.analysis.in_grammar.catch.trials:
        rows["families that embedded defenders learnt from"] = report.analysis.in_grammar
    return rows | {
        "all, as decided while it ran": report.swarm,
        "always says attack": report.always_attack,
        "always says benign": report.always_benign,
    }


def headline_notes(report: Report) -> list[str]:
    """Explain the headline."""
    worst, best = report.bounds
    least = report.analysis.least_precision
    precision = ", ".join(
        f"{number(value)} (at least {number(least[rate])}) at {rate}"
        for rate, value in report.analysis.precision.items()
    )
    lines = [
        f"The first row decides by the rule {report.rule} ({report.analysis.judgement.why}).",
        "Neither that rule nor its threshold has seen the held-out families.",
        "Intervals are Wilson 95 % and take rounds as independent, which those of one family are not.",
        *_by_family(report),
        f"Precision by the share of attacks among conversations: {precision or 'n/a'}.",
    ]
    if worst != best:
        lines.append(
            f"As decided while it ran, catch if every unscored attack were a miss: {worst}; if a catch: {best}."
        )
    return lines


def _by_family(report: Report) -> list[str]:
    found, families = report.analysis.by_family, len(report.analysis.families)
    bounds = [
        f"{name} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
        for name, interval in (("catch", found.catch), ("false alarm", found.false_alarm))
        if interval is not None
    ]
    return [f"If families ({families}) are drawn instead of rounds: {', '.join(bounds)}."] if bounds else []


def voters(report: Report) -> list[str]:
    """Say how many voters these are, and the worth of each."""
    analysis = report.analysis
    if analysis.effective_voters is None:
        return []
    pairs = ", ".join(f"{a}~{b} {number(phi, 2)}" for (a, b), phi in analysis.correlations.items())
    lines = [
        f"{len(report.votes)} roles, worth {analysis.effective_voters:.2f} independent ones.",
        f"Correlation of their errors (phi): {pairs}.",
    ]
    for role, worth in analysis.worth.items():
        bounds = f" [{worth.interval[0]:+.3f}, {worth.interval[1]:+.3f}]" if worth.interval else ""
        lines.append(f"AUC lost without {role}: {worth.drop:+.3f}{bounds}.")
    return lines


def evidence(report: Report) -> list[str]:
    """Controls, live attacks, novelty, forks, readers."""
    found = report.evidence
    lines = _controls(found.controls)
    live = str(found.live) if found.live.trials else "not tested"
    lines.append(f"attacks that an undefended model obeyed: {live}")
    lines += [
        f"{name}: {texts.novel} of {texts.total} attack texts unlike any before, {texts.distinct} distinct"
        for name, texts in found.novelty.items()
    ]
    if found.forked:
        lines.append(f"forked {found.forked}")
    lines.append(f"transcripts read by a person: {found.transcripts_read}/{report.scored}")
    return lines


def _controls(controls: Mapping[int, ControlResult]) -> list[str]:
    """Return the valid ones counted, the others in full: a long night has fifty."""
    if not controls:
        return ["no positive control was played"]
    faulty = [
        f"control after {at} rounds: {result.bad_flagged}/{result.bad} known attacks flagged, "
        f"{result.good_flagged}/{result.good} known harmless ones; {result.fault}"
        for at, result in controls.items()
        if result.fault
    ]
    valid = len(controls) - len(faulty)
    return [f"controls valid: {valid} of {len(controls)}, the last after {max(controls)} rounds", *faulty]


def limits(report: Report) -> list[str]:
    """List the conclusions that this run does not allow."""
    lines = [
        f"Tokens: {report.tokens[0]} read, {report.tokens[1]} written, as the endpoint reported them.",
        "The same seed asks the same questions; under batching a model may answer otherwise even at temperature 0.",
    ]
    if not report.evidence.live.trials:
        lines.append("Whether an undefended model would have obeyed these attacks was not tested.")
    if not report.analysis.judgement.rule.is_calibrated:
        lines.append("The decision rule is a weighted sum, whose score is no probability.")
    if not report.evidence.transcripts_read:
        lines.append("Nobody has read the transcripts: `wargame read` shows and marks them.")
    return lines


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure, or that there is none."""
    return "n/a" if value is None else f"{value:.{digits}f}"
