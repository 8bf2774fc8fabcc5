"""Every row of the transition table, fired and withheld."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from statemachine.phase import Phase
from statemachine.policy import decide
from statemachine.situation import Limits, Order, Persist, Situation
from statemachine.table import GUARDS, TABLE, Row, Trigger, mermaid, rows_from

LIMITS = Limits()
DWELL = LIMITS.dwell_seconds
VERIFY = LIMITS.verify_seconds

Facts = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A situation in which a row is taken, and each a change of it after which it is not."""

    fires: Facts
    withheld: list[Facts] = field(default_factory=list)


TROUBLE = {"anomalies": 1, "oldest_anomaly_seconds": 5.0}
PERSISTED = {"persist": Persist.DONE}
ENDED = {"attempts": 1, "since_attempt_seconds": VERIFY, "persist": Persist.DONE, "recent_recoveries": 1}
HEALED = {**ENDED, "in_phase_seconds": DWELL, "quiet_seconds": VERIFY}
GRAVE = Case(
    {"anomalies": 2},
    [{"anomalies": 1}, {"held": 1}, {"persist": Persist.FAILED}],
)
HOPELESS = Case({"persist": Persist.FAILED}, [{"persist": persist} for persist in (*Persist,)[:3]])
BOARDING = Case(
    {"order": Order.LIFEBOAT},
    [{"order": Order.NONE}, {"order": Order.RELAUNCH}, {"persist": Persist.FAILED}],
)
ORDERED_OUT = Case(
    {**ENDED, "order": Order.LIFEBOAT},
    [{"order": Order.NONE}, {"order": Order.RELAUNCH}, {"persist": Persist.RUNNING}],
)

CASES: dict[tuple[Phase, str], Case] = {
    (Phase.NORMAL, "hopeless"): HOPELESS,
    (Phase.NORMAL, "boarding"): BOARDING,
    (Phase.NORMAL, "grave"): GRAVE,
    (Phase.NORMAL, "troubled"): Case(TROUBLE, [{"anomalies": 0}, {"critical": 1}, {"anomalies": 2}]),
    (Phase.QUARANTINE, "hopeless"): HOPELESS,
    (Phase.QUARANTINE, "boarding"): BOARDING,
    (Phase.QUARANTINE, "grave"): GRAVE,
    (Phase.QUARANTINE, "outlasted"): Case(
        {"anomalies": 1, "oldest_anomaly_seconds": LIMITS.quarantine_limit_seconds},
        [{"oldest_anomaly_seconds": LIMITS.quarantine_limit_seconds - 0.1}],
    ),
    (Phase.QUARANTINE, "settled"): Case(
        {"in_phase_seconds": DWELL}, [{"in_phase_seconds": DWELL - 0.1}, {"anomalies": 1}]
    ),
    (Phase.PRESERVATION, "hopeless"): HOPELESS,
    (Phase.PRESERVATION, "ordered_out"): ORDERED_OUT,
    (Phase.PRESERVATION, "degraded"): Case(
        {**PERSISTED, "degraded": 1, "anomalies": 1},
        [{"degraded": 0}, {"persist": Persist.RUNNING}, {"persist": Persist.NOT_TRIED}],
    ),
    (Phase.PRESERVATION, "eased"): Case(
        {**PERSISTED, **TROUBLE, "in_phase_seconds": DWELL},
        [
            {"in_phase_seconds": DWELL - 0.1},
            {"persist": Persist.RUNNING},
            {"critical": 1},
            {"anomalies": 2},
            {"anomalies": 0},
            {"oldest_anomaly_seconds": LIMITS.quarantine_limit_seconds},
            {"degraded": 1},
        ],
    ),
    (Phase.PRESERVATION, "settled"): Case(
        {**PERSISTED, "in_phase_seconds": DWELL},
        [{"in_phase_seconds": DWELL - 0.1}, {"persist": Persist.RUNNING}, {"anomalies": 1}],
    ),
    (Phase.RECOVERY, "hopeless"): HOPELESS,
    (Phase.RECOVERY, "ordered_out"): ORDERED_OUT,
    (Phase.RECOVERY, "spent"): Case(
        {**ENDED, "attempts": LIMITS.recovery_attempts, "degraded": 1},
        [
            {"attempts": LIMITS.recovery_attempts - 1},
            {"degraded": 0},
            {"attempt_running": True},
            {"since_attempt_seconds": VERIFY - 0.1},
            {"persist": Persist.NOT_TRIED},
        ],
    ),
    (Phase.RECOVERY, "unhealed"): Case(
        {**ENDED, "degraded": 1},
        [
            {"degraded": 0},
            {"attempt_running": True},
            {"since_attempt_seconds": VERIFY - 0.1},
            {"attempts": LIMITS.recovery_attempts},
            {"recent_recoveries": LIMITS.recoveries_per_hour + 1},
            {"in_phase_seconds": LIMITS.recovery_limit_seconds},
        ],
    ),
    (Phase.RECOVERY, "verified_held"): Case(
        {**HEALED, "anomalies": 1, "held": 1},
        [
            {"held": 0},
            {"anomalies": 0, "held": 0},
            {"quiet_seconds": VERIFY - 0.1},
            {"attempt_running": True},
        ],
    ),
    (Phase.RECOVERY, "verified"): Case(
        HEALED,
        [
            {"quiet_seconds": VERIFY - 0.1},
            {"in_phase_seconds": DWELL - 0.1},
            {"attempt_running": True},
            {"degraded": 1},
            {"anomalies": 1},
            {"anomalies": 1, "held": 1},
        ],
    ),
    (Phase.LIFEBOAT, "relaunched"): Case(
        {"order": Order.RELAUNCH, "persist": Persist.FAILED},
        [{"order": Order.NONE}, {"order": Order.LIFEBOAT}],
    ),
}


def case_of(row: Row) -> Case:
    return CASES[row.source, row.guard]


def identify(row: Row) -> str:
    return f"{row.source}-{row.guard}"


@pytest.mark.parametrize("row", TABLE, ids=identify)
def test_a_row_is_taken_when_its_guard_holds(row: Row) -> None:
    """The policy chooses this row and no other."""
    assert decide(Situation(row.source, **case_of(row).fires), LIMITS) == row


@pytest.mark.parametrize(
    ("row", "change"), [(row, change) for row in TABLE for change in case_of(row).withheld], ids=str
)
def test_a_row_is_not_taken_when_one_fact_is_missing(row: Row, change: Facts) -> None:
    """Each fact that the guard, or a row before it, asks for is needed."""
    assert decide(Situation(row.source, **{**case_of(row).fires, **change}), LIMITS) != row


@pytest.mark.parametrize("row", TABLE, ids=identify)
def test_a_row_is_withheld_somewhere(row: Row) -> None:
    """No row of the list above is without its negative, and none stands for a row that is gone."""
    assert case_of(row).withheld
    assert len(CASES) == len(TABLE)


@pytest.mark.parametrize(
    ("facts", "destination"),
    [
        ({"anomalies": 1, "critical": 1}, Phase.PRESERVATION),
        ({"anomalies": 1, "held": 1}, Phase.QUARANTINE),
        ({"anomalies": 2, "held": 1}, Phase.QUARANTINE),
        ({"anomalies": 2, "held": 2}, Phase.QUARANTINE),
        ({"anomalies": 3, "held": 1}, Phase.PRESERVATION),
        ({"anomalies": 3, "dependent": 2}, Phase.QUARANTINE),
        ({"anomalies": 3, "dependent": 1}, Phase.PRESERVATION),
        ({"anomalies": 3, "held": 1, "dependent": 1}, Phase.QUARANTINE),
        ({"anomalies": 3, "dependent": 3}, Phase.QUARANTINE),
        ({"order": Order.LIFEBOAT}, Phase.PRESERVATION),
    ],
)
def test_how_much_trouble_is_grave(facts: Facts, destination: Phase) -> None:
    """One critical or two of their own; what a person holds does not add up, an ordered lifeboat does."""
    row = decide(Situation(Phase.NORMAL, **facts), LIMITS)
    assert row is not None
    assert row.destination is destination


def test_recovery_ends_when_its_time_or_its_hour_is_spent() -> None:
    """Attempts are not the only limit: time, and recoveries that each seem to succeed, count too."""
    broken: Facts = {**ENDED, "degraded": 1}
    for facts in (
        {"in_phase_seconds": LIMITS.recovery_limit_seconds},
        {"recent_recoveries": LIMITS.recoveries_per_hour + 1},
    ):
        row = decide(Situation(Phase.RECOVERY, **{**broken, **facts}), LIMITS)
        assert row is not None
        assert (row.guard, row.destination) == ("spent", Phase.LIFEBOAT)


def test_every_row_names_a_guard_that_is_there_and_explains_itself() -> None:
    """Guards and rows match one to one by name, and every row has its sentence."""
    assert {row.guard for row in TABLE} == set(GUARDS)
    assert all(row.sentence for row in TABLE)
    assert len({(row.source, row.trigger, row.guard) for row in TABLE}) == len(TABLE)
    assert {row.trigger for row in TABLE} == set(Trigger)


def test_the_table_is_complete_by_phase() -> None:
    """Every row leaves exactly one phase, in the table's order, and every phase can be left."""
    assert [row for phase in Phase for row in rows_from(phase)] == list(TABLE)
    assert all(rows_from(phase) for phase in Phase)


def test_the_diagram_is_the_table() -> None:
    """One arrow a row, and nothing else but the start."""
    lines = mermaid().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> NORMAL"]
    assert lines[2:] == [f"    {r.source} --> {r.destination}: {r.trigger} [{r.guard}]" for r in TABLE]


FAR = {"in_phase_seconds": 1e6, "since_attempt_seconds": 1e6, "quiet_seconds": 1e6}
# Of each guard, every fact that it measures: the least with which it holds, and one step.
BOUNDS = [
    ("grave", {}, "critical", 1, 1),
    ("grave", {}, "anomalies", 2, 1),
    ("grave", {"held": 1, "dependent": 2}, "anomalies", 5, 1),
    ("troubled", {}, "anomalies", 1, 1),
    ("outlasted", {}, "oldest_anomaly_seconds", LIMITS.quarantine_limit_seconds, 0.001),
    ("settled", {}, "in_phase_seconds", DWELL, 0.001),
    ("degraded", PERSISTED, "degraded", 1, 1),
    ("eased", {**PERSISTED, "in_phase_seconds": DWELL, "dependent": 1}, "anomalies", 1, 1),
    ("eased", {**PERSISTED, "anomalies": 1}, "in_phase_seconds", DWELL, 0.001),
    ("spent", {**ENDED, "degraded": 1, "recent_recoveries": LIMITS.recoveries_per_hour}, "attempts",
     LIMITS.recovery_attempts, 1),
    ("spent", {**ENDED, "degraded": 1}, "recent_recoveries", LIMITS.recoveries_per_hour + 1, 1),
    ("spent", {**ENDED, "degraded": 1}, "in_phase_seconds", LIMITS.recovery_limit_seconds, 0.001),
    ("spent", {**ENDED, "attempts": 9}, "degraded", 1, 1),
    ("spent", {**ENDED, "attempts": 9, "held": 2}, "anomalies", 3, 1),
    ("spent", {**ENDED, "attempts": 9, "degraded": 1}, "since_attempt_seconds", VERIFY, 0.001),
    ("unhealed", ENDED, "degraded", 1, 1),
    ("unhealed", {**ENDED, "held": 2}, "anomalies", 3, 1),
    ("unhealed", {**ENDED, "degraded": 1}, "since_attempt_seconds", VERIFY, 0.001),
    ("verified", HEALED, "quiet_seconds", VERIFY, 0.001),
    ("verified", HEALED, "in_phase_seconds", DWELL, 0.001),
    ("verified", HEALED, "since_attempt_seconds", VERIFY, 0.001),
    ("verified_held", {**HEALED, "anomalies": 1}, "held", 1, 1),
]  # fmt: skip
UNTIL = [
    ("settled", FAR, "anomalies", 0, 1),
    ("eased", {**PERSISTED, **FAR}, "anomalies", 1, 1),
    ("eased", {**PERSISTED, **FAR, "anomalies": 1}, "oldest_anomaly_seconds",
     LIMITS.quarantine_limit_seconds - 0.001, 0.001),
    ("unhealed", {**ENDED, "degraded": 1}, "attempts", LIMITS.recovery_attempts - 1, 1),
    ("unhealed", {**ENDED, "degraded": 1}, "recent_recoveries", LIMITS.recoveries_per_hour, 1),
    ("unhealed", {**ENDED, "degraded": 1}, "in_phase_seconds", LIMITS.recovery_limit_seconds - 0.001, 0.001),
    ("verified", HEALED, "held", 0, 1),
    ("verified", HEALED, "degraded", 0, 1),
    ("verified", HEALED, "anomalies", 0, 1),
    ("verified_held", {**HEALED, "held": 2}, "anomalies", 2, 1),
    ("verified_held", {**HEALED, "held": 1}, "degraded", 0, 1),
]  # fmt: skip


@pytest.mark.parametrize(("guard", "facts", "fact", "bound", "step"), BOUNDS)
def test_a_guard_holds_from_its_bound_on(
    guard: str, facts: Facts, fact: str, bound: float, step: float
) -> None:
    """In whichever phase it is asked."""
    for value, holds in ((bound - step, False), (bound, True), (bound + step, True)):
        for phase in Phase:
            assert GUARDS[guard](Situation(phase, **{**facts, fact: value}), LIMITS) is holds, (fact, value)


@pytest.mark.parametrize(("guard", "facts", "fact", "bound", "step"), UNTIL)
def test_a_guard_holds_up_to_its_bound(
    guard: str, facts: Facts, fact: str, bound: float, step: float
) -> None:
    for value, holds in ((bound, True), (bound + step, False)):
        assert GUARDS[guard](Situation(Phase.NORMAL, **{**facts, fact: value}), LIMITS) is holds, (
            fact,
            value,
        )


def test_every_fact_of_a_situation_is_told() -> None:
    """With times to the millisecond; that of the last attempt only if there was one."""
    told = Situation(Phase.RECOVERY, in_phase_seconds=1.23456, quiet_seconds=2.0, anomalies=3).as_json()
    assert told == {
        "phase": Phase.RECOVERY, "in_phase_seconds": 1.235, "anomalies": 3, "held": 0, "critical": 0,
        "oldest_anomaly_seconds": 0.0, "quiet_seconds": 2.0, "degraded": 0, "persist": Persist.NOT_TRIED,
        "attempt_running": False, "attempts": 0, "recent_recoveries": 0, "order": Order.NONE, "dependent": 0,
    }  # fmt: skip
    assert Situation(Phase.RECOVERY, attempts=1, since_attempt_seconds=0.1239).as_json() == {
        **told, "in_phase_seconds": 0.0, "quiet_seconds": 0.0, "anomalies": 0, "attempts": 1,
        "since_attempt_seconds": 0.124,
    }  # fmt: skip
