"""The API's answers as text for people: pure functions from JSON to lines.

Names, reasons and status texts come from children and models, so nothing of them reaches the terminal
unless it is printable: an escape sequence in a status line must not be able to forge one.
"""

from __future__ import annotations

import json

from epad.formatting import amounts as limits
from epad.formatting import confinement, tools
from epad.formatting import footprints as footprint
from epad.formatting.gpus import gpu_lines
from epad.formatting.text import clean, cut, duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from epad.answers.decisions import Event, Explanation, Link, PhaseAnswer
    from epad.answers.orders import Result
    from epad.answers.status import Anomaly, Hold, Incident, Progress, ServedUpstream, Status, Subsystem
    from epad.answers.tools import ToolCategory

NOT_AN_LLM = "embedded models: not an LLM"

MAX_CELL = 60
WIDE = 1_000
# What the table shows of why something is held; `epactl status NAME` and `explain` have it all.
HOLD_CHARACTERS = 40
LAST_INCIDENT = "the last incident"
SUMMARY_LINES = 5  # of an explanation: what fits into one look
DONE = "done"

_RESET = "\x1b[0m"
_STYLES = {"bold": "\x1b[1m", "red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m", "dim": "\x1b[2m"}
_PHASE_STYLE = {"NORMAL": "green", "QUARANTINE": "yellow", "PRESERVATION": "yellow", "RECOVERY": "yellow"}
_STATE_STYLE = {
    "running": "green",
    "failed": "red",
    "hung": "red",
    "quarantined": "yellow",
    "throttled": "yellow",
}


class Style:
    """Colours, or none; `wide` cuts nothing off."""

    def __init__(self, colour: bool, wide: bool = False) -> None:
        self._colour = colour
        self.wide = wide

    def paint(self, text: str, name: str) -> str:
        code = _STYLES.get(name, "")
        return f"{code}{text}{_RESET}" if self._colour and code else text


PLAIN = Style(colour=False)


def status_lines(status: Status, style: Style = PLAIN) -> list[str]:
    """Format a whole status: the phase, the anomalies, the subsystems, the rest."""
    phase = str(status["phase"])
    painted = style.paint(clean(phase), _PHASE_STYLE.get(phase, "red"))
    lines = [f"{painted} for {duration(status['phase_seconds'])}: {clean(status['sentence'])}"]
    lines += anomaly_lines(status["anomalies"], style)
    lines += incident_lines(status["incidents"], style)
    lines += ["", *subsystem_table(status["subsystems"], style)]
    if any(subsystem["embedded"] for subsystem in status["subsystems"]):
        lines.append(NOT_AN_LLM)
    if status["gpus"]:
        lines += ["", *(clean(line) for line in gpu_lines(status["gpus"]))]
    lines += ["", *_foot_lines(status, style)]
    return lines


def anomaly_lines(anomalies: Sequence[Anomaly], style: Style = PLAIN) -> list[str]:
    """Format one line for each anomaly, the gravest in red."""
    return [
        "  "
        + style.paint(clean(a["severity"]), "red" if a["severity"] == "critical" else "yellow")
        + f" {clean(a['probe'])}/{clean(a['subsystem'])} for {duration(a['age_seconds'])}: "
        + clean(a["reason"])
        for a in anomalies
    ]


def incident_lines(incidents: Sequence[Incident], style: Style = PLAIN) -> list[str]:
    """Format each root with its victims under it; a root without victims is shown by its anomaly."""
    lines = []
    for incident in incidents:
        if not incident["victims"]:
            continue
        flapping = ", flapping" if incident["flapping"] else ""
        root = style.paint(f"root {clean(incident['root'])}", "yellow")
        since = duration(incident["age_seconds"])
        lines.append(f"  {root} for {since}{flapping}: {clean(incident['reason'])}")
        lines += [f"    victim {clean(name)}" for name in incident["victims"]]
    return lines


def subsystem_table(subsystems: Sequence[Subsystem], style: Style = PLAIN) -> list[str]:
    """Return the subsystems, one a row; the hold stands last, since it is a sentence."""
    heads = (
        "NAME",
        "STATE",
        "PID",
        "FOR",
        "RESTARTS",
        "MEMORY",
        "CPU",
        "PROGRESS",
        "TOKENS",
        "BUDGET",
        "HOLD",
    )
    if not subsystems:
        return ["no subsystems"]
    return table(heads, [_subsystem_row(subsystem, style) for subsystem in subsystems], style)


def _subsystem_row(subsystem: Subsystem, style: Style) -> tuple[str, ...]:
    state = str(subsystem["state"])
    tokens = subsystem["tokens"]
    return (
        str(subsystem["name"]),
        state,
        str(subsystem["pid"] or "-"),
        duration(subsystem["state_seconds"]),
        str(subsystem["restarts"]),
        footprint.memory(subsystem),
        footprint.cpu(subsystem),
        progress(subsystem["progress"]),
        limits.count(tokens.get("input", 0) + tokens.get("output", 0)),
        limits.every(subsystem["budget"]) if style.wide else limits.fullest(subsystem["budget"]),
        _hold_until(subsystem, style),
    )


def _hold_until(subsystem: Subsystem, style: Style) -> str:
    """Format the hold of a subsystem: its rung, its reason and its end."""
    value, characters = subsystem["hold"], WIDE if style.wide else HOLD_CHARACTERS
    sentence = subsystem.get("sentence")
    if not sentence:
        return hold(value, characters)
    return (
        f"{hold({'rung': value['rung'], 'reason': sentence['why']}, characters)}; {clean(sentence['until'])}"
    )


def subsystem_lines(subsystem: Subsystem, anomalies: Sequence[Anomaly]) -> list[str]:
    """Format one subsystem in full."""
    tokens = subsystem["tokens"]
    essential = ", essential" if subsystem["essential"] else ""
    essential += ", in the background" if subsystem.get("background") else ""
    lines = [
        f"{clean(subsystem['name'])}: {clean(subsystem['state'])}",
        f"  kind      {clean(subsystem['kind'])}{essential}",
        f"  pid       {subsystem['pid'] or '-'}",
        f"  for       {duration(subsystem['state_seconds'])}",
        f"  restarts  {subsystem['restarts']}",
        f"  memory    {footprint.in_full(subsystem)}",
        f"  status    {clean(subsystem['status']) or '-'}",
        f"  progress  {progress(subsystem['progress'])}",
        f"  tokens    {tokens.get('input', 0)} in, {tokens.get('output', 0)} out",
        f"  turns     {tokens.get('turns', 0)}",
        *([f"  spent     {limits.dollars(spent)}"] if (spent := subsystem["spent_microusd"]) else []),
        f"  budget    {limits.every(subsystem['budget'])}",
        f"  hold      {_hold_line(subsystem)}",
        f"  walls     {clean(confinement.in_full(subsystem))}",
        f"  log       {clean(subsystem['log']) or '-'}",
    ]
    if subsystem["embedded"]:
        lines.append(f"  {NOT_AN_LLM}")
    return lines + anomaly_lines([a for a in anomalies if a["subsystem"] == subsystem["name"]])


def _hold_line(subsystem: Subsystem) -> str:
    """Return the whole sentence: who, why, until when, and the command."""
    sentence = subsystem.get("sentence")
    return clean(sentence["line"]) if sentence else hold(subsystem["hold"], characters=500)


def _foot_lines(status: Status, style: Style) -> list[str]:
    ledger = status["ledger"]
    verdict = style.paint(clean(ledger["verdict"]), "green" if ledger["verdict"] == "ok" else "yellow")
    detail = f" ({clean(ledger['detail'])})" if ledger["detail"] else ""
    blind = [clean(probe["name"]) for probe in status["probes"] if not probe["success"]]
    lines = [
        f"ledger   {ledger['records']} records, {verdict}{detail}",
        f"probes   {len(status['probes']) - len(blind)} of {len(status['probes'])} see"
        + (f"; blind: {', '.join(blind)}" if blind else ""),
        *wall_lines(status["subsystems"], style),
        *tool_lines(status.get("tools", ()), style),
        f"gateway  {clean(status['gateway']['url']) or 'off'}",
        *_upstream_lines(status["upstreams"], style),
        *_shared_budget_lines(status),
        f"metrics  {clean(status['metrics']['url']) or 'off'}",
        f"page     {clean(status['web']['url']) or 'off'}",
        f"engine   {clean(status.get('engine', '')) or '-'}",
        f"epad     {clean(status['version'])}, pid {status['pid']}, up {duration(status['uptime_seconds'])}",
    ]
    return lines + [style.paint(f"note: {clean(notice)}", "dim") for notice in status["notices"]]


def wall_lines(subsystems: Sequence[Subsystem], style: Style = PLAIN) -> list[str]:
    """Format one line for how all are confined, and one in red for each wall that is missing."""
    told = confinement.summary(subsystems)
    lines = [style.paint(f"         {clean(line)}", "red") for line in confinement.all_troubles(subsystems)]
    return [f"walls    {clean(told)}", *lines] if told else lines


def tool_lines(categories: Sequence[ToolCategory], style: Style = PLAIN) -> list[str]:
    """Format one line for all tools, one for each category at work, and one in yellow for each hold."""
    told = tools.summary(categories)
    lines = [f"         {clean(line)}" for line in tools.at_work(categories)]
    lines += [style.paint(f"         {clean(line)}", "yellow") for line in tools.holds(categories)]
    return [f"tools    {told}", *lines] if told else []


def _upstream_lines(upstreams: Sequence[ServedUpstream], style: Style) -> list[str]:
    """Format one line for all upstreams that answer, and one with the reason for each that does not."""
    if not upstreams:
        return []
    silent = [upstream for upstream in upstreams if not upstream["healthy"]]
    told = [upstream for upstream in upstreams if upstream["reason"]]
    line = f"models   {len(upstreams) - len(silent)} of {len(upstreams)} upstreams answer"
    served = [f"{clean(u['name'])} by {clean(u['served_by'])}" for u in upstreams if u.get("served_by")]
    line += f"; served from here: {', '.join(served)}" if served else ""
    reasons = [f"         {clean(u['name'])} at {clean(u['url'])}: {_upstream_trouble(u)}" for u in told]
    return [line, *(style.paint(reason, "yellow") for reason in reasons)]


def _upstream_trouble(upstream: ServedUpstream) -> str:
    """Format an upstream's state, its duration and reason, and the time of the next attempt."""
    reason, state = clean(upstream["reason"]), clean(upstream.get("state", ""))
    if not state or state == "well":
        return reason
    if upstream["breaker"] == "open":
        return f"{state} for {duration(upstream['seconds'])}: {reason}; epad looks at it every second until it is back"
    again = f"; turns of that model go there again in {duration(upstream['retry_seconds'])}"
    return f"{state}: {reason}{again if upstream['retry_seconds'] else ''}"


def _shared_budget_lines(status: Status) -> list[str]:
    """Format the use of the shared budgets: those of groups, and the one of all."""
    own = {subsystem["name"] for subsystem in status["subsystems"]}
    shared = {scope: windows for scope, windows in status["budgets"].items() if scope not in own}
    texts = {scope: limits.fullest(windows) for scope, windows in shared.items()}
    return [f"budget   {clean(scope)}: {text}" for scope, text in texts.items() if text != "-"]


def event_line(event: Event) -> str:
    """Format one event as a line."""
    fields = " ".join(f"{clean(key)}={_value(value)}" for key, value in event["fields"].items())
    about = f" {clean(event['subsystem'])}" if event["subsystem"] else ""
    return f"{event['id']:>6}  {clean(event['at'])}  {clean(event['kind'])}{about}  {fields}".rstrip()


def explain_lines(explanation: Explanation, style: Style = PLAIN, *, evidence: bool = True) -> list[str]:
    """Return a summary, then the chain, one link a line, with the ids that join to events, ledger and logs.

    With `evidence`, each link is followed by its fields.
    """
    chain, summary = explanation["chain"], explain_summary(explanation)
    subject = clean(explanation.get("subject") or "the last decision")
    if not chain:
        last = explanation.get("subject") == LAST_INCIDENT
        return summary or ["no incident yet" if last else f"{subject}: nothing was decided"]
    lines = [*summary, "", f"why: {style.paint(subject, 'bold')}"]
    for link in chain:
        text = clean(link["text"]) + ("" if evidence else _reason_of_step(link))
        lines.append(f"  {clean(link['at'])}  {clean(link['kind']):<8} {text}  [{clean(link['id'])}]")
        fields = {key: value for key, value in link["fields"].items() if value not in (None, "", {}, [])}
        if fields and evidence:
            shown = " ".join(f"{clean(key)}={_value(value)}" for key, value in fields.items())
            lines.append(style.paint(f"      {shown}", "dim"))
    return lines


def explain_summary(explanation: Explanation) -> list[str]:
    """Return up to five lines: the present state (else the beginning), the last decision, the results of its steps."""
    chain, now = explanation["chain"], [clean(one["line"]) for one in explanation.get("summary", ())]
    decided = [link for link in chain if link["kind"] == "rule"][-1:]
    told = [f"decided {_at(link)}" for link in decided]
    told += _steps_line([link for link in chain if link["kind"] == "result"])
    if not now and chain[:1] != decided:
        told.insert(0, f"began {_at(chain[0])}")
    room = SUMMARY_LINES - len(told)
    if len(now) > room:
        now = [*now[: room - 1], f"and {len(now) - room + 1} more: epactl status"]
    return now + told


def _at(link: Link) -> str:
    return f"{clean(link['at'])}: {clean(link['text'])}"


def _steps_line(results: Sequence[Link]) -> list[str]:
    """Count the steps that are done and name the first that is not; empty if there were no steps."""
    open_ones = [clean(link["text"]) for link in results if link["fields"].get("state") != DONE]
    if not results:
        return []
    more = f" (and {len(open_ones) - 1} more)" if len(open_ones) > 1 else ""
    rest = f"; not done: {open_ones[0]}{more}" if open_ones else ""
    return [f"{len(results) - len(open_ones)} of {len(results)} step(s) done{rest}"]


def _reason_of_step(link: Link) -> str:
    """Return the reason of a hold, which stands only in the step's arguments."""
    reason = link["fields"].get("arguments", {}).get("reason", "") if link["kind"] == "step" else ""
    return f": {clean(reason)}" if reason else ""


def phase_lines(phase: PhaseAnswer, style: Style = PLAIN) -> list[str]:
    """Return the phase and the transitions that led to it, oldest first."""
    name = str(phase["phase"])
    painted = style.paint(clean(name), _PHASE_STYLE.get(name, "red"))
    lines = [f"{painted} since {clean(phase['since'])}: {clean(phase['sentence'])}"]
    if phase["history"]:
        rows = [
            (
                str(row["id"]),
                str(row["at"]),
                f"{row['source']} -> {row['destination']}",
                f"{row['trigger']} [{row['guard']}]",
                str(row["sentence"]),
            )
            for row in phase["history"]
        ]
        lines += ["", *table(("ID", "AT", "TRANSITION", "TRIGGER", "BECAUSE"), rows, style)]
    return lines


def result_lines(result: Result) -> list[str]:
    """Format the results of an order."""
    about = clean(result.get("subsystem", "")) or "host"
    texts = [clean(text) for text in result.get("results", [])] or ["done"]
    phase = clean(result.get("phase", ""))
    return [f"{about}: {text}" for text in texts] + ([f"phase: {phase}"] if phase else [])


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], style: Style = PLAIN) -> list[str]:
    """Format columns as wide as their widest cell; the last column is not padded."""
    cells = [
        [
            cut(clean(cell), WIDE if style.wide else MAX_CELL if i < len(row) - 1 else 200)
            for i, cell in enumerate(row)
        ]
        for row in rows
    ]
    widths = [max(len(row[i]) for row in [list(heads), *cells]) for i in range(len(heads))]
    lines = [style.paint(_join(heads, widths), "bold")]
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        painted = [style.paint(cell, _STATE_STYLE.get(cell.strip(), "")) for cell in padded]
        lines.append("  ".join(painted).rstrip())
    return lines


def _join(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def progress(value: Progress | None) -> str:
    """Done of total, as far as they are known."""
    if not value:
        return "-"
    return f"{value['done']}/{value['total']}" if value["total"] else str(value["done"])


def hold(value: Hold, characters: int = HOLD_CHARACTERS) -> str:
    """Format a hold: its rung and its reason."""
    if value["rung"] == "open":
        return "-"
    reason = clean(value["reason"])
    shown = reason if len(reason) <= characters else reason[: characters - 3] + "..."
    return f"{clean(value['rung'])}: {shown}"


def _value(value: object) -> str:
    """Return a field's value: a word as it is, anything else as JSON."""
    if isinstance(value, str) and " " not in value and value:
        return clean(value)
    return clean(json.dumps(value, ensure_ascii=False))
