"""Define the protocol of every probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from statemachine.finding import Finding

Push = Callable[[Finding], None]
"""How a probe states something the moment it happens, rather than at its next sample."""


class ProbeError(Exception):
    """The probe could not see. This is not a bad finding: unknown is not broken."""


class Probe(Protocol):
    """Something that is watched, on schedule."""

    @property
    def name(self) -> str:
        """Return the word used in anomalies, metrics and configuration."""
        ...

    @property
    def interval_seconds(self) -> float:
        """Return the interval between two looks."""
        ...

    async def sample(self) -> Sequence[Finding]:
        """Look once. Raises ProbeError when it could not see."""
        ...
