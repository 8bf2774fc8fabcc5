"""Ask a person before an order that stops everything or gives something up.

`--yes` skips the question, `--dry-run` needs none, since it does nothing. With no terminal to ask at, an order without
`--yes` is a wrong command line (exit status 2) and nothing is done.
"""

from __future__ import annotations

from epad.epactl.call import Call, UsageError

NOTHING_DONE = "nothing was done"


def agreed(call: Call, deed: str) -> bool:
    """Tell if the order may go on; `deed` describes its effect in the present tense. Raises UsageError."""
    if call.arguments.yes:
        return True
    if not call.terminal.is_person():
        raise UsageError(f"this {deed}, and there is no one to ask: give --yes")
    if call.terminal.confirm(f"This {deed}."):
        return True
    call.terminal.say(NOTHING_DONE)
    return False
