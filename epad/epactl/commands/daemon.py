"""The commands that ask the daemon how it is, and the one that forces its phase."""

from __future__ import annotations

import json

from epad.api.client import NotRunningError, quote
from epad.epactl import render
from epad.epactl.call import (
    EXIT_FAILED,
    EXIT_NOT_NORMAL,
    EXIT_OK,
    Call,
    UsageError,
    tools_of,
    unknown_subsystem,
)
from epad.formatting import tools as tool_words
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from epad.answers.decisions import Event
    from epad.api.client import ControlClient

PAGE = 1_000  # events, the most the API gives at once
USUAL_LINES = 100
MOST_LINES = 10_000  # of a log, the most the API gives at once


def status(call: Call) -> int:
    """`epactl status [NAME] [--check] [--watch] [--wait PHASE]`."""
    if call.arguments.watch or call.arguments.wait:
        from epad.epactl.commands import watch  # noqa: PLC0415 - only where it is asked for

        return watch.wait(call) if call.arguments.wait else watch.watch(call)
    answer = call.client.get(Operation.STATUS_READ.path)
    name = call.arguments.name
    if name is None:
        call.terminal.show(answer, render.status_lines(answer, call.terminal.style))
    else:
        chosen = [subsystem for subsystem in answer["subsystems"] if subsystem["name"] == name]
        if chosen:
            call.terminal.show(chosen[0], render.subsystem_lines(chosen[0], answer["anomalies"]))
        elif (tools := tools_of(name, answer)) is not None:
            call.terminal.show(tools, tool_words.in_full(tools))
        else:
            raise unknown_subsystem(name, answer)
    return EXIT_NOT_NORMAL if call.arguments.check and answer["phase"] != "NORMAL" else EXIT_OK


def phase(call: Call) -> int:
    """`epactl phase [--diagram | --force PHASE --reason R]`."""
    if call.arguments.force:
        return _force(call, call.arguments.force)
    answer = call.client.get(Operation.PHASE_READ.path)
    if call.arguments.diagram:
        call.terminal.show({"diagram": answer["diagram"]}, answer["diagram"].splitlines())
    else:
        call.terminal.show(answer, render.phase_lines(answer, call.terminal.style))
    return EXIT_OK


def _force(call: Call, wanted: str) -> int:
    """Enter a phase without waiting. Raises UsageError, ClientError."""
    if call.arguments.reason is None:
        raise UsageError("--force changes the phase: give --reason TEXT, which is recorded")
    if call.arguments.dry_run:
        now = call.client.get(Operation.PHASE_READ.path)
        why = now["force"][wanted]
        answer = {"order": f"phase {wanted}", "dry_run": True, "phase": now["phase"], "refused": why}
        would = f"would be refused: {why}" if why else f"would order {now['phase']} -> {wanted} at once"
        call.terminal.show(answer, [would, "nothing was done"])
        return EXIT_OK
    answer = call.client.order(Operation.FORCE_PHASE.path, call.arguments.reason, phase=wanted)
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer["failed"] else EXIT_OK


def explain(call: Call) -> int:
    """`epactl explain [-v] [SUBJECT]`."""
    subject = call.arguments.subject
    answer = call.client.get(Operation.EXPLAIN_READ.path, {"subject": subject} if subject else None)
    evidence = call.arguments.verbose
    call.terminal.show(answer, render.explain_lines(answer, call.terminal.style, evidence=evidence))
    return EXIT_OK


def events(call: Call) -> int:
    """`epactl events [NAME] [-f] [--since ID] [-n COUNT]`. Raises UnknownNameError."""
    arguments, client, name = call.arguments, call.client, call.arguments.name
    since = -arguments.count if arguments.since is None else arguments.since
    if name is not None:
        _require_events_or_subsystem(client, name)
        if arguments.since is None:
            since = _before_the_newest_of(client, name, arguments.count) or 0
    if isinstance(since, float):
        since = _last_event_before(client, since)
    if arguments.follow:
        query = {"since": str(since), "limit": str(PAGE), "follow": "1"}
        for event in client.lines(Operation.EVENTS_READ.path, query):
            _show_event(call, event, name)
        raise NotRunningError("the daemon has ended the stream", "is it still running? epactl status")
    while batch := list(client.lines(Operation.EVENTS_READ.path, {"since": str(since), "limit": str(PAGE)})):
        for event in batch:
            _show_event(call, event, name)
        since = batch[-1]["id"]
        if len(batch) < PAGE:
            break
    return EXIT_OK


def _last_event_before(client: ControlClient, utc: float) -> int:
    """Return the id of the newest event that is older than a time; 0 if none is.

    Ids grow with time: halve until found.
    """
    newest = [
        event["id"] for event in client.lines(Operation.EVENTS_READ.path, {"since": "-1", "limit": "1"})
    ]
    low, high = 0, newest[0] if newest else 0
    while low < high:
        middle = (low + high + 1) // 2
        found = list(client.lines(Operation.EVENTS_READ.path, {"since": str(middle - 1), "limit": "1"}))
        if found and _utc(found[0]["at"]) < utc:
            low = max(middle, found[0]["id"])
        else:
            high = middle - 1
    return low


def _utc(stamp: str) -> float:
    import datetime as dt  # noqa: PLC0415 - only where a time was given

    return dt.datetime.fromisoformat(stamp).timestamp()


def _require_events_or_subsystem(client: ControlClient, name: str) -> None:
    """Raises UnknownNameError for a name that no subsystem has and of which nothing is told."""
    status = client.get(Operation.STATUS_READ.path)
    known = any(subsystem["name"] == name for subsystem in status["subsystems"])
    if not known and _before_the_newest_of(client, name, 1) is None:
        raise unknown_subsystem(name, status)


def _before_the_newest_of(client: ControlClient, name: str, count: int) -> int | None:
    """The id after which there are `count` events of a name, or all where there are fewer; None if there are none.

    Reads from the newest back, a page at a time; an empty page is older than everything that is kept.
    """
    newest = [
        event["id"] for event in client.lines(Operation.EVENTS_READ.path, {"since": "-1", "limit": "1"})
    ]
    end, found = newest[0] if newest else 0, list[int]()
    while end > 0 and len(found) < count:
        start = max(end - PAGE, 0)
        query = {"since": str(start), "limit": str(PAGE)}
        page = [event for event in client.lines(Operation.EVENTS_READ.path, query) if event["id"] <= end]
        if not page:
            break
        found = [event["id"] for event in page if event["subsystem"] == name] + found
        end = start
    return found[-count:][0] - 1 if found else None


def _show_event(call: Call, event: Event, name: str | None) -> None:
    if name is not None and event["subsystem"] != name:
        return
    call.terminal.lines([json.dumps(event) if call.terminal.as_json else render.event_line(event)])


def logs(call: Call) -> int:
    """`epactl logs NAME [-f] [-n LINES] [--since WHEN]`."""
    arguments = call.arguments
    since, most = arguments.since, MOST_LINES if arguments.since is not None else USUAL_LINES
    query = {
        "lines": str(most if arguments.lines is None else arguments.lines),
        "after": str(-1 if since is None else int(since)),
        "follow": "1" if arguments.follow else "0",
    }
    for item in call.client.lines(Operation.LOGS_READ.target(quote(arguments.name)), query):
        call.terminal.lines([json.dumps(item) if call.terminal.as_json else clean(item["line"])])
    if arguments.follow:
        raise NotRunningError("the daemon has ended the stream", "is it still running? epactl status")
    return EXIT_OK
