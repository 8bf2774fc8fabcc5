"""Read the form that answers a question of a subsystem, or takes an approval back. Pure.

A button names the host or the call that it was shown for, beside the number of its question: the daemon counts
questions from one each time it starts, so that a page of before could answer another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from epad import EpadError
from epad.answers.confinement import Approvals
from epad.confinement.approvals import APPROVED_SECONDS, ONCE
from epad.operations.bodies import ApprovalOrder, OrderBody, RevocationOrder
from epad.operations.registry import MAX_REASON_CHARACTERS, Operation

NO_REASON: Final = "answered on the page"


class ApprovalFormError(EpadError):
    """A form cannot be carried out, and why."""


class Verb(StrEnum):
    """Lists what a button does."""

    ONCE = "once"
    TEN_MINUTES = "ten-minutes"
    HOUR = "hour"
    ALWAYS = "always"
    DENY = "deny"
    REVOKE = "revoke"


_SECONDS: Final = {Verb.ONCE: ONCE, Verb.TEN_MINUTES: 600.0, Verb.HOUR: APPROVED_SECONDS, Verb.ALWAYS: None}


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """Holds the order of one button. `number` is that of the question; 0 for an approval that is taken back.

    `place` is the host with its port, or the mark of a question about a tool.
    """

    operation: Operation
    number: int
    subsystem: str
    place: str
    body: OrderBody

    @property
    def name(self) -> str:
        """Return the name in the order: the question's number, or the place."""
        return str(self.number) if self.number else self.place

    def is_asked(self, approvals: Approvals) -> bool:
        """Tell if its question is still about the host or the call that it was shown for."""
        if not self.number:
            return True
        hosts = {
            (one["number"], one["subsystem"], f"{one['host']}:{one['port']}")
            for one in approvals["questions"]
        }
        tools = {(one["number"], one["subsystem"], one["mark"]) for one in approvals["tool_questions"]}
        return (self.number, self.subsystem, self.place) in hosts | tools


def button_value(verb: Verb, subsystem: str, place: str, number: int = 0) -> str:
    """Return the value of a button, as `read_answer` reads it."""
    return f"{verb} {number} {subsystem} {place}"


def read_answer(form: Mapping[str, object]) -> PageAnswer:
    """Return the order that a form gives. Raises ApprovalFormError."""
    reason = str(form.get("reason", "")).strip()[:MAX_REASON_CHARACTERS]
    try:
        word, digits, subsystem, place = str(form.get("answer", "")).split(" ")
        verb, number = Verb(word), int(digits)
    except ValueError:
        raise ApprovalFormError("the form has no answer that this page gives: open the page again") from None
    if verb is Verb.REVOKE:
        body = RevocationOrder(reason or NO_REASON, subsystem)
        return PageAnswer(Operation.REVOKE_HOST, 0, subsystem, place, body)
    if number <= 0:
        raise ApprovalFormError("the form names no question: open the page again")
    if verb is Verb.DENY:
        return PageAnswer(Operation.DENY, number, subsystem, place, OrderBody(reason or NO_REASON))
    if verb is Verb.ALWAYS and not reason:
        raise ApprovalFormError("an approval for always needs a reason, which is recorded")
    order = ApprovalOrder(reason or NO_REASON, _SECONDS[verb])
    return PageAnswer(Operation.APPROVE, number, subsystem, place, order)
