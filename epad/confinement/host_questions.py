"""Name the hosts that subsystems ask for, and turn the approvals of a person into rules."""

from __future__ import annotations

from dataclasses import dataclass

from epad.confinement.approvals import Approvals
from runners.egress.rules import HostRule


@dataclass(frozen=True, slots=True)
class HostSubject:
    """Names the host and port that a subsystem asks for."""

    subsystem: str
    host: str
    port: int

    def __str__(self) -> str:
        return str(self.rule)

    @property
    def rule(self) -> HostRule:
        """Return the rule that allows it, and nothing else."""
        return HostRule(self.host, port=self.port)


class HostQuestions(Approvals[HostSubject]):
    """The questions about hosts."""

    def rules(self, subsystem: str) -> tuple[HostRule, ...]:
        """Return the rules that a person has given a subsystem beside its policy, in one order."""
        return tuple(sorted(one.rule for one in self.allowed(subsystem)))
