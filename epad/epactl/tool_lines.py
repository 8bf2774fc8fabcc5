"""Format the answers about tools for people: the list of tools, and a session's trace as a tree."""

from __future__ import annotations

from epad.epactl.render import PLAIN, Style, table
from epad.formatting.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from epad.answers.tools import ToolLine, ToolList, TracedEffect, TracedSession, TracedSpawn, TracedTurn

MOST_DEPTH = 8  # a model's turn, a tool's, the undo of it: what asks for itself is no tree
SHORT_DIGITS = 12  # of a hash: enough to compare by eye
_OUTCOME_STYLE = {"done": "green", "open": "dim", "unknown": "red"}


def tool_lines(answer: ToolList, style: Style = PLAIN) -> list[str]:
    """Return a row for each tool: its risk, and who may call it."""
    if not answer["enabled"]:
        return ["there are no tools: `[tools] enabled = true` gives them"]
    tiers = ", ".join(f"{clean(name)} ({clean(tier)})" for name, tier in answer["tiers"].items())
    rows = [
        (one["name"], one["category"], one["risk"], one["lowest_tier"], _callers(one))
        for one in answer["tools"]
    ]
    return [
        *table(("TOOL", "CATEGORY", "RISK", "FROM TIER", "MAY CALL IT"), rows, style),
        f"{len(rows)} tools; sessions: {tiers or 'no subsystem has tools'}",
        "`epad diagram --gate` prints the table that decides",
    ]


def tool_lines_of(answer: ToolList, subsystem: str, style: Style = PLAIN) -> list[str]:
    """Return a row for each tool, and how one subsystem stands to it."""
    rows = [
        (
            one["name"],
            one["category"],
            one["risk"],
            standing["may"],
            "" if standing["may"] == "yes" else standing["why"],
        )
        for one in answer["tools"]
        if (standing := one["callers"].get(subsystem)) is not None
    ]
    may = sum(row[3] == "yes" for row in rows)
    return [
        *table(("TOOL", "CATEGORY", "RISK", "MAY", "WHY NOT"), rows, style),
        f"{clean(subsystem)} ({clean(answer['tiers'].get(subsystem, '-'))}) may call {may} of {len(rows)} tools",
    ]


def session_lines(session: TracedSession | None, subject: str | None) -> list[str]:
    """Return a session's beginning and end; without a session, that there is none."""
    if session is None:
        return [
            f"no session of {clean(subject or 'anybody')} is recorded: one begins with the first call of a tool"
        ]
    lines = [
        f"session {clean(session['session'])} of {clean(session['subsystem'])}, tier {clean(session['tier'])}",
        f"began {clean(session['began_at'])} by {clean(session['began_by']) or '-'}",
    ]
    if session["parent"]:
        template = f", by [agents.{clean(session['template'])}]" if session["template"] else ""
        lines.append(
            f"asked for by the session {clean(session['parent'])}{template}: {clean(session['why'])}"
        )
    if session["ended_at"]:
        why = f": {clean(session['ended_why'])}" if session["ended_why"] else ""
        lines.append(f"ended {clean(session['ended_at'])} by {clean(session['ended_by']) or '-'}{why}")
    return lines


def spawned_lines(spawned: Sequence[TracedSpawn], indent: str = "") -> Iterator[str]:
    """Yield a line for each agent that a session has asked for, with theirs below it."""
    for one in spawned:
        agent = one["agent"]
        told = "its record is not sound"
        if agent is not None:
            end = (
                f"ended by {clean(agent['ended_by'])}: {clean(agent['ended_why'])}"
                if agent["ended_at"]
                else "lives"
            )
            told = f"{clean(agent['subsystem'])}, tier {clean(agent['tier'])}, {end}"
        yield f"{indent}{clean(one['at'])}  asked for [agents.{clean(one['template'])}]: {clean(one['reason'])}"
        yield f"{indent}    {told}  [{clean(one['session'])}]"
        yield from spawned_lines(one["asked"], f"{indent}  ")


def sessions_table(sessions: Sequence[TracedSession], style: Style = PLAIN) -> list[str]:
    """Return a row for each session."""
    rows = [
        (one["session"], one["tier"], one["began_at"], one["ended_at"] or "-", one["ended_why"] or "-")
        for one in sessions
    ]
    return table(("SESSION", "TIER", "BEGAN", "ENDED", "WHY"), rows, style)


def trace_lines(turns: Sequence[TracedTurn], style: Style = PLAIN) -> Iterator[str]:
    """Yield a page of turns as a tree: a tool's below the model's turn that asked for it, in order of beginning.

    A tool's turn whose model's turn is on another page, or is not known, stands by itself and names it.
    """
    here = {one["turn"] for one in turns}
    below: dict[str, list[TracedTurn]] = {}
    for one in turns:
        if one["parent"] in here:
            below.setdefault(one["parent"], []).append(one)
    for one in turns:
        if one["parent"] in here:
            continue
        yield from _with_those_below(one, below, "", style)


def _with_those_below(
    one: TracedTurn, below: Mapping[str, Sequence[TracedTurn]], indent: str, style: Style
) -> Iterator[str]:
    yield from _turn_lines(one, indent, style)
    if len(indent) < 2 * MOST_DEPTH:
        for child in below.get(one["turn"], ()):
            yield from _with_those_below(child, below, f"{indent}  ", style)


def _turn_lines(one: TracedTurn, indent: str, style: Style) -> Iterator[str]:
    outcome = style.paint(clean(one["outcome"]), _OUTCOME_STYLE.get(one["outcome"], "yellow"))
    why = f": {clean(one['reason'])}" if one["reason"] else ""
    if one["kind"] == "model":
        did = f"model {clean(one['name'])}  {outcome}{why}  {one['input_tokens']} in, {one['output_tokens']} out"
    else:
        did = f"{clean(one['name'])}  {outcome}{why}  {clean(one['row'])}"
    asked = f"  asked for by {clean(one['parent'])}" if one["parent"] and not indent else ""
    took = f"  {one['wall_ms']} ms" if one["ended_at"] else ""
    yield f"{indent}{clean(one['began_at'])}  {did}{took}{asked}  [{clean(one['turn'])}]"
    for effect in one["effects"]:
        yield f"{indent}    {_effect(effect)}"


def _effect(effect: TracedEffect) -> str:
    target, before, after = clean(effect["target"]), effect["before"], effect["after"]
    if before is None and after is None:
        return f"touched {target}"
    if before is None:
        return f"made {target}  {_short(after)}"
    if after is None:
        return f"removed {target}  {_short(before)}"
    return f"changed {target}  {_short(before)} -> {_short(after)}"


def _short(digest: str | None) -> str:
    return clean(digest or "")[:SHORT_DIGITS]


def _callers(tool: ToolLine) -> str:
    """Name the subsystems that may call a tool, and those for which a person has to consent."""
    names = [
        f"{name} (consent)" if standing["may"] == "consent" else name
        for name, standing in tool["callers"].items()
        if standing["may"] != "no"
    ]
    return ", ".join(names) or "nobody"
