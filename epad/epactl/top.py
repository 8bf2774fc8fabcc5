"""Lay out one screen of `epactl top`: phases, subsystems, bars, newest events. Pure: JSON in, lines out."""

from __future__ import annotations

from epad.epactl.render import PLAIN, anomaly_lines, event_line, hold, wall_lines
from epad.formatting import amounts as limits
from epad.formatting import footprints as footprint
from epad.formatting.gpus import mebibytes
from epad.formatting.text import clean, duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from epad.answers.decisions import Event
    from epad.answers.status import Gpu, Status, Subsystem, Use
    from epad.epactl.render import Style

LADDER = ("NORMAL", "QUARANTINE", "PRESERVATION", "RECOVERY", "LIFEBOAT")
BAR_CELLS = 20
NARROW_COLUMNS = 80  # the table and its bars need as many
WARN_RATIO = 0.8
_STATES = {"running": "green", "failed": "red", "hung": "red", "quarantined": "yellow", "throttled": "yellow"}


def screen(status: Status, events: Sequence[Event], size: tuple[int, int], style: Style = PLAIN) -> list[str]:
    """Lay out at most `size` (columns, rows); the last line counts the lines that do not fit."""
    columns, rows = size
    make = _narrow if columns < NARROW_COLUMNS else _wide
    lines = make(status, columns, style)
    room = rows - len(lines) - 3
    if room > 0:
        lines += ["", *(_cut(_event(event), columns) for event in events[-room:])]
    hidden = max(0, len(lines) - (rows - 1))
    lines = lines[: rows - 1]
    return [
        *lines,
        style.paint(f"q ends it; {hidden} lines do not fit" if hidden else "q or Ctrl-C ends it", "dim"),
    ]


def _wide(status: Status, columns: int, style: Style) -> list[str]:
    """Lay out one line for each thing."""
    return [
        _ladder(status, style),
        *_folded(_sentence(status), columns),
        *(_cut(line, columns) for line in anomaly_lines(status["anomalies"])),
        "",
        _cut(_heads(), columns),
        *(_subsystem(subsystem, columns, style) for subsystem in status["subsystems"]),
        *_shared(status, columns, style),
        *(_gpu(gpu, columns, style) for gpu in status["gpus"]),
        *(_cut(line, columns) for line in wall_lines(status["subsystems"])),
    ]


def _narrow(status: Status, columns: int, style: Style) -> list[str]:
    """Lay out each thing over as many lines as it takes: a terminal of 40 columns has no room for a table."""
    phase = str(status["phase"])
    lines = [style.paint(f"[{phase}]", _colour(phase)), *_folded(_sentence(status), columns)]
    for line in anomaly_lines(status["anomalies"]):
        lines += _folded(line.strip(), columns, indent="  ")
    lines.append("")
    for subsystem in status["subsystems"]:
        lines += _narrow_subsystem(subsystem, columns, style)
    for told in wall_lines(status["subsystems"]):
        lines += _folded(told.strip(), columns, indent="  ")
    shared = [
        *_shared(status, NARROW_COLUMNS, PLAIN),
        *(_gpu(gpu, NARROW_COLUMNS, PLAIN) for gpu in status["gpus"]),
    ]
    for line in shared:
        lines += _folded(line, columns, indent="  ")
    return lines


def _narrow_subsystem(subsystem: Subsystem, columns: int, style: Style) -> list[str]:
    tokens = subsystem["tokens"].get("input", 0) + subsystem["tokens"].get("output", 0)
    memory, held = subsystem.get("memory_bytes"), hold(subsystem["hold"])
    _, budget = fullest(subsystem["budget"])
    state = str(subsystem["state"])
    facts = [f"for {duration(subsystem['state_seconds'])}", f"{limits.count(tokens)} tokens"]
    facts += [] if memory is None else [f"{footprint.size(memory)}, CPU {footprint.cpu(subsystem)}"]
    facts += [text for text in (budget, "" if held == "-" else held) if text]
    head = _folded(f"{clean(subsystem['name'])} {clean(state)}", columns)
    return [
        *(style.paint(line, _STATES.get(state, "")) for line in head),
        *_folded("  " + ", ".join(facts), columns, "  "),
    ]


def _ladder(status: Status, style: Style) -> str:
    """Return the five phases, the present one marked."""
    steps = []
    for phase in LADDER:
        here = status["phase"] == phase
        steps.append(style.paint(f"[{phase}]", _colour(phase)) if here else style.paint(phase.lower(), "dim"))
    return " > ".join(steps)


def _colour(phase: str) -> str:
    return "green" if phase == "NORMAL" else "red" if phase == "LIFEBOAT" else "yellow"


def _sentence(status: Status) -> str:
    return f"for {duration(status['phase_seconds'])}: {clean(status['sentence'])}"


def _folded(text: str, columns: int, indent: str = "") -> list[str]:
    """Fold text over as many lines as it needs, so that its end with the advice is not cut off.

    A word longer than a line is broken; lines after the first begin with `indent`.
    """
    lines, line = [], text[: len(text) - len(text.lstrip())]
    for word in text.split():
        joined = f"{line} {word}" if line.strip() else f"{line}{word}"
        if len(joined) > columns and line.strip():
            lines.append(line)
            joined = indent + word
        while len(joined) > columns:
            lines.append(joined[:columns])
            joined = indent + joined[columns:]
        line = joined
    return [*lines, line]


def _heads() -> str:
    left = f"{'NAME':<14} {'STATE':<11} {'FOR':>6} {'MEMORY':>8} {'CPU':>5} {'TOKENS':>7}"
    return f"{left}  {'BUDGET':<{BAR_CELLS + 2}} HOLD"


def _subsystem(subsystem: Subsystem, columns: int, style: Style) -> str:
    tokens = subsystem["tokens"].get("input", 0) + subsystem["tokens"].get("output", 0)
    ratio, words = fullest(subsystem["budget"])
    state = str(subsystem["state"])
    head = f"{_cut(clean(subsystem['name']), 14):<14} "
    taken = "-" if (memory := subsystem.get("memory_bytes")) is None else footprint.size(memory)
    lasted = duration(subsystem["state_seconds"])
    middle = f" {lasted:>6} {taken:>8} {footprint.cpu(subsystem):>5} {limits.count(tokens):>7}  "
    held = hold(subsystem["hold"])
    tail = f" {words}" + (f"  {held}" if held != "-" else "")
    used = len(head) + 11 + len(middle) + BAR_CELLS + 2
    return (
        head
        + style.paint(f"{_cut(clean(state), 11):<11}", _STATES.get(state, ""))
        + middle
        + bar(ratio, style)
        + _cut(tail, max(0, columns - used))
    )


def _shared(status: Status, columns: int, style: Style) -> list[str]:
    own = {subsystem["name"] for subsystem in status["subsystems"]}
    lines = []
    for scope, windows in status["budgets"].items():
        ratio, words = fullest(windows)
        if scope not in own and ratio is not None:
            head = f"{_cut(clean(scope), 14):<14} {'budget':<41}  "
            lines.append(head + bar(ratio, style) + _cut(f" {words}", columns - len(head) - BAR_CELLS - 2))
    return lines


def _gpu(gpu: Gpu, columns: int, style: Style) -> str:
    used = mebibytes(gpu["used_bytes"] + gpu["reserved_bytes"])
    words = f" {used} of {mebibytes(gpu['total_bytes'])}" + ("" if gpu["fresh"] else ", old")
    head = f"{_cut('GPU ' + clean(gpu['gpu']), 14):<14} {'memory':<41}  "
    return head + bar(gpu["ratio"], style) + _cut(words, max(0, columns - len(head) - BAR_CELLS - 2))


def _event(event: Event) -> str:
    return event_line({**event, "at": str(event["at"])[11:19]})


def fullest(windows: Mapping[str, Use]) -> tuple[float | None, str]:
    """Return the ratio of the fullest limit and its text; None without a limit."""
    ratios = [
        w["used"] / w["limit"] for name, w in windows.items() if w["limit"] and name != limits.IN_FLIGHT
    ]
    return (max(ratios), limits.fullest(windows)) if ratios else (None, "")


def bar(ratio: float | None, style: Style = PLAIN) -> str:
    """Return a bar of fixed width; empty where there is no limit."""
    if ratio is None:
        return " " * (BAR_CELLS + 2)
    cells = min(BAR_CELLS, round(BAR_CELLS * ratio))
    colour = "red" if ratio >= 1 else "yellow" if ratio >= WARN_RATIO else "green"
    return "[" + style.paint("|" * cells, colour) + " " * (BAR_CELLS - cells) + "]"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + ("~" if width else "")
