"""The `epactl ledger` commands. They read the files themselves, so they work without the daemon."""

from __future__ import annotations

import json
import stat

from epad.epactl.call import EXIT_FAILED, EXIT_OK, EXIT_UNKNOWN, Call, is_there, refuse_unreadable, state_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from epad.ledger.export import Shown
    from epad.ledger.paths import Places

BAR_CELLS = 30


class Files:
    """Opens the ledger of a state directory.

    Imported late: the ledger's modules take longer to load than other commands to run.
    """

    def __init__(self, call: Call) -> None:
        from pathlib import Path  # noqa: PLC0415

        from epad.ledger.paths import Places  # noqa: PLC0415

        self.state: Path = Path(state_of(call))
        self.path: Path = self.state / "ledger.db"
        self.places: Places = Places.under(self.state, {})


def verify(call: Call) -> int:
    """`epactl ledger verify [--full | --segments] [--state DIR]`."""
    return with_files(call, _verify)


def show(call: Call) -> int:
    """`epactl ledger show [SEQ | --last N] [--state DIR]`."""
    return with_files(call, _show)


def export(call: Call) -> int:
    """`epactl ledger export [--format jsonl|otel] [--state DIR]`."""
    return with_files(call, _export)


def size(call: Call) -> int:
    """`epactl ledger size [--state DIR]`."""
    return with_files(call, _size)


def head(call: Call) -> int:
    """`epactl ledger head [--state DIR]`."""
    return with_files(call, _head)


def prove(call: Call) -> int:
    """`epactl ledger prove SEQ [--state DIR]`."""
    return with_files(call, _prove)


def bar(done: int, total: int, unit: str) -> str:
    """Return a progress bar; empty when there is nothing left to show."""
    if done >= total:
        return ""
    cells = BAR_CELLS * done // total
    return f"[{'#' * cells}{'.' * (BAR_CELLS - cells)}] {100 * done // total:3d} %  {done} of {total} {unit}"


def with_files(call: Call, work: Callable[[Call, Files], int]) -> int:
    """Do something with the ledger of the state directory; where it cannot be read, say why and give the status."""
    files = Files(call)
    if not is_there(str(files.path), stat.S_ISREG):
        call.terminal.say(f"{files.path}: there is no ledger; give the state directory with --state")
        return EXIT_UNKNOWN
    refuse_unreadable(str(files.path))
    import apsw  # noqa: PLC0415

    from epad.ledger.errors import LedgerError  # noqa: PLC0415

    try:
        return work(call, files)
    except (LedgerError, apsw.Error) as error:
        call.terminal.progress("")
        call.terminal.say(f"{files.path}: {error}")
        return EXIT_UNKNOWN


def _verify(call: Call, files: Files) -> int:
    import dataclasses  # noqa: PLC0415

    from epad.ledger.full_verification import check_segments, verify_everything  # noqa: PLC0415
    from epad.ledger.verify import Report, report_lines, verdict_of, verify  # noqa: PLC0415

    def progress(done: int, total: int) -> None:
        call.terminal.progress(bar(done, total, "segments" if call.arguments.segments else "records"))

    if call.arguments.segments:
        found = check_segments(files.path, files.places, progress)
        report = Report(verdict_of(found.faults, 0), found.records, 1, found.records, found.faults)
    elif call.arguments.full:
        report = verify_everything(files.path, files.places, full=True, progress=progress)
    else:
        report = verify(files.path, progress=progress, anchor=files.places.anchor)
    call.terminal.progress("")
    answer = dataclasses.asdict(report) | {"words": report.words()}
    call.terminal.show(answer, [str(files.path), *report_lines(report)])
    return EXIT_OK if report.verdict.is_sound else EXIT_FAILED


def _show(call: Call, files: Files) -> int:
    import contextlib  # noqa: PLC0415

    from epad.ledger.export import newest_records, record_at  # noqa: PLC0415
    from epad.ledger.rows import open_reader  # noqa: PLC0415

    sequence = call.arguments.seq
    with contextlib.closing(open_reader(files.path)) as connection:
        if sequence is None:
            found: list[Shown] = list(newest_records(connection, call.arguments.last))
        else:
            one = record_at(connection, sequence)
            if one is None:
                call.terminal.say(f"{files.path}: there is no record {sequence}")
                return EXIT_UNKNOWN
            found = [one]
    values = [shown.fields() for shown in found]
    if sequence is None:
        call.terminal.show(values, map(_line, values))
    else:
        call.terminal.show(values[0], (f"{name:16} {value}" for name, value in values[0].items()))
    return EXIT_FAILED if any(shown.fault for shown in found) else EXIT_OK


def _line(fields: dict[str, Any]) -> str:
    """Format one record as a line, its most wanted fields first."""
    words = [f"{fields['seq']:>8}", f"{fields['kind']:8}"]
    if "fault" in fields:
        words.append(fields["fault"])
    names = ("subsystem", "model", "outcome", "charged_tokens", "reserved_tokens", "http_status", "turn")
    words += [str(fields[name]) for name in names if name in fields]
    return "  ".join(words)


def _export(call: Call, files: Files) -> int:
    import contextlib  # noqa: PLC0415

    from epad.ledger.export import records_from, spans_from  # noqa: PLC0415
    from epad.ledger.rows import open_reader  # noqa: PLC0415

    with contextlib.closing(open_reader(files.path)) as connection:
        lines: Iterator[dict[str, Any]]
        if call.arguments.format == "otel":
            lines = spans_from(connection)
        else:
            lines = (shown.fields() for shown in records_from(connection, 1))
        for line in lines:
            call.terminal.lines([json.dumps(line)])
    return EXIT_OK


def _size(call: Call, files: Files) -> int:
    import dataclasses  # noqa: PLC0415

    from epad.epactl.kept_history import kept_in  # noqa: PLC0415

    kept = kept_in(files.state)
    call.terminal.show([dataclasses.asdict(one) for one in kept], (one.line() for one in kept))
    return EXIT_OK


def _head(call: Call, files: Files) -> int:
    import base64  # noqa: PLC0415
    from datetime import UTC, datetime  # noqa: PLC0415

    from epad.ledger.head_check import heads_at  # noqa: PLC0415

    heads = heads_at(files.places.anchor, 0)
    newest = heads.newest
    if newest is None:
        reasons = heads.faults or (f"{files.places.anchor}: there is no signed head",)
        call.terminal.say("; ".join(reasons))
        return EXIT_FAILED if heads.faults else EXIT_UNKNOWN
    moment = datetime.fromtimestamp(newest.wall_ns / 1e9, UTC).isoformat()
    answer = {
        "origin": newest.origin,
        "size": newest.size,
        "root": base64.b64encode(newest.root).decode(),
        "link": base64.b64encode(newest.link).decode(),
        "time": moment,
    }
    call.terminal.show(answer, (f"{name:8} {value}" for name, value in answer.items()))
    return EXIT_OK


def _prove(call: Call, files: Files) -> int:
    import contextlib  # noqa: PLC0415

    from epad.ledger.proof import prove as prove_record  # noqa: PLC0415
    from epad.ledger.rows import open_reader  # noqa: PLC0415

    with contextlib.closing(open_reader(files.path)) as connection:
        proof = prove_record(connection, files.places.anchor, call.arguments.seq)
    call.terminal.lines([json.dumps(proof, indent=2)])
    return EXIT_OK
