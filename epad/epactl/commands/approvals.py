"""Show which hosts and tools subsystems ask for, approve one for a time, and take an approval back."""

from __future__ import annotations

from epad.api.client import quote
from epad.epactl import render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call, UsageError
from epad.epactl.commands.orders import NO_REASON, rehearse
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from epad.answers.confinement import (
        Approvals,
        HostQuestion,
        StandingApproval,
        StandingConsent,
        ToolQuestion,
    )

_HEADS = ("NUMBER", "SUBSYSTEM", "ASKS FOR", "STATE", "LEFT", "TRIES", "PROGRAM")
_STATE = _HEADS.index("STATE")


def show(call: Call) -> int:
    """`epactl approvals`: a row for each question, those that wait last."""
    answer: Approvals = call.client.get(Operation.APPROVALS_READ.path)
    rows = [_cells(one, f"{one['host']}:{one['port']}", one["program"]) for one in answer["questions"]]
    rows += [_cells(one, one["tool"], "") for one in answer["tool_questions"]]
    rows.sort(key=lambda row: (row[_STATE] == "open", int(row[0])))
    lines = render.table(_HEADS, rows, call.terminal.style) if rows else ["no questions"]
    lines += [line for one in answer["tool_questions"] if one["state"] == "open" for line in _details(one)]
    lines += [clean(f"{one['number']}: {one['asks']}") for one in answer["questions"] if _is_told(one)]
    lines += [_standing(one) for one in answer["standing"]]
    lines += [_consent(one) for one in answer["tool_standing"]]
    if answer["standing"]:
        lines.append("`epactl approvals revoke HOST --subsystem NAME` takes one back")
    if answer["tool_standing"]:
        lines.append("`epactl approvals revoke TOOL|NUMBER --subsystem NAME` takes a consent back")
    if any(row[_STATE] == "open" for row in rows):
        lines.append("`epactl approve NUMBER [--for once|1h|always]` or `epactl deny NUMBER` answers one")
    call.terminal.show(answer, lines)
    return EXIT_OK


def approve(call: Call) -> int:
    """`epactl approve NUMBER [--for once|1h|always] [--reason R]`. Raises UsageError, ClientError."""
    if call.arguments.dry_run:
        return rehearse(call, Operation.APPROVE)
    seconds, reason = call.arguments.seconds, call.arguments.reason
    if seconds is None and reason == NO_REASON:
        raise UsageError('what is allowed for ever needs a reason, which is recorded: add --reason "..."')
    target = Operation.APPROVE.target(quote(call.arguments.name))
    answer = call.client.order(target, reason, seconds=seconds)
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer.get("failed") else EXIT_OK


def revoke(call: Call) -> int:
    """`epactl approvals revoke NUMBER|HOST [--subsystem NAME] [--reason R]`. Raises ClientError."""
    if call.arguments.dry_run:
        return rehearse(call, Operation.REVOKE_HOST)
    target = Operation.REVOKE_HOST.target(quote(call.arguments.name))
    answer = call.client.order(target, call.arguments.reason, subsystem=call.arguments.subsystem or "")
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer.get("failed") else EXIT_OK


def _standing(one: StandingApproval) -> str:
    left = one["left_seconds"]
    until = "always" if left is None else f"for {left:.0f} s more"
    return clean(
        f"{one['subsystem']} may reach {one['host']}:{one['port']} {'once' if one['once'] else until}"
    )


def _consent(one: StandingConsent) -> str:
    covers = (
        "once, as it was shown" if one["once"] else f"{one['covers']} for {one['left_seconds']:.0f} s more"
    )
    return clean(f"{one['subsystem']} may call {one['tool']} {covers}")


def _is_told(one: HostQuestion) -> bool:
    """Tell if a question about a host has more to say than its row."""
    return one["state"] == "open" and bool(one["labels"])


def _details(one: ToolQuestion) -> list[str]:
    """Return what a person has to know of a call before an answer."""
    lines = [
        f"{one['number']}: {one['asks']}",
        f"   arguments: {one['arguments']}",
        f"   for a time it covers {one['tool']} {one['covers']}; once, this call alone",
    ]
    return [clean(line) for line in lines]


def _cells(question: HostQuestion | ToolQuestion, what: str, program: str) -> tuple[str, ...]:
    left = question["left_seconds"]
    return (
        str(question["number"]),
        question["subsystem"],
        what,
        question["state"],
        "-" if left is None else f"{left:.0f} s",
        str(question["tries"]),
        program or "-",
    )
