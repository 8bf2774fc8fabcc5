"""A ledger with something of everything in it, for the tests that read the audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ledger_world import closing, open_ledger, opening, places, turn_id

from epad.audit.described import entry
from epad.ledger.entry import CloseTool, NoteAudit, NoteSession, OpenTool
from epad.ledger.record import ToolOutcome

HASH = bytes(range(32))
NOW_NS = 1_700_000_000_000_000_000


def noted(
    event: str, who: str = "epad", outcome: str = "done", what: str = "something", **more: Any
) -> NoteAudit:
    """An entry of the audit; beside `subsystem`, `happened_ns` and `evidence` nothing more."""
    values: dict[str, Any] = {"subsystem": "", "happened_ns": NOW_NS, **more}
    return entry(event, who=who, what=what, outcome=outcome, **values)


async def a_day(path: Path) -> None:
    """Records 1 to 16: a run of the ledger, and in it one of each kind of thing that happens."""
    ledger = await open_ledger(path, places(path))
    await ledger.note_audit(noted("daemon.started", what="version 1"))
    await ledger.note_session(NoteSession("s1", "chat", True, 2, by="configuration"))
    await ledger.open_turn(opening(1))
    await ledger.close_turn(closing(1))
    await ledger.open_tool(
        OpenTool(turn_id(2), "chat", "file_write", "s1", 2, "W1", 1, "W1/NORMAL", HASH, HASH, turn_id(1))
    )
    asked = {"question": 7, "tool": "file_write", "asks": "file_write on notes", "session": "s1"}
    await ledger.note_audit(
        noted("tool.asked", "epad", "asked", "file_write on notes", subsystem="chat", evidence=asked)
    )
    answer = {"order": "approve", "name": "7", "reason": "fine"}
    await ledger.note_audit(noted("answer.given", "ada", "given", "approve 7: fine", evidence=answer))
    await ledger.note_audit(noted("answer.ended", "ada", "done", "approve 7: chat may", evidence=answer))
    decided = {"question": 7, "tool": "file_write", "answer": "approved", "reason": "fine (ada)"}
    await ledger.note_audit(
        noted("tool.decided", "epad", "approved", "file_write", subsystem="chat", evidence=decided)
    )
    await ledger.close_tool(
        CloseTool(turn_id(2), "chat", "file_write", "s1", ToolOutcome.DONE, "W1/NORMAL", result_bytes=9)
    )
    refused = {"host": "evil.example", "port": 443, "why": "not_allowed"}
    await ledger.note_audit(
        noted("egress.refused", "chat", "refused", "evil.example:443", subsystem="chat", evidence=refused)
    )
    moved = {"host": "api.example", "port": 443, "sent_bytes": 1_200, "received_bytes": 50_000, "why": "done"}
    await ledger.note_audit(
        noted("egress.closed", "chat", "closed", "api.example:443", subsystem="chat", evidence=moved)
    )
    order = {"order": "pause", "name": "chat", "reason": "lunch"}
    await ledger.note_audit(
        noted("order.given", "bob", "given", "pause chat: lunch", subsystem="chat", evidence=order)
    )
    await ledger.note_audit(
        noted("order.ended", "bob", "done", "pause chat", subsystem="chat", evidence=order)
    )
    await ledger.note_audit(noted("gate.refused", "eve", "refused", "quarantine: as observer"))
    await ledger.close()
