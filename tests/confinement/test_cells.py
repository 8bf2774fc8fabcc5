"""Cells: what is started in one, and which of its doors are open when."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cell_doubles import CellWorld
from hypothesis import given, settings
from hypothesis import strategies as st

from epad.confinement import authorities
from epad.confinement.authorities import VARIABLES, Authorities, system_bundle
from epad.confinement.cells import Confinement
from epad.confinement.doors import ADDRESSES, DoorKind
from epad.confinement.errors import ConfinementError
from runners.cell.plan import Door

DOORS = tuple(Door(*ADDRESSES[kind]) for kind in DoorKind)

VARIABLES_SET = frozenset(VARIABLES)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[CellWorld]:
    one = CellWorld(tmp_path)
    yield one
    one.end()


async def test_a_cell_has_a_door_to_the_gateway_and_one_out(world: CellWorld) -> None:
    """Both are accepted at once it stands, and what is inside is told where they are."""
    pid = await world.start()
    assert (await asyncio.to_thread(Path(f"/proc/{pid}/cmdline").read_bytes)).startswith(b"sleep")
    assert world.spawner.made[0].doors == DOORS
    assert world.gateway.doors.keys() == world.way_out.doors.keys() == {"agent"}
    assert world.cells.has("agent")
    assert world.cells.has_own_network("agent")
    assert await world.cells.gateway_url("agent") == "http://127.0.0.1:8711"
    proxies = await world.cells.proxies("agent")
    assert proxies["https_proxy"] == proxies["HTTP_PROXY"] == "http://127.0.0.1:8712"
    assert proxies["NO_PROXY"] == "127.0.0.1,localhost"


@pytest.mark.parametrize(("profile", "network"), [("sealed", True), ("workspace", False)])
async def test_a_cell_without_doors_is_told_of_none(world: CellWorld, profile: str, network: bool) -> None:
    """Of a sealed one, and where the machine gives no network of its own."""
    world.profiles["agent"], world.planner.network = profile, network
    await world.start()
    assert world.spawner.made[0].doors == ()
    assert await world.cells.gateway_url("agent") == ""
    assert await world.cells.proxies("agent") == {}
    assert world.cells.has_own_network("agent") is network


async def test_what_is_not_confined_has_no_cell(world: CellWorld) -> None:
    """Nor any variable of one, and the record of a former one is gone."""
    await world.start()
    world.profiles["agent"] = "open"
    assert await world.cells.plan("agent", ("true",), {}, world.directory) is None
    assert await world.cells.gateway_url("agent") == ""
    assert await world.cells.proxies("agent") == {}
    later = world.another()
    await later.adopt("agent", 1)
    assert not later.has("agent")


async def test_a_wall_that_cannot_be_had_is_an_error_or_is_said(world: CellWorld) -> None:
    """The planner refuses, the maker refuses, or goes without it; then that is known for as long as the cell lives."""
    world.planner.refuses = "the machine gives no user namespaces"
    with pytest.raises(ConfinementError, match="no user namespaces"):
        await world.start()
    world.planner.refuses, world.spawner.refuses = "", "pivot_root: Operation not permitted"
    with pytest.raises(ConfinementError, match="pivot_root"):
        await world.start()
    assert not world.cells.has("agent")
    world.spawner.refuses, world.spawner.missing = "", {"files": "pivot_root: not here"}
    await world.start()
    assert world.cells.confinement("agent") == Confinement("workspace", {"files": "pivot_root: not here"})
    later = world.another()
    await later.adopt("agent", 1)
    assert later.confinement("agent") == Confinement("workspace", {"files": "pivot_root: not here"})


async def test_a_workspace_that_is_not_there_is_an_error(world: CellWorld) -> None:
    """It would be left out of the tree, and the program find nothing."""
    world.workspace = str(world.directory / "nowhere")
    with pytest.raises(ConfinementError, match="nowhere, the workspace of agent: no such directory; make it"):
        await world.start()


async def test_shut_doors_refuse_before_anything_is_awaited(world: CellWorld) -> None:
    """The kernel refuses from then on, however long it takes to hang up on who is in."""
    await world.start()
    world.gateway.gate = asyncio.Event()
    shutting = asyncio.create_task(world.cells.shut("agent"))
    await asyncio.sleep(0)
    assert world.refused(0)
    assert world.refused(1)
    world.gateway.gate.set()
    await shutting
    assert world.gateway.closed == world.way_out.closed == ["agent"]
    await world.cells.shut("agent")
    await world.cells.open("agent")
    assert world.passes(0)
    assert world.passes(1)
    assert world.gateway.doors.keys() == {"agent"}


async def test_a_cell_that_begins_under_a_hold_begins_shut(world: CellWorld) -> None:
    """Its doors are opened when the hold is lifted, at the same addresses."""
    await world.cells.shut("agent")
    await world.start()
    assert world.gateway.doors == world.way_out.doors == {}
    assert world.refused(0)
    await world.cells.open("agent")
    assert world.passes(0)


async def test_doors_that_are_shut_while_they_are_opened_stay_shut(world: CellWorld) -> None:
    """Whoever was opening them ends first, and opens no more of them."""
    await world.cells.shut("agent")
    await world.start()
    world.gateway.gate = asyncio.Event()
    opening = asyncio.create_task(world.cells.open("agent"))
    await asyncio.sleep(0)
    shutting = asyncio.create_task(world.cells.shut("agent"))
    await asyncio.sleep(0)
    world.gateway.gate.set()
    await asyncio.gather(opening, shutting)
    assert world.gateway.doors == world.way_out.doors == {}
    assert world.refused(0)
    assert world.refused(1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["shut", "open", "start", "ended"]), max_size=7))
def test_the_doors_are_as_the_last_order_says_in_whatever_order_they_come(orders: list[str]) -> None:
    """Given at once, each as a task of its own, as lanes may; a start and an end exclude each other."""

    async def play(world: CellWorld) -> None:
        lives, tasks = asyncio.Lock(), []

        async def live(order: str) -> None:
            async with lives:
                await (world.start() if order == "start" else world.cells.ended("agent"))

        for order in orders:
            works = {"shut": world.cells.shut, "open": world.cells.open}
            tasks.append(asyncio.create_task(works[order]("agent") if order in works else live(order)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        wanted = next((order for order in reversed(orders) if order in {"shut", "open"}), "open")
        is_open = wanted == "open" and world.cells.has("agent")
        assert bool(world.gateway.doors) is bool(world.way_out.doors) is is_open

    with tempfile.TemporaryDirectory() as directory:
        world = CellWorld(Path(directory))
        try:
            asyncio.run(play(world))
        finally:
            world.end()


async def test_a_daemon_that_leaves_lets_nobody_wait_at_its_doors(world: CellWorld) -> None:
    """Nobody would accept there; the processes live on."""
    pid = await world.start()
    world.cells.refuse_all()
    assert world.refused(0)
    assert world.refused(1)
    assert await asyncio.to_thread(Path(f"/proc/{pid}").exists)


async def test_a_later_daemon_makes_the_doors_anew(world: CellWorld) -> None:
    """At the addresses that the cell knows; of a subsystem under a hold they begin shut."""
    pid = await world.start()
    later = world.another()
    await later.shut("agent")
    await later.adopt("agent", pid)
    assert world.spawner.reopened == [(pid, DOORS)]
    assert world.refused(2)
    assert world.gateway.doors == {}
    await later.open("agent")
    assert not world.refused(2)
    assert world.way_out.doors.keys() == {"agent"}


async def test_a_door_that_nobody_here_accepts_at_is_not_made_anew(world: CellWorld) -> None:
    """Of a daemon that knows other kinds; the others are."""
    pid = await world.start()
    record = world.directory / "cells/agent.json"
    record.write_text(record.read_text().replace('"way out"', '"way up"'))
    later = world.another()
    await later.adopt("agent", pid)
    assert world.spawner.reopened == [(pid, DOORS[:1])]
    assert world.gateway.doors.keys() == {"agent"}


async def test_doors_that_cannot_be_made_anew_stay_closed_and_are_told(world: CellWorld) -> None:
    """What is inside lives, and reaches nothing."""
    pid = await world.start()
    world.spawner.refuses = "setns: Operation not permitted"
    later = world.another()
    await later.adopt("agent", pid)
    assert later.has("agent")
    told = later.confinement("agent")
    assert told is not None
    assert "could not be made anew: setns" in told.trouble


async def test_the_doors_of_a_cell_that_ended_are_gone(world: CellWorld) -> None:
    """And its next one has its own."""
    await world.start()
    await world.cells.ended("agent")
    assert world.gateway.doors == world.way_out.doors == {}
    assert world.refused(0)
    assert not world.cells.has("agent")
    await world.start()
    assert not world.refused(2)


async def test_a_record_that_cannot_be_read_is_none(world: CellWorld) -> None:
    """A half-written or foreign file makes no cell."""
    (world.directory / "cells").mkdir()
    (world.directory / "cells/agent.json").write_text('{"profile": 1')
    await world.cells.adopt("agent", 1)
    assert not world.cells.has("agent")


def reading(world: CellWorld) -> Authorities:
    """Let the world's cells have an authority for a host, and return those that the next daemon would know."""
    world.authorities = Authorities(
        world.directory / "cells", lambda name: world.directory / "trusted" / name
    )
    world.intercept = frozenset({"a.example"})
    world.cells = world.another()
    return Authorities(world.directory / "cells", lambda name: world.directory / "trusted" / name)


async def test_a_cell_whose_tls_is_read_trusts_an_authority_of_its_own(world: CellWorld) -> None:
    """Made anew at each start; its programs find the bundle, which has no key, by every variable."""
    later, bundle = reading(world), world.directory / "trusted/agent/bundle.pem"
    variables = await world.cells.proxies("agent")
    assert {variables[name] for name in VARIABLES} == {str(bundle)}
    await world.start()
    assert world.planner.orders[-1].shown == (str(bundle.parent),)
    assert world.authorities is not None
    first = world.authorities.of("agent")
    assert first is not None
    assert (first.hosts, later.of("agent")) == (("a.example",), first)
    assert bundle.read_text() == system_bundle() + first.certificate
    assert "PRIVATE" not in bundle.read_text()
    assert bundle.stat().st_mode & 0o777 == 0o644
    await world.start()
    assert world.authorities.of("agent") not in {first, None}
    await world.cells.ended("agent")
    assert world.authorities.of("agent") is None
    assert not bundle.exists()
    assert list((world.directory / "cells").iterdir()) == []


@pytest.mark.parametrize(("profile", "network"), [("sealed", True), ("workspace", False)])
async def test_a_cell_without_a_way_out_has_no_authority(
    world: CellWorld, profile: str, network: bool
) -> None:
    """Nor has one whose table does not name a host, which leaves no key of a former cell."""
    reading(world)
    await world.start()
    world.profiles["agent"], world.planner.network = profile, network
    await world.start()
    assert world.authorities is not None
    assert world.authorities.of("agent") is None
    assert not VARIABLES_SET.intersection(await world.cells.proxies("agent"))
    world.profiles["agent"], world.planner.network, world.intercept = "workspace", True, frozenset()
    await world.start()
    assert world.authorities.of("agent") is None
    assert not VARIABLES_SET.intersection(await world.cells.proxies("agent"))


async def test_a_cell_is_not_made_without_the_authority_that_it_needs(
    world: CellWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is gone since the configuration was checked: the fix is in the error."""
    reading(world)
    monkeypatch.setattr(authorities, "PACKAGE", "no_such_package_at_all")
    with pytest.raises(
        ConfinementError, match=r"No module named 'cryptography'; pip install 'epad\[intercept\]'"
    ):
        await world.start()
    assert world.spawner.made == []


async def test_attempts_past_the_doors_are_watched_for_as_long_as_the_cell_lives(world: CellWorld) -> None:
    """In a cell without doors too; the next daemon has a socket of its own, and a reload one for other ports."""
    world.profiles["agent"] = "sealed"
    await world.start()
    assert world.spawner.made[0].watched == (11_434,)
    first = world.watcher.sockets["agent"]
    later = world.another()
    await later.adopt("agent", 1)
    second = world.watcher.sockets["agent"]
    assert second is not first
    world.watcher.watched = (11_434, 8_000)
    await later.watch_anew()
    assert world.watcher.sockets["agent"] is not second
    assert world.spawner.watches == [(11_434,), (11_434,), (11_434, 8_000)]
    await later.ended("agent")
    assert world.watcher.sockets == {}


async def test_a_cell_whose_attempts_cannot_be_seen_is_made_all_the_same(world: CellWorld) -> None:
    """It is as closed as another; without a network of its own nothing is asked for."""
    world.spawner.unwatched = "routes: Operation not permitted"
    await world.start()
    assert world.watcher.sockets == {}
    assert world.cells.has("agent")
    await world.cells.watch_anew()
    world.planner.network = False
    await world.start("other")
    assert world.spawner.made[1].watched is None
    await world.cells.watch_anew()
    assert len(world.spawner.watches) == 4
