"""The report as a page that reads well as plain text."""

from __future__ import annotations

from collections.abc import Mapping

from runners.wargame.report.count import Rates, Report


def render(report: Report) -> str:
    """Write the whole report."""
    sections = [
        _head(report),
        _funnel(report),
        _headline(report),
        _parts("Defender roles, each alone", "role", report.roles),
        _parts("Categories", "category", report.categories),
        _parts("Families", "family", report.families),
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
    rows = {
        "this swarm": report.swarm,
        "always says attack": report.always_attack,
        "always says benign": report.always_benign,
    }
    worst, best = report.bounds
    return "\n".join(
        [
            "## Catch and false alarm",
            "",
            *_table("", rows),
            "",
            "Intervals are Wilson 95 % and take rounds as independent; rounds of one family are not quite.",
            f"Catch if every unscored attack were a miss: {worst}; if it were a catch: {best}.",
        ]
    )


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
    return "\n".join(
        [
            "## What this does not show",
            "",
            f"Tokens: {report.tokens[0]} read, {report.tokens[1]} written, as the endpoint reported them.",
            "Whether an undefended model would have obeyed these attacks was not tested.",
            "The decision rule is a weighted sum, whose score is no probability.",
            "Nobody has read the transcripts on your behalf: they are in the store, table `turn`.",
        ]
    )
