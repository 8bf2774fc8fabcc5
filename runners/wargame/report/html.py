"""The report as one self-contained page: no script, nothing from the network, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Final

from runners.wargame.report.count import Report
from runners.wargame.report.figures import figures
from runners.wargame.report.rates import Rates
from runners.wargame.report.sentences import evidence, headline_notes, headline_rows, limits, number, voters
from runners.wargame.report.statistics import SMALL_SAMPLE, Proportion
from runners.wargame.report.transcripts import Said, Transcript

REPLY_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Reading:
    """Holds a transcript that a person should read."""

    random: Sequence[Transcript] = ()
    disputed: Sequence[Transcript] = ()
    void: Sequence[Transcript] = ()


def render(report: Report, reading: Reading) -> str:
    """Write the page."""
    css = (resources.files("runners.wargame.report") / "page.css").read_text(encoding="utf-8")
    body = "".join(
        [
            _head(report),
            _numbers(report),
            _section(
                "Catch and false alarm", _rates("", headline_rows(report)), _list(headline_notes(report))
            ),
            _section("Rounds not scored", _reasons(report)),
            _section("Plots", f'<div class="plots">{"".join(figures(report))}</div>'),
            _section("Rules compared, on the held-out families", _rules(report)),
            _section("Defender roles, each alone", _rates("role", report.roles), _list(voters(report))),
            _section("Held-out categories", _rates("category", report.analysis.categories)),
            _section("Held-out families", _rates("family", report.analysis.families)),
            _section("Controls and contamination", _list(evidence(report))),
            _section("Votes by role", _counts("role", report.votes)),
            _section("Calls by model", _counts("model", report.calls)),
            _section("Answers cut short, by the reason given", _counts("model", report.endings))
            if report.endings
            else "",
            _section("Read these", _reading(reading)),
            _section("What this does not show", _list(limits(report))),
            _section("What was run", _settings(report)),
        ]
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Wargame {escape(report.run.run_id)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def _section(title: str, *parts: str) -> str:
    content = "".join(parts)
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def _head(report: Report) -> str:
    run, state = report.run, f"{report.run.state} {report.run.detail}".strip()
    begun, written = _clock(run.created_utc), _clock(run.updated_utc)
    parts = [
        "<h1>Wargame report</h1>",
        (
            f'<p class="meta">{escape(run.run_id)}, begun {begun}, last written {written} UTC, '
            f"state {escape(state)}; engine {escape(report.engine)}</p>"
        ),
    ]
    if report.engine.banner:
        parts.append(f'<div class="banner bad">{escape(report.engine.banner)}</div>')
    if report.obstacles:
        parts.append(f'<div class="banner bad"><b>NOT REPORTABLE</b>{_list(report.obstacles)}</div>')
    if report.alarms:
        said = "<b>SMOKE ALARM: look at the transcripts before believing this</b>"
        parts.append(f'<div class="banner">{said}{_list(report.alarms)}</div>')
    return "".join(parts)


def _clock(utc: str) -> str:
    return escape(utc[:19].replace("T", " "))


def _numbers(report: Report) -> str:
    states = report.states
    boxes = [
        ("catch, held-out families", *_big(report.headline.catch)),
        ("false alarm, held-out families", *_big(report.headline.false_alarm)),
        (
            "rounds scored",
            f"{report.scored}",
            f"of {report.attempted}: void {states.get('void', 0)}, failed {states.get('failed', 0)}",
        ),
        ("independent voters", number(report.analysis.effective_voters, 2), f"of {len(report.votes)} roles"),
    ]
    return (
        '<div class="numbers">'
        + "".join(
            f"<div><span>{escape(n)}</span><b>{escape(b)}</b><span>{escape(s)}</span></div>"
            for n, b, s in boxes
        )
        + "</div>"
    )


def _big(share: Proportion) -> tuple[str, str]:
    if share.rate is None or share.interval is None:
        return "n/a", "0 scored"
    counted, (low, high) = f"{share.successes}/{share.trials}", share.interval
    bounds = f"95 % [{100 * low:.1f}, {100 * high:.1f}]"
    return (counted, bounds) if share.trials < SMALL_SAMPLE else (f"{share.rate:.1%}", f"{counted}, {bounds}")


def _reasons(report: Report) -> str:
    return _list(f"{reason}: {count}" for reason, count in report.reasons.items()) if report.reasons else ""


def _rates(column: str, rows: Mapping[str, Rates]) -> str:
    if not rows:
        return ""
    lines = []
    for name, one in rows.items():
        small = ' class="small"' if one.catch.trials + one.false_alarm.trials < SMALL_SAMPLE else ""
        advantage = "n/a" if one.advantage is None else f"{100 * one.advantage:+.1f}"
        cells = (name, str(one.catch), str(one.false_alarm), advantage, number(one.matthews))
        lines.append(f"<tr{small}>{_cells(cells)}</tr>")
    return _table((column, "catch", "false alarm", "difference, points", "Matthews"), lines)


def _rules(report: Report) -> str:
    lines = []
    for name, result in report.analysis.rules.items():
        figures_ = (
            result.auc,
            result.catch_at_1_percent,
            result.catch_at_5_percent,
            result.brier,
            result.log_loss,
            result.calibration_error,
        )
        cells = (name, str(result.rates.catch), str(result.rates.false_alarm), *map(number, figures_))
        lines.append(f"<tr>{_cells(cells)}</tr>")
    columns = ("rule", "catch", "false alarm", "AUC", "catch at 1 %", "at 5 %", "Brier", "log loss", "ECE")
    return _table(columns, lines)


def _counts(column: str, table: Mapping[str, Mapping[str, int]]) -> str:
    if not table:
        return ""
    kinds = sorted({kind for row in table.values() for kind in row})
    lines = [
        f"<tr>{_cells((name, *(str(row.get(kind, 0)) for kind in kinds)))}</tr>"
        for name, row in sorted(table.items())
    ]
    return _table((column, *kinds), lines)


def _reading(reading: Reading) -> str:
    parts = []
    for title, transcripts in (
        ("At random", reading.random),
        ("Wrong, or not of one mind", reading.disputed),
        ("Void", reading.void),
    ):
        if transcripts:
            parts.append(f"<h3>{title}</h3>" + "".join(map(_transcript, transcripts)))
    return "".join(parts)


def _transcript(one: Transcript) -> str:
    turns = "".join(f"<li>{escape(text)}</li>" for text in one.turns)
    votes = "".join(map(_vote, one.votes))
    scenario = escape(f"{one.category} / {one.family}, truly {one.label}")
    head = f"#{one.index} <b>{escape(one.outcome)}</b> {scenario}"
    return f'<details><summary>{head}</summary><ol>{turns}</ol><ul class="votes">{votes}</ul></details>'


def _vote(said: Said) -> str:
    sure = "" if said.confidence is None else f" {said.confidence}"
    reply = escape(said.reply[:REPLY_CHARACTERS] or said.detail)
    return f"<li><b>{escape(said.role)}</b> {escape(said.kind)}{sure} <code>{reply}</code></li>"


def _settings(report: Report) -> str:
    rows = [
        ("settings", report.run.settings_hash),
        ("endpoint", report.run.base_url),
        ("tokens read, written", f"{report.tokens[0]}, {report.tokens[1]}"),
        *((key, _plain(value)) for key, value in report.run.settings.items() if key != "roles"),
        *((f"role {r['name']}", f"{r['model']}, weight {r['weight']}") for r in report.run.settings["roles"]),
    ]
    return _table(("", ""), [f"<tr>{_cells(row)}</tr>" for row in rows])


def _plain(value: object) -> str:
    return (", ".join(map(str, value)) if isinstance(value, list) else str(value)) or "none"


def _table(columns: Iterable[str], lines: Iterable[str]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _cells(values: Iterable[str]) -> str:
    return "".join(f"<td>{escape(value)}</td>" for value in values)


def _list(values: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(value)}</li>" for value in values) + "</ul>"
