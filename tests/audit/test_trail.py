"""The way of entries into the ledger: in order, none lost without a word, an order before it is carried out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
from audit_world import noted
from ledger_world import open_ledger
from noted_audits import NotedAudits

from epad.audit import trail as module
from epad.audit.reading import Reading, Wanted, audit_rows
from epad.audit.trail import MOST_IN_FLIGHT, AuditTrail
from epad.ledger.errors import LedgerUnavailableError, RecordError
from epad.ledger.rows import open_reader
from epad.storage.event_log import Event, EventKind
from statemachine.clock import ManualClock


def names(ledger: NotedAudits) -> list[str]:
    return [one.what for one in ledger.entries]


async def test_an_event_becomes_an_entry_unless_it_is_left_out() -> None:
    """The event log hands each on; a measurement is none."""
    ledger = NotedAudits()
    trail = AuditTrail(ledger, ManualClock())
    trail.take(Event(0, "", EventKind.EGRESS_OPENED, "chat", {"host": "a.example", "port": 443}))
    trail.take(Event(0, "", EventKind.LOOP_LAGGED, "", {"seconds": 1}))
    assert [(one.event, one.what) for one in ledger.entries] == [("egress.opened", "a.example:443")]


async def test_no_more_than_a_few_are_in_flight() -> None:
    """A storm of entries takes no turn's place in the ledger's queue, and all come in their order."""
    ledger = NotedAudits()
    ledger.holds = []
    trail = AuditTrail(ledger, ManualClock())
    for number in range(200):
        trail.note(noted("x.y", what=str(number)))
    assert len(ledger.entries) == MOST_IN_FLIGHT
    while len(ledger.holds) < 200:
        for future in ledger.holds:
            if not future.done():
                future.set_result(1)
        await asyncio.sleep(0)
    assert names(ledger) == [str(number) for number in range(200)]


async def test_what_the_ledger_did_not_take_comes_later_in_its_order() -> None:
    """An order whose record failed is told of, and its record is written when the ledger takes it again."""
    ledger = NotedAudits()
    trail = AuditTrail(ledger, ManualClock())
    ledger.fail()
    with structlog.testing.capture_logs() as logs:
        assert "was deleted" in await trail.write(noted("order.given", what="0"))
    assert logs[0]["event"] == "audit.unwritten"
    for number in (1, 2, 3):
        trail.note(noted("x.y", what=str(number)))
    await asyncio.sleep(0)
    ledger.fails = None
    trail._retry()
    await trail.close()
    assert names(ledger) == ["0", "1", "2", "3"]


async def test_entries_in_flight_that_fail_keep_their_order() -> None:
    """All are put in front of what came later, as they were."""
    ledger = NotedAudits()
    ledger.holds = []
    trail = AuditTrail(ledger, ManualClock())
    for number in range(5):
        trail.note(noted("x.y", what=str(number)))
    held, ledger.holds = ledger.holds, None
    ledger.entries.clear()
    ledger.fail()
    for future in held:
        future.set_exception(LedgerUnavailableError("no"))
    await asyncio.sleep(0)
    trail.note(noted("x.y", what="5"))
    ledger.fails = None
    trail._retry()
    await trail.close()
    assert names(ledger) == [str(number) for number in range(6)]


async def test_what_had_to_be_dropped_is_told(monkeypatch) -> None:
    """Memory is bounded; the record says how many are missing, before those that are left."""
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    ledger = NotedAudits()
    trail = AuditTrail(ledger, ManualClock())
    ledger.fail()
    with structlog.testing.capture_logs():
        await trail.write(noted("x.y", what="0"))
    for number in range(1, 15):
        trail.note(noted("x.y", what=str(number)))
    ledger.fails = None
    trail._retry()
    await trail.close()
    assert ledger.entries[0].event == "audit.gap"
    assert names(ledger) == ["5 entries were lost: the ledger took none", *map(str, range(5, 15))]


async def test_an_entry_that_cannot_be_written_is_no_dam() -> None:
    """It is counted as lost; the next ones are written."""
    ledger = NotedAudits()
    trail = AuditTrail(ledger, ManualClock())
    ledger.fails = RecordError("too odd")
    with structlog.testing.capture_logs():
        trail.note(noted("x.y", what="0"))
        await asyncio.sleep(0)
    ledger.fails = None
    trail.note(noted("x.y", what="1"))
    await trail.close()
    assert [one.event for one in ledger.entries] == ["audit.gap", "x.y"]


async def test_an_order_is_taken_while_turns_are_refused(tmp_path: Path) -> None:
    """What is ordered when the disk is full is just what one wants to know later."""
    ledger = await open_ledger(tmp_path / "ledger.db")
    ledger.guard(str, lambda: "no room")
    trail = AuditTrail(ledger, ManualClock())
    assert await trail.write(noted("order.given")) == ""
    await trail.close()
    await ledger.close()
    rows = list(audit_rows(open_reader(tmp_path / "ledger.db"), Wanted(), Reading()))
    assert [row.event for row in rows] == ["ledger.opened", "order.given"]
