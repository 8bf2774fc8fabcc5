"""Show how a reload would change policies, and reload with a reason if a policy widens."""

from __future__ import annotations

from epad.epactl import render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call
from epad.epactl.commands.orders import NO_REASON, rehearse
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from epad.answers.confinement import PolicyChanges


def diff(call: Call) -> int:
    """`epactl confine diff`: a line for each change, `+` if it widens a policy and `-` if it narrows one."""
    answer: PolicyChanges = call.client.get(Operation.CONFINE_DIFF_READ.path)
    lines = [clean(line) for change in answer["changes"] for line in change["lines"]]
    if answer["needs_reason"]:
        lines.append('`epactl reload --reason "..."` does it: what widens needs a reason, which is recorded')
    call.terminal.show(answer, lines or ["a reload would change no policy"])
    return EXIT_OK


def reload(call: Call) -> int:
    """`epactl reload [--reason R]`: a person's reason also stands for the changes that widen a policy."""
    if call.arguments.dry_run:
        return rehearse(call, Operation.RELOAD)
    reason = call.arguments.reason
    answer = call.client.order(Operation.RELOAD.path, reason, may_widen=reason != NO_REASON)
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer.get("failed") else EXIT_OK
