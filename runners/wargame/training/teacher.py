"""The teacher: a larger model writes the verdict that should have been given, for misses and false alarms alike."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runners.wargame.endpoint.question import Question
from runners.wargame.endpoint.reply import Reply
from runners.wargame.outcomes import CallOutcome
from runners.wargame.play.round import Asker
from runners.wargame.prompts import ChatMessage, teacher_messages
from runners.wargame.settings import Limits
from runners.wargame.store import RunRow, Store
from runners.wargame.verdict import SCHEMA, Invalid, parse

LEARNT = "ok"
WRONG_LABEL = "wrong_label"


@dataclass(frozen=True, slots=True)
class Teacher:
    """Identifies the teacher. One who does not see the label is `blind`, and is checked against it all the same."""

    model: str
    endpoint: str = ""
    sees_label: bool = True


@dataclass(frozen=True, slots=True)
class Mistake:
    """A round that the swarm got wrong."""

    index: int
    label: str
    category: str
    turns: tuple[str, ...]

    def messages(self, *, sees_label: bool) -> list[ChatMessage]:
        """Return the teacher's prompt."""
        truth = {"label": self.label, "category": self.category} if sees_label else None
        return teacher_messages(self.turns, truth)


def mistakes(store: Store, run: RunRow, teacher: Teacher) -> list[Mistake]:
    """Return every miss and false alarm that this teacher has not answered yet."""
    rows = store.rows(
        "SELECT idx, label, category FROM round r WHERE run_id = ? AND outcome IN ('miss', 'false_alarm') AND NOT"
        " EXISTS (SELECT 1 FROM lesson l WHERE l.run_id = r.run_id AND l.idx = r.idx AND l.teacher = ?"
        " AND l.outcome NOT LIKE 'error:%') ORDER BY idx",
        (run.run_id, teacher.model),
    )
    return [Mistake(idx, label, category, store.turns(run.run_id, idx)) for idx, label, category in rows]


async def teach(store: Store, run: RunRow, teacher: Teacher, asker: Asker, limits: Limits) -> Counter[str]:
    """Ask about every mistake, as many at once as the endpoint can take; return the counts of the outcomes."""
    counted: Counter[str] = Counter()

    async def learn(mistake: Mistake) -> None:
        deadline = asyncio.get_running_loop().time() + limits.round_seconds
        reply = await asker.ask(_question(run, mistake, teacher), deadline)
        outcome = judge(reply, mistake.label)
        counted[outcome] += 1
        values = (run.run_id, mistake.index, teacher.model, not teacher.sees_label, outcome, reply.content)
        store.write([("INSERT OR REPLACE INTO lesson VALUES(?, ?, ?, ?, ?, ?)", values)])

    for chunk in _chunks(mistakes(store, run, teacher)):
        async with asyncio.TaskGroup() as group:
            for mistake in chunk:
                group.create_task(learn(mistake))
    return counted


def _chunks(found: Sequence[Mistake], size: int = 64) -> list[Sequence[Mistake]]:
    """Split the mistakes so that an endpoint is busy and no question waits its whole time for a place."""
    return [found[start : start + size] for start in range(0, len(found), size)]


def _question(run: RunRow, mistake: Mistake, teacher: Teacher) -> Question:
    return Question(
        teacher.model,
        mistake.messages(sees_label=teacher.sees_label),
        run.settings["verdict_tokens"],
        seed=run.settings["seed"],
        idempotency_key=f"{run.run_id}:round-{mistake.index}:teacher:{teacher.model}",
        schema=SCHEMA,
        endpoint=teacher.endpoint,
    )


def judge(reply: Reply, label: str) -> str:
    """Hold the teacher to the defenders' own rules: a whole, strict verdict, and the right one."""
    if reply.outcome is not CallOutcome.OK:
        return f"error:{reply.outcome}"
    verdict = parse(reply.content)
    if isinstance(verdict, Invalid):
        return f"invalid:{verdict}"
    return LEARNT if verdict.kind == label and verdict.parser == "json" else WRONG_LABEL


def compact(content: str) -> str:
    """A JSON verdict in the one form that is taught, without white space or fence; empty if it is none."""
    verdict = parse(content)
    if isinstance(verdict, Invalid) or verdict.parser != "json":
        return ""
    value = {
        "verdict": str(verdict.kind),
        "confidence": verdict.confidence,
        "category": verdict.category,
        "evidence_turn": verdict.evidence_turn,
    }
    return json.dumps(value, separators=(",", ":"))
