"""Two seeded campaigns on a vault: rewrites round epad that have to be found, and clean days on which nothing is."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from vault_rewrites import REWRITES, WHEN
from vault_world import VaultWorld

from epad.checkpoint.bundle import Label, bundle_id, create
from epad.checkpoint.critical_state import _documents
from epad.checkpoint.restore import Wish, restore
from epad.checkpoint.source import Source, SqliteSource
from epad.configuration.directories import Directories
from epad.operations.protocol import ConflictError

SELDOM = {"checkpoint": 2, "restore": 2, "crash": 5, "restart": 5, "unfinished": 5}
"""How often these are done, where all else is done twenty times: the disk makes them slow."""


@dataclass
class Rewrites:
    """What became of rewrites: the number found of each kind; those that were not; and false findings between."""

    found: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)


@dataclass
class Days:
    """What clean days have told, and what was done on them."""

    told: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)


async def rewrites(folder: Path, count: int, seed: int) -> Rewrites:
    """Do so many rewrites, one after another, each on the same vault; the kinds in turn, all else by chance."""
    world, chance, result = VaultWorld(folder / "state", seed), random.Random(seed), Rewrites()
    await world.start()
    await world.fill()
    result.false += await world.look()
    world.child.end()
    world.copy_to(folder / "old")
    for _ in range(5):
        await world.remember()
    await world.append()
    await world.add("runbooks/1.md", b"# Book 1\n\nas it is now\n")
    result.false += await world.look()
    world.child.end()
    world.copy_to(folder / "now")
    names = sorted(REWRITES)
    for number in range(count):
        name = names[number % len(names)]
        rewrite = REWRITES[name]
        is_running = WHEN.get(name, chance.random() < 0.5)
        if is_running:
            result.false += await world.look()
        rewrite(world, folder / "old", chance)
        if await world.look():
            result.found[name] += 1
        else:
            result.missed.append(f"{number} {name}, {'running' if is_running else 'stopped'}")
        world.child.end()
        world.back_from(folder / "now")
    result.false += await world.look()
    await world.stop()
    return result


async def clean_days(folder: Path, count: int, seed: int) -> Days:
    """Live through so many days, with a look each few hours."""
    world, chance, days = VaultWorld(folder / "state", seed), random.Random(seed), Days()
    await world.start()
    await world.fill()
    events = _events(world, folder)
    names = sorted(events)
    for day in range(count):
        for _ in range(chance.randint(3, 8)):
            name = chance.choices(names, [SELDOM.get(name, 20) for name in names])[0]
            await events[name]()
            days.done[name] += 1
            world.clock.advance(chance.uniform(0, 5_000))
            if chance.random() < 0.5:
                days.told += [f"day {day}, after {name}: {one}" for one in await world.look()]
        days.told += [f"day {day}: {one}" for one in await world.look()]
    await world.stop()
    return days


def _events(world: VaultWorld, folder: Path) -> dict[str, Callable[[], Awaitable[object]]]:
    chance = world.chance

    async def change(order: str) -> None:
        documents = (await world.orders.show())["documents"]
        live = [one["path"] for one in documents if one["sha256"]]
        paths = live if order == "retract" else [one["path"] for one in documents]
        if not paths:
            return  # all are retracted
        try:
            await getattr(world.orders, order)(chance.choice(paths), "by chance", "uid 0")
        except ConflictError as error:
            if "around epad" in str(error):
                raise

    async def restart(end: Callable[[], Awaitable[None]]) -> None:
        await end()
        world.clock.advance(chance.uniform(1, 90_000))
        await world.start()

    async def memory(order: str) -> None:
        listed = await world.memory.show("")
        names = [one for one in listed["entities"] if one["scope"] != "shared"]
        if names:
            one = chance.choice(names)
            try:
                await getattr(world.memory, order)(one["name"], one["scope"], "by chance")
            except ConflictError as error:
                if "around epad" in str(error):
                    raise

    async def child_ends() -> None:
        world.child.end()

    async def unfinished() -> None:
        """A write whose end is not on record: its daemon is killed."""
        await world.remember(kept=False)
        await world.append(kept=False)
        await restart(world.crash)

    async def jump() -> None:
        world.clock.jump_wall_clock(chance.choice([-86_400.0, -3_600.0, 3_600.0, 864_000.0]))

    async def checkpoint() -> None:
        await _checkpoint(world, folder)

    async def restored() -> None:
        await _checkpoint(world, folder)
        for _ in range(chance.randrange(3)):
            await world.remember()
            await world.append()
        await world.stop()
        _restore(world, folder)
        await world.start()

    async def add() -> None:
        await world.add(f"runbooks/{chance.randrange(9)}.md", f"# New\n\n{chance.random()}\n".encode())

    return {
        "remember": world.remember,
        "append": world.append,
        "add": add,
        "retract": lambda: change("retract"),
        "undo": lambda: change("undo"),
        "promote": lambda: memory("promote"),
        "forget": lambda: memory("retract"),
        "restart": lambda: restart(world.stop),
        "crash": lambda: restart(world.crash),
        "unfinished": unfinished,
        "child ends": child_ends,
        "jump": jump,
        "checkpoint": checkpoint,
        "restore": restored,
    }


async def _checkpoint(world: VaultWorld, folder: Path) -> None:
    """As epad makes one, of the vault."""
    places = Directories(world.state, world.state / "run")
    settings = cast("Any", SimpleNamespace(vault=SimpleNamespace(directory="")))
    rows: list[Source] = [SqliteSource("vault/vault.db", places.vault_database, optional=True)]
    number = world.turns * 10 + world.lives
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    label = Label(bundle_id(at, 1), "checkpoint", "a test", at, {"phase": "NORMAL", "ledger_size": 1})
    made = await create(
        folder / "checkpoints", [*rows, *_documents(settings, places)], label, deadline_seconds=120
    )
    world.newest = made.path


def _restore(world: VaultWorld, folder: Path) -> None:
    del folder
    assert world.newest is not None
    done = restore(world.newest, state=world.state, now=world.clock.utc(), wish=Wish(reason="a test"))
    assert done.ok, done.faults
