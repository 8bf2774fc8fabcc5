"""Show the calls of tools that take a person's consent, and carry out a person's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from epad.answers.confinement import StandingConsent, ToolQuestion
from epad.confinement.approvals import ONCE, ApprovalError, Question, Standing, State
from epad.operations.host_approvals import brought
from epad.operations.protocol import ConflictError, UnknownApprovalError, UnknownQuestionError
from epad.tools.consent import Consents, ToolSubject


class ToolApprovals:
    """The questions about tools of the running daemon."""

    def __init__(self, consents: Consents) -> None:
        self._consents = consents

    def questions(self) -> Sequence[ToolQuestion]:
        """Return every question that is kept."""
        questions = self._consents.questions
        now = questions.now()
        return [_shown(one, now) for one in questions.all()]

    def standing(self) -> Sequence[StandingConsent]:
        """Return the consents that hold."""
        questions = self._consents.questions
        now = questions.now()
        return [_shown_standing(one, now) for one in questions.standing()]

    @property
    def numbers(self) -> Sequence[str]:
        """Return the questions' numbers, those of open ones first."""
        found = sorted(self._consents.questions.all(), key=lambda one: one.state is not State.OPEN)
        return [str(one.number) for one in found]

    def approve(self, number: str, seconds: float | None, reason: str) -> str:
        """Consent, and return a sentence that says so. Raises UnknownQuestionError, ConflictError."""
        if seconds is None:
            raise ConflictError(
                "a consent for a tool ends with its session",
                "approve it for a time, `--for 1h`, or `--for once`",
            )
        subject = self._answered(number, lambda known: self._consents.approve(known, seconds, reason)).subject
        if seconds == ONCE:
            return f"{subject.subsystem} may call {subject.tool} once, with the arguments that were shown"
        return f"{subject.subsystem} may call {subject} for {seconds:g} s, in this session"

    def deny(self, number: str, reason: str) -> str:
        """Refuse, and return a sentence that says so. Raises UnknownQuestionError, ConflictError."""
        subject = self._answered(number, lambda known: self._consents.deny(known, reason)).subject
        return f"{subject.subsystem} may not call {subject}, and is not asked about again for an hour"

    def stands(self, name: str, subsystem: str) -> bool:
        """Tell if a consent is meant by its question's number or its tool."""
        return bool(self._meant(name, subsystem))

    def revoke(self, name: str, subsystem: str, reason: str) -> str:
        """Take every consent back that a number or a tool names. Raises UnknownApprovalError."""
        found = self._meant(name, subsystem)
        revoked = [one.subject for one in found if self._consents.revoke(one.subject, reason)]
        if not revoked:
            raise UnknownApprovalError(
                name, [one.subject.tool for one in self._consents.questions.standing()]
            )
        named = "; ".join(f"{one.subsystem} may no longer call {one} by a consent" for one in revoked)
        return f"{named}; a call under way goes on"

    def _meant(self, name: str, subsystem: str) -> list[Standing[ToolSubject]]:
        return [
            one
            for one in self._consents.questions.standing()
            if subsystem in {"", one.subject.subsystem}
            and (name == one.subject.tool or (one.question is not None and name == str(one.question.number)))
        ]

    def _answered(self, number: str, answer: Callable[[int], Question[ToolSubject]]) -> Question[ToolSubject]:
        if number not in self.numbers:
            raise UnknownQuestionError(number, self.numbers)
        try:
            return answer(int(number))
        except ApprovalError as error:
            raise ConflictError(str(error)) from error


def _shown(question: Question[ToolSubject], now: float) -> ToolQuestion:
    subject = question.subject
    end = question.deadline if question.state is State.OPEN else question.until
    return {
        "number": question.number,
        "subsystem": subject.subsystem,
        "session": subject.session,
        "tool": subject.tool,
        "asks": question.line,
        "covers": subject.covers,
        "arguments": question.asks.details,
        "both_taints": subject.knowing,
        "labels": brought(question.asks),
        "state": question.state,
        "tries": question.tries,
        "asked_seconds_ago": round(now - question.asked_at, 1),
        "left_seconds": None if end is None else round(max(0.0, end - now), 1),
        "reason": question.reason,
        "mark": _mark(question),
    }


def _shown_standing(one: Standing[ToolSubject], now: float) -> StandingConsent:
    subject, question = one.subject, one.question
    return {
        "number": question.number if question is not None else 0,
        "subsystem": subject.subsystem,
        "session": subject.session,
        "tool": subject.tool,
        "covers": subject.covers,
        "left_seconds": None if one.until is None else round(max(0.0, one.until - now), 1),
        "once": question is not None and question.once,
        "reason": question.reason if question is not None else "",
    }


def _mark(question: Question[ToolSubject]) -> str:
    """Return a text without spaces that another question has not: of another session, target or arguments."""
    subject = question.subject
    told = f"{subject.session}\0{subject.covers}\0{question.line}\0{question.asks.exact}"
    return f"{subject.tool}:{sha256(told.encode(errors='surrogatepass')).hexdigest()[:16]}"
