"""The policy, walked to its ends: every situation, and every path an environment can drive it along.

The first half discretises `Situation` around its limits. The second half is a model of the daemon's own
bookkeeping (`epad/control_loop/incident.py`) in an environment that may change any fact at any time; its whole
reachable state space is explored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import pytest

from statemachine.phase import Phase
from statemachine.policy import decide
from statemachine.situation import Limits, Order, Persist, Situation
from statemachine.table import GUARDS, Row, Trigger, rows_from

LIMITS = Limits(recovery_attempts=2, recoveries_per_hour=2)
ENDED = {Persist.DONE, Persist.FAILED}

# (anomalies, held, critical): a critical one is never a person's hold.
COUNTS = [(0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0), (2, 0, 1), (2, 1, 0), (2, 1, 1)]

# Guards of one phase that must never hold together, whatever the order of their rows.
EXCLUSIVE = [{"spent", "unhealed"}, {"verified", "verified_held"}, {"eased", "settled"}]


def situations() -> Iterator[Situation]:
    """Every combination of values on both sides of each limit."""
    for (anomalies, held, critical), phase, in_phase in product(
        COUNTS,
        Phase,
        (0.0, LIMITS.dwell_seconds, LIMITS.recovery_limit_seconds),
    ):
        for oldest, quiet, degraded, persist, running, attempts, since, recent, order in product(
            (0.0, LIMITS.quarantine_limit_seconds),
            (0.0, LIMITS.verify_seconds),
            (0, 1),
            Persist,
            (False, True),
            (0, LIMITS.recovery_attempts),
            (0.0, LIMITS.verify_seconds),
            (0, LIMITS.recoveries_per_hour + 1),
            Order,
        ):
            yield Situation(
                phase,
                in_phase,
                anomalies,
                held,
                critical,
                oldest,
                quiet,
                degraded,
                persist,
                running,
                attempts,
                since,
                recent,
                order,
            )


def is_step_down(row: Row) -> bool:
    """Towards NORMAL, other than by a person's relaunch."""
    return row.destination.number < row.source.number and row.trigger is not Trigger.RELAUNCH


def test_in_every_situation_the_choice_is_one_row_safe_and_repeatable() -> None:
    """The first row that holds, the same each time, in all of 184,320 situations.

    And: the lifeboat only after a persist step has ended, a step down only after the dwell time.
    """
    seen = 0
    for situation in situations():
        row = decide(situation, LIMITS)
        seen += 1
        holding = [r for r in rows_from(situation.phase) if GUARDS[r.guard](situation, LIMITS)]
        assert row == (holding[0] if holding else None)
        assert not any(pair <= {r.guard for r in holding} for pair in EXCLUSIVE), situation
        if row is None:
            continue
        assert row.source is situation.phase
        if row.destination is Phase.LIFEBOAT:
            assert situation.persist in ENDED, situation
        if is_step_down(row):
            assert situation.in_phase_seconds >= LIMITS.dwell_seconds, situation
    assert seen == 184_320


@dataclass(frozen=True, slots=True)
class State:
    """The daemon and its world, with each time reduced to which of its limits it has passed."""

    phase: Phase = Phase.NORMAL
    counts: tuple[int, int, int] = (0, 0, 0)
    old: bool = False
    degraded: int = 0
    order: Order = Order.NONE
    persist: Persist = Persist.NOT_TRIED
    attempts: int = 0
    running: bool = False
    rested: int = 0  # 0 before the dwell time, 1 after it, 2 after the recovery's time limit
    quiet: bool = False
    verdict_due: bool = False
    frequent: bool = False

    @property
    def found(self) -> int:
        """Anomalies that no person ordered."""
        return self.counts[0] - self.counts[1]

    def situation(self) -> Situation:
        return Situation(
            self.phase,
            (0.0, LIMITS.dwell_seconds, LIMITS.recovery_limit_seconds)[self.rested],
            *self.counts,
            LIMITS.quarantine_limit_seconds * self.old,
            LIMITS.verify_seconds * self.quiet,
            self.degraded,
            self.persist,
            self.running,
            self.attempts,
            LIMITS.verify_seconds * self.verdict_due,
            (LIMITS.recoveries_per_hour + 1) * self.frequent,
            self.order,
        )


@cache
def chosen(state: State) -> Row | None:
    return decide(state.situation(), LIMITS)


def taken(state: State, row: Row) -> State:
    """The daemon's bookkeeping when it takes a row; time in the phase goes on across a retry."""
    after = replace(state, phase=row.destination)
    if row.source is not row.destination:
        after = replace(after, rested=0)
    if row.destination is Phase.PRESERVATION:
        return replace(after, persist=Persist.RUNNING)
    if row.destination is Phase.RECOVERY:
        attempts = min(state.attempts + 1, LIMITS.recovery_attempts)
        return replace(after, attempts=attempts, running=True, verdict_due=False)
    if row.destination is Phase.LIFEBOAT:
        return replace(after, order=Order.NONE, running=False)
    if row.destination is Phase.NORMAL:
        return replace(after, persist=Persist.NOT_TRIED, attempts=0, order=Order.NONE)
    return after


def facts(state: State) -> Iterator[State]:
    """Whatever may become true of the world."""
    for counts, old, degraded in product(COUNTS, (False, True), (0, 1)):
        found = counts[0] - counts[1]
        if not (old and not found):
            quiet = state.quiet and not found
            yield replace(state, counts=counts, old=old, degraded=degraded, quiet=quiet)
    for order in Order:
        yield replace(state, order=order)


def events(state: State) -> Iterator[State]:
    """What time and the daemon's own work bring."""
    yield replace(state, rested=min(state.rested + 1, 2 if state.phase is Phase.RECOVERY else 1))
    if not state.found:
        yield replace(state, quiet=True)
    if state.persist is Persist.RUNNING:
        yield replace(state, persist=Persist.DONE)
        yield replace(state, persist=Persist.FAILED)
    if state.running:
        yield replace(state, running=False, verdict_due=False)
    elif state.phase is Phase.RECOVERY:
        yield replace(state, verdict_due=True)
        yield replace(state, frequent=not state.frequent)


def successors(state: State) -> Iterator[State]:
    """Everything that may come next. The world may change again before the daemon has acted."""
    yield from facts(state)
    yield from events(state)
    if row := chosen(state):
        yield taken(state, row)


@pytest.fixture(scope="module")
def reachable() -> dict[State, list[State]]:
    """Every state an environment can drive the daemon into, with what leads there."""
    start = State()
    comes_from: dict[State, list[State]] = {start: []}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        for following in successors(state):
            if following not in comes_from:
                comes_from[following] = []
                queue.append(following)
            comes_from[following].append(state)
    return comes_from


def test_the_lifeboat_can_be_reached_from_every_state(reachable: dict[State, list[State]]) -> None:
    """Not only from every phase: whatever has happened, there is a way out."""
    queue = deque(state for state in reachable if state.phase is Phase.LIFEBOAT)
    saved = set(queue)
    while queue:
        for before in reachable[queue.popleft()]:
            if before not in saved:
                saved.add(before)
                queue.append(before)
    assert {state.phase for state in reachable} == set(Phase)
    assert saved == set(reachable)


def test_no_path_reaches_the_lifeboat_before_the_persist_step_has_ended(
    reachable: dict[State, list[State]],
) -> None:
    """Done, or tried and recorded as failed, within this very incident: NORMAL forgets the last one's."""
    entries = [s for s in reachable if s.phase is not Phase.LIFEBOAT and _leads_to(s, Phase.LIFEBOAT)]
    assert {state.phase for state in entries} == {Phase.PRESERVATION, Phase.RECOVERY}
    assert all(state.persist in ENDED for state in entries)
    assert all(state.persist is Persist.NOT_TRIED for state in reachable if state.phase is Phase.NORMAL)


def _leads_to(state: State, phase: Phase) -> bool:
    row = chosen(state)
    return row is not None and row.destination is phase


def test_no_two_phases_oscillate_faster_than_the_dwell_time(reachable: dict[State, list[State]]) -> None:
    """Every step towards NORMAL comes after the dwell time in the phase it leaves.

    To come back to a phase twice takes two such steps, so they are a dwell time apart at least. Steps up are
    never delayed, RECOVERY to LIFEBOAT among them: it goes no further by itself. A relaunch goes down, at
    the pace of the person who orders it.
    """
    down = {(s, row) for s in reachable if (row := chosen(s)) and is_step_down(row)}
    assert {(row.source, row.destination) for _, row in down} == {
        (Phase.QUARANTINE, Phase.NORMAL),
        (Phase.PRESERVATION, Phase.QUARANTINE),
        (Phase.PRESERVATION, Phase.NORMAL),
        (Phase.RECOVERY, Phase.QUARANTINE),
        (Phase.RECOVERY, Phase.NORMAL),
    }
    assert all(state.rested >= 1 for state, _ in down)


def test_the_lifeboat_is_left_only_by_an_ordered_relaunch(reachable: dict[State, list[State]]) -> None:
    """Time and calm do not bring it back."""
    left = [(s, row) for s in reachable if s.phase is Phase.LIFEBOAT and (row := chosen(s))]
    assert left
    assert all(s.order is Order.RELAUNCH and row.trigger is Trigger.RELAUNCH for s, row in left)


def calm(state: State) -> State:
    """The same moment, from which on nothing is wrong any more."""
    return replace(state, counts=(0, 0, 0), old=False, degraded=0)


def onward(state: State) -> State:
    """What happens when the world holds still: the daemon acts, else its work ends well, else time passes."""
    if row := chosen(state):
        return taken(state, row)
    if state.persist is Persist.RUNNING:
        return replace(state, persist=Persist.DONE)
    if state.running:
        return replace(state, running=False, verdict_due=False)
    return replace(state, rested=1 if state.rested == 0 else state.rested, quiet=True, verdict_due=True)


def test_from_every_state_calm_leads_back_to_normal_by_itself(reachable: dict[State, list[State]]) -> None:
    """No dead end: once nothing is wrong the daemon returns without a person.

    Except where the lifeboat was ordered, or is due because nothing could be persisted.
    """
    for state in map(calm, reachable):
        if state.phase is Phase.LIFEBOAT:
            continue
        steps = 0
        following = state
        while following.phase not in {Phase.NORMAL, Phase.LIFEBOAT} and steps < 20:
            following = onward(following)
            steps += 1
        if following.phase is Phase.LIFEBOAT:
            assert state.order is Order.LIFEBOAT or state.persist is Persist.FAILED, state
        else:
            assert following.phase is Phase.NORMAL, state


def test_recovery_always_ends(reachable: dict[State, list[State]]) -> None:
    """Left broken, RECOVERY does not go on for ever: its attempts run out and the lifeboat is written."""
    for state in reachable:
        if state.phase is not Phase.RECOVERY:
            continue
        following = replace(state, degraded=1, order=Order.NONE)
        steps = 0
        while following.phase is Phase.RECOVERY and steps < 20:
            following = onward(following)
            steps += 1
        assert following.phase is Phase.LIFEBOAT, state


def test_the_walk_would_find_a_broken_guard() -> None:
    """The properties above are not true of every table: without its dwell time, `settled` is found out."""
    state = State(Phase.QUARANTINE)
    assert decide(state.situation(), LIMITS) is None
    hasty = decide(state.situation(), replace(LIMITS, dwell_seconds=0.0))
    assert hasty is not None
    assert is_step_down(hasty)
    assert state.rested == 0
