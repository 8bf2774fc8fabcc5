"""Orders about the vault: nothing of a value is put on record or shown, whatever is asked."""

from __future__ import annotations

import inspect

import pytest
from noted_audits import NotedAudits

from epad.answers.orders import Result
from epad.audit.trail import AuditTrail
from epad.operations import bodies
from epad.operations.bodies import BoundTo, OrderBody, RotationOrder, SecretOrder, UnlockOrder
from epad.operations.recorded_orders import RecordedOrders
from epad.operations.registry import Operation
from statemachine.clock import ManualClock

VALUE = "ghp_a-value-to-keep"
BODIES: dict[Operation, OrderBody] = {
    Operation.SET_SECRET: SecretOrder("r", VALUE.encode(), BoundTo(("a.example",), ("agent",))),
    Operation.ROTATE_SECRET: RotationOrder("r", VALUE.encode()),
    Operation.UNLOCK_SECRETS: UnlockOrder("r", VALUE),
}


@pytest.mark.parametrize("operation", BODIES)
async def test_a_record_of_an_order_has_no_value(operation: Operation) -> None:
    """But what else was asked for; nor does a traceback that shows the body."""
    ledger, body = NotedAudits(), BODIES[operation]

    async def work() -> Result:
        return {"subsystem": "host", "phase": "NORMAL", "failed": False, "results": ["done"]}

    await RecordedOrders(AuditTrail(ledger, ManualClock())).carry_out(operation, "token", body, "ada", work)
    assert len(ledger.entries) == 2
    assert VALUE not in repr(ledger.entries)
    assert VALUE.encode().hex() not in repr(ledger.entries)
    assert VALUE not in repr(body)
    if operation is Operation.SET_SECRET:
        assert "a.example" in repr(ledger.entries)


def test_each_body_with_such_a_field_hides_it() -> None:
    """A body that is added with one, and is not hidden, would be put on record."""
    for name, kind in inspect.getmembers(bodies, inspect.isclass):
        if issubclass(kind, OrderBody) and bodies.SECRET_FIELDS & set(kind.__struct_fields__):
            assert issubclass(kind, bodies.HiddenBody), name
