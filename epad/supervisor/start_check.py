"""Define the seam between a start and the look at what is started; `epad/measurement/starts.py` implements it."""

from __future__ import annotations

from typing import Protocol

from epad.configuration.schema import SubsystemConfig
from epad.supervisor.engine import Launch


class StartCheck(Protocol):
    """Looks at what a subsystem is about to run."""

    async def check(self, subsystem: str, spec: SubsystemConfig, launch: Launch) -> None:
        """Look at a start. Raises SpawnError where a person is to look at it first."""
        ...


class NoStartCheck:
    """For a supervisor that starts whatever is configured."""

    async def check(self, subsystem: str, spec: SubsystemConfig, launch: Launch) -> None:
        """Let it start."""
