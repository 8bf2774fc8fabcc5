"""Replay recorded decisions under other thresholds: `epactl simulate`. It reads the files, with or without a daemon."""

from __future__ import annotations

import stat
import time

from epad.epactl import arguments, render
from epad.epactl.call import EXIT_OK, EXIT_UNKNOWN, Call, UsageError, is_there, refuse_unreadable, state_of
from epad.formatting.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from epad.answers import reports
    from epad.answers.reports import Recorded, Simulation
    from epad.epactl.parser import Commands
    from epad.simulate.replay import Move, Replayed

USUAL_DAYS = 7
EXIT_DIFFERENT = 11
BOTH, DID, WOULD = "=", "-", "+"


def add_commands(commands: Commands) -> None:
    """Add `epactl simulate`."""
    parser = commands.add("simulate", simulate, "Replay recorded decisions under other thresholds.")
    parser.add_argument(
        "--since",
        metavar="WHEN",
        type=arguments.moment,
        help="since a time: 90s, 2h, 7d (the default), or an ISO time",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a threshold to try, as in probes.token_burn.identical_prompts=4; may be given several times",
    )
    parser.add_argument("--state", metavar="DIR", help="the daemon's state directory")


def simulate(call: Call) -> int:
    """`epactl simulate [--since WHEN] [--set KEY=VALUE]... [--state DIR]`."""
    path = f"{state_of(call)}/state.db"
    if not is_there(path, stat.S_ISREG):
        call.terminal.say(f"{path}: there is no recording; give the state directory with --state")
        return EXIT_UNKNOWN
    refuse_unreadable(path)
    import apsw  # noqa: PLC0415

    from epad.simulate.history import RecordingError  # noqa: PLC0415
    from epad.simulate.settings import SettingError  # noqa: PLC0415
    from epad.storage.database import DatabaseError  # noqa: PLC0415

    try:
        answer: Recorded = {"recording": path, **_replay(call, path)}
    except SettingError as error:
        raise UsageError(str(error)) from error
    except (RecordingError, DatabaseError) as error:
        call.terminal.say(str(error))
        return EXIT_UNKNOWN
    except apsw.Error as error:
        call.terminal.say(f"{path}: {error}")
        return EXIT_UNKNOWN
    call.terminal.show(answer, _lines(answer, call.terminal.style))
    return EXIT_OK if answer["same"] else EXIT_DIFFERENT


def _replay(call: Call, path: str) -> Simulation:
    """Decide the recording again. Raises RecordingError, SettingError, DatabaseError."""
    from pathlib import Path  # noqa: PLC0415

    from epad.simulate import settings  # noqa: PLC0415
    from epad.simulate.history import RecordedHistory, RecordingError  # noqa: PLC0415
    from epad.simulate.replay import Replay  # noqa: PLC0415

    chosen = settings.parse(call.arguments.settings)
    since = call.arguments.since
    since = time.time() - USUAL_DAYS * 86_400 if since is None else since
    history = RecordedHistory(Path(path))
    actual = history.transitions(since)
    replayed = Replay(chosen, actual).run(history.records(since))
    ended = replayed.ended_utc or since
    if ended < since:
        raise RecordingError(
            f"{path}: nothing was recorded since {_stamp(since)}; the last is of {_stamp(ended)}"
        )
    # What the recording does not reach yet is no difference: its last seconds may be still to be written.
    return answer_of(call.arguments.settings, since, actual, replayed)


def answer_of(settings: list[str], since: float, actual: list[Move], replayed: Replayed) -> Simulation:
    """Return both histories side by side, as JSON."""
    rows = [row for row in side_by_side(actual, replayed.moves) if row["at"] >= _stamp(since)]
    refusals = list(replayed.refusals)
    same = all(row["which"] == BOTH for row in rows) and all(r["did"] == r["would"] for r in refusals)
    return {
        "settings": settings,
        "since": _stamp(max(since, replayed.begun_utc or since)),
        "until": _stamp(replayed.ended_utc or since),
        "records": replayed.records,
        "lives": replayed.lives,
        "same": same,
        "transitions": rows,
        "refusals": refusals,
    }


def side_by_side(did: list[Move], would: list[Move]) -> list[reports.Move]:
    """The transitions in order: those of both, those that happened only, those that only would have."""
    from difflib import SequenceMatcher  # noqa: PLC0415

    rows: list[reports.Move] = []
    matcher = SequenceMatcher(None, [m.key for m in did], [m.key for m in would], autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            rows += [_row(BOTH, move) for move in did[a:b]]
        else:
            rows += [_row(DID, move) for move in did[a:b]] + [_row(WOULD, move) for move in would[c:d]]
    return rows


def _row(which: str, move: Move) -> reports.Move:
    return {
        "which": which,
        "at": _stamp(move.utc),
        "source": move.source,
        "trigger": move.trigger,
        "destination": move.destination,
        "guard": move.guard,
        "because": move.because,
    }


def _stamp(utc: float) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime.fromtimestamp(utc, UTC).isoformat(timespec="milliseconds")


def _lines(answer: Recorded, style: render.Style) -> list[str]:
    chosen = ", ".join(clean(text) for text in answer["settings"]) or "nothing changed"
    lines = [
        clean(answer["recording"]),
        f"replayed {answer['records']} records of {answer['lives']} start(s), {answer['since']} to {answer['until']}",
        f"with {chosen}",
        "",
    ]
    marks = {BOTH: "", DID: "red", WOULD: "green"}
    for row in answer["transitions"]:
        text = f"{row['which']} {row['at']}  {row['source']} -> {row['destination']}  {row['trigger']} [{row['guard']}]"
        lines.append(style.paint(clean(text), marks[row["which"]]))
        if row["because"]:
            lines.append(style.paint(f"      {clean(row['because'])}", "dim"))
    if not answer["transitions"]:
        lines.append("no transition, neither then nor now")
    if answer["refusals"]:
        heads = ("REFUSED", "CODE", "DID", "WOULD")
        cells = [(r["subsystem"], r["code"], str(r["did"]), str(r["would"])) for r in answer["refusals"]]
        lines += ["", *render.table(heads, cells, style)]
    verdict = "the same as what happened" if answer["same"] else "= both, - happened, + would have happened"
    return [*lines, "", verdict]
