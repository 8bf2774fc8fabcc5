"""What priced turns cost keeps its age: through steps of the wall clock, restarts, and files of before."""

from __future__ import annotations

import pytest
from kept_past import MemoryFile, RecordedTurns, TwoClocks, now

from epad.gateway.costs import COST_SCHEMA, FOLD_EVERY, CostBook
from epad.gateway.limits import LONGEST_WINDOW_SECONDS
from epad.ledger.timeline import Timeline
from epad.storage.database import fetch

STEPS = [1.0, -1.0, 7_200.0, -7_200.0, 40 * 86_400.0, -40 * 86_400.0]
FORMER_SCHEMA = """
CREATE TABLE turn_cost (
  turn TEXT PRIMARY KEY,
  subsystem TEXT NOT NULL,
  wall_ns INTEGER NOT NULL,
  reserved_microusd INTEGER NOT NULL,
  charged_microusd INTEGER
) STRICT;
CREATE TABLE cost_before (
  subsystem TEXT PRIMARY KEY,
  microusd INTEGER NOT NULL
) STRICT;
"""


def ages(book: CostBook, timeline: Timeline | None = None) -> list[tuple[int, float]]:
    """What was spent, with its age in seconds."""
    return sorted((cost.microusd, cost.age_seconds) for cost in now(book.load(timeline)))


@pytest.mark.parametrize("seconds", STEPS)
def test_a_step_of_the_wall_clock_neither_ages_nor_forgets_a_cost(seconds: float) -> None:
    """Under the running daemon and between two lives; what a month's step would have summed up is still there."""
    clock, file = TwoClocks(), MemoryFile()
    book = CostBook(file, clock, clock.boot_id)
    now(book.open("1", "writer", 500))
    clock.advance(10)
    clock.step(seconds)
    now(book.close("1", 120))
    clock.advance(5)
    now(book.open("2", "writer", 700))
    now(book.close("2", 130))
    clock.step(seconds)
    clock.advance(20)
    assert ages(CostBook(file, clock, clock.boot_id)) == [(120, 25.0), (130, 20.0)]


def test_a_former_boots_cost_is_as_old_as_its_record_in_the_ledger() -> None:
    """Whatever the wall clock was set to since."""
    clock, file = TwoClocks(), MemoryFile()
    past = RecordedTurns(clock)
    past.begin()
    book = CostBook(file, clock, clock.boot_id)
    past.open(1)
    now(book.open("1", "writer", 500))
    past.close(1)
    now(book.close("1", 120))
    clock.reboot()
    clock.advance(60)
    past.begin()
    clock.step(40 * 86_400.0)
    clock.advance(5)
    book = CostBook(file, clock, clock.boot_id)
    timeline = now(past.spending(1 << 62, 0)).timeline
    assert ages(book, timeline) == [(120, 65.0)]


def test_what_a_crash_left_open_is_settled_once_at_the_next_start() -> None:
    """It may have been spent until the crash; later starts find it older, and a replay may close it still."""
    clock, file = TwoClocks(), MemoryFile()
    book = CostBook(file, clock, clock.boot_id)
    now(book.open("1", "writer", 500))
    clock.advance(600)
    assert ages(book) == [(500, 0.0)]
    for age in (0.0, 30.0):
        book = CostBook(file, clock, clock.boot_id)
        now(book.settle_left_open())
        assert ages(book) == [(500, age)]
        clock.advance(30)
    now(book.close("1", 0))
    assert ages(book) == [(0, 0.0)]
    assert now(book.totals()) == {"writer": 0}


def test_a_file_of_before_is_dated_once_by_the_wall_clock() -> None:
    """Every row is kept; from then on no step changes its age. One from the future is of now."""
    clock, file = TwoClocks(), MemoryFile(FORMER_SCHEMA)
    wall_ns = clock.stamp(1).wall_ns
    rows = [
        ("1", "writer", wall_ns, 500, 120),
        ("2", "reader", wall_ns + 10_000_000_000, 500, None),
        ("3", "writer", wall_ns + 99_000_000_000, 500, 7),
    ]
    file.connection.executemany("INSERT INTO turn_cost VALUES (?, ?, ?, ?, ?)", rows)
    file.connection.execute("INSERT INTO cost_before VALUES ('reader', 9)")
    file.connection.execute(COST_SCHEMA)
    clock.advance(60)
    for expected in (0.0, 30.0):
        book = CostBook(file, clock, clock.boot_id)
        now(book.settle_left_open())
        found = {cost.microusd: cost.age_seconds for cost in now(book.load())}
        assert {microusd: found[microusd] for microusd in (120, 500, 7)} == {
            120: 60.0 + expected,
            500: expected,
            7: expected,
        }
        assert found[9] > LONGEST_WINDOW_SECONDS
        assert now(book.totals()) == {"writer": 127, "reader": 509}
        clock.advance(30)
        clock.step(40 * 86_400.0)


def test_what_has_left_the_longest_window_is_summed_up_once() -> None:
    """To the second, by the boot's clock; what is in flight never is, however long."""
    clock, file = TwoClocks(), MemoryFile()
    book = CostBook(file, clock, clock.boot_id)
    now(book.open("1", "writer", 500))
    now(book.close("1", 120))
    now(book.open("2", "writer", 700))
    clock.advance(LONGEST_WINDOW_SECONDS)
    assert ages(book) == [(120, LONGEST_WINDOW_SECONDS), (700, 0.0)]
    clock.advance(1)
    for _ in range(2):
        assert ages(book) == [(120, 2 * LONGEST_WINDOW_SECONDS), (700, 0.0)]
    now(book.close("2", 90))
    assert now(book.totals()) == {"writer": 210}
    clock.advance(LONGEST_WINDOW_SECONDS + 1)
    assert ages(book) == [(210, 2 * LONGEST_WINDOW_SECONDS)]
    assert now(book.totals()) == {"writer": 210}


def rows(file: MemoryFile, table: str) -> int:
    [(count,)] = fetch(file.connection, f"SELECT count(*) FROM {table}")  # noqa: S608  ours
    return int(count)


def test_a_start_reads_as_much_after_many_turns_as_after_few() -> None:
    """Closed turns are summed up while the daemon runs, each thousand; nothing of what they cost is lost."""
    clock, file = TwoClocks(), MemoryFile()
    book = CostBook(file, clock, clock.boot_id)
    for number in range(3 * FOLD_EVERY):
        clock.advance(10)
        now(book.open(str(number), "writer", 500))
        now(book.close(str(number), 7))
        assert rows(file, "turn_cost") <= FOLD_EVERY + 10
    clock.advance(40 * 3_600)
    costs = now(CostBook(file, clock, clock.boot_id).load())
    assert sum(cost.microusd for cost in costs) == 7 * 3 * FOLD_EVERY
    assert now(book.totals()) == {"writer": 7 * 3 * FOLD_EVERY}
    assert len(costs) == rows(file, "cost_slot") <= 10  # all are older than a day: an hour each
    assert rows(file, "turn_cost") == 0


def test_a_former_boots_turns_are_summed_up_at_the_next_start() -> None:
    """Each by its slot of the clock of then, at the age of the newest in it; a minute's stay as they are."""
    clock, file = TwoClocks(), MemoryFile()
    past = RecordedTurns(clock)
    past.begin()
    book = CostBook(file, clock, clock.boot_id)
    for number in range(20):
        now(book.open(str(number), "writer", 500))
        now(book.close(str(number), 7))
        clock.advance(10)
    past.open(1)
    clock.reboot()
    past.begin()
    book = CostBook(file, clock, clock.boot_id)
    found = ages(book, now(past.spending(1 << 62, 0)).timeline)
    assert sum(cost for cost, _ in found) == 140
    assert [age for _, age in found if age <= 61.0] == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    assert rows(file, "turn_cost") == 6
    assert rows(file, "cost_slot") < 14
    assert found == ages(book, now(past.spending(1 << 62, 0)).timeline)


def test_a_turn_that_a_crash_left_open_can_be_closed_at_another_cost_until_no_window_reaches_it() -> None:
    """As a replay does, whenever it comes to it."""
    clock, file = TwoClocks(), MemoryFile()
    now(CostBook(file, clock, clock.boot_id).open("1", "writer", 500))
    clock.reboot()
    book = CostBook(file, clock, clock.boot_id)
    now(book.settle_left_open())
    clock.advance(7_200)
    assert ages(book) == [(500, 7_200.0)]
    now(book.close("1", 0))
    assert [cost for cost, _ in ages(book)] == [0]
    now(book.open("2", "writer", 500))
    now(book.settle_left_open())
    clock.advance(LONGEST_WINDOW_SECONDS + 1)
    assert ages(book)[-1] == (500, 2 * LONGEST_WINDOW_SECONDS)
    assert rows(file, "turn_cost") == 0
