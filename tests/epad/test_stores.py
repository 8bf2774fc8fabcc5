"""What is opened, and what a former life left in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from epad_house import BOOT, configured, turn

from epad.config import BudgetConfig, SubsystemConfig
from epad.database import DatabaseError
from epad.directories import Directories
from epad.ledger.record import Outcome
from epad.response.journal import Decision
from epad.stores import Stores, open_stores
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
async def opened(directories: Directories, clock: ManualClock) -> AsyncIterator[Stores]:
    stores = await open_stores(CONFIG, directories, clock, BOOT)
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
