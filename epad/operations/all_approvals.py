"""Join the questions of each kind into one list, and hand a person's answer to the kind that it is about."""

from __future__ import annotations

from epad.answers.confinement import Approvals
from epad.operations.host_approvals import HostApprovals, Revoked
from epad.operations.protocol import UnknownApprovalError, UnknownQuestionError
from epad.operations.tool_approvals import ToolApprovals


class AllApprovals:
    """The questions of the running daemon, whose numbers are of one row. `tools` is None where there are no tools."""

    def __init__(self, hosts: HostApprovals, tools: ToolApprovals | None = None) -> None:
        self._hosts = hosts
        self._tools = tools

    def show(self) -> Approvals:
        """Return every question that is kept, and the approvals that hold."""
        hosts = self._hosts.show()
        return {
            "questions": hosts.questions,
            "standing": hosts.standing,
            "always": hosts.always,
            "tool_questions": self._tools.questions() if self._tools else [],
            "tool_standing": self._tools.standing() if self._tools else [],
        }

    async def approve(self, number: str, seconds: float | None, reason: str) -> str:
        """Approve, and return a sentence that says so. Raises UnknownQuestionError, ConflictError."""
        if self._tools and number in self._tools.numbers:
            return self._tools.approve(number, seconds, reason)
        try:
            return await self._hosts.approve(number, seconds, reason)
        except UnknownQuestionError as error:
            raise self._unknown(error) from error

    def deny(self, number: str, reason: str) -> str:
        """Deny, and return a sentence that says so. Raises UnknownQuestionError, ConflictError."""
        if self._tools and number in self._tools.numbers:
            return self._tools.deny(number, reason)
        try:
            return self._hosts.deny(number, reason)
        except UnknownQuestionError as error:
            raise self._unknown(error) from error

    async def revoke(self, name: str, subsystem: str, reason: str) -> Revoked:
        """Take an approval back, by its number, its host or its tool. Raises UnknownApprovalError, ConflictError."""
        if self._tools and self._tools.stands(name, subsystem):
            return Revoked(self._tools.revoke(name, subsystem, reason))
        try:
            return await self._hosts.revoke(name, subsystem, reason)
        except UnknownApprovalError as error:
            standing = self._tools.standing() if self._tools else []
            tools = [one["tool"] for one in standing if subsystem in {"", one["subsystem"]}]
            raise UnknownApprovalError(name, [*error.known, *dict.fromkeys(tools)]) from error

    def _unknown(self, error: UnknownQuestionError) -> UnknownQuestionError:
        numbers = self._tools.numbers if self._tools else []
        return UnknownQuestionError(error.name, [*error.known, *numbers])
