"""The plan of a recovery, as it is shown before it runs."""

from __future__ import annotations

from epad.control_loop.plans import Target
from epad.control_loop.recovery_plan import recovery_plan
from statemachine.assessor import Anomaly
from statemachine.finding import Finding, Severity

FOUND = Finding("datastore", "chat", Severity.CRITICAL, 0.0, "datastore memory: rot: bytes 0 to 65535")


def test_a_damaged_store_is_shown_with_its_sources_before_its_writer() -> None:
    """Why, from what, and who judges it."""
    targets = (Target.datastore("memory", "chat"), Target.subsystem("chat"))
    store, writer = recovery_plan(targets, [Anomaly(FOUND, 0.0, 0.0)], {}, ["20261123T000000Z-000002"], 0)
    assert (store.target, store.action) == ("datastores/memory", "restore")
    assert store.why == "datastore: datastore memory: rot: bytes 0 to 65535"
    assert store.sources == ("the last sound copy", "checkpoint 20261123T000000Z-000002")
    assert (writer.target, writer.action) == ("chat", "restart")
