"""Describe the plan of a recovery for people: before and while it runs, and the result of every attempt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from epad.answers import decisions
from epad.control_loop.plans import LEDGER, Target
from epad.control_loop.step import StepState
from epad.storage.database import Database, fetch
from statemachine.assessor import Anomaly
from statemachine.finding import HOST
from statemachine.phase import Phase

ATTEMPTS_SHOWN = 10

_ATTEMPTS = (
    "SELECT o.id, o.utc, o.state, t.sentence, o.cause FROM operation o JOIN transition t ON t.id = o.transition"
    " WHERE t.destination = ? AND o.lane = 'phase' ORDER BY o.id DESC LIMIT ?"
)
_STEPS = "SELECT id, name, target, state, attempts, result, utc FROM step WHERE operation = ? ORDER BY id"
_REASONS = "SELECT probe, subsystem, reason FROM anomaly WHERE id = ?"


@dataclass(frozen=True, slots=True)
class Item:
    """Describes the work on one target: the reason, the sources in their order, the predecessors, and the judge."""

    target: str
    action: str
    why: str
    sources: tuple[str, ...]
    after: tuple[str, ...]
    verified_by: str

    def as_json(self) -> decisions.PlanItem:
        return {
            "target": self.target,
            "action": self.action,
            "why": self.why,
            "sources": self.sources,
            "after": self.after,
            "verified_by": self.verified_by,
        }


def recovery_plan(
    targets: Sequence[Target],
    anomalies: Sequence[Anomaly],
    depends_on: Mapping[str, Sequence[str]],
    checkpoints: Sequence[str],
    lost_turns: int,
) -> list[Item]:
    """Plan a recovery in its order. Pure. `checkpoints` are the verified ones' names, newest first."""
    reasons: dict[str, list[str]] = {}
    for anomaly in anomalies:
        reasons.setdefault(anomaly.key.subsystem, []).append(f"{anomaly.key.probe}: {anomaly.finding.reason}")
    items = [_item(target, reasons, depends_on, checkpoints) for target in targets]
    if lost_turns:
        why = f"{lost_turns} turn(s) were open when the daemon died"
        sources = ("the request as kept in the ledger", "the answer kept under its Idempotency-Key")
        after = tuple(item.target for item in items)
        items.append(Item("lost turns", "replay", why, sources, after, "their closing in the ledger"))
    return items


def _item(
    target: Target,
    reasons: Mapping[str, Sequence[str]],
    depends_on: Mapping[str, Sequence[str]],
    checkpoints: Sequence[str],
) -> Item:
    if target == LEDGER:
        sources = (
            "rows that the chain vouches for",
            "sealed segments",
            *(f"checkpoint {c}" for c in checkpoints),
        )
        why = "; ".join(reasons.get(HOST, ())) or "damage is known of"
        return Item("ledger", "rebuild", why, sources, (), "ledger_integrity, over every record")
    if not target.is_subsystem:
        why = "; ".join(reasons.get(target.writer, ())) or "damage is known of"
        sources = ("the last sound copy", *(f"checkpoint {c}" for c in checkpoints))
        return Item(target.name, "restore", why, sources, (), "datastore, held against that copy")
    why = (
        "; ".join(reasons.get(target.name, ()))
        or "it has failed, or its trouble has outlasted its quarantine"
    )
    sources = ("its own files as they are",)
    after = tuple(depends_on.get(target.name, ()))
    return Item(target.name, "restart", why, sources, after, "every probe, clear for policy.verify_seconds")


async def recovery_attempts(database: Database) -> list[decisions.Attempt]:
    """Return the newest attempts, newest first, each with its steps and the evidence that it began on."""

    def work(connection: apsw.Connection) -> list[decisions.Attempt]:
        rows = fetch(connection, _ATTEMPTS, (Phase.RECOVERY, ATTEMPTS_SHOWN))
        return [_attempt(connection, row) for row in rows]

    return await database.read(work)


def _attempt(connection: apsw.Connection, row: Sequence[Any]) -> decisions.Attempt:
    number, at, state, sentence, cause = row
    numbers = json.loads(cause)["anomalies"]
    found = [(f"anomaly-{n}", reason) for n in numbers for reason in fetch(connection, _REASONS, (n,))]
    return {
        "operation": number,
        "at": at,
        "state": "running" if state == StepState.PENDING else state,
        "sentence": sentence,
        "evidence": [
            {"id": name, "text": f"{probe}/{about}: {reason}"} for name, (probe, about, reason) in found
        ],
        "steps": [_step(*step) for step in fetch(connection, _STEPS, (number,))],
    }


def _step(
    number: int, name: str, target: str, state: str, attempts: int, result: str, at: str
) -> decisions.Step:
    return {
        "id": number,
        "name": name,
        "target": target,
        "state": state,
        "attempts": attempts,
        "result": result,
        "at": at,
    }
