"""Show the hosts that subsystems ask for, and carry out a person's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from epad.answers.confinement import BroughtLabel, HostQuestion, StandingApproval
from epad.confinement.approvals import ONCE, ApprovalError, Asks, Question, Standing, State
from epad.confinement.changes import policy_changes
from epad.confinement.host_questions import HostQuestions, HostSubject
from epad.confinement.policy import Policy
from epad.operations.protocol import ConflictError, UnknownApprovalError, UnknownQuestionError
from epad.storage.database import DatabaseError


class Answers(Protocol):
    """Holds the questions and answers them; `epad/confinement/way_out.py` does."""

    @property
    def approvals(self) -> HostQuestions: ...

    def approve(self, number: int, seconds: float | None, reason: str) -> Question[HostSubject]:
        """Raises ApprovalError."""
        ...

    def deny(self, number: int, reason: str) -> Question[HostSubject]:
        """Raises ApprovalError."""
        ...

    async def revoke(self, subject: HostSubject, reason: str) -> int | None:
        """Return how many connections were cut; None if there was no approval."""
        ...

    def moved(self, subject: HostSubject) -> tuple[int, int]:
        """Return the bytes sent and received."""
        ...

    def policy(self, subsystem: str) -> Policy: ...


class Kept(Protocol):
    """Keeps the hosts that are allowed for ever; `epad/confinement/known_hosts.py` does."""

    async def approve(self, subject: HostSubject, reason: str) -> None:
        """Raises DatabaseError."""
        ...

    async def revoke(self, subject: HostSubject) -> None:
        """Raises DatabaseError."""
        ...


@dataclass(frozen=True, slots=True)
class HostAnswers:
    """Holds the questions about hosts, the approvals that hold, and by subsystem those that hold for ever."""

    questions: Sequence[HostQuestion]
    standing: Sequence[StandingApproval]
    always: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Holds the result of a revocation, as a sentence; not `is_kept` if the next start would not know of it."""

    sentence: str
    is_kept: bool = True


class HostApprovals:
    """The questions of the running daemon."""

    def __init__(self, answers: Answers, kept: Kept) -> None:
        self._answers = answers
        self._kept = kept

    def show(self) -> HostAnswers:
        """Return every question that is kept, the approvals that hold, and the hosts that are allowed for ever."""
        questions = self._answers.approvals
        always: dict[str, list[str]] = {}
        for subject in sorted(questions.always, key=str):
            always.setdefault(subject.subsystem, []).append(str(subject))
        now = questions.now()
        return HostAnswers(
            [self._shown(one, now) for one in questions.all()],
            [self._shown_standing(one, now) for one in questions.standing()],
            always,
        )

    async def approve(self, number: str, seconds: float | None, reason: str) -> str:
        """Allow a host, and return a sentence that says so. Raises UnknownQuestionError, ConflictError.

        An answer for ever is on the disk before anything passes by it.
        """
        question = self._answerable(number)
        if seconds is None and question.subject.session:
            raise ConflictError(
                "a consent that knows what the session has read ends with that session",
                "approve it for a time, `--for 1h`, or `--for once`",
            )
        if seconds is None:
            try:
                await self._kept.approve(question.subject, reason)
            except DatabaseError as error:
                raise ConflictError(
                    f"it cannot be kept for ever: {error}", "approve it for a time, `--for 1d`"
                ) from error
        subject = self._answers.approve(question.number, seconds, reason).subject
        how_long = {None: "for ever", ONCE: "once"}.get(seconds) or f"for {seconds:g} s"
        return f"{subject.subsystem} may reach {subject} {how_long}"

    def deny(self, number: str, reason: str) -> str:
        """Deny a host, and return a sentence that says so. Raises UnknownQuestionError, ConflictError."""
        subject = self._answers.deny(self._answerable(number).number, reason).subject
        return f"{subject.subsystem} may not reach {subject}, and is not asked about again for an hour"

    async def revoke(self, name: str, subsystem: str, reason: str) -> Revoked:
        """Take an approval back, by its question's number or its host. Raises UnknownApprovalError, ConflictError.

        It is in force before it is on the disk: a disk that takes nothing must not keep a host open.
        """
        subject, is_forever = self._standing(name, subsystem)
        cut = await self._answers.revoke(subject, reason)
        if cut is None:
            raise UnknownApprovalError(name, self._revocable(subsystem))
        ended = f", and {cut} connection{'s' * (cut != 1)} to it ended" if cut else ""
        done = f"{subject.subsystem} may no longer reach {subject} by an approval{ended}"
        if is_forever:
            try:
                await self._kept.revoke(subject)
            except DatabaseError as error:
                again = "the next start of the daemon allows it again: revoke it once more when the disk is mended"
                return Revoked(f"{done}; but that could not be kept ({error}): {again}", is_kept=False)
        return Revoked(done)

    def _standing(self, name: str, subsystem: str) -> tuple[HostSubject, bool]:
        """Return the one host that is meant, and if it is allowed for ever."""
        questions = self._answers.approvals
        found = [one for one in questions.standing() if _means(one, name, subsystem)]
        if not found:
            raise UnknownApprovalError(name, self._revocable(subsystem))
        if len(found) > 1:
            listed = ", ".join(f"{one.subject.subsystem} to {one.subject}" for one in found)
            raise ConflictError(
                f"{name} is allowed more than once: {listed}",
                "add --subsystem NAME, and the port as HOST:PORT",
            )
        return found[0].subject, found[0].subject in questions.always

    def _revocable(self, subsystem: str) -> list[str]:
        standing = self._answers.approvals.standing()
        return [str(one.subject) for one in standing if subsystem in {"", one.subject.subsystem}]

    def _answerable(self, number: str) -> Question[HostSubject]:
        questions = self._answers.approvals
        known = {str(one.number): one for one in questions.all()}
        if number not in known:
            raise UnknownQuestionError(number, _open_first(questions.all()))
        try:
            return questions.answerable(known[number].number)
        except ApprovalError as error:
            raise ConflictError(str(error)) from error

    def _shown(self, question: Question[HostSubject], now: float) -> HostQuestion:
        end = question.deadline if question.state is State.OPEN else question.until
        sent, received = self._answers.moved(question.subject)
        return {
            "number": question.number,
            "subsystem": question.subject.subsystem,
            "host": question.subject.host,
            "port": question.subject.port,
            "state": question.state,
            "program": question.program,
            "tries": question.tries,
            "asked_seconds_ago": round(now - question.asked_at, 1),
            "left_seconds": _left(end, now),
            "reason": question.reason,
            "widens": () if question.subject.session else self._widens(question.subject),
            "asks": question.line,
            "labels": brought(question.asks),
            "sent_bytes": sent,
            "received_bytes": received,
        }

    def _shown_standing(self, one: Standing[HostSubject], now: float) -> StandingApproval:
        sent, received = self._answers.moved(one.subject)
        return {
            "subsystem": one.subject.subsystem,
            "host": one.subject.host,
            "port": one.subject.port,
            "number": None if one.question is None else one.question.number,
            "left_seconds": _left(one.until, now),
            "once": one.question is not None and one.question.once,
            "reason": one.question.reason if one.question else "",
            "sent_bytes": sent,
            "received_bytes": received,
        }

    def _widens(self, subject: HostSubject) -> Sequence[str]:
        """Say how a policy with the host would differ; no line if it names it already."""
        old = self._answers.policy(subject.subsystem)
        new = replace(old, hosts=(*old.hosts, subject.rule))
        changes = policy_changes({subject.subsystem: old}, {subject.subsystem: new})
        return [line for change in changes for line in change.lines()]


def _means(standing: Standing[HostSubject], name: str, subsystem: str) -> bool:
    """Tell if an approval is meant by a number, a host, or a host and port."""
    subject, question = standing.subject, standing.question
    if subsystem not in {"", subject.subsystem}:
        return False
    return name in {subject.host, str(subject)} or (question is not None and name == str(question.number))


def brought(asks: Asks) -> list[BroughtLabel]:
    """Return what brought each label of the session that asks."""
    return [{"label": label, "source": source, "turn": turn} for label, source, turn in asks.labels]


def _left(until: float | None, now: float) -> float | None:
    return None if until is None else round(max(0.0, until - now), 1)


def _open_first(questions: Sequence[Question[HostSubject]]) -> list[str]:
    return [str(one.number) for one in sorted(questions, key=lambda one: one.state is not State.OPEN)]
