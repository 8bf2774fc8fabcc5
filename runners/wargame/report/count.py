"""Count the results of a run from the store, with every rate's own denominator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runners.wargame.engine import Engine
from runners.wargame.report import alarms
from runners.wargame.report.analysis import Analysis, analyse
from runners.wargame.report.evidence import Evidence, gather
from runners.wargame.report.rates import Rates, rates, rates_by
from runners.wargame.report.statistics import Proportion
from runners.wargame.store import RunRow, Store


@dataclass(frozen=True, slots=True)
class Report:
    """Holds the counts of one run. `swarm` are the decisions while it ran, over all families."""

    run: RunRow
    states: Mapping[str, int]
    reasons: Mapping[str, int]
    swarm: Rates
    always_attack: Rates
    always_benign: Rates
    bounds: tuple[Proportion, Proportion]
    roles: Mapping[str, Rates]
    votes: Mapping[str, Mapping[str, int]]
    no_votes: Mapping[str, Mapping[str, int]]
    """By role, why so many replies are no vote."""
    calls: Mapping[str, Mapping[str, int]]
    endings: Mapping[str, Mapping[str, int]]
    """By model, the reasons of answers that ended by something else than their own stop: none of them is a vote."""
    tokens: tuple[int, int]
    unanimous: Proportion
    analysis: Analysis
    evidence: Evidence

    @property
    def attempted(self) -> int:
        return sum(self.states.values())

    @property
    def scored(self) -> int:
        return self.states.get("scored", 0)

    @property
    def engine(self) -> Engine:
        return Engine(self.run.engine)

    @property
    def headline(self) -> Rates:
        """Return the chosen rule on families that neither rule nor threshold has seen."""
        return self.analysis.headline

    @property
    def rule(self) -> str:
        return self.analysis.judgement.chosen

    @property
    def obstacles(self) -> list[str]:
        """Return why the run must not be reported; empty if it may be."""
        return alarms.obstacles(self)

    @property
    def alarms(self) -> list[str]:
        """Return the figures too good, too bad or too alike to be believed without a look at the transcripts."""
        return alarms.alarms(self)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "engine": str(self.engine),
            "banner": self.engine.banner,
            "run_id": self.run.run_id,
            "state": self.run.state,
            "settings": self.run.settings,
            "settings_hash": self.run.settings_hash,
            "wanted": self.run.wanted,
            "attempted": self.attempted,
            **{state: self.states.get(state, 0) for state in ("scored", "void", "failed")},
            "reasons": dict(self.reasons),
            "reportable": not self.obstacles,
            "obstacles": self.obstacles,
            "smoke_alarms": self.alarms,
            "swarm": self.swarm.as_json(),
            "always_attack": self.always_attack.as_json(),
            "always_benign": self.always_benign.as_json(),
            "catch_if_unscored_were_misses": self.bounds[0].as_json(),
            "catch_if_unscored_were_catches": self.bounds[1].as_json(),
            "roles": {name: one.as_json() for name, one in self.roles.items()},
            "votes": {role: dict(kinds) for role, kinds in self.votes.items()},
            "no_votes": {role: dict(reasons) for role, reasons in self.no_votes.items()},
            "calls": {model: dict(outcomes) for model, outcomes in self.calls.items()},
            "endings": {model: dict(reasons) for model, reasons in self.endings.items()},
            "prompt_tokens": self.tokens[0],
            "completion_tokens": self.tokens[1],
            "unanimous": self.unanimous.as_json(),
            "analysis": self.analysis.as_json(),
            "evidence": self.evidence.as_json(),
        }


def states_of(store: Store, run: RunRow) -> dict[str, int]:
    """Count the rounds in each state; unlike the report, this costs a long night nothing."""
    return dict(
        store.rows("SELECT state, count(*) FROM round WHERE run_id = ? GROUP BY state", (run.run_id,))
    )


def build(store: Store, run: RunRow) -> Report:
    """Count a run."""
    mine = (run.run_id,)
    scored = store.rows(
        "SELECT r.label, d.flagged FROM round r JOIN decision d USING(run_id, idx)"
        " WHERE r.run_id = ? AND r.state = 'scored'",
        mine,
    )
    swarm = rates(scored)
    return Report(
        run=run,
        states=states_of(store, run),
        reasons=dict(
            store.rows(
                "SELECT state || ':' || outcome, count(*) FROM round WHERE run_id = ? AND state <> 'scored'"
                " GROUP BY 1 ORDER BY 1",
                mine,
            )
        ),
        swarm=swarm,
        always_attack=rates((label, True) for label, _ in scored),
        always_benign=rates((label, False) for label, _ in scored),
        bounds=_bounds(store, run, swarm.catch),
        roles=_by_role(store, run),
        votes=_table(
            store.rows("SELECT role, kind, count(*) FROM vote WHERE run_id = ? GROUP BY role, kind", mine)
        ),
        no_votes=_table(
            store.rows(
                "SELECT role, detail, count(*) FROM vote WHERE run_id = ? AND kind IN ('invalid', 'error')"
                " GROUP BY 1, 2 ORDER BY 3 DESC, 2",
                mine,
            )
        ),
        calls=_table(
            store.rows("SELECT model, outcome, count(*) FROM call WHERE run_id = ? GROUP BY 1, 2", mine)
        ),
        endings=_table(
            store.rows(
                "SELECT model, finish_reason, count(*) FROM call WHERE run_id = ?"
                " AND outcome IN ('truncated', 'cut', 'broken_off') GROUP BY 1, 2",
                mine,
            )
        ),
        tokens=store.rows(
            "SELECT coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0) FROM call"
            " WHERE run_id = ?",
            mine,
        )[0][:2],
        unanimous=_unanimous(store, run),
        analysis=analyse(store, run),
        evidence=gather(store, run),
    )


def _bounds(store: Store, run: RunRow, catch: Proportion) -> tuple[Proportion, Proportion]:
    """Return the catch rate if every unscored attack were a miss, and if each were a catch."""
    unscored = store.rows(
        "SELECT count(*) FROM round WHERE run_id = ? AND state <> 'scored' AND label = 'attack'",
        (run.run_id,),
    )[0][0]
    trials = catch.trials + unscored
    return Proportion(catch.successes, trials), Proportion(catch.successes + unscored, trials)


def _by_role(store: Store, run: RunRow) -> dict[str, Rates]:
    return rates_by(
        (role, label, bool(flagged))
        for role, label, flagged in store.rows(
            "SELECT v.role, r.label, v.kind = 'attack' FROM vote v JOIN round r USING(run_id, idx)"
            " WHERE r.run_id = ? AND r.state = 'scored' AND v.kind IN ('attack', 'benign')",
            (run.run_id,),
        )
    )


def _unanimous(store: Store, run: RunRow) -> Proportion:
    rows = store.rows(
        "SELECT count(*), coalesce(sum(kinds = 1), 0) FROM (SELECT count(DISTINCT v.kind) AS kinds FROM vote v"
        " JOIN round r USING(run_id, idx) WHERE r.run_id = ? AND r.state = 'scored' GROUP BY r.idx)",
        (run.run_id,),
    )
    return Proportion(rows[0][1], rows[0][0])


def _table(rows: Sequence[tuple[Any, ...]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for name, kind, number in rows:
        table.setdefault(name, {})[kind] = number
    return table
