"""Limits changed at run time: kept through a restart, void once the configuration says something else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from epad_house import configured
from msgspec import structs

from epad.configuration.schema import (
    BudgetConfig,
    Config,
    GroupConfig,
    SharedBudgetConfig,
    SubsystemConfig,
    UpstreamConfig,
)
from epad.operations.budget_changes import (
    BUDGET_SCHEMA,
    LIMITS,
    BudgetChangeError,
    BudgetChanges,
    UnknownScopeError,
    limits_of,
    with_limits,
)
from epad.storage.database import Database
from statemachine.clock import ManualClock

CONFIG = structs.replace(
    configured(
        chat=SubsystemConfig(kind="client", group="agents", budget=BudgetConfig(tokens_per_hour=100)),
        model=SubsystemConfig(command=("true",), gateway=False),
    ),
    upstreams={"local": UpstreamConfig(url="http://127.0.0.1:1", dialects=("openai",))},
    groups={"agents": GroupConfig(SharedBudgetConfig(tokens_per_day=500))},
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(tmp_path / "state.db", BUDGET_SCHEMA)
    await opened.open()
    yield opened
    await opened.close()


async def changes(database: Database, config: Config = CONFIG) -> BudgetChanges:
    """As a daemon has them that starts now."""
    loaded = BudgetChanges(database, ManualClock(), config)
    await loaded.load()
    return loaded


def tokens_per_hour(config: Config) -> int:
    return config.subsystems["chat"].budget.tokens_per_hour


async def test_a_change_outlives_the_daemon(database: Database) -> None:
    """And says who made it, when and why."""
    await (await changes(database)).keep("chat", {"tokens_per_hour": 900}, "uid 7", "a long night")
    later = await changes(database)
    assert tokens_per_hour(later.applied(CONFIG)) == 900
    change = later.in_force("chat", "tokens_per_hour")
    assert change is not None
    assert (change.by, change.reason, change.configured) == ("uid 7", "a long night", 100)


async def test_the_configuration_has_the_last_word(database: Database) -> None:
    """Once it says something else, that is the newer word; the same as ever is no word."""
    kept = await changes(database)
    await kept.keep("chat", {"tokens_per_hour": 900}, "uid 7", "r")
    other = with_limits(CONFIG, "chat", {"tokens_per_day": 5})
    assert tokens_per_hour(kept.applied(other)) == 900
    newer = with_limits(CONFIG, "chat", {"tokens_per_hour": 200})
    assert tokens_per_hour(kept.applied(newer)) == 200
    assert kept.in_force("chat", "tokens_per_hour") is None


async def test_a_change_is_taken_back(database: Database) -> None:
    """None leaves the limit to the configuration again, also after a restart."""
    kept = await changes(database)
    await kept.keep("chat", {"tokens_per_hour": 900}, "uid 7", "r")
    await kept.keep("chat", {"tokens_per_hour": None}, "uid 7", "r")
    assert kept.applied(CONFIG) == CONFIG
    assert (await changes(database)).applied(CONFIG) == CONFIG


async def test_what_can_no_more_be_applied_is_left_out(database: Database) -> None:
    """A subsystem that is gone, and money without a price: the daemon starts all the same."""
    kept = await changes(database)
    await kept.keep("chat", {"usd_per_day": 3.0}, "uid 7", "r")
    assert kept.applied(CONFIG).subsystems["chat"].budget.usd_per_day == 0.0
    await kept.keep("chat", {"tokens_per_hour": 900}, "uid 7", "r")
    empty = configured()
    assert kept.applied(empty) == empty


@pytest.mark.parametrize(
    ("scope", "name", "value", "why"),
    [
        ("chat", "tokens_per_year", 1, "tokens_per_year is no limit; there are: tokens_per_minute"),
        (
            "chat",
            "tokens_per_hour",
            -1,
            "tokens_per_hour is -1; give a whole number from 0 to 9007199254740992",
        ),
        ("chat", "tokens_per_hour", 1.5, "tokens_per_hour is 1.5; give a whole number from 0 to"),
        ("chat", "tokens_per_hour", 2**53 + 1, "tokens_per_hour is 9007199254740993; give a whole number"),
        ("all", "tokens_per_minute", 1e24, r"tokens_per_minute is 1e\+24; give a whole number from 0 to"),
        ("all", "usd_per_day", 1e10, "usd_per_day is 10000000000.0; give a number from 0 to 1e\\+09"),
        ("chat", "usd_per_day", 1.0, "there is no price"),
    ],
)
def test_what_no_file_could_say_nobody_can_set(scope: str, name: str, value: float, why: str) -> None:
    """The limit is named, with what is wrong."""
    with pytest.raises(BudgetChangeError, match=why):
        with_limits(CONFIG, scope, {name: value})


@pytest.mark.parametrize("scope", ["nobody", "group:nobody", "model", "agents"])
def test_a_budget_that_is_not_there_is_named_with_those_that_are(scope: str) -> None:
    """What asks no model has none; a group is told by its prefix."""
    with pytest.raises(UnknownScopeError, match=r"there are: all, group:agents, chat$"):
        with_limits(CONFIG, scope, {"tokens_per_hour": 1})


async def test_the_largest_limit_is_the_same_after_a_restart(database: Database) -> None:
    """To the last token."""
    await (await changes(database)).keep("chat", {"tokens_per_hour": 2**53}, "uid 7", "r")
    kept = tokens_per_hour((await changes(database)).applied(CONFIG))
    assert (kept, type(kept)) == (2**53, int)


@pytest.mark.parametrize("name", LIMITS)
def test_0_is_no_limit_whichever_it_is(name: str) -> None:
    """Of turns in flight too: a subsystem then has no limit of its own."""
    assert getattr(limits_of(with_limits(CONFIG, "chat", {name: 0}), "chat"), name) == 0


@pytest.mark.parametrize("scope", ["all", "group:agents", "chat"])
def test_each_kind_of_budget_is_changed_in_its_place(scope: str) -> None:
    """And nothing else is."""
    changed = with_limits(CONFIG, scope, {"tokens_per_month": 7})
    assert limits_of(changed, scope).tokens_per_month == 7
    assert with_limits(changed, scope, {"tokens_per_month": 0}) == (
        structs.replace(CONFIG, budgets={"global": SharedBudgetConfig()}) if scope == "all" else CONFIG
    )
