"""Offer each turn to whoever tells what it is for. A signal, never a gate: nothing waits for an answer, or reads one.

The design had an awaited call on the request path, open or closed on failure. A classifier of these figures
(`docs/intent.md`) may decide nothing, so there is nothing to wait for: the turn is offered as it is forwarded, and the
only thing that comes back is a word for a header, where it comes before the answer does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Tell = Callable[[str], None]
"""Takes the label of a turn, if there ever is one."""


class Screen(Protocol):
    """Tells what turns are for, beside their way to the upstream."""

    def offer(self, turn: str, subsystem: str, body: bytes, tell: Tell) -> None:
        """Take a turn as it is forwarded. O(1); raises nothing."""
        ...


class NoScreen:
    """Is the screen of a gateway without a classifier."""

    def offer(self, turn: str, subsystem: str, body: bytes, tell: Tell) -> None: ...
