"""The past at its true age: steps of the wall clock, reboots, lost turns, damage."""

from __future__ import annotations

import pytest
from kept_past import RecordedTurns, TwoClocks

from epad.ledger.entry import Stamp
from epad.ledger.record import Kind
from epad.ledger.spent import spending
from epad.ledger.sums import Used
from epad.ledger.timeline import Timeline

FOREVER = 1 << 62
STEPS = [1.0, -1.0, 7_200.0, -7_200.0, 40 * 86_400.0, -40 * 86_400.0]


@pytest.fixture
def clock() -> TwoClocks:
    return TwoClocks()


@pytest.fixture
def past(clock: TwoClocks) -> RecordedTurns:
    begun = RecordedTurns(clock)
    begun.begin()
    return begun


def tokens(past: RecordedTurns, horizon_ns: int = FOREVER, requests_ns: int = 0) -> list[tuple[int, float]]:
    """Tokens with their age in seconds, newest first."""
    used = spending(past.connection, past.clock.stamp(past.epoch), horizon_ns, requests_ns).used
    return [(use.tokens, use.age_ns / 1e9) for use in used if use.tokens]


@pytest.mark.parametrize("seconds", STEPS)
@pytest.mark.parametrize("when", ["running", "between"])
def test_a_step_of_the_wall_clock_changes_no_age(
    clock: TwoClocks, past: RecordedTurns, seconds: float, when: str
) -> None:
    """Forwards or backwards, by a second or by 40 days, under the running daemon or between two lives of it."""
    past.open(1)
    past.close(1, charged_tokens=30)
    if when == "running":
        clock.step(seconds)
    clock.advance(10)
    past.open(2)
    past.close(2, charged_tokens=40)
    if when == "between":
        clock.step(seconds)
    clock.advance(20)
    past.begin()
    clock.advance(5)
    assert tokens(past) == [(40, 25.0), (30, 35.0)]


@pytest.mark.parametrize("seconds", STEPS)
def test_a_step_in_this_boot_changes_no_age_of_a_former_boot_either(
    clock: TwoClocks, past: RecordedTurns, seconds: float
) -> None:
    """Of the wall clock nothing counts but the time from a boot's last record to the first of the next."""
    past.open(1)
    past.close(1, charged_tokens=30)
    clock.step(seconds)
    clock.advance(10)
    past.open(2)
    past.close(2, charged_tokens=40)
    clock.reboot()
    clock.advance(60)
    past.begin()
    clock.step(seconds)
    clock.advance(10)
    past.begin()
    assert tokens(past) == [(40, 70.0), (30, 80.0)]


def test_three_boots_add_up(clock: TwoClocks, past: RecordedTurns) -> None:
    """Each boot by its own clock, and between them the wall clock."""
    for number in range(1, 4):
        past.open(number)
        past.close(number, charged_tokens=number)
        clock.advance(100)
        past.begin(clean=True)
        clock.reboot()
        clock.advance(50)
        past.begin()
    assert tokens(past) == [(3, 150.0), (2, 300.0), (1, 450.0)]


def test_time_that_went_backwards_between_two_boots_has_not_passed(
    clock: TwoClocks, past: RecordedTurns
) -> None:
    """A machine without a battery wakes in 1970: what was spent before counts as spent at its start."""
    past.open(1)
    past.close(1, charged_tokens=30)
    clock.advance(10)
    past.begin(clean=True)
    clock.reboot()
    clock.step(-40 * 86_400.0)
    clock.advance(60)
    past.begin()
    clock.advance(3)
    clock.step(40 * 86_400.0)
    assert tokens(past) == [(30, 13.0)]


def test_a_lost_turn_counts_from_the_beginning_of_the_next_life(
    clock: TwoClocks, past: RecordedTurns
) -> None:
    """It may have been answered until the crash, whenever that was; at later starts it has grown older."""
    past.open(1, reserved_tokens=500)
    clock.advance(600)
    past.begin()
    assert tokens(past) == [(500, 0.0)]
    clock.advance(30)
    past.begin()
    assert tokens(past) == [(500, 30.0)]
    past.close(1, charged_tokens=0)
    assert tokens(past) == []


def test_what_an_orderly_stop_left_open_counts_from_its_last_record(
    clock: TwoClocks, past: RecordedTurns
) -> None:
    """Every turn was settled then; this one's closing could not be written."""
    past.open(1, reserved_tokens=500)
    clock.advance(5)
    past.open(2)
    past.close(2, charged_tokens=7)
    clock.advance(600)
    past.begin(clean=True)
    assert sorted(tokens(past)) == [(7, 600.0), (500, 600.0)]


def test_a_turn_in_flight_counts_as_of_now(clock: TwoClocks, past: RecordedTurns) -> None:
    """A reload asks while turns are open; they go on spending."""
    past.open(1, reserved_tokens=500)
    clock.advance(600)
    assert tokens(past) == [(500, 0.0)]


def test_a_damaged_closing_counts_what_was_reserved(clock: TwoClocks, past: RecordedTurns) -> None:
    """Spending is never guessed low; the life that goes on may have ended it any time until now."""
    past.open(1, reserved_tokens=500)
    past.close(1, charged_tokens=30)
    past.damage(Kind.CLOSED)
    clock.advance(8)
    assert tokens(past) == [(500, 0.0)]
    past.begin()
    assert tokens(past) == [(500, 0.0)]


def test_a_damaged_beginning_of_an_epoch_is_done_without(clock: TwoClocks, past: RecordedTurns) -> None:
    """Every record knows its boot, its time and its epoch."""
    past.open(1, reserved_tokens=500)
    clock.reboot()
    clock.advance(60)
    past.begin(clean=True)
    past.damage(Kind.EPOCH)
    clock.advance(10)
    past.open(2)
    past.close(2, charged_tokens=7)
    clock.advance(1)
    assert tokens(past) == [(7, 1.0), (500, 1.0)]


def test_requests_count_from_their_opening_and_only_as_far_as_asked(
    clock: TwoClocks, past: RecordedTurns
) -> None:
    """As the running minute counts them; a turn that ends later began no later."""
    past.open(1)
    clock.advance(30)
    past.open(2)
    clock.advance(10)
    past.close(1)
    past.close(2)
    clock.advance(25)

    def requests(seconds: float) -> list[Used]:
        used = spending(past.connection, clock.stamp(past.epoch), FOREVER, int(seconds * 1e9)).used
        return [use for use in used if use.requests]

    assert requests(61) == [Used("a", 35_000_000_000, requests=1)]
    assert [use.age_ns for use in requests(65)] == [35_000_000_000, 65_000_000_000]


def test_what_is_older_than_the_horizon_is_not_read(clock: TwoClocks, past: RecordedTurns) -> None:
    """Whatever its wall clock said."""
    clock.step(40 * 86_400.0)
    past.open(1)
    past.close(1, charged_tokens=30)
    clock.step(-40 * 86_400.0)
    clock.advance(100)
    past.open(2)
    past.close(2, charged_tokens=7)
    assert tokens(past, int(99e9)) == [(7, 0.0)]
    assert tokens(past, int(100e9)) == [(7, 0.0), (30, 100.0)]


def test_records_that_know_no_boot_go_by_the_wall_clock(clock: TwoClocks) -> None:
    """None such were ever written; a foreign file that has them is read all the same."""
    clock.boots = 0
    past = RecordedTurns(clock)
    past.begin()
    past.open(1)
    past.close(1, charged_tokens=30)
    clock.advance(10)
    clock.step(5)
    assert tokens(past) == [(30, 15.0)]


def test_another_file_is_dated_by_the_same_timeline(clock: TwoClocks, past: RecordedTurns) -> None:
    """A cost of a former boot is as old as the ledger's record of that time; an unknown boot goes by the wall clock."""
    cost = clock.stamp(1)
    clock.advance(10)
    past.open(1)
    past.close(1)
    clock.reboot()
    clock.advance(60)
    past.begin()
    clock.step(40 * 86_400.0)
    timeline = spending(past.connection, clock.stamp(past.epoch), FOREVER, 0).timeline
    assert timeline.age_ns(cost) == 70_000_000_000
    assert Timeline(clock.stamp(1)).age_ns(cost) == (70 + 40 * 86_400) * 1_000_000_000


def test_the_future_is_now(clock: TwoClocks, past: RecordedTurns) -> None:
    """A virtual machine that was set back to an image of before: its boot's clock is behind its own records."""
    clock.advance(50)
    past.open(1)
    past.close(1, charged_tokens=30)
    clock.true = 20.0
    assert tokens(past) == [(30, 0.0)]


def test_boots_before_the_horizon_are_known_all_the_same(clock: TwoClocks, past: RecordedTurns) -> None:
    """Else what another file dates by one of them would go by the wall clock, and be young again after a step."""
    cost = clock.stamp(1)
    for _ in range(3):
        clock.advance(50)
        clock.reboot()
        past.begin(clean=True)
        past.open(clock.boots)
    clock.advance(50)
    clock.step(-40 * 86_400.0)
    timeline = spending(past.connection, clock.stamp(past.epoch), int(60e9), 0).timeline
    assert timeline.age_ns(cost) == 200_000_000_000


@pytest.mark.parametrize("seconds", STEPS)
def test_a_step_after_a_boots_last_turn_is_no_time_between_two_boots(
    clock: TwoClocks, past: RecordedTurns, seconds: float
) -> None:
    """If a reading was kept after it; a reading from before the last turn says nothing."""
    past.open(1)
    stale = clock.stamp(0)
    clock.advance(10)
    past.close(1, charged_tokens=30)
    clock.advance(10)
    clock.step(seconds)
    kept = clock.stamp(0)
    boot = clock.boot_id
    clock.reboot()
    clock.advance(60)
    past.begin()

    def age(marks: dict[str, Stamp]) -> float:
        [use] = spending(past.connection, clock.stamp(past.epoch), FOREVER, 0, marks).used
        return use.age_ns / 1e9

    assert age({boot: kept}) == 70.0
    assert age({boot: stale}) == age({}) == max(0.0, 70.0 + seconds)


def test_a_turn_opened_before_the_horizon_and_lost_within_it_counts(
    clock: TwoClocks, past: RecordedTurns
) -> None:
    """It may have been answered until its life ended; those that ended with an older life are past."""
    past.open(1, reserved_tokens=1)
    clock.advance(10)
    past.begin()
    past.open(2, reserved_tokens=2)
    past.open(3, reserved_tokens=3)
    past.close(3, charged_tokens=3)
    clock.advance(200)
    assert tokens(past, int(100e9)) == [(2, 0.0)]
    past.begin()
    clock.advance(50)
    assert tokens(past, int(100e9)) == [(2, 50.0)]
    clock.advance(51)
    assert tokens(past, int(100e9)) == []


def test_an_opening_that_a_replay_closed_later_still_ends_its_epoch(
    clock: TwoClocks, past: RecordedTurns
) -> None:
    """It was the last record of an orderly life: the other open turn was not lost before it."""
    past.open(1, reserved_tokens=1)
    clock.advance(10)
    past.open(2, reserved_tokens=2)
    clock.advance(10)
    past.begin(clean=True)
    past.close(2, charged_tokens=0)
    clock.advance(5)
    assert tokens(past) == [(1, 15.0)]


def test_an_epoch_whose_follower_cannot_be_read_is_taken_for_crashed(
    clock: TwoClocks, past: RecordedTurns
) -> None:
    """That a later one was ended in order says nothing of it."""
    past.open(1, reserved_tokens=1)
    clock.advance(10)
    past.begin()
    past.damage(Kind.EPOCH)
    past.open(2)
    past.close(2, charged_tokens=2)
    clock.advance(10)
    past.begin(clean=True)
    assert tokens(past) == [(2, 10.0), (1, 10.0)]


def test_a_boot_that_no_record_knows_goes_by_the_wall_clock_and_its_future_is_now(clock: TwoClocks) -> None:
    """As where the ledger was taken away and state.db was not."""
    cost = clock.stamp(0)
    clock.reboot()
    clock.advance(30)
    assert Timeline(clock.stamp(0)).age_ns(cost) == 30_000_000_000
    clock.step(-31)
    assert Timeline(clock.stamp(0)).age_ns(cost) == 0


def test_what_an_orderly_stop_left_open_before_the_horizon_is_past(
    clock: TwoClocks, past: RecordedTurns
) -> None:
    """It counts from the last record of its life, which is older."""
    past.open(1, reserved_tokens=1)
    clock.advance(101)
    past.begin(clean=True)
    assert tokens(past, int(100e9)) == []


@pytest.mark.parametrize("seconds", [5.0, -5.0])
def test_of_two_readings_at_one_moment_the_one_that_says_less_time_is_taken(
    clock: TwoClocks, past: RecordedTurns, seconds: float
) -> None:
    """Which of them came first is not known, and a spend never counts for less long than it must."""
    clock.step(seconds)
    mark = {clock.boot_id: clock.stamp(0)}
    clock.step(-seconds)
    past.open(1)
    past.close(1, charged_tokens=30)
    clock.reboot()
    clock.advance(60)
    past.begin()
    [use] = spending(past.connection, clock.stamp(past.epoch), FOREVER, 0, mark).used
    assert use.age_ns == min(60, 60 - int(seconds)) * 1_000_000_000
