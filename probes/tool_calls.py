"""Define the events about calls of tools that the tool door gives its observers, as they end."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class ToolCalled(Struct, frozen=True, gc=False):
    """A call has ended, or was refused (`outcome` is "refused"; `row` is the gate's).

    `code` is the reason's: empty for a result. `arguments` and `result` are digests; that of a refusal's result is
    empty. `output_bytes` are those of the result, `seconds` those in the worker. `changes` counts what it has changed,
    and `can_undo` tells if that is kept to be put back.
    """

    subsystem: str
    at: float
    turn: str
    tool: str
    category: str
    outcome: str
    code: str = ""
    row: str = ""
    arguments: bytes = b""
    result: bytes = b""
    output_bytes: int = 0
    seconds: float = 0.0
    changes: int = 0
    can_undo: bool = False

    @property
    def is_done(self) -> bool:
        """Tell if the tool gave its result."""
        return self.outcome == "done"

    @property
    def is_refused(self) -> bool:
        """Tell if nothing was done."""
        return self.outcome == "refused"


class ToolObserver(Protocol):
    """Is told of calls of tools."""

    def called(self, event: ToolCalled) -> None:
        """Take note of the end of a call; never waits."""
        ...
