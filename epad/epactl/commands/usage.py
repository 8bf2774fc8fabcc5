"""`epactl usage`: turns, tokens and money out of the ledger. It reads the files, daemon or no daemon."""

from __future__ import annotations

import time

from epad.epactl import render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call
from epad.epactl.commands.ledger import Files, with_files
from epad.formatting.amounts import dollars

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USUAL_DAYS = 7
GROUPS = ("agent", "model", "day")
_HEADS = ("TURNS", "FAILED", "REFUSED", "OPEN", "INPUT", "OUTPUT", "CHARGED", "COST")
_COUNTS = ("turns", "failed", "refused", "open", "input_tokens", "output_tokens", "charged_tokens")


def usage(call: Call) -> int:
    """`epactl usage [--since WHEN] [--by agent|model|day] [--state DIR]`."""
    return with_files(call, _usage)


def _usage(call: Call, files: Files) -> int:
    import contextlib  # noqa: PLC0415
    from datetime import UTC, datetime  # noqa: PLC0415

    from epad.ledger.rows import first_moment, open_reader, trimmed_through  # noqa: PLC0415
    from epad.ledger.usage import usage_since  # noqa: PLC0415

    by, since = call.arguments.by, call.arguments.since
    since = time.time() - USUAL_DAYS * 86_400 if since is None else since
    with contextlib.closing(open_reader(files.path)) as connection:
        account = usage_since(connection, int(since * 1e9), by)
        kept_ns = first_moment(connection) if trimmed_through(connection) else None
    stamp = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
    answer = {"since": stamp, **account.as_json(by)}
    call.terminal.show(answer, lines(answer, call.terminal.style))
    if account.damaged:
        call.terminal.say(
            f"{files.path}: {account.damaged} turn(s) with a damaged end count as open; see `epactl ledger verify`"
        )
    if kept_ns is not None and kept_ns / 1e9 > since:
        moment = datetime.fromtimestamp(kept_ns / 1e9, UTC).isoformat(timespec="seconds")
        call.terminal.say(f"turns of before {moment} are not in this: [ledger] keep_records let them go")
    return EXIT_FAILED if account.damaged else EXIT_OK


def lines(answer: dict[str, Any], style: render.Style) -> list[str]:
    """Return a row for each agent, model or day, and their sum."""
    by, total = answer["by"], answer["total"]
    if not answer["rows"]:
        return [f"no turns since {answer['since']}"]
    cells = [(row[by], *_cells(row)) for row in answer["rows"]]
    head = f"{by.upper()} (UTC)" if by == "day" else by.upper()
    told = [
        f"since {answer['since']}",
        "",
        *render.table((head, *_HEADS), [*cells, ("sum", *_cells(total))], style),
    ]
    if total["open"]:
        most = f"{total['reserved_tokens']:,} tokens and {dollars(total['reserved_microusd'])}"
        told += ["", f"open turns may cost up to {most} more"]
    return told


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (*(f"{row[name]:,}" for name in _COUNTS), dollars(row["charged_microusd"]))
