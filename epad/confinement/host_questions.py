"""Name the hosts that subsystems ask for, and turn the approvals of a person into rules."""

from __future__ import annotations

from dataclasses import dataclass

from epad.confinement.approvals import Approvals
from runners.egress.rules import HostRule


@dataclass(frozen=True, slots=True)
class HostSubject:
    """Names the host and port that a subsystem asks for.

    `session` is set where the person is told what that session has read: the answer holds for it alone.
    """

    subsystem: str
    host: str
    port: int
    session: str = ""

    def __str__(self) -> str:
        return str(self.rule)

    @property
    def rule(self) -> HostRule:
        """Return the rule that allows it, and nothing else."""
        return HostRule(self.host, port=self.port)


class HostQuestions(Approvals[HostSubject]):
    """The questions about hosts."""

    def rules(self, subsystem: str, session: str = "") -> tuple[HostRule, ...]:
        """Return the rules that a person has given a subsystem beside its policy, or knowingly to one session."""
        return tuple(sorted(one.rule for one in self.allowed(subsystem) if one.session == session))

    def forget(self, subsystem: str, session: str) -> None:
        """Forget the questions of the subsystem's other sessions, which have ended."""
        self.drop(
            [
                one
                for one in self.all()
                if one.subsystem == subsystem and one.subject.session not in {"", session}
            ]
        )
