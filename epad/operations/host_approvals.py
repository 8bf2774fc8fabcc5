"""Show the hosts that subsystems ask for, and carry out a person's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from epad.answers.confinement import Approvals, HostQuestion
from epad.confinement.approvals import ApprovalError, Question, State, Subject
from epad.confinement.approvals import Approvals as Questions
from epad.operations.protocol import ConflictError, UnknownQuestionError
from epad.storage.database import DatabaseError


class Answers(Protocol):
    """Holds the questions and answers them; `epad/confinement/way_out.py` does."""

    @property
    def approvals(self) -> Questions: ...

    def approve(self, number: int, seconds: float | None, reason: str) -> Question:
        """Raises ApprovalError."""
        ...

    def deny(self, number: int, reason: str) -> Question:
        """Raises ApprovalError."""
        ...


class Kept(Protocol):
    """Keeps the hosts that are allowed for ever; `epad/confinement/known_hosts.py` does."""

    async def approve(self, subject: Subject, reason: str) -> None:
        """Raises DatabaseError."""
        ...


class HostApprovals:
    """The questions of the running daemon."""

    def __init__(self, answers: Answers, kept: Kept) -> None:
        self._answers = answers
        self._kept = kept

    def show(self) -> Approvals:
        """Return every question that is kept, and the hosts that are allowed for ever."""
        questions = self._answers.approvals
        always: dict[str, list[str]] = {}
        for subject in sorted(questions.always, key=str):
            always.setdefault(subject.subsystem, []).append(str(subject))
        now = questions.now()
        return {"questions": [_shown(one, now) for one in questions.all()], "always": always}

    async def approve(self, number: str, seconds: float | None, reason: str) -> str:
        """Allow a host, and return a sentence that says so. Raises UnknownQuestionError, ConflictError.

        An answer for ever is on the disk before anything passes by it.
        """
        question = self._answerable(number)
        if seconds is None:
            try:
                await self._kept.approve(question.subject, reason)
            except DatabaseError as error:
                raise ConflictError(
                    f"it cannot be kept for ever: {error}", "approve it for a time, `--for 1d`"
                ) from error
        subject = self._answers.approve(question.number, seconds, reason).subject
        how_long = "for ever" if seconds is None else f"for {seconds:g} s"
        return f"{subject.subsystem} may reach {subject} {how_long}"

    def deny(self, number: str, reason: str) -> str:
        """Deny a host, and return a sentence that says so. Raises UnknownQuestionError, ConflictError."""
        subject = self._answers.deny(self._answerable(number).number, reason).subject
        return f"{subject.subsystem} may not reach {subject}, and is not asked about again for an hour"

    def _answerable(self, number: str) -> Question:
        questions = self._answers.approvals
        known = {str(one.number): one for one in questions.all()}
        if number not in known:
            raise UnknownQuestionError(number, _open_first(questions.all()))
        try:
            return questions.answerable(known[number].number)
        except ApprovalError as error:
            raise ConflictError(str(error)) from error


def _open_first(questions: Sequence[Question]) -> list[str]:
    return [str(one.number) for one in sorted(questions, key=lambda one: one.state is not State.OPEN)]


def _shown(question: Question, now: float) -> HostQuestion:
    end = question.deadline if question.state is State.OPEN else question.until
    return {
        "number": question.number,
        "subsystem": question.subject.subsystem,
        "host": question.subject.host,
        "port": question.subject.port,
        "state": question.state,
        "program": question.program,
        "tries": question.tries,
        "asked_seconds_ago": round(now - question.asked_at, 1),
        "left_seconds": None if end is None else round(max(0.0, end - now), 1),
        "reason": question.reason,
    }
