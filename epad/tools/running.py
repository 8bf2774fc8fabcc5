"""Hold one tool's turn that is under way, and end it early: for its caller, or for a hold.

| state | entered by | left by |
|---|---|---|
| opening | `ToolCalls.call` | the ledger's answer |
| asked | `began` | the worker's answer, its end, or the time |
| stopping | `stop`, in either of the others | the same; the first reason counts |

A stop before the worker is asked keeps it from being asked. Afterwards it kills the process of the call, and the
worker's answer still comes, with the effects so far.
"""

from __future__ import annotations

from collections.abc import Callable

from epad.gateway.refusal import Refusal
from epad.ledger.record import ToolOutcome
from epad.tools.worker import Asked, Worker


class Running:
    """One call under way; implements `epad.gateway.access.Severable`."""

    def __init__(self) -> None:
        self.stopped: ToolOutcome | None = None
        self.why = ""
        self._cancel: Callable[[], object] | None = None

    def began(self, worker: Worker, asked: Asked) -> None:
        """Note that a worker has the call; it is killed at once if it was stopped meanwhile."""
        self.began_own(lambda: worker.cancel(asked))

    def began_own(self, cancel: Callable[[], object]) -> None:
        """Note how a call that is being done is cancelled; that is done at once if it was stopped meanwhile."""
        self._cancel = cancel
        if self.stopped is not None:
            cancel()

    @property
    def was_begun(self) -> bool:
        """Tell if a worker, or an own tool, has had the call, so that something may have been done."""
        return self._cancel is not None

    def stop(self, outcome: ToolOutcome, why: str) -> None:
        """End the call early; the first reason counts."""
        if self.stopped is not None:
            return
        self.stopped, self.why = outcome, why
        if self._cancel is not None:
            self._cancel()

    def sever(self, why: Refusal) -> None:
        """End the call since its subsystem is held."""
        self.stop(ToolOutcome.KILLED, why.message)
