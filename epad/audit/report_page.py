"""Write a report of the audit as one page: HTML without scripts, which prints well, or Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from epad.audit.integrity import Integrity
from epad.audit.report import Listed, Report, Table
from epad.formatting.amounts import dollars
from epad.formatting.text import clean

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #111; background: #fff }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid #999 }
table { border-collapse: collapse; width: 100% } th { font-weight: 600 }
th, td { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; overflow-wrap: anywhere }
td.n { text-align: right; white-space: nowrap } tr { border-bottom: 1px solid #ddd; break-inside: avoid }
.bad { border: 2px solid #a00; padding: .5rem } p.note { color: #444 }
@media print { body { margin: 0; max-width: none; font-size: 10pt } h2 { break-after: avoid } }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """Holds a heading, sentences, and a table whose last column has the ids of records."""

    title: str
    sentences: Sequence[str]
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    is_bad: bool = False


def sections(report: Report, integrity: Integrity) -> Iterator[Section]:
    """Yield the parts of a page, in their order."""
    yield _integrity(report, integrity)
    yield _counted("What was recorded", report.kinds, ("kind", "outcome"))
    yield _spent(report)
    yield _counted("What tools were called", report.tools, ("agent", "tool", "outcome"))
    yield _counted("Sessions of agents", report.sessions, ("agent", "began or ended"))
    yield _counted("What was refused", report.refusals, ("kind", "who", "what"))
    yield _listed("Who consented to what", report.answers, "No question was answered.")
    yield _listed("Orders", report.orders, "No order was given.")
    heads, names = (
        ("connections", "sent bytes", "received bytes"),
        ("connections", "sent_bytes", "received_bytes"),
    )
    yield _summed("What left the machine", report.hosts, ("agent", "host"), heads, names)
    yield _summed(
        "What tried to leave and was refused",
        report.attempts,
        ("agent", "host", "why"),
        ("attempts",),
        ("attempts",),
    )
    yield _counted("Uses of secrets", report.secrets, ("secret", "who", "event"))
    yield _listed("Phases", report.phases, "The phase did not change.")
    yield _listed("Incidents", report.incidents, "There was none.")
    yield _listed("Changes of the configuration", report.changes, "There was none.")
    yield _listed("Runs of epad and of its ledger", report.runs, "None began or ended.")


def as_html(report: Report, integrity: Integrity, host: str) -> str:
    """Return the page."""
    title = f"epad on {host}: audit from {report.since} to {report.until}"
    parts = "".join(map(_section_html, sections(report, integrity)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width">'
        f"<title>{_html(title)}</title><style>{_STYLE}</style></head><body><h1>{_html(title)}</h1>{parts}</body></html>\n"
    )


def as_markdown(report: Report, integrity: Integrity, host: str) -> str:
    """Return the same as Markdown."""
    lines = [f"# epad on {_md(host)}: audit from {_md(report.since)} to {_md(report.until)}", ""]
    for section in sections(report, integrity):
        lines += [f"## {section.title}", "", *(f"{_md(sentence)}  " for sentence in section.sentences), ""]
        if section.rows:
            lines += [_md_row(section.heads), f"|{'---|' * len(section.heads)}"]
            lines += [*map(_md_row, section.rows), ""]
    return "\n".join(lines) + "\n"


def _integrity(report: Report, integrity: Integrity) -> Section:
    lines = [f"{report.records:,} records of this time.", *integrity.lines()]
    if integrity.head is not None:
        lines.append(f"Root of the signed head: {integrity.head.root.hex()}")
    lines.append("The records of a row are named by their ids: `epactl audit prove ID` proves each.")
    return Section("Integrity", lines, is_bad=not integrity.is_sound or bool(integrity.gaps))


def _spent(report: Report) -> Section:
    names = ("input_tokens", "output_tokens", "charged_tokens")
    heads = (
        "agent",
        "outcome",
        "turns",
        "input tokens",
        "output tokens",
        "charged tokens",
        "cost",
        "records",
    )
    rows = [
        (
            *key,
            f"{one.count:,}",
            *(f"{one.sums[name]:,}" for name in names),
            dollars(one.sums["charged_microusd"]),
            _ids(one.ids, one.count, one.last_id),
        )
        for key, one in sorted(report.turns.rows.items())
    ]
    total = f"{report.turns.total():,} turns, {report.turns.total('charged_tokens'):,} tokens charged"
    return Section(
        "What was spent", [f"{total}, {dollars(report.turns.total('charged_microusd'))}."], heads, rows
    )


def _counted(title: str, table: Table, heads: Sequence[str]) -> Section:
    rows = [
        (*key, f"{one.count:,}", _ids(one.ids, one.count, one.last_id))
        for key, one in sorted(table.rows.items())
    ]
    return Section(title, [f"{table.total():,} in all."], (*heads, "number", "records"), rows)


def _summed(
    title: str, table: Table, keys: Sequence[str], heads: Sequence[str], names: Sequence[str]
) -> Section:
    rows = [
        (*key, *(f"{one.sums.get(name, 0):,}" for name in names), _ids(one.ids, one.count, one.last_id))
        for key, one in sorted(table.rows.items())
    ]
    told = ", ".join(f"{table.total(name):,} {head}" for name, head in zip(names, heads, strict=True))
    return Section(title, [f"{told}." if rows else "Nothing."], (*keys, *heads, "records"), rows)


def _listed(title: str, listed: Listed, none: str) -> Section:
    rows = [(row.at, row.who, row.subsystem, row.what, row.outcome, str(row.id)) for row in listed.rows]
    left_out = listed.count - len(rows)
    told = f"{listed.count:,} in all." + (f" The newest {len(rows):,} are listed." if left_out else "")
    return Section(
        title, [told if listed.count else none], ("time", "who", "about", "what", "outcome", "record"), rows
    )


def _ids(ids: Sequence[int], count: int, last: int) -> str:
    """Name the records of a row: all of a few, else the first ones and the last."""
    shown = ", ".join(map(str, ids))
    return shown if count <= len(ids) else f"{shown}, ... {last}"


def _section_html(section: Section) -> str:
    told = "".join(f"<p class=note>{_html(sentence)}</p>" for sentence in section.sentences)
    body = f"<div class=bad>{told}</div>" if section.is_bad else told
    if section.rows:
        head = "".join(f"<th>{_html(text)}</th>" for text in section.heads)
        rows = "".join(f"<tr>{''.join(map(_cell_html, row))}</tr>" for row in section.rows)
        body += f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<section><h2>{_html(section.title)}</h2>{body}</section>"


def _cell_html(text: str) -> str:
    is_number = bool(text) and text.replace(",", "").isdecimal()
    return f"<td{' class=n' if is_number else ''}>{_html(text)}</td>"


def _html(text: str) -> str:
    return escape(clean(text))


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_md, cells))} |"


def _md(text: str) -> str:
    """Return a text that Markdown shows as it is, in a cell too."""
    escaped = clean(text).replace("\\", "\\\\").replace("|", "\\|")
    return (
        escape(escaped, quote=False)
        .replace("`", "\\`")
        .replace("*", "\\*")
        .replace("_", "\\_")
        .replace("[", "\\[")
    )
