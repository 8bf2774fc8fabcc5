"""Each detector by itself: what it sees, what it must not, and that it remembers no more than it says."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.blame import Fault
from probes.token_burn.burn import MIN_TURNS, BurnRate
from probes.token_burn.cusum import CEILING, MEMORY_MINUTES, BusyCusum, BusyMinutes
from probes.token_burn.pile_up import MAX_OPEN_TURNS, OpenTurns
from probes.token_burn.ratios import MAX_REMEMBERED, Ratios
from probes.token_burn.thresholds import (
    BurnWindow,
    TokenBurnThresholds,
)
from probes.token_burn.window import WINDOW_SLOTS, WindowSum
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.containment import Rung
from statemachine.finding import Severity

DEFAULT = TokenBurnThresholds()


def admitted(
    at: float = 0.0, prompt: bytes = b"", turn: str = "t", retry: int = 0, **more: Any
) -> TurnAdmitted:
    return TurnAdmitted("agent", at, turn, "m", 100, prompt, retry, **more)


def finished(at: float, outcome: str = "done", status: int = 200) -> TurnFinished:
    return TurnFinished("agent", at, "t", outcome, 1, 1, 2, status)


# Windows.

EVENTS = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 1000)), max_size=200)


@given(EVENTS, st.floats(1, 600))
def test_a_window_sum_is_the_naive_sum_to_one_slot(events: list[tuple[float, int]], seconds: float) -> None:
    """It counts everything younger than the window less a slot, and nothing older than the window."""
    window, slot, now = WindowSum(seconds), seconds / WINDOW_SLOTS, 0.0
    seen: list[tuple[float, int]] = []
    for gap, amount in events:
        now += gap
        window.add(now, amount)
        seen.append((now, amount))
        young = sum(n for at, n in seen if now - at < seconds - slot * 1.001)
        not_old = sum(n for at, n in seen if now - at <= seconds * 1.001)
        assert young <= window.total(now) <= not_old
        assert len(window._slots) <= WINDOW_SLOTS


def test_what_comes_late_counts_as_the_newest_and_leaves_with_it() -> None:
    """Also when everything had left the window before it came: then it is in it by its own time, or not at all."""
    window = WindowSum(60)
    window.add(100.0, 1)
    window.add(90.0, 2)
    assert window.total(159.0) == 3
    assert window.total(160.0) == 0
    window.add(120.0, 4)
    assert window.total(161.0) == 4
    assert window.total(180.0) == 0
    window.add(90.0, 8)
    assert window.total(181.0) == 0


class CountingDeque(deque[list[int]]):
    """Counts what is done to it."""

    operations = 0

    def append(self, item: list[int]) -> None:
        self.operations += 1
        super().append(item)

    def popleft(self) -> list[int]:
        self.operations += 1
        return super().popleft()

    def pop(self) -> list[int]:  # type: ignore[override]  # a list takes an index
        self.operations += 1
        return super().pop()


@given(EVENTS)
def test_a_window_sum_costs_a_constant_number_of_operations(events: list[tuple[float, int]]) -> None:
    """Amortised: each event adds at most one slot, and each slot is dropped once."""
    window, now = WindowSum(60), 0.0
    window._slots = counted = CountingDeque()
    for gap, amount in events:
        now += gap
        window.add(now, amount)
        window.total(now)
    assert counted.operations <= 3 * len(events)


# Burn rate.


def burning(
    pace: float, seconds: float, *, every: float = 5.0, day: int = 20_000_000
) -> list[tuple[float, str]]:
    """Burn at `pace` times the even one; return when each window was over, the first time."""
    rate = BurnRate(dict(DEFAULT.burn))
    seen: dict[str, float] = {}
    at = 0.0
    while at < seconds:
        rate.admitted(at)
        rate.spent(at, int(pace * day * every / 86_400))
        verdict = rate.verdict(at, day, 0)
        if verdict is not None:
            seen.setdefault(str(verdict.evidence["window"]), at)
        at += every
    return [(at, name) for name, at in seen.items()]


def test_each_burn_window_sees_its_own_pace() -> None:
    """Just above a window's pace it is over when the window is full; just below, never."""
    assert burning(8.2, 600) == []
    assert [(name, 240 <= at <= 320) for at, name in burning(9.5, 400)] == [("fast", True)]
    assert [(name, 780 <= at <= 920) for at, name in burning(6.2, 1_000)] == [("steady", True)]
    assert [(name, 1_500 <= at <= 1_900) for at, name in burning(5.2, 2_400)] == [("long", True)]
    assert [(name, at >= 6_000) for at, name in burning(3.1, 7_200)] == [("slow", True)]
    assert burning(2.6, 9_000) == []


def test_a_burn_ends_with_the_short_window() -> None:
    """Half a minute after the burning stopped the verdict is gone, though the long window is full."""
    rate = BurnRate({"fast": BurnWindow(300.0, 0.03, "throttle")})
    for at in range(0, 300, 5):
        rate.admitted(at)
        rate.spent(at, 1_000)
    assert rate.verdict(295, 1_000_000, 0) is not None
    assert rate.verdict(325, 1_000_000, 0) is None


def test_reserved_tokens_count_until_they_are_settled() -> None:
    """In full, and no longer."""
    rate = BurnRate({"fast": BurnWindow(300.0, 0.03, "throttle")})
    for _ in range(MIN_TURNS):
        rate.admitted(0)
    verdict = rate.verdict(0, 1_000_000, 30_001)
    assert verdict is not None
    assert (verdict.value, verdict.limit) == (30_001, 30_000)
    assert rate.verdict(0, 1_000_000, 30_000) is None


def test_one_large_request_on_a_small_budget_is_no_rate() -> None:
    """And without a day's budget there is no share of it to burn."""
    rate = BurnRate(dict(DEFAULT.burn))
    rate.admitted(0)
    assert rate.verdict(0, 100_000, 60_000) is None
    for _ in range(MIN_TURNS):
        rate.admitted(0)
    assert rate.verdict(0, 100_000, 60_000) is not None
    assert rate.verdict(0, 0, 60_000) is None


# Busy-period CUSUM.


@given(st.lists(st.integers(1, 100_000), min_size=2, max_size=100))
def test_the_reference_is_mean_and_spread(minutes: list[int]) -> None:
    """Those of the naive formulas, as long as no minute has become old."""
    reference = BusyMinutes()
    for tokens in minutes:
        reference.learn(tokens)
    mean = sum(minutes) / len(minutes)
    spread = (sum((n - mean) ** 2 for n in minutes) / len(minutes)) ** 0.5
    assert reference.mean == pytest.approx(mean)
    assert reference.spread == pytest.approx(max(spread, mean / 4, 1.0), rel=1e-6)


def taught(rng: random.Random, minutes: int = 200) -> tuple[BusyCusum, float]:
    """A sum that knows busy minutes of 20,000 give or take 5,000, with quiet ones between."""
    cusum, at = BusyCusum(DEFAULT), 0.0
    for _ in range(minutes):
        for _ in range(4):
            cusum.reserved(at, max(1, int(rng.gauss(5_000, 2_500))))
            at += 15.0
        at += 60.0 * rng.choice((0, 0, 1, 10))
    return cusum, at


def test_what_is_usual_is_no_excess_and_twice_as_much_is() -> None:
    """A usual hour says nothing; twice the usual is warned of, then acted upon, within minutes."""
    cusum, at = taught(random.Random(1))
    for _ in range(60):
        cusum.reserved(at, 20_000)
        assert cusum.verdict(at) is None
        at += 60.0
    severities = []
    for _ in range(8):
        for _ in range(4):
            cusum.reserved(at, 11_000)
            verdict = cusum.verdict(at)
            severities.append(Severity.OK if verdict is None else verdict.severity)
            at += 15.0
    assert severities == sorted(severities)
    assert set(severities) == {Severity.OK, Severity.WARNING, Severity.ANOMALY}


def test_without_history_it_says_nothing() -> None:
    """Fewer busy minutes than configured are no reference, however much comes."""
    cusum = BusyCusum(DEFAULT)
    for minute in range(DEFAULT.cusum_history_minutes):
        cusum.reserved(minute * 60.0, 1 if minute < 5 else 10_000_000)
        assert cusum.verdict(minute * 60.0) is None


def test_nothing_is_learnt_from_what_is_wrong() -> None:
    """Neither from its own excess nor from a minute in which another detector spoke."""
    cusum, at = taught(random.Random(2))
    mean = cusum.reference.mean
    for _ in range(120):
        cusum.reserved(at, 10_000_000)
        assert cusum.verdict(at) is not None
        at += 60.0
    assert cusum.reference.mean < mean * 1.01
    at += 36_000.0
    learnt = cusum.reference.minutes
    for _ in range(5):
        cusum.reserved(at, 1_000)
        cusum.taint()
        at += 60.0
    cusum.verdict(at)
    assert cusum.reference.minutes - learnt <= 1
    assert cusum.reference.minutes <= MEMORY_MINUTES


def test_after_an_excess_the_sum_comes_down_in_minutes() -> None:
    """It is capped, so an hour of a thousand times too much does not last a day; idle time takes it down."""
    cusum, at = taught(random.Random(3))
    for _ in range(60):
        cusum.reserved(at, 100_000_000)
        at += 60.0
    verdict = cusum.verdict(at)
    assert verdict is not None
    assert verdict.value <= CEILING * DEFAULT.cusum_act
    assert cusum.verdict(at + 600.0) is None


def test_what_a_throttle_does_not_help_is_frozen() -> None:
    """After its patience, and not before."""
    cusum, at = taught(random.Random(4))
    rungs = []
    for _ in range(16):
        cusum.reserved(at, 200_000)
        verdict = cusum.verdict(at)
        assert verdict is not None
        rungs.append(verdict.rung)
        at += 60.0
    assert rungs == [Rung.THROTTLE] * 10 + [Rung.FREEZE] * 6


# Ratios.


def test_retries_are_warned_of_and_then_acted_upon() -> None:
    """More than a tenth is a warning, more than three tenths an anomaly, and of nine calls there is no ratio."""
    ratios = Ratios(DEFAULT)
    for number in range(9):
        assert ratios.admitted(admitted(number * 0.1, retry=1)) is None
    assert ratios.admitted(admitted(1.0, retry=1)) is not None
    said = [ratios.admitted(admitted(100 + n * 0.1, retry=int(n % 5 == 4))) for n in range(40)]
    assert {v.severity for v in said[12:] if v is not None} == {Severity.WARNING}
    said = [ratios.admitted(admitted(200 + n * 0.1, retry=int(n % 3 > 0))) for n in range(40)]
    assert {v.severity for v in said[12:] if v is not None} == {Severity.ANOMALY}


def retried_after(ratios: Ratios, fault: Fault, at: float, waited: float = 1.0, told: float = 0.0) -> None:
    """Have one request fail by somebody's fault, or be refused, and asked again."""
    prompt = b"%f" % at
    if fault in {Fault.LIMIT, Fault.EPAD}:
        ratios.refused(
            TurnRefused(
                "agent", at, "budget_exceeded", prompt_digest=prompt, retry_after_seconds=told, fault=fault
            )
        )
    else:
        ratios.admitted(admitted(at, prompt, turn="a"))
        ratios.finished(ended(at, fault, turn="a"))
    ratios.admitted(admitted(at + waited, prompt, turn="b", retry=1))
    ratios.finished(ended(at + waited, Fault.NOBODY, turn="b"))


def ended(at: float, fault: Fault, status: int = 500, turn: str = "t") -> TurnFinished:
    return TurnFinished(
        "agent", at, turn, "done" if fault is Fault.NOBODY else "failed", 1, 1, 2, status, fault=fault
    )


@pytest.mark.parametrize(
    ("fault", "waited", "told", "counts"),
    [
        (Fault.UPSTREAM, 0.1, 0.0, False),
        (Fault.KEY, 0.1, 0.0, False),
        (Fault.HOST, 0.1, 0.0, False),
        (Fault.LIMIT, 5.0, 5.0, False),
        (Fault.LIMIT, 1.0, 5.0, True),
        (Fault.EPAD, 10.0, 10.0, False),
        (Fault.CLIENT, 5.0, 0.0, True),
        (Fault.NOBODY, 5.0, 0.0, True),
    ],
)
def test_a_retry_counts_unless_somebody_else_is_why(
    fault: Fault, waited: float, told: float, counts: bool
) -> None:
    """And a limit excuses a client that waits as long as it was told."""
    ratios = Ratios(DEFAULT)
    for number in range(30):
        retried_after(ratios, fault, number * 0.5, waited, told)
    verdict = ratios.admitted(admitted(20.0))
    assert (verdict is not None and verdict.bad) is counts


def test_a_retry_of_what_was_turned_away_unread_is_excused_by_that_refusal() -> None:
    """Its body was not read, so nobody knows which request it was."""
    ratios = Ratios(DEFAULT)
    for number in range(30):
        refusal = TurnRefused("agent", number * 10.0, "budget_exceeded", retry_after_seconds=5.0)
        ratios.refused(refusal)
        assert ratios.admitted(admitted(number * 10.0 + 5, b"p%d" % number, retry=1)) is None


@given(
    st.lists(
        st.tuples(st.sampled_from([Fault.UPSTREAM, Fault.KEY, Fault.HOST, Fault.EPAD]), st.floats(0, 2)),
        max_size=60,
    )
)
def test_an_outage_leaves_nothing_behind(outage: list[tuple[Fault, float]]) -> None:
    """Whatever failed in it, and however often it was retried: what comes after is judged as if it had not been."""
    ratios, fresh, now = Ratios(DEFAULT), Ratios(DEFAULT), 0.0
    for number, (fault, wait) in enumerate(outage):
        now += wait
        assert ratios.admitted(admitted(now, b"asked", turn="a", retry=number)) is None
        assert ratios.finished(ended(now, fault, turn="a")) is None
        assert ratios.verdict(now) is None
    for number in range(40):
        now += 0.5
        fault = Fault.CLIENT if number % 2 else Fault.NOBODY
        assert ratios.finished(ended(now, fault, 400)) == fresh.finished(ended(now, fault, 400))


def test_wrong_requests_at_an_honest_pace_are_told_with_status_and_model_and_hold_nobody() -> None:
    """A misspelt model, a field too many: half of at least ten calls."""
    ratios = Ratios(DEFAULT)
    verdicts = []
    for number in range(60):
        ratios.admitted(admitted(number * 0.5, b"%d" % number))
        verdicts.append(ratios.finished(ended(number * 0.5, Fault.CLIENT, 404)))
    told = [verdict for verdict in verdicts if verdict is not None]
    assert [verdict is not None for verdict in verdicts[:10]] == [False] * 9 + [True]
    assert {(v.severity, v.rung) for v in told} == {(Severity.WARNING, Rung.OPEN)}
    assert "model m with HTTP 404" in told[-1].reason
    assert ratios.verdict(30.0) is not None
    assert ratios.verdict(200.0) is None


@pytest.mark.parametrize(("a_second", "seconds", "held"), [
    (20, 12, True), (20, 8, False), (4, 60, False), (6, 12, True), (200, 3, False), (1, 60, False),
])  # fmt: skip
def test_only_a_hammering_pace_of_wrong_requests_is_an_anomaly(
    a_second: int, seconds: int, held: bool
) -> None:
    """Many a second, second after second; with the mildest rung."""
    ratios = Ratios(DEFAULT)
    said = [ratios.finished(ended(n / a_second, Fault.CLIENT, 422)) for n in range(a_second * seconds)]
    bad = [verdict for verdict in said if verdict is not None and verdict.bad]
    assert bool(bad) is held
    assert {verdict.rung for verdict in bad} <= {Rung.THROTTLE}


def test_requests_that_epad_itself_finds_wrong_count_alike() -> None:
    """They never reach an upstream."""
    ratios = Ratios(DEFAULT)
    said = [
        ratios.refused(TurnRefused("agent", n / 10, "model_not_found", fault=Fault.CLIENT))
        for n in range(150)
    ]
    assert said[50] is not None
    assert not said[50].bad
    assert said[-1] is not None
    assert said[-1].bad
    assert "model_not_found" in said[-1].reason


def test_what_is_remembered_is_bounded() -> None:
    ratios = Ratios(DEFAULT)
    for number in range(5_000):
        ratios.admitted(admitted(number * 0.01, b"%d" % number, turn=f"t{number}"))
        ratios.refused(TurnRefused("agent", number * 0.01, "budget_exceeded", prompt_digest=b"r%d" % number))
    assert len(ratios._open) == len(ratios._before) == MAX_REMEMBERED


# In flight.


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=100))
def test_what_is_reserved_is_the_sum_over_the_turns_in_flight(steps: list[tuple[bool, int]]) -> None:
    """However turns begin and end, twice or never."""
    turns, naive = OpenTurns(DEFAULT), dict[int, int]()
    for begins, number in steps:
        if begins:
            turns.admitted(admitted(turn=str(number)))
            naive[number] = 100
        else:
            turns.finished(str(number))
            naive.pop(number, None)
        assert turns.reserved_tokens == sum(naive.values())
        assert len(turns) == len(naive)


def test_turns_that_never_end_are_bounded() -> None:
    """And their reservations with them."""
    turns = OpenTurns(DEFAULT)
    for number in range(3 * MAX_OPEN_TURNS):
        turns.admitted(admitted(turn=str(number)))
    assert len(turns) == MAX_OPEN_TURNS
    assert turns.reserved_tokens == 100 * MAX_OPEN_TURNS


def test_without_a_cap_nothing_piles_up() -> None:
    """0 turns in flight is no limit, and not one that the first turn is above."""
    turns = OpenTurns(DEFAULT)
    for number in range(100):
        turns.admitted(admitted(turn=str(number)))
    assert turns.verdict(1.0, cap=0) is None
    assert turns.verdict(1.0, cap=8) is not None


def test_only_a_turn_without_output_is_too_old() -> None:
    """Turns end in any order; a slow model that goes on writing is at work."""
    turns = OpenTurns(DEFAULT)
    for number in range(4):
        turns.admitted(admitted(1_000.0 * number, turn=f"t{number}"))
    for ended, oldest in ((0, "t1"), (2, "t1"), (1, "t3")):
        turns.finished(f"t{ended}")
        verdict = turns.verdict(9_000.0, cap=8)
        assert verdict is not None
        assert oldest in verdict.reason
    turns.streaming("t3", 8_500.0)
    assert turns.verdict(9_000.0, cap=8) is None
    assert turns.verdict(10_500.0, cap=8) is not None
    turns.finished("t3")
    assert turns.verdict(12_000.0, cap=8) is None


@pytest.mark.parametrize(
    ("a_second", "seconds", "told", "waited", "found"),
    [
        (32, 300, 1, 0, False),  # forty workers of which eight are in: each waits the second that it is told
        (100, 300, 1, 0, False),
        (1_000, 5, 1, 0, False),  # a thousand at once, and then they are patient
        (1_000, 15, 1, 0, True),
        (400, 30, 1, 0, True),
        (
            8,
            300,
            1,
            10,
            False,
        ),  # a hundred workers that the gateway lets wait for ten seconds before it refuses them
        (18, 300, 1, 10, True),  # two hundred
        (40, 1, 0, 0, True),  # nobody told them when to come back
    ],
)
def test_a_full_cap_is_no_pile_up_and_hammering_at_it_is(
    a_second: int, seconds: int, told: float, waited: float, found: bool
) -> None:
    turns = OpenTurns(DEFAULT)
    for number in range(8):
        turns.admitted(admitted(turn=str(number)))
    verdicts = []
    for number in range(a_second * seconds):
        at = number / a_second
        turns.refused_at_cap(at, 8, told=told, waited=waited)
        verdicts.append(turns.verdict(at, cap=8))
    assert any(verdicts) is found
