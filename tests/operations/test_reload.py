"""What it takes to come from one configuration to another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from epad_house import configured
from epad_story import memory_database
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from epad.configuration.confine_schema import ConfineConfig, HouseConfineConfig
from epad.configuration.directories import Directories
from epad.configuration.load import ConfigError, Origin, Problem
from epad.configuration.schema import (
    BudgetConfig,
    Config,
    GroupConfig,
    PriceConfig,
    RestartConfig,
    SharedBudgetConfig,
    StateConfig,
    SubsystemConfig,
)
from epad.confinement.changes import WideningRefusedError
from epad.confinement.kept_policies import KeptPolicies
from epad.confinement.policies import Policies
from epad.confinement.policy import Policy
from epad.operations.reload import (
    FIXED,
    LIVE_TABLES,
    STARTING,
    ChangeRefusedError,
    Changes,
    Reloader,
    compare,
)
from epad.storage.event_log import EventKind, EventLog
from epad.supervisor.errors import SupervisorError
from statemachine.clock import ManualClock
from statemachine.situation import Limits

PLAIN = SubsystemConfig(command=("sleep", "1"))
OTHERS: dict[str, Any] = {
    "kind": "client",
    "command": ("sleep", "2"),
    "environment": {"A": "b"},
    "working_directory": "/tmp",
    "notifies": True,
    "gateway": False,
    "listen": "127.0.0.1:7",
    "user": "0",
    "group": "team",
    "essential": True,
    "budget": BudgetConfig(tokens_per_minute=5),
    "restart": RestartConfig(intensity=1),
    "stop_seconds": 1.0,
    "ready_seconds": 1.0,
    "state": StateConfig(files=("a",)),
    "confine": ConfineConfig(),
}


def test_the_same_is_no_change() -> None:
    """And says so."""
    changes = compare(configured(a=PLAIN), configured(a=PLAIN))
    assert not changes.anything
    assert changes.sentences() == ["nothing has changed"]


@pytest.mark.parametrize("key", OTHERS)
def test_each_key_of_a_subsystem_takes_what_it_takes(key: str) -> None:
    """A new process for what is given at its start, a new daemon for the doors, nothing for all the rest."""
    changed = structs.replace(PLAIN, **{key: OTHERS[key]})
    changes = compare(configured(a=PLAIN, b=PLAIN), configured(a=changed, b=PLAIN))
    assert changes.restarted == (("a",) if key in STARTING else ())
    assert changes.postponed == ((f"subsystems.a.{key}",) if key in FIXED else ())
    assert changes.adjusted == ((), ("a",))[key not in STARTING | FIXED]
    in_force = changes.config.subsystems["a"]
    assert in_force == (PLAIN if key in FIXED else changed)
    assert changes.config.subsystems["b"] == PLAIN


def test_every_key_of_a_subsystem_is_known_to_the_comparison() -> None:
    """A key that is renamed must not silently become one that changes nothing."""
    assert set(SubsystemConfig.__struct_fields__) >= STARTING | FIXED


def test_what_comes_and_goes_is_added_and_removed() -> None:
    """Each by its name."""
    changes = compare(configured(a=PLAIN), configured(b=PLAIN))
    assert (changes.added, changes.removed) == (("b",), ("a",))
    assert list(changes.config.subsystems) == ["b"]


def test_a_new_subsystem_of_a_group_that_is_not_there_waits() -> None:
    """Its share of a budget could not be counted; a door and a user of its own are made while epad runs."""
    changes = compare(configured(), configured(a=structs.replace(PLAIN, group="team")))
    assert (changes.added, changes.postponed) == ((), ("subsystems.a",))
    changes = compare(configured(), configured(a=structs.replace(PLAIN, listen="127.0.0.1:7", user="0")))
    assert (changes.added, changes.postponed) == (("a",), ())


def test_a_group_that_goes_stays_until_those_in_it_have_left() -> None:
    """They leave at the next start: until then its limits hold for them, and the budgets know it."""
    team = GroupConfig(SharedBudgetConfig(tokens_per_day=5))
    before = structs.replace(
        configured(a=structs.replace(PLAIN, group="team")), groups={"team": team, "empty": GroupConfig()}
    )
    after = structs.replace(before, groups={}, subsystems={"a": PLAIN})
    changes = compare(before, after)
    assert changes.config.groups == {"team": team}
    assert changes.postponed == ("subsystems.a.group", "groups.team")
    assert {spec.group for spec in changes.config.subsystems.values()} <= changes.config.groups.keys()


def test_a_group_that_is_there_may_be_joined() -> None:
    """Its budget is in force already."""
    before = structs.replace(configured(), groups={"team": GroupConfig()})
    after = structs.replace(before, subsystems={"a": structs.replace(PLAIN, group="team")})
    assert compare(before, after).added == ("a",)


@pytest.mark.parametrize("table", sorted(set(Config.__struct_fields__) - {"subsystems", "tools"}))
def test_each_table_is_live_or_waits(table: str) -> None:
    """What waits is named, and stays as it was."""
    before = configured(a=PLAIN)
    others: dict[str, object] = {
        "policy": Limits(1, 2, 3, 4, 5, 6, 7),
        "groups": {"team": GroupConfig()},
    }
    other = others.get(table, object())
    changes = compare(before, structs.replace(before, **{table: other}))
    live = table in LIVE_TABLES
    assert changes.tables == ((table,) if live else ())
    assert changes.postponed == (() if live else (f"[{table}]",))
    assert getattr(changes.config, table) == (other if live else getattr(before, table))


def test_the_reach_of_tools_changes_at_once_and_their_door_waits() -> None:
    """What waits is named, and stays as it was."""
    before = configured(a=PLAIN)
    web = structs.replace(before.tools.web, hosts=("a.example",))
    wider = structs.replace(before, tools=structs.replace(before.tools, web=web))
    assert compare(before, wider).config == wider
    assert (compare(before, wider).tables, compare(before, wider).postponed) == (("tools",), ())
    both = structs.replace(wider, tools=structs.replace(wider.tools, enabled=not before.tools.enabled))
    assert compare(before, both).config == wider
    assert compare(before, both).postponed == ("tools.enabled",)
    assert compare(wider, both).tables == ()


names = st.sampled_from(["a", "b", "c", "d"])
specs = st.builds(
    SubsystemConfig,
    kind=st.sampled_from(["process", "client"]),
    command=st.sampled_from([("x",), ("y",)]),
    user=st.sampled_from(["", "0"]),
    budget=st.builds(BudgetConfig, tokens_per_minute=st.integers(0, 2)),
)


@st.composite
def houses(draw: st.DrawFn) -> Config:
    """A valid configuration: each may depend on those before it."""
    chosen: dict[str, SubsystemConfig] = {}
    for name in draw(st.lists(names, unique=True)):
        needs = draw(st.lists(st.sampled_from(sorted(chosen)), unique=True)) if chosen else []
        chosen[name] = structs.replace(draw(specs), depends_on=tuple(needs))
    return configured(**chosen)


@given(houses(), houses())
def test_what_is_in_force_is_always_whole(before: Config, after: Config) -> None:
    """Nothing depends on what is not there; every difference is applied or named as waiting; again is nothing."""
    changes = compare(before, after)
    in_force = changes.config.subsystems
    assert all(need in in_force for spec in in_force.values() for need in spec.depends_on)
    for name in set(in_force) | set(after.subsystems):
        if in_force.get(name) != after.subsystems.get(name):
            assert any(waiting.startswith(f"subsystems.{name}") for waiting in changes.postponed)
    again = compare(changes.config, after)
    assert again.config == changes.config
    assert not again.anything


class Kept(KeptPolicies):
    """Policies that are kept in memory."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.last: Mapping[str, Policy] = {}
        self.fails = False

    def write(self, policies: Mapping[str, Policy]) -> None:
        if self.fails:
            raise OSError("no room")
        self.last = policies


class Bench:
    """A reloader whose file and whose house a test plays."""

    def __init__(self, config: Config) -> None:
        self.events = EventLog(memory_database(), ManualClock())
        self.file: Config | ConfigError = config
        self.applied: list[Changes] = []
        self.failure: Exception | None = None
        self.kept = Kept()
        self.policies = Policies(
            Directories(Path("/s"), Path("/r")),
            {"HOME": "/home/me", "PATH": "/bin"},
            resolve=lambda path: path,
        )
        self.reloader = self.another(config)

    def another(self, config: Config) -> Reloader:
        """What the next daemon has."""
        return Reloader(config, self.read, self.apply, self.events, self.policies.all, self.kept)

    def read(self) -> Config:
        if isinstance(self.file, ConfigError):
            raise self.file
        return self.file

    async def apply(self, changes: Changes) -> None:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.applied.append(changes)


async def test_a_broken_file_changes_nothing() -> None:
    """What was in force still is, and the next good file is compared with that."""
    bench = Bench(configured(a=PLAIN))
    bench.file = ConfigError([Problem(Origin(0, 1, "f"), "a", "is wrong")])
    with pytest.raises(ConfigError):
        await bench.reloader.reload()
    assert bench.applied == []
    bench.file = configured(a=PLAIN, b=PLAIN)
    assert await bench.reloader.reload() == ["added: b"]
    assert await bench.reloader.reload() == ["nothing has changed"]
    assert len(bench.applied) == 1


async def test_what_was_broken_off_is_undone_where_the_file_says_so() -> None:
    """Nobody knows how far it came: the next does all that leads from either to what it asks for, and then no more."""
    before = configured(a=PLAIN)
    bench = Bench(before)
    bench.failure = SupervisorError("no process could be started")
    changed = structs.replace(PLAIN, command=("y",))
    bench.file = structs.replace(
        configured(a=changed, b=PLAIN), prices={"m": PriceConfig(input=1.0, output=1.0)}
    )
    with pytest.raises(SupervisorError):
        await bench.reloader.reload()
    bench.failure, bench.file = None, before
    await bench.reloader.reload()
    [undone] = bench.applied
    assert undone.config == before
    assert (undone.removed, undone.restarted, undone.tables) == (("b",), ("a",), ("prices",))
    assert await bench.reloader.reload() == ["nothing has changed"]


async def test_what_was_refused_leaves_nothing_to_be_undone() -> None:
    """No process is started again for a change of which nothing was done."""
    bench = Bench(configured(a=PLAIN))
    bench.failure = ChangeRefusedError("a key cannot be read")
    bench.file = configured(a=structs.replace(PLAIN, command=("y",)))
    with pytest.raises(ChangeRefusedError):
        await bench.reloader.reload()
    bench.failure, bench.file = None, configured(a=PLAIN)
    assert await bench.reloader.reload() == ["nothing has changed"]
    assert bench.applied == []


def confined(**keys: Any) -> SubsystemConfig:
    return structs.replace(PLAIN, confine=ConfineConfig(**keys))


async def events_of(bench: Bench, kind: EventKind) -> list[Any]:
    await bench.events.flush()
    return [event["fields"] for event in await bench.events.since(0, 50) if event["kind"] == kind]


async def test_what_widens_needs_a_reason_which_is_recorded() -> None:
    """Without one nothing of the reload is done; what narrows needs none."""
    bench = Bench(configured(a=confined(hosts=("x.org",), read=("/opt/m",))))
    bench.file = configured(a=confined(hosts=("*.y.org",)), b=PLAIN)
    with pytest.raises(WideningRefusedError, match=r"connect \*\.y\.org:443, as any\.y\.org:443") as caught:
        await bench.reloader.reload()
    assert caught.value.lines[1:-1] == (
        "a: + connect *.y.org:443, as any.y.org:443; at once",
        "a: - connect x.org:443; at once",
    )
    assert bench.applied == []
    assert await events_of(bench, EventKind.POLICY_CHANGED) == []
    assert len(await events_of(bench, EventKind.CONFIG_REFUSED)) == 1
    said = await bench.reloader.reload("it reads y (uid 7)")
    assert "a: + connect *.y.org:443, as any.y.org:443; at once" in said
    [told] = await events_of(bench, EventKind.POLICY_CHANGED)
    assert (told["widens"], told["reason"]) == (True, "it reads y (uid 7)")


async def test_what_narrows_says_when_it_is_so() -> None:
    """Hosts at once, files when it starts next; nothing is asked."""
    bench = Bench(configured(a=PLAIN))
    bench.file = configured(a=confined(hosts=("x.org",)))
    said = await bench.reloader.reload()
    assert "adjusted while running: a" in said
    assert "a: - connect to every host, as any.any:443; at once" in said
    assert "a: - write /; when it starts next" in said
    bench.file = configured(a=confined())
    assert await bench.reloader.reload() == [
        "adjusted while running: a",
        "a: - connect x.org:443; at once",
    ]
    [first, _] = await events_of(bench, EventKind.POLICY_CHANGED)
    assert (first["widens"], first["reason"]) == (False, "")


async def test_a_new_default_of_the_house_changes_whom_it_is_for() -> None:
    """And no subsystem with a table of its own."""
    house = structs.replace(configured(a=PLAIN, b=confined()), confine=HouseConfineConfig("workspace"))
    bench = Bench(house)
    bench.file = structs.replace(house, confine=HouseConfineConfig("open"))
    [change] = await bench.reloader.policy_changes()
    assert change.subsystem == "a"
    assert [str(one) for one in change.widens][:2] == ["write /", "read /"]


async def test_a_change_while_no_daemon_ran_is_recorded_too() -> None:
    """Nobody gave a reason, which is said; a first start, and one without a change, have nothing to tell."""
    bench = Bench(configured(a=confined()))
    bench.reloader.tell_of_start({})
    former = bench.kept.last
    bench.another(configured(a=confined(hosts=("x.org",)))).tell_of_start(former)
    bench.another(configured(a=confined(hosts=("x.org",)))).tell_of_start(bench.kept.last)
    [told] = await events_of(bench, EventKind.POLICY_CHANGED)
    assert told["changes"] == ["a: + connect x.org:443; at once"]
    assert (told["widens"], told["reason"]) == (True, "changed while no daemon ran")


async def test_a_full_disk_keeps_no_reload_from_being_done() -> None:
    """What was in force is not kept then, which is logged."""
    bench = Bench(configured(a=confined()))
    bench.kept.fails = True
    bench.file = configured(a=confined(hosts=("x.org",)))
    assert "a: + connect x.org:443; at once" in await bench.reloader.reload("why")
    assert await bench.reloader.reload() == ["nothing has changed"]


async def test_a_link_that_leads_elsewhere_widens_too() -> None:
    """The file is as it was; what is read through it is not."""
    bench = Bench(configured(a=confined(read=("/home/me/models",))))
    links = {"/home/me/models": "/srv"}
    bench.policies = replace(bench.policies, resolve=lambda path: links.get(path, path))
    bench.reloader = bench.another(configured(a=confined(read=("/home/me/models",))))
    assert await bench.reloader.policy_changes() == ()
    links["/home/me/models"] = "/home"
    with pytest.raises(WideningRefusedError, match="read /home;"):
        await bench.reloader.reload()
    assert "a: + read /home; when it starts next" in await bench.reloader.reload("the disk is new")
    assert await bench.reloader.reload() == ["nothing has changed"]


async def test_two_at_once_are_one_after_the_other() -> None:
    """The second sees what the first has done."""
    bench = Bench(configured())
    bench.file = configured(b=PLAIN)
    said = await asyncio.gather(bench.reloader.reload(), bench.reloader.reload())
    assert said == [["added: b"], ["nothing has changed"]]
