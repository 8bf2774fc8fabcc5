"""The report as a page that reads well as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runners.wargame.report import sentences
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
        _list("How many voters these are", sentences.voters(report)),
        _parts("Held-out categories", "category", analysis.categories),
        _parts("Held-out families", "family", analysis.families),
        _list("Controls and contamination", sentences.evidence(report)),
        _counts("Votes", "role", report.votes),
        _counts("Calls", "model", report.calls),
        _counts("Answers cut short, by the reason given", "model", report.endings) if report.endings else "",
        _list("What this does not show", sentences.limits(report)),
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
    rows = _table("", sentences.headline_rows(report))
    return "\n".join(["## Catch and false alarm", "", *rows, "", *sentences.headline_notes(report)])


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
        cells = " | ".join(sentences.number(figure) for figure in figures)
        lines.append(f"| {name} | {result.rates.catch} | {result.rates.false_alarm} | {cells} |")
    return "\n".join(lines)


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines)]) if lines else ""


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
