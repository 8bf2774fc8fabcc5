"""Orders are on record before they are carried out, and with their result after."""

from __future__ import annotations

import json
from typing import Any

import pytest
import structlog
from noted_audits import NotedAudits

from epad.answers.orders import Result
from epad.audit.trail import AuditTrail
from epad.operations.bodies import ApprovalOrder, OrderBody
from epad.operations.protocol import ConflictError, UnknownSubsystemError
from epad.operations.recorded_orders import ANSWERS, MAY_GO_UNRECORDED, RecordedOrders
from epad.operations.registry import Operation
from statemachine.clock import ManualClock


class Desk:
    """Orders whose work tells what was on record when it began."""

    def __init__(self) -> None:
        self.ledger = NotedAudits()
        self.orders = RecordedOrders(AuditTrail(self.ledger, ManualClock()))
        self.seen: list[str] | None = None
        self.result: Result | Exception = {
            "subsystem": "chat",
            "phase": "NORMAL",
            "failed": False,
            "results": ["ok"],
        }

    async def work(self) -> Result:
        self.seen = self.events
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    async def give(self, order: Operation, name: str = "chat", body: OrderBody | None = None) -> Result:
        return await self.orders.carry_out(order, name, body or OrderBody(" it loops "), "ada", self.work)

    @property
    def events(self) -> list[str]:
        return [one.event for one in self.ledger.entries]


async def test_an_order_is_on_record_before_it_is_carried_out() -> None:
    """Its giver, its words and all that it asks for; then the result."""
    desk = Desk()
    await desk.give(Operation.PAUSE)
    assert desk.seen == ["order.given"]
    given, ended = desk.ledger.entries
    assert (given.who, given.what, given.outcome, given.subsystem) == (
        "ada",
        "pause chat: it loops",
        "given",
        "chat",
    )
    assert json.loads(given.evidence) == {"order": "pause", "name": "chat", "reason": " it loops "}
    assert (ended.event, ended.who, ended.what, ended.outcome) == (
        "order.ended",
        "ada",
        "pause chat: ok",
        "done",
    )


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (ConflictError("it is paused"), "refused"),
        (UnknownSubsystemError("chat", ()), "refused"),
        (OSError("no disk"), "broken off"),
    ],
)
async def test_an_order_that_was_not_carried_out_says_so(raised: Exception, outcome: str) -> None:
    """The error reaches its giver, and the record."""
    desk = Desk()
    desk.result = raised
    with pytest.raises(type(raised)):
        await desk.give(Operation.PAUSE)
    assert desk.ledger.entries[-1].outcome == outcome
    assert str(raised) in desk.ledger.entries[-1].what


async def test_a_failed_order_is_failed_on_record() -> None:
    desk = Desk()
    desk.result = {"subsystem": "chat", "phase": "NORMAL", "failed": True, "results": ["it did not stop"]}
    await desk.give(Operation.STOP)
    assert desk.ledger.entries[-1].outcome == "failed"


async def test_an_answer_to_a_question_is_a_consent() -> None:
    """Who may call what, and who said so, is found under one kind."""
    desk = Desk()
    await desk.give(Operation.APPROVE, "7", ApprovalOrder("fine", 60.0))
    assert desk.events == ["answer.given", "answer.ended"]
    assert json.loads(desk.ledger.entries[0].evidence)["seconds"] == 60.0


@pytest.mark.parametrize("order", [operation for operation in Operation if operation.is_order])
async def test_an_order_without_a_record_goes_on_only_if_it_must(order: Operation) -> None:
    """A kill switch works with the ledger gone; what gives an agent more does not."""
    desk = Desk()
    desk.ledger.fail()
    kwargs: dict[str, Any] = {"body": ApprovalOrder("fine", 60.0)} if order is Operation.APPROVE else {}
    with structlog.testing.capture_logs():
        if order in MAY_GO_UNRECORDED:
            await desk.give(order, **kwargs)
            assert desk.seen == []
        else:
            with pytest.raises(ConflictError, match="cannot be put on record"):
                await desk.give(order, **kwargs)
            assert desk.seen is None


def test_what_widens_is_never_unrecorded() -> None:
    """The gravest of each kind."""
    widening = {Operation.APPROVE, Operation.LEARN, Operation.PROMOTE_MEMORY, Operation.SET_BUDGET}
    assert widening.isdisjoint(MAY_GO_UNRECORDED)
    assert {Operation.QUARANTINE, Operation.STOP, Operation.LIFEBOAT} <= MAY_GO_UNRECORDED
    assert Operation.APPROVE in ANSWERS


async def test_a_refusal_of_the_gate_is_on_record() -> None:
    desk = Desk()
    await desk.orders.refused(Operation.QUARANTINE, "eve", "as observer")
    (noted,) = desk.ledger.entries
    assert (noted.event, noted.who, noted.outcome) == ("gate.refused", "eve", "refused")
    assert noted.what == "quarantine: as observer"
