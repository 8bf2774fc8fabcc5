"""Show what subsystems were at their last starts, and how that differs from the starts before."""

from __future__ import annotations

from epad.epactl.call import EXIT_OK, Call
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from epad.answers.changes import Measurement, Measurements

WORDS = "What subsystems were at their last starts, and what has changed."
_DIGITS = 16


def show(call: Call) -> int:
    """`epactl changes list`: a sentence for each subsystem, and the parts that are not as they were."""
    answer: Measurements = call.client.get(Operation.CHANGES_READ.path)
    lines = [line for one in answer["measurements"] for line in _lines(one)]
    call.terminal.show(answer, lines or ["no subsystem was started by this run of the daemon"])
    return EXIT_OK


def _lines(one: Measurement) -> Iterator[str]:
    yield clean(f"{one['sentence']} ({one['digest'][:_DIGITS]})")
    for change in one["changes"]:
        yield clean(f"  {change['how']}: {change['role']} {change['path']}")
    if one["changed"] > len(one["changes"]):
        yield f"  and {one['changed'] - len(one['changes'])} more"
    for sentence in one["left_out"]:
        yield clean(f"  not looked at: {sentence}")
    if one["held"]:
        yield clean(f"  held: `epactl changes accept {one['subsystem']} --reason R` starts it as it is now")
