"""`epactl audit`: everything that was done, decided and refused, out of the ledger. It reads the files itself."""

from __future__ import annotations

import json

from epad.epactl import arguments
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call
from epad.epactl.commands.ledger import Files, with_files
from epad.epactl.commands.ledger import prove as prove_record
from epad.epactl.parser import Commands, Parser
from epad.formatting.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from epad.audit.reading import Wanted
    from epad.audit.row import Row

FORMATS = ("text", "jsonl", "otlp", "cef")
USUAL_SECONDS = 86_400.0
REPORT_SECONDS = 30 * 86_400.0
PAGE_LINES = {"text": 500, "jsonl": 500, "cef": 500, "otlp": 1}
"""Lines that are printed at once; one of OTLP has many rows."""


def add_commands(commands: Commands) -> None:
    """Add `audit`, and what follows it."""
    words = "Show what was done, decided and refused: who, what, with which outcome."
    listing = commands.add("audit", show, words)
    _add_since(listing, "since a time: 90s, 2h, 30d, or an ISO time (1d)")
    _add_until(listing)
    words = "of a kind as order, consent, egress, tool, or an event as egress.refused; again for more"
    listing.add_argument("--kind", metavar="KIND", type=arguments.name, action="append", help=words)
    for name, metavar, words in (
        ("--who", "NAME", "by this person, subsystem, or epad"),
        ("--subsystem", "NAME", "about this subsystem"),
        ("--outcome", "WORD", "that ended so: done, refused, failed, approved, ..."),
        ("--session", "ID", "of this session of an agent"),
    ):
        listing.add_argument(name, metavar=metavar, type=arguments.name, help=words)
    listing.add_argument("--format", choices=FORMATS, default="text", help="how to print each (text)")
    _add_state(listing)
    below = commands.below("audit", listing)
    prove = below.add("prove", prove_record, "Prove that a record is in the ledger.")
    prove.add_argument("seq", metavar="ID", type=arguments.whole(1), help="the id that a row begins with")
    report = below.add("report", report_page, "Write a report of a time as one page to hand on.")
    _add_since(report, "since a time (30d)")
    _add_until(report)
    report.add_argument(
        "--format", choices=("html", "md"), help="html, or md (by the file's name, else html)"
    )
    report.add_argument("--to", metavar="FILE", help="write it here, not to standard output")
    for parser in (prove, report):
        _add_state(parser)


def show(call: Call) -> int:
    """`epactl audit [--since WHEN] [--kind KIND] [--who NAME] ... [--format text|jsonl|otlp|cef] [--state DIR]`."""
    return with_files(call, _show)


def report_page(call: Call) -> int:
    """`epactl audit report [--since WHEN] [--format html|md] [--to FILE] [--state DIR]`."""
    return with_files(call, _report)


def _show(call: Call, files: Files) -> int:
    import contextlib  # noqa: PLC0415

    from epad.audit.integrity import AuditFile  # noqa: PLC0415
    from epad.ledger.rows import open_reader  # noqa: PLC0415

    with contextlib.closing(open_reader(files.path)) as connection:
        audit = AuditFile(connection, files.places.anchor)
        form = "jsonl" if call.terminal.as_json else call.arguments.format
        _print(call, _lines(form, audit.rows(_wanted(call, USUAL_SECONDS))), PAGE_LINES[form])
        integrity = audit.integrity()
    for line in integrity.lines():
        call.terminal.say(line)
    return EXIT_OK if integrity.is_sound else EXIT_FAILED


def _wanted(call: Call, usual_seconds: float) -> Wanted:
    import time  # noqa: PLC0415

    from epad.audit.reading import EVER, Wanted  # noqa: PLC0415

    chosen = vars(call.arguments)
    since = chosen["since"] if chosen["since"] is not None else time.time() - usual_seconds
    return Wanted(
        since_ns=int(since * 1e9),
        until_ns=EVER if chosen["until"] is None else int(chosen["until"] * 1e9),
        kinds=tuple(chosen.get("kind") or ()),
        who=chosen.get("who") or "",
        subsystem=chosen.get("subsystem") or "",
        outcome=chosen.get("outcome") or "",
        session=chosen.get("session") or "",
    )


def _lines(form: str, rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a format."""
    from epad import __version__  # noqa: PLC0415

    match form:
        case "jsonl":
            yield from (json.dumps(row.as_json()) for row in rows)
        case "cef":
            from epad.audit.cef import cef_line  # noqa: PLC0415

            yield from (cef_line(row, __version__) for row in rows)
        case "otlp":
            from socket import gethostname  # noqa: PLC0415

            from epad.audit.otlp import otlp_lines  # noqa: PLC0415

            yield from otlp_lines(rows, __version__, gethostname())
        case _:
            yield from map(_text, rows)


def _text(row: Row) -> str:
    about = f" [{row.subsystem}]" if row.subsystem and row.subsystem != row.who else ""
    return clean(f"{row.id:>8}  {row.at[:19]}Z  {row.event:18} {row.outcome:12} {row.who}{about}: {row.what}")


def _print(call: Call, lines: Iterator[str], at_once: int) -> None:
    """Print lines in pages, so that a million of them are never held at once."""
    from itertools import islice  # noqa: PLC0415

    while page := list(islice(lines, at_once)):
        call.terminal.lines(page)


def _report(call: Call, files: Files) -> int:
    import contextlib  # noqa: PLC0415
    import time  # noqa: PLC0415
    from socket import gethostname  # noqa: PLC0415

    from epad.audit.integrity import AuditFile  # noqa: PLC0415
    from epad.audit.report import as_json, report_of  # noqa: PLC0415
    from epad.audit.report_page import as_html, as_markdown  # noqa: PLC0415
    from epad.audit.row import moment  # noqa: PLC0415
    from epad.ledger.rows import open_reader  # noqa: PLC0415

    wanted, to = _wanted(call, REPORT_SECONDS), call.arguments.to
    until_ns = min(wanted.until_ns, time.time_ns())
    with contextlib.closing(open_reader(files.path)) as connection:
        audit = AuditFile(connection, files.places.anchor)
        report = report_of(audit.rows(wanted), moment(wanted.since_ns), moment(until_ns))
        integrity = audit.integrity()
    chosen = call.arguments.format or ("md" if to and to.endswith(".md") else "html")
    if call.terminal.as_json:
        page = json.dumps(as_json(report, integrity), indent=2)
    else:
        page = (as_markdown if chosen == "md" else as_html)(report, integrity, gethostname())
    if to is None:
        call.terminal.lines([page.rstrip("\n")])
    else:
        with open(to, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes 10 ms to import
            file.write(page)
        call.terminal.say(f"{to}: {report.records} records")
    for line in integrity.lines():
        call.terminal.say(line)
    return EXIT_OK if integrity.is_sound else EXIT_FAILED


def _add_since(parser: Parser, words: str) -> None:
    parser.add_argument("--since", metavar="WHEN", type=arguments.moment, help=words)


def _add_until(parser: Parser) -> None:
    parser.add_argument("--until", metavar="WHEN", type=arguments.moment, help="until a time (now)")


def _add_state(parser: Parser) -> None:
    parser.add_argument("--state", metavar="DIR", help="the daemon's state directory")
