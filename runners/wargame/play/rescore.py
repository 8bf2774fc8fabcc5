"""Judging stored replies again: the same text through today's parser and quorum, without asking anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runners.wargame.consensus.weighted import decide
from runners.wargame.endpoint.reply import Reply
from runners.wargame.outcomes import CallOutcome, Label
from runners.wargame.play.round import RoundRecord, judge_outcome, read_vote
from runners.wargame.roles import Role
from runners.wargame.scenario.grammar import Card
from runners.wargame.store import RunRow, Store


@dataclass(frozen=True, slots=True)
class Change:
    """A round that is something else now."""

    index: int
    before: str
    after: str


def rescore(store: Store, run: RunRow) -> list[Change]:
    """Judge every round again that its defenders were asked about; all of it is written, or nothing."""
    replies: dict[int, dict[str, Reply]] = {}
    for idx, purpose, outcome, content in store.rows(
        "SELECT c.idx, c.purpose, c.outcome, c.reply FROM call c JOIN round r ON r.run_id = c.run_id"
        " AND r.idx = c.idx AND r.attempt = c.attempt WHERE c.run_id = ?",
        (run.run_id,),
    ):
        replies.setdefault(idx, {})[purpose] = Reply(CallOutcome(outcome), content)
    changes, records = [], []
    for idx, label, state, outcome in store.rows(
        "SELECT idx, label, state, outcome FROM round WHERE run_id = ? AND state <> 'failed' ORDER BY idx",
        (run.run_id,),
    ):
        record = _judge(run.settings, idx, Label(label), replies.get(idx, {}))
        if record is None:
            continue
        records.append(record)
        before = outcome if state == "scored" else f"{state}:{outcome}"
        if str(record.outcome) != before:
            changes.append(Change(idx, before, str(record.outcome)))
    store.judge_again(run.run_id, records)
    store.note_event(run.run_id, "rescored", f"{len(changes)} of {len(records)} rounds changed")
    return changes


def _judge(
    settings: Mapping[str, Any], index: int, label: Label, replies: Mapping[str, Reply]
) -> RoundRecord | None:
    """Return the round as it is judged now; None if its defenders were never asked."""
    roles = [Role(r["name"], r["instruction"], r["model"], r["weight"]) for r in settings["roles"]]
    if any(role.name not in replies for role in roles):
        return None
    votes = tuple(read_vote(role, replies[role.name]) for role in roles)
    decision = decide([vote.ballot for vote in votes], settings["quorum"], settings["threshold"])
    outcome = judge_outcome(label, votes, decision, settings["quorum"])
    card = Card(index, index // 2, label, "other", "", "", 0, 0)
    return RoundRecord(card, outcome, votes=votes, decision=decision)
