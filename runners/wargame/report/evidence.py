"""Gather the evidence beside the rates: controls, contamination, novelty, failures, and the course of the night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runners.wargame.outcomes import Label
from runners.wargame.play.controls import ControlResult, judge
from runners.wargame.play.round import TARGET
from runners.wargame.report.statistics import Proportion
from runners.wargame.scenario.contamination import Novelty, novelty
from runners.wargame.store import RunRow, Store

CURVE_POINTS = 40


@dataclass(frozen=True, slots=True)
class Stretch:
    """Holds a part of the run, in the order of rounds' ends: the last round's number, and the state until then."""

    rounds: int
    catch: Proportion
    novel: int
    """Attack texts so far that were unlike every earlier one."""
    calls_per_second: float
    latency_seconds: float
    queue_seconds: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Holds everything that is neither a rate nor a transcript."""

    controls: Mapping[int, ControlResult]
    novelty: Mapping[str, Novelty]
    live: Proportion
    """Attacks that the undefended target obeyed, of those on which it answered."""
    tripwires: Sequence[str]
    forked: str
    transcripts_read: int
    confidence_deviation: Mapping[str, float]
    stretches: Sequence[Stretch]

    @property
    def control_faults(self) -> list[str]:
        return [f"after {at} rounds: {result.fault}" for at, result in self.controls.items() if result.fault]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "controls": {str(at): asdict(r) | {"fault": r.fault} for at, r in self.controls.items()},
            "novelty": {name: asdict(found) for name, found in self.novelty.items()},
            "live_attacks": self.live.as_json(),
            "tripwires": list(self.tripwires),
            "forked": self.forked,
            "transcripts_read": self.transcripts_read,
            "confidence_deviation": dict(self.confidence_deviation),
        }


def gather(store: Store, run: RunRow) -> Evidence:
    """Read it from the store."""
    mine = (run.run_id,)
    events = "SELECT detail FROM event WHERE run_id = ? AND kind = ? ORDER BY id"
    deviations = store.rows(
        "SELECT role, sqrt(max(0, avg(confidence * confidence) - avg(confidence) * avg(confidence))) FROM vote"
        " WHERE run_id = ? AND confidence IS NOT NULL GROUP BY role",
        mine,
    )
    texts = _last_attack_turns(store, run)
    by_category: dict[str, list[str]] = {}
    for _, category, text in texts:
        by_category.setdefault(category, []).append(text)
    return Evidence(
        controls=_controls(store, run),
        novelty={name: novelty(found)[0] for name, found in sorted(by_category.items())},
        live=_live(store, run),
        tripwires=[detail for (detail,) in store.rows(events, (*mine, "tripwire"))],
        forked="; ".join(detail for (detail,) in store.rows(events, (*mine, "forked"))),
        transcripts_read=store.rows("SELECT count(*) FROM reading WHERE run_id = ?", mine)[0][0],
        confidence_deviation=dict(deviations),
        stretches=_stretches(store, run, dict(zip((i for i, *_ in texts), _novel(texts), strict=True))),
    )


def _last_attack_turns(store: Store, run: RunRow) -> list[tuple[int, str, str]]:
    """(round, category, last turn) of every attack that was scored."""
    rows = store.rows(
        "SELECT r.idx, r.category, t.text FROM round r JOIN turn t USING(run_id, idx) WHERE r.run_id = ?"
        " AND r.state = 'scored' AND r.label = 'attack' AND t.number ="
        " (SELECT max(number) FROM turn WHERE run_id = r.run_id AND idx = r.idx) ORDER BY r.idx",
        (run.run_id,),
    )
    return [(idx, category, text) for idx, category, text in rows]


def _novel(texts: Sequence[tuple[int, str, str]]) -> list[bool]:
    return novelty(text for _, _, text in texts)[1]


def _controls(store: Store, run: RunRow) -> dict[int, ControlResult]:
    results: dict[int, list[tuple[Label, bool | None]]] = {}
    for at_round, label, flagged in store.rows(
        "SELECT at_round, label, flagged FROM control WHERE run_id = ? ORDER BY at_round", (run.run_id,)
    ):
        results.setdefault(at_round, []).append((Label(label), None if flagged is None else bool(flagged)))
    return {at_round: judge(found) for at_round, found in results.items()}


def _live(store: Store, run: RunRow) -> Proportion:
    answered, obeyed = store.rows(
        "SELECT count(*), coalesce(sum(instr(c.reply, r.canary) > 0), 0) FROM call c JOIN round r"
        " USING(run_id, idx) WHERE c.run_id = ? AND c.purpose = ? AND c.outcome = 'ok' AND r.canary <> ''"
        " AND r.label = 'attack'",
        (run.run_id, TARGET),
    )[0]
    return Proportion(obeyed, answered)


def _stretches(store: Store, run: RunRow, novel: Mapping[int, bool]) -> list[Stretch]:
    rows = store.rows(
        "SELECT r.idx, r.label, r.outcome, julianday(r.ended_utc) * 86400, count(c.purpose),"
        " coalesce(avg(c.latency_seconds), 0), coalesce(avg(c.queue_seconds), 0) FROM round r LEFT JOIN call c"
        " USING(run_id, idx) WHERE r.run_id = ? AND r.state = 'scored' GROUP BY r.idx ORDER BY r.ended_utc, r.idx",
        (run.run_id,),
    )
    size = max(1, -(-len(rows) // CURVE_POINTS))
    stretches, caught, attacks, fresh = [], 0, 0, 0
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        labels = [outcome for _, label, outcome, *_ in part if label == "attack"]
        caught, attacks = caught + labels.count("catch"), attacks + len(labels)
        fresh += sum(novel.get(idx, False) for idx, label, *_ in part if label == "attack")
        before = rows[start - 1][3] if start else part[0][3]
        elapsed = part[-1][3] - before
        stretches.append(
            Stretch(
                start + len(part),
                Proportion(caught, attacks),
                fresh,
                sum(row[4] for row in part) / elapsed if elapsed > 0 else 0.0,
                sum(row[5] for row in part) / len(part),
                sum(row[6] for row in part) / len(part),
            )
        )
    return stretches
