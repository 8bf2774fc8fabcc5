"""Show the tools and who may call them, and the turns of a session."""

from __future__ import annotations

import json
from collections import deque

from epad.epactl import arguments
from epad.epactl.call import EXIT_OK, Call, UsageError
from epad.epactl.commands import servers
from epad.epactl.tool_lines import (
    session_lines,
    sessions_table,
    spawned_lines,
    tool_lines,
    tool_lines_of,
    trace_lines,
)
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from epad.answers.tools import ToolList, Trace, TracedTurn
    from epad.epactl.parser import Commands


def add_commands(commands: Commands) -> None:
    """Add `epactl tools`, what stands below it, and `epactl trace`."""
    tools = commands.ask(Operation.TOOLS_READ, show)
    below = commands.below("tools", tools)
    shown = below.add("show", show, "Show all tools, or those of one subsystem; `tools NAME` is the same.")
    shown.add_argument(
        "name", metavar="NAME", type=arguments.name, nargs="?", help="the tools of this subsystem"
    )
    tools.set_defaults(name=None)
    tools.otherwise = "show"
    servers.add_commands(below)
    commands.operations |= below.operations
    traced = commands.ask(Operation.TRACE_READ, trace)
    traced.add_argument(
        "subject",
        metavar="SUBJECT",
        type=arguments.name,
        nargs="?",
        help="a session, or a subsystem: its newest session (the newest of all)",
    )
    traced.add_argument("--sessions", action="store_true", help="list the sessions of the subsystem instead")
    traced.add_argument("-n", "--count", metavar="N", type=arguments.whole(1), help="only the newest N turns")


def show(call: Call) -> int:
    """`epactl tools [SUBSYSTEM]`. Raises UsageError for a subsystem without tools."""
    answer: ToolList = call.client.get(Operation.TOOLS_READ.path)
    name = call.arguments.name
    if name is None or not answer["enabled"]:
        call.terminal.show(answer, tool_lines(answer, call.terminal.style))
        return EXIT_OK
    if name not in answer["tiers"]:
        known = ", ".join(answer["tiers"]) or "none"
        raise UsageError(f"there is no subsystem {name!r} with tools; there are: {known}")
    tools = [{**one, "callers": {name: one["callers"][name]}} for one in answer["tools"]]
    shown = {**answer, "tiers": {name: answer["tiers"][name]}, "tools": tools}
    call.terminal.show(shown, tool_lines_of(answer, name, call.terminal.style))
    return EXIT_OK


def trace(call: Call) -> int:
    """`epactl trace [SESSION|SUBSYSTEM] [--sessions] [-n N]`. Raises UnknownNameError.

    A page at a time, so that neither side holds a long session whole; as one JSON document it has to be.
    """
    subject, terminal = call.arguments.subject, call.terminal
    first: Trace = _page(call, 0)
    if call.arguments.sessions:
        lines = sessions_table(first["sessions"], terminal.style)
        terminal.show(first["sessions"], lines if first["sessions"] else session_lines(None, subject))
        return EXIT_OK
    pages = _pages(call, first)
    if call.arguments.count is not None:
        newest = deque((turn for page in pages for turn in page), maxlen=call.arguments.count)
        pages = iter([list(newest)])
    if terminal.as_json and call.arguments.output == "jsonl":
        for page in pages:
            terminal.lines(json.dumps(turn) for turn in page)
    elif terminal.as_json:
        turns = [turn for page in pages for turn in page]
        terminal.show({**first, "turns": turns, "after": 0}, ())
    else:
        terminal.lines(session_lines(first["session"], subject))
        terminal.lines(spawned_lines(first["spawned"]))
        for page in pages:
            terminal.lines(trace_lines(page, terminal.style))
    return EXIT_OK


def _pages(call: Call, first: Trace) -> Iterator[list[TracedTurn]]:
    page = first
    while True:
        yield list(page["turns"])
        if not page["after"]:
            return
        page = _page(call, page["after"])


def _page(call: Call, after: int) -> Trace:
    subject = {"subject": call.arguments.subject} if call.arguments.subject else {}
    answer: Trace = call.client.get(Operation.TRACE_READ.path, {**subject, "page": str(after)})
    return answer
