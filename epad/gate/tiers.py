"""Define the tiers of sessions: how far the tools of one agent's process may go.

A tier belongs to a session, which is one start of an agent. It comes from the configuration, never from a request, and
stays until the process ends. `permissions.py` has the tiers of those who operate the daemon, which are others.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal

TierName = Literal["reader", "analyst", "author", "operator"]
"""The label of a tier, as settings name it."""


class Tier(IntEnum):
    """Grades sessions; each tier may do at least what the ones below it may."""

    READER = 0
    """Reads its workspace, and computes."""
    ANALYST = 1
    """Reads the host too, and appends to epad's own stores."""
    AUTHOR = 2
    """Changes its workspace in ways that can be undone, and reads the network."""
    OPERATOR = 3
    """Does what cannot be undone, each time with a person's consent."""

    @property
    def label(self) -> str:
        """Return the word used in configuration and records."""
        return self.name.lower()


_BY_LABEL: Final = {tier.label: tier for tier in Tier}


def tier_of(label: TierName | None, *, has_workspace: bool) -> Tier:
    """Return the tier of a subsystem's sessions: as configured, else author with a workspace and reader without."""
    if label is not None:
        return _BY_LABEL[label]
    return Tier.AUTHOR if has_workspace else Tier.READER
