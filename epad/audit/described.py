"""Describe an event of the daemon as an entry of the audit: who, what, with which outcome."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from epad.audit.row import EPAD
from epad.ledger.entry import NoteAudit
from epad.storage.event_log import EventKind

MOST_EVIDENCE_BYTES: Final = 4_096
"""Longer evidence is not kept in the record: its digest is."""
_MOST_CHARACTERS: Final = 500

NOT_CHAINED: Mapping[EventKind, str] = {
    EventKind.TURN_REFUSED: "the turn has a record of its own, with the same reason",
    EventKind.ORDER_GIVEN: "an order is recorded before it is carried out, and once more with its result",
    EventKind.GATE_DECIDED: "a refusal is recorded before it is answered; a permission is the order's record",
    EventKind.VRAM_RELEASED: "a measurement; the step that it belongs to is recorded",
    EventKind.LOOP_LAGGED: "a measurement",
    EventKind.PROBE_BLIND: "a measurement that failed; what it leads to is recorded",
    EventKind.PROBE_SEES: "a measurement",
    EventKind.NOTICE: "a hint for who looks; nothing was done",
}
"""The events that are no records of the audit, each with the reason. All others are."""

_ACTORS: Final = ("egress", "agent", "secret", "subsystem")
"""Of events with these first words, the subsystem is who acted."""
_OUTCOMES: Final = ("answer", "outcome", "state", "verdict")
"""The fields that say how something ended, where an event has one."""


def described(kind: EventKind, subsystem: str, fields: Mapping[str, Any], happened_ns: int) -> NoteAudit:
    """Return the entry of an event."""
    first, _, word = kind.partition(".")
    outcome = next((str(fields[name]) for name in _OUTCOMES if fields.get(name)), word)
    who = str(fields.get("by") or (subsystem if first in _ACTORS else "") or EPAD)
    return entry(
        kind,
        subsystem=subsystem,
        who=who,
        what=_sentence(kind, fields),
        outcome=outcome,
        happened_ns=happened_ns,
        evidence=fields,
    )


def entry(
    event: str,
    *,
    subsystem: str,
    who: str,
    what: str,
    outcome: str,
    happened_ns: int,
    evidence: Mapping[str, Any] | None = None,
) -> NoteAudit:
    """Return an entry whose texts can be written, however they came about."""
    told = _as_json(evidence) if evidence else b""
    return NoteAudit(
        event=event,
        subsystem=clean(subsystem),
        who=clean(who),
        what=clean(what),
        outcome=clean(outcome),
        happened_ns=happened_ns,
        session=clean(str((evidence or {}).get("session", ""))),
        evidence=told.decode() if len(told) <= MOST_EVIDENCE_BYTES else "",
        evidence_sha256=sha256(told).digest() if told else b"",
    )


def clean(text: str) -> str:
    """Return a text that UTF-8 can hold, of a bounded length."""
    cut = text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."
    return cut.encode(errors="replace").decode()


def _as_json(evidence: Mapping[str, Any]) -> bytes:
    """Return JSON that any parser takes: no half of a surrogate pair, and no number that is not finite."""
    plain = {str(name): _plain(value) for name, value in evidence.items()}
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _plain(value: Any) -> Any:
    if isinstance(value, bool | None):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple | set | frozenset) else str(value)


def _sentence(kind: EventKind, fields: Mapping[str, Any]) -> str:
    """Say in a few words what an event is about."""
    told: Mapping[EventKind, tuple[str, ...]] = {
        EventKind.PHASE_CHANGED: ("sentence",),
        EventKind.ANOMALY_RAISED: ("probe", "reason"),
        EventKind.ANOMALY_CLEARED: ("probe", "reason"),
        EventKind.STEP_ENDED: ("step", "result"),
        EventKind.TOOL_ASKED: ("asks",),
        EventKind.TOOL_DECIDED: ("tool", "covers", "reason"),
        EventKind.TOOL_REVOKED: ("tool", "covers", "reason"),
        EventKind.CONFIG_RELOADED: ("changes",),
        EventKind.CONFIG_REFUSED: ("problems",),
        EventKind.POLICY_CHANGED: ("changes", "reason"),
        EventKind.SECRET_USED: ("secret", "host"),
    }
    if "host" in fields and kind not in told:
        where = f"{fields['host']}:{fields['port']}" if fields.get("port") else str(fields["host"])
        return ": ".join(filter(None, (where, _text(fields.get("words") or fields.get("reason")))))
    names = told.get(kind)
    if names is None:
        return ", ".join(f"{name} {_text(value)}" for name, value in fields.items() if _text(value))
    return ": ".join(filter(None, (_text(fields.get(name)) for name in names)))


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return "" if value in (None, "", {}) else str(value)
