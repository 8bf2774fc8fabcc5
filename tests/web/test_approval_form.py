"""What the buttons of a question say, read as it was written; everything else gives no order."""

from __future__ import annotations

import pytest
from fake_operations import asked, question, tool_question

from epad.answers.confinement import Approvals
from epad.operations.bodies import ApprovalOrder, OrderBody, RevocationOrder
from epad.operations.registry import Operation
from epad.web.approval_form import NO_REASON, ApprovalFormError, Verb, button_value, read_answer

PLACE = "a.example:443"


@pytest.mark.parametrize(
    ("verb", "operation", "body"),
    [
        (Verb.ONCE, Operation.APPROVE, ApprovalOrder("why", 0.0)),
        (Verb.HOUR, Operation.APPROVE, ApprovalOrder("why", 3_600.0)),
        (Verb.ALWAYS, Operation.APPROVE, ApprovalOrder("why", None)),
        (Verb.DENY, Operation.DENY, OrderBody("why")),
    ],
)
def test_a_button_of_a_question_is_an_order(verb: Verb, operation: Operation, body: OrderBody) -> None:
    answer = read_answer({"answer": button_value(verb, "agent", PLACE, 7), "reason": " why "})
    assert (answer.operation, answer.name, answer.body) == (operation, "7", body)


def test_an_approval_is_taken_back_by_its_host_and_subsystem() -> None:
    """It may have no question any more."""
    answer = read_answer({"answer": button_value(Verb.REVOKE, "agent", PLACE)})
    assert (answer.operation, answer.name) == (Operation.REVOKE_HOST, PLACE)
    assert answer.body == RevocationOrder(NO_REASON, "agent")
    assert answer.is_asked(approvals())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "once",
        "once 7 agent",
        "for-ever 7 agent a.example:443",
        "once x agent a.example:443",
        "once 7 agent a.example:443 more",
        "once 0 agent a.example:443",
        "deny -1 agent a.example:443",
    ],
)
def test_what_no_button_says_is_no_order(text: str) -> None:
    with pytest.raises(ApprovalFormError, match="open the page again"):
        read_answer({"answer": text, "reason": "why"})


def test_a_button_of_a_call_is_for_that_call_alone() -> None:
    """A daemon that has started again may have another question of that number."""
    value = button_value(Verb.TEN_MINUTES, "chat", tool_question(7)["mark"], 7)
    answer = read_answer({"answer": value, "reason": "why"})
    assert (answer.operation, answer.name, answer.body) == (
        Operation.APPROVE,
        "7",
        ApprovalOrder("why", 600.0),
    )
    assert answer.is_asked(asked(tools=[tool_question(7)]))
    for other in (
        tool_question(7, mark="file_delete:other"),
        tool_question(8),
        tool_question(7, subsystem="x"),
    ):
        assert not answer.is_asked(asked(tools=[other]))


def test_always_needs_a_reason() -> None:
    """As on the command line; the others have one of their own."""
    with pytest.raises(ApprovalFormError, match="needs a reason"):
        read_answer({"answer": button_value(Verb.ALWAYS, "agent", PLACE, 7), "reason": "  "})
    assert read_answer({"answer": button_value(Verb.ONCE, "agent", PLACE, 7)}).body.reason == NO_REASON


def approvals(**changes: object) -> Approvals:
    return asked(question(7, subsystem="agent", host="a.example", **changes))


@pytest.mark.parametrize(
    "changes", [{"host": "b.example"}, {"port": 80}, {"subsystem": "other"}, {"number": 8}]
)
def test_a_number_that_is_another_question_by_now_is_told_apart(changes: dict[str, object]) -> None:
    """A daemon that has started again counts from one."""
    answer = read_answer({"answer": button_value(Verb.ONCE, "agent", PLACE, 7)})
    assert answer.is_asked(approvals())
    now = approvals()
    now["questions"] = [{**now["questions"][0], **changes}]  # type: ignore[typeddict-item]  # keys of the parameters
    assert not answer.is_asked(now)
