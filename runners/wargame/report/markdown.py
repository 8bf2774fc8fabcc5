"""The report as a page that reads well as plain text."""

from __future__ import annotations

from collections.abc import Mapping

from runners.wargame.report.count import Report
from runners.wargame.report.rates import Rates


def render(report: Report) -> str:
    """Write the whole report."""
    analysis = report.analysis
    sections = [
        _head(report),
        _funnel(report),
        _headline(report),
        _rules(report),
        _parts("Defender roles, each alone", "role", report.roles),
        _voters(report),
        _parts("Held-out categories", "category", analysis.categories),
        _parts("Held-out families", "family", analysis.families),
        _evidence(report),
        _counts("Votes", "role", report.votes),
        _counts("Calls", "model", report.calls),
        _foot(report),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(report: Report) -> str:
    lines = ["# Wargame report"]
    if report.engine.banner:
        lines += ["", f"> **{report.engine.banner}**"]
    if report.obstacles:
        lines += ["", "> **NOT REPORTABLE**", *(f"> - {obstacle}" for obstacle in report.obstacles)]
    if report.alarms:
        lines += ["", "> **SMOKE ALARM: look at the transcripts before believing this**"]
        lines += [f"> - {alarm}" for alarm in report.alarms]
    run = report.run
    lines += [
        "",
        f"Run {run.run_id}, begun {run.created_utc}, state: {run.state} {run.detail}".rstrip(),
        f"Engine: {report.engine}. Seed: {run.settings['seed']}. Settings: {run.settings_hash[:16]}.",
    ]
    return "\n".join(lines)


def _funnel(report: Report) -> str:
    lines = [
        "## Rounds",
        "",
        f"attempted {report.attempted}, of {report.run.wanted} wanted; that is scored {report.scored}",
        f"+ void {report.states.get('void', 0)} + failed {report.states.get('failed', 0)}",
    ]
    lines += [f"- {reason}: {number}" for reason, number in report.reasons.items()]
    return "\n".join(lines)


def _headline(report: Report) -> str:
    worst, best = report.bounds
    precision = ", ".join(f"{rate}: {_number(value)}" for rate, value in report.analysis.precision.items())
    return "\n".join(
        [
            "## Catch and false alarm",
            "",
            *_table("", headline_rows(report)),
            "",
            f"The first row decides by the rule `{report.rule}` ({report.analysis.judgement.why}).",
            "Neither that rule nor its threshold has seen the held-out families.",
            "Intervals are Wilson 95 % and take rounds as independent; rounds of one family are not quite.",
            f"Catch if every unscored attack were a miss: {worst}; if it were a catch: {best}.",
            f"Precision where so many conversations are attacks: {precision or 'n/a'}.",
        ]
    )


def headline_rows(report: Report) -> dict[str, Rates]:
    """The swarm on held-out families first, then what it must be compared with."""
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


def _rules(report: Report) -> str:
    lines = [
        "## Rules compared, on the held-out families",
        "",
        "| rule | catch | false alarm | AUC | catch at 1 % | catch at 5 % | Brier | log loss | ECE |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in report.analysis.rules.items():
        figures = (
            result.auc,
            result.catch_at_1_percent,
            result.catch_at_5_percent,
            result.brier,
            result.log_loss,
            result.calibration_error,
        )
        cells = " | ".join(_number(figure) for figure in figures)
        lines.append(f"| {name} | {result.rates.catch} | {result.rates.false_alarm} | {cells} |")
    return "\n".join(lines)


def _voters(report: Report) -> str:
    analysis = report.analysis
    if analysis.effective_voters is None:
        return ""
    pairs = ", ".join(f"{a}~{b} {_number(phi)}" for (a, b), phi in analysis.correlations.items())
    lines = [
        "## How many voters these are",
        "",
        f"{len(report.votes)} roles, worth {analysis.effective_voters:.2f} independent ones.",
        f"Correlation of their errors (phi): {pairs}.",
    ]
    for role, worth in analysis.worth.items():
        bounds = f" [{worth.interval[0]:+.3f}, {worth.interval[1]:+.3f}]" if worth.interval else ""
        lines.append(f"- without {role} the AUC falls by {worth.drop:+.3f}{bounds}")
    return "\n".join(lines)


def _evidence(report: Report) -> str:
    evidence = report.evidence
    lines = ["## Controls and contamination", ""]
    for at, result in evidence.controls.items():
        lines.append(
            f"- control after {at} rounds: {result.bad_flagged}/{result.bad} known attacks flagged, "
            f"{result.good_flagged}/{result.good} known harmless ones; {result.fault or 'valid'}"
        )
    if not evidence.controls:
        lines.append("- no positive control was played")
    live = "not tested" if not evidence.live.trials else str(evidence.live)
    lines.append(f"- attacks that an undefended model obeyed: {live}")
    lines += [
        f"- {name}: {found.novel} of {found.total} attack texts unlike any before, {found.distinct} distinct"
        for name, found in evidence.novelty.items()
    ]
    if evidence.forked:
        lines.append(f"- forked {evidence.forked}")
    lines.append(f"- transcripts read by a person: {evidence.transcripts_read}/{report.scored}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _parts(title: str, column: str, parts: Mapping[str, Rates]) -> str:
    if not parts:
        return ""
    return "\n".join([f"## {title}", "", *_table(column, parts)])


def _table(column: str, rows: Mapping[str, Rates]) -> list[str]:
    lines = [f"| {column} | catch | false alarm | catch - false alarm |", "|---|---|---|---|"]
    for name, rates in rows.items():
        advantage = "n/a" if rates.advantage is None else f"{100 * rates.advantage:+.1f} points"
        lines.append(f"| {name} | {rates.catch} | {rates.false_alarm} | {advantage} |")
    return lines


def _counts(title: str, column: str, table: Mapping[str, Mapping[str, int]]) -> str:
    if not table:
        return ""
    kinds = sorted({kind for row in table.values() for kind in row})
    lines = [f"## {title}", "", f"| {column} | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(str(row.get(kind, 0)) for kind in kinds) + " |"
        for name, row in sorted(table.items())
    ]
    return "\n".join(lines)


def _foot(report: Report) -> str:
    return "\n".join(["## What this does not show", "", *(f"- {line}" for line in limits(report))])


def limits(report: Report) -> list[str]:
    """What nobody may conclude from this run."""
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
