"""Narrow the gate by configuration: the tools that a subsystem's profile names, and nothing beyond the table. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from epad.gate.tool_table import Decision

OUTSIDE: Final = "profile"
"""The row of a refusal by the profile."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Names a subsystem's tools: each pattern is a tool, a category as `files.*`, or `*`. None: every tool.

    A foreign server is a category; of its tool `SERVER__tool` people may write `SERVER.tool`.
    """

    patterns: Sequence[str] | None = None

    def has(self, name: str, category: str) -> bool:
        """Tell if a tool is in the profile."""
        if self.patterns is None:
            return True
        with_dot = f"{category}.{name.removeprefix(f'{category}__')}"
        return any(pattern in {"*", name, with_dot, f"{category}.*"} for pattern in self.patterns)


def narrowed(decision: Decision, profile: Profile, name: str, category: str) -> Decision:
    """Return the decision as the profile narrows it: a refusal stays one, whatever the profile says."""
    if not decision.allowed and not decision.needs_consent:
        return decision
    if profile.has(name, category):
        return decision
    return Decision(False, False, OUTSIDE, f"{name} is not among the tools that the configuration gives")
