"""Show a record of the ledger as a row of the audit: when, who, what, with which outcome."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from epad.ledger.record import (
    Audited,
    EpochStarted,
    Labelled,
    Record,
    Repaired,
    Rooted,
    Screened,
    Session,
    ToolClosed,
    ToolOpened,
    Trimmed,
    TurnClosed,
    TurnOpened,
)

EPAD: Final = "epad"
GAP: Final = "audit.gap"
"""The event that tells of entries which were lost."""
OPENED: Final = "opened"
_KIND_OF: Mapping[str, str] = {
    "answer": "consent",
    "anomaly": "incident",
    "step": "incident",
    "subsystem": "process",
    "cell": "process",
    "policy": "config",
    "clock": "daemon",
    "restore": "ledger",
    "audit": "ledger",
}
"""The kinds of events whose first word is not their kind."""
_CONSENTS: Final = frozenset(
    {
        *("egress.asked", "egress.decided", "egress.revoked"),
        *("tool.asked", "tool.decided", "tool.revoked"),
    }
)
KINDS: Final = (
    *(
        "turn",
        "tool",
        "session",
        "order",
        "consent",
        "gate",
        "egress",
        "secret",
        "server",
        "phase",
        "incident",
    ),
    *("process", "agent", "config", "daemon", "ledger"),
)
"""The kinds of rows. An event of a name that none of these covers has its first word for a kind."""


@dataclass(frozen=True, slots=True)
class Row:
    """Holds one record as the audit shows it; `id` is its number in the ledger, by which it can be proved.

    `happened_ns` is the wall clock's time, `wall_ns` that of writing. `details` hold JSON values.
    """

    id: int
    happened_ns: int
    wall_ns: int
    kind: str
    event: str
    who: str
    what: str
    outcome: str
    subsystem: str = ""
    session: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def at(self) -> str:
        """Return its time as ISO 8601 has it, in UTC."""
        return moment(self.happened_ns)

    def as_json(self) -> dict[str, Any]:
        """Return the row as a line of an export has it."""
        return {
            "id": self.id,
            "at": self.at,
            "kind": self.kind,
            "event": self.event,
            "who": self.who,
            "subsystem": self.subsystem,
            "session": self.session,
            "what": self.what,
            "outcome": self.outcome,
            "details": dict(self.details),
        }


def moment(wall_ns: int) -> str:
    """Return a time of the wall clock as ISO 8601 has it; one that no calendar has, as its number."""
    try:
        return (
            datetime.fromtimestamp(wall_ns // 10**9, UTC)
            .replace(microsecond=wall_ns % 10**9 // 1_000)
            .isoformat(timespec="milliseconds")
        )
    except (ValueError, OverflowError, OSError):
        return str(wall_ns)


def kind_of(event: str) -> str:
    """Return the kind of an event."""
    if event in _CONSENTS:
        return "consent"
    first = event.partition(".")[0]
    return _KIND_OF.get(first, first)


def row_of(number: int, record: Record) -> Row:
    """Return the row of a record."""
    match record:
        case TurnOpened() | TurnClosed():
            return _of_turn(number, record)
        case ToolOpened() | ToolClosed():
            return _of_tool(number, record)
        case Audited():
            return _of_audit(number, record)
        case Session() | Labelled():
            return _of_session(number, record)
        case _:
            return _of_ledger(number, record)


def _of_session(number: int, record: Session | Labelled) -> Row:
    if isinstance(record, Labelled):
        details: dict[str, Any] = {"label": record.label, "turn": record.turn}
        return _row(
            number,
            record,
            "session.labelled",
            record.subsystem,
            record.source,
            "labelled",
            subsystem=record.subsystem,
            session=record.session,
            details=details,
        )
    event, outcome = ("session.began", "began") if record.began else ("session.ended", "ended")
    return _row(
        number,
        record,
        event,
        record.by,
        record.reason,
        outcome,
        subsystem=record.subsystem,
        session=record.session,
        details={"tier": record.tier, "parent": record.parent},
    )


def _of_ledger(number: int, record: EpochStarted | Repaired | Trimmed | Rooted | Screened) -> Row:
    match record:
        case EpochStarted():
            outcome = "clean" if record.clean else "unclean"
            return _row(number, record, "ledger.opened", EPAD, f"run {record.epoch} of the ledger", outcome)
        case Repaired():
            details = {"restored": list(record.restored), "lost": list(record.lost), "source": record.source}
            outcome = "lost" if record.lost else "restored"
            return _row(number, record, "ledger.repaired", EPAD, record.cause, outcome, details=details)
        case Trimmed():
            what = f"{record.reason}: records 1 to {record.through}"
            return _row(number, record, "ledger.trimmed", EPAD, what, "done")
        case Rooted():
            what = f"the root over {record.size} rows of {record.store} is {record.root.hex()}"
            details = {"accepted": list(record.accepted)}
            return _row(
                number, record, "ledger.rooted", record.by or EPAD, what, record.cause, details=details
            )
        case Screened():
            what = f"{len(record.screenings)} turns, by version {record.version} of the classifier of intents"
            labels = {one.turn: one.label for one in record.screenings}
            return _row(number, record, "turn.screened", EPAD, what, "told", details={"labels": labels})


def _of_turn(number: int, record: TurnOpened | TurnClosed) -> Row:
    details: dict[str, Any] = {"turn": record.turn}
    if isinstance(record, TurnOpened):
        event, what, outcome = "turn.opened", f"{record.model} ({record.dialect})", OPENED
        details |= {"reserved_tokens": record.reserved_tokens, "reserved_microusd": record.reserved_microusd}
    else:
        event, outcome = "turn.closed", str(record.outcome)
        what = record.reason or f"{record.charged_tokens} tokens charged"
        details |= {
            "input_tokens": record.input_tokens,
            "output_tokens": record.output_tokens,
            "charged_tokens": record.charged_tokens,
            "charged_microusd": record.charged_microusd,
        }
    return _row(
        number, record, event, record.subsystem, what, outcome, subsystem=record.subsystem, details=details
    )


def _of_tool(number: int, record: ToolOpened | ToolClosed) -> Row:
    details: dict[str, Any] = {"turn": record.turn, "tool": record.tool, "row": record.row}
    if isinstance(record, ToolOpened):
        event, what, outcome = "tool.opened", record.tool, OPENED
        details |= {
            "risk": record.risk,
            "tier": record.tier,
            "taint": record.taint,
            "parent": record.parent,
            "arguments_sha256": record.arguments_sha256.hex(),
        }
    else:
        event, outcome = "tool.closed", str(record.outcome)
        what = ": ".join(filter(None, (record.tool, record.reason)))
        details |= {
            "result_bytes": record.result_bytes,
            "charged_tokens": record.charged_tokens,
            "targets": [effect.target for effect in record.effects],
            "undo": record.undo,
        }
    return _row(
        number, record, event, record.subsystem, what, outcome,
        subsystem=record.subsystem, session=record.session, details=details,
    )  # fmt: skip


def _of_audit(number: int, record: Audited) -> Row:
    return _row(
        number, record, record.event, record.who, record.what, record.outcome,
        subsystem=record.subsystem, session=record.session, details=_evidence(record),
    )  # fmt: skip


def _evidence(record: Audited) -> dict[str, Any]:
    """Return the evidence of a record; where it was too long to keep, its digest."""
    if not record.evidence:
        return {"evidence_sha256": record.evidence_sha256.hex()} if record.evidence_sha256 else {}
    try:
        found = json.loads(record.evidence)
    except ValueError:
        return {"evidence": record.evidence}
    return found if isinstance(found, dict) else {"evidence": found}


def _row(
    number: int,
    record: Record,
    event: str,
    who: str,
    what: str,
    outcome: str,
    **more: Any,
) -> Row:
    happened = record.happened_ns if isinstance(record, Audited) else record.wall_ns
    return Row(number, happened, record.wall_ns, kind_of(event), event, who, what, outcome, **more)
