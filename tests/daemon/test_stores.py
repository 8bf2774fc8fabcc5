"""What is opened, and what a former life left in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from epad_house import BOOT, configured, turn
from msgspec import structs

from epad.configuration.directories import Directories
from epad.configuration.schema import BudgetConfig, Config, GroupConfig, SharedBudgetConfig, SubsystemConfig
from epad.control_loop.journal import Decision
from epad.daemon.stores import Stores, open_stores
from epad.gateway.budget import Reservation
from epad.ledger.errors import LedgerError
from epad.ledger.paths import STARTS_FILE
from epad.ledger.record import Outcome
from epad.ledger.store import Ledger
from epad.ledger.sums import Spending
from epad.storage.database import DatabaseError
from statemachine.clock import ManualClock
from statemachine.phase import Phase
from statemachine.table import TABLE

CONFIG = configured(
    chat=SubsystemConfig(command=("x",), budget=BudgetConfig(tokens_per_minute=1_000, tokens_per_day=5_000)),
    model=SubsystemConfig(command=("x",), gateway=False),
)


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    made = Directories(tmp_path / "state", tmp_path / "run")
    made.create()
    return made


@asynccontextmanager
async def opened(
    directories: Directories, clock: ManualClock, config: Config = CONFIG, boot: str = BOOT
) -> AsyncIterator[Stores]:
    stores = await open_stores(config, directories, clock, boot)
    yield stores
    await stores.close()


async def test_the_first_life_finds_nothing(directories: Directories) -> None:
    """And everything is there to be used."""
    async with opened(directories, ManualClock()) as stores:
        assert stores.loaded.phase is Phase.NORMAL
        assert stores.totals == {}
        assert stores.budgets.covers("chat")
        assert not stores.budgets.covers("model")
    assert directories.state_database.exists()
    assert directories.ledger_database.exists()


async def test_a_restart_gives_nobody_a_fresh_minute(directories: Directories) -> None:
    """What was charged counts at its age, and what was reserved and never closed counts in full."""
    clock = ManualClock()
    async with opened(directories, clock) as stores:
        await turn(stores.ledger, 1, charged_tokens=300)
        await turn(stores.ledger, 2, reserved_tokens=150, outcome=None)
        await turn(stores.ledger, 3, outcome=Outcome.FAILED, charged_tokens=7)
    clock.advance(20)
    async with opened(directories, clock) as stores:
        usage = stores.budgets.snapshot("chat", clock.monotonic())
        assert usage["tokens_per_minute"].used == 457
        assert usage["tokens_per_day"].used == 457
        clock.advance(45)
        usage = stores.budgets.snapshot("chat", clock.monotonic())
        assert usage["tokens_per_minute"].used == 0
        assert usage["tokens_per_day"].used == 457
    clock.advance(86_400 * 1.1)  # a window's oldest part expires as a whole, never too early
    async with opened(directories, clock) as stores:
        assert stores.budgets.snapshot("chat", clock.monotonic())["tokens_per_day"].used == 0


def used(stores: Stores, scope: str, clock: ManualClock) -> dict[str, int]:
    """What is counted against each limit of a scope."""
    return {limit: usage.used for limit, usage in stores.budgets.snapshot(scope, clock.monotonic()).items()}


EVERYTHING = BudgetConfig(
    tokens_per_minute=1_000, tokens_per_hour=5_000, usd_per_hour=1.0, usd_in_all=1.0, requests_per_minute=9
)


@pytest.mark.parametrize("seconds", [1.0, -1.0, 7_200.0, -7_200.0, 40 * 86_400.0, -40 * 86_400.0])
async def test_a_step_of_the_wall_clock_changes_no_budget(directories: Directories, seconds: float) -> None:
    """Under the running daemon and between two lives of it: not tokens, not money, not requests."""
    clock = ManualClock()
    config = configured(chat=SubsystemConfig(command=("x",), budget=EVERYTHING))

    async def spend(stores: Stores, number: int) -> None:
        await stores.costs.open(f"{number:032x}", "chat", 500)
        await turn(stores.ledger, number, charged_tokens=100)
        await stores.costs.close(f"{number:032x}", 70)

    async with opened(directories, clock, config) as stores:
        await spend(stores, 1)
        clock.jump_wall_clock(seconds)
        clock.advance(10)
        await spend(stores, 2)
    clock.jump_wall_clock(seconds)
    clock.advance(10)
    for wait, minute in ((0.0, (200, 2)), (41.0, (100, 1)), (11.0, (0, 0))):
        clock.advance(wait)
        async with opened(directories, clock, config) as stores:
            assert used(stores, "chat", clock) == {
                "tokens_per_minute": minute[0],
                "tokens_per_hour": 200,
                "microusd_per_hour": 140,
                "microusd_in_all": 140,
                "requests_per_minute": minute[1],
            }
        clock.jump_wall_clock(seconds)


async def test_a_priced_turn_that_a_crash_left_open_leaves_its_window_once(directories: Directories) -> None:
    """It counts at its most from the first start on, not from each."""
    clock = ManualClock()
    budget = BudgetConfig(usd_per_minute=1.0, usd_in_all=1.0)
    config = configured(chat=SubsystemConfig(command=("x",), budget=budget))
    async with opened(directories, clock, config) as stores:
        await stores.costs.open("1", "chat", 500)
    clock.advance(600)
    for minute in (500, 500, 0):
        async with opened(directories, clock, config) as stores:
            assert used(stores, "chat", clock) == {"microusd_per_minute": minute, "microusd_in_all": 500}
        clock.advance(31)


async def test_a_limit_that_is_new_is_told_the_past_whatever_the_wall_clock_says(
    directories: Directories,
) -> None:
    """A reload after a step of 40 days reads the same past as before it."""
    clock = ManualClock()
    config = configured(chat=SubsystemConfig(command=("x",)))
    async with opened(directories, clock, config) as stores:
        await turn(stores.ledger, 1, charged_tokens=100)
        await stores.costs.open("1", "chat", 500)
        await stores.costs.close("1", 70)
        clock.advance(30)
        clock.jump_wall_clock(40 * 86_400.0)
        await stores.change_budgets(configured(chat=SubsystemConfig(command=("x",), budget=EVERYTHING)))
        assert list(used(stores, "chat", clock).values()) == [100, 100, 70, 70, 1]


async def test_what_is_spent_while_the_past_is_read_is_counted_in_a_new_limit(
    directories: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that begins and ends meanwhile is in no ledger that was read before, and in no window of before."""
    clock = ManualClock()
    async with opened(directories, clock, configured(chat=SubsystemConfig(command=("x",)))) as stores:
        read = stores.ledger.spending

        async def slow(*arguments: Any) -> Spending:
            past = await read(*arguments)
            held = stores.budgets.reserve("chat", 400, clock.monotonic(), 900)
            assert isinstance(held, Reservation)
            stores.budgets.settle(held, 30, clock.monotonic(), 70)
            return past

        monkeypatch.setattr(stores.ledger, "spending", slow)
        await stores.change_budgets(configured(chat=SubsystemConfig(command=("x",), budget=EVERYTHING)))
        assert list(used(stores, "chat", clock).values()) == [30, 30, 70, 70, 1]


@pytest.mark.parametrize("part", ["ledger", "database"])
async def test_budgets_stay_as_they_were_where_what_was_spent_cannot_be_read(
    directories: Directories, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Every limit, with all that counts against it: none is opened by a change that fails."""
    clock = ManualClock()
    async with opened(directories, clock) as stores:
        held = stores.budgets.reserve("chat", 400, clock.monotonic())
        before = used(stores, "chat", clock)

        async def fails(*_: Any) -> None:
            raise (
                LedgerError("it cannot be read")
                if part == "ledger"
                else DatabaseError("it cannot be written")
            )

        if part == "ledger":
            monkeypatch.setattr(stores.ledger, "spending", fails)
        else:
            monkeypatch.setattr(stores.database, "write", fails)
        for config in (configured(chat=SubsystemConfig(command=("x",))), configured()):
            with pytest.raises((LedgerError, DatabaseError)):
                await stores.change_budgets(config)
            assert used(stores, "chat", clock) == before
        assert isinstance(held, Reservation)
        stores.budgets.settle(held, 30, clock.monotonic())
        monkeypatch.undo()


async def test_a_start_that_is_killed_early_forgets_no_loss(
    directories: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """state.db and the count beside the heads are gone; it was killed when it had made a new state.db."""
    async with opened(directories, ManualClock()) as stores:
        await turn(stores.ledger, 1)
    directories.state_database.unlink()
    (directories.state / "anchor" / STARTS_FILE).unlink()

    async def killed(*_: Any, **__: Any) -> None:
        raise DatabaseError("killed")

    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "open", killed)
        with pytest.raises(DatabaseError, match="killed"):
            await open_stores(CONFIG, directories, ManualClock(), BOOT)
    async with opened(directories, ManualClock()) as stores:
        assert "both were deleted" in stores.shut()


async def test_another_boot_goes_by_the_wall_clock_and_no_longer_than_it_must(
    directories: Directories,
) -> None:
    """The boot's clock begins anew; a step after the first start in the new boot changes nothing more."""
    clock = ManualClock()
    async with opened(directories, clock) as stores:
        await turn(stores.ledger, 1, charged_tokens=100)
    again = ManualClock(5.0, clock.utc())
    again.advance(50)
    async with opened(directories, again, boot="another") as stores:
        assert used(stores, "chat", again) == {"tokens_per_minute": 100, "tokens_per_day": 100}
    again.jump_wall_clock(40 * 86_400.0)
    async with opened(directories, again, boot="another") as stores:
        assert used(stores, "chat", again) == {"tokens_per_minute": 100, "tokens_per_day": 100}
    again.advance(12)
    async with opened(directories, again, boot="another") as stores:
        assert used(stores, "chat", again) == {"tokens_per_minute": 0, "tokens_per_day": 100}


async def test_a_step_that_the_daemon_saw_is_no_time_between_two_boots(directories: Directories) -> None:
    """No turn came after it, but the stop, or the jump, has left a reading of both clocks."""
    clock = ManualClock()
    async with opened(directories, clock) as stores:
        await turn(stores.ledger, 1, charged_tokens=100)
        clock.jump_wall_clock(40 * 86_400.0)
        clock.advance(5)
    again = ManualClock(5.0, clock.utc())
    again.advance(30)
    async with opened(directories, again, boot="another") as stores:
        assert used(stores, "chat", again) == {"tokens_per_minute": 100, "tokens_per_day": 100}


async def test_what_a_removed_subsystem_spent_is_not_given_to_those_who_stay(
    directories: Directories,
) -> None:
    """Its group's day and everyone's go on from it: tokens, money and requests; its totals too."""
    clock = ManualClock()
    limits = SharedBudgetConfig(tokens_per_day=1_000, usd_per_day=1.0, requests_per_minute=9)
    member = SubsystemConfig(command=("x",), group="team")
    both = structs.replace(
        configured(chat=member, writer=member),
        groups={"team": GroupConfig(budget=limits)},
        budgets={"global": limits},
    )
    one = structs.replace(both, subsystems={"writer": member})
    async with opened(directories, clock, both) as stores:
        await turn(stores.ledger, 1, charged_tokens=100)
        await turn(stores.ledger, 2, reserved_tokens=300, outcome=None)
        await stores.costs.open("1", "chat", 500)
        await stores.costs.close("1", 70)
    clock.advance(5)
    for _ in range(2):
        async with opened(directories, clock, one) as stores:
            for scope in ("group:team", "all"):
                assert list(used(stores, scope, clock).values()) == [400, 70, 2]
            assert used(stores, "writer", clock) == {}
            assert stores.spent_microusd == {"chat": 70}


async def test_totals_keys_and_phase_survive(directories: Directories) -> None:
    """An adopted child goes on with the key that it was given."""
    clock = ManualClock()
    async with opened(directories, clock) as stores:
        await turn(stores.ledger, 1, charged_tokens=30)
        key = await stores.identities.issue("chat")
        await stores.journal.commit(Decision(row=next(row for row in TABLE if row.guard == "troubled")))
    async with opened(directories, clock) as stores:
        assert (stores.totals["chat"].turns, stores.totals["chat"].input_tokens) == (1, 20)
        assert stores.identities.resolve({"Authorization": f"Bearer {key}"}) == "chat"
        assert stores.loaded.phase is Phase.QUARANTINE


async def test_a_state_that_cannot_be_opened_is_named(directories: Directories) -> None:
    """The daemon does not start on half of it."""
    directories.state_database.write_text("this is no database, and longer than a header " * 20)
    with pytest.raises(DatabaseError, match=r"state\.db"):
        await open_stores(CONFIG, directories, ManualClock(), BOOT)
