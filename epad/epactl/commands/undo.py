"""Undo a tool's turn, or a session: show first what would be put back."""

from __future__ import annotations

from epad.api.client import quote
from epad.epactl import render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call
from epad.epactl.consent import NOTHING_DONE, agreed
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from epad.answers.tools import UndonePaths, UndonePlan


def undo(call: Call) -> int:
    """`epactl undo TURN|SESSION --reason R [--dry-run] [--yes]`. Raises UnknownNameError, FailedError."""
    name = call.arguments.name
    if call.arguments.dry_run:
        plan: UndonePlan = call.client.get(Operation.UNDO_PLAN_READ.target(quote(name)))
        lines = [line for one in plan["turns"] for line in plan_lines(one)]
        call.terminal.show({**plan, "dry_run": True}, [*lines, NOTHING_DONE])
        return EXIT_OK
    if not agreed(
        call, f"puts back the files that {clean(name)} has changed, where nobody has changed them since"
    ):
        return EXIT_FAILED
    answer = call.client.order(Operation.UNDO.target(quote(name)), call.arguments.reason)
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer["failed"] else EXIT_OK


def plan_lines(one: UndonePaths) -> Iterator[str]:
    """Yield what an undo of one turn would find at each path."""
    yield clean(f"{one['tool']} {one['turn']}")
    if one["why"]:
        yield clean(f"    cannot be told: {one['why']}")
    for words, paths in (
        ("would put back", one["restored"]),
        ("is as before", one["as_before"]),
        ("would leave alone, changed since:", one["changed_since"]),
        ("would leave alone, nothing was kept of:", one["not_kept"]),
    ):
        for path in paths:
            yield clean(f"    {words} {path}")
