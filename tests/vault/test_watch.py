"""The watch over the vault: what it needs the ledger and the files' change times for, and how a fault ends."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from vault_rewrites import REWRITES
from vault_world import FULL_SECONDS, VaultWorld

from epad.ledger.roots import roots_of
from epad.operations.protocol import ConflictError
from epad.vault.roots import Roots
from runners.vault import look


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[VaultWorld]:
    made = VaultWorld(tmp_path / "state", 3)
    await made.start()
    await made.fill()
    assert await made.look() == []
    made.child.end()
    made.copy_to(tmp_path / "old")
    yield made
    await made.stop()


async def rewritten(world: VaultWorld, name: str, tmp_path: Path) -> list[str]:
    REWRITES[name](world, tmp_path / "old", world.chance)
    return await world.look()


async def test_planted_a_look_at_times_alone_misses_an_edit(
    world: VaultWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with the size and the modification time alone, an edit whose times were set back is not seen."""
    monkeypatch.setattr(look, "_of", lambda status: (status.st_size, status.st_mtime_ns))
    assert await world.look() == []
    assert await rewritten(world, "edit_and_touch_back", tmp_path) == []
    world.clock.advance(FULL_SECONDS)
    assert await world.look(), "the full pass finds it still"


async def test_an_edit_with_its_times_set_back_is_seen(world: VaultWorld, tmp_path: Path) -> None:
    """The twin: by its change time."""
    assert await world.look() == []
    [told] = await rewritten(world, "edit_and_touch_back", tmp_path)
    assert "was changed: " in told


@pytest.mark.parametrize("name", ["put_back_all", "change_a_row_and_the_journal"])
async def test_planted_without_roots_a_whole_rewrite_is_missed(
    world: VaultWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The control: what agrees with itself is told by the ledger alone."""
    for _ in range(3):
        await world.remember()
    assert await world.look() == []
    world.child.end()

    async def none(_: Roots) -> list[object]:
        return []

    monkeypatch.setattr(Roots, "known", none)
    monkeypatch.setattr(type(world.watch), "_unaccounted", lambda *_: none(Roots.__new__(Roots)))
    assert await rewritten(world, name, tmp_path) == []


@pytest.mark.parametrize("name", ["put_back_all", "change_a_row_and_the_journal", "cut_the_end"])
async def test_a_whole_rewrite_is_told_by_the_roots(world: VaultWorld, tmp_path: Path, name: str) -> None:
    """The twin."""
    for _ in range(3):
        await world.remember()
    assert await world.look() == []
    world.child.end()
    [told] = await rewritten(world, name, tmp_path)
    assert "the ledger" in told


async def test_a_root_stands_behind_writes_each_day_and_around_orders(world: VaultWorld) -> None:
    """And none where nothing was written on that day."""

    async def causes() -> list[str]:
        return [one.cause for one in await world.ledger.read(lambda db: roots_of(db, "vault"))]

    before = len(await causes())
    await world.look()
    assert len(await causes()) == before
    await world.remember()
    await world.look()
    assert (await causes())[before:] == ["batch"]
    world.clock.advance(86_400)
    await world.look()
    assert (await causes())[before:] == ["batch", "daily"]
    await world.orders.retract("runbooks/1.md", "wrong", "uid 0")
    assert (await causes())[before:] == ["batch", "daily", "order", "batch"]


async def test_nobody_gets_a_root_over_what_was_rewritten(world: VaultWorld, tmp_path: Path) -> None:
    """No order is taken and no root written until it is mended; then all goes on."""
    known = await world.ledger.read(lambda db: roots_of(db, "vault"))
    world.copy_to(tmp_path / "now")
    assert await rewritten(world, "change_a_row", tmp_path)
    with pytest.raises(ConflictError, match="was changed around epad"):
        await world.orders.undo("runbooks/0.md", "r", "uid 0")
    with pytest.raises(ConflictError, match="was changed around epad"):
        await world.memory.retract("", "a" * 32, "r")
    assert len(await world.ledger.read(lambda db: roots_of(db, "vault"))) == len(known)
    world.child.end()
    world.back_from(tmp_path / "now")
    assert await world.look() == []
    await world.orders.undo("runbooks/0.md", "r", "uid 0")


async def test_a_person_takes_it_as_it_is(world: VaultWorld, tmp_path: Path) -> None:
    """Over restarts; a further change of the same row, or of another, is found."""
    assert await rewritten(world, "change_a_row", tmp_path)
    assert await rewritten(world, "add", tmp_path)
    assert len(await world.orders.accept("uid 0")) >= 2
    assert await world.look() == []
    assert len(list((world.child.documents / "aside").iterdir())) == 1
    await world.stop()
    await world.start()
    assert await world.look() == []
    assert await rewritten(world, "edit", tmp_path)
    await world.orders.accept("uid 0")
    world.child.end()
    assert await rewritten(world, "delete_a_row", tmp_path)


async def test_a_restore_is_taken_once(world: VaultWorld, tmp_path: Path) -> None:
    """By a line that epad's own restore writes; the same line excuses nothing later."""
    for _ in range(3):
        await world.remember()
    assert await world.look() == []
    await world.stop()
    REWRITES["put_back_all"](world, tmp_path / "old", world.chance)
    line = (
        '{"at": "2026-01-01T00:00:00+00:00", "bundle": "b", "files": ["/s/vault/vault.db"], "faults": []}\n'
    )
    (world.state / "restores.jsonl").write_text(line)
    await world.start()
    assert await world.look() == []
    for _ in range(3):
        await world.remember()
    assert await world.look() == []
    await world.stop()
    REWRITES["put_back_all"](world, tmp_path / "old", world.chance)
    await world.start()
    assert await world.look()


async def test_rows_of_a_killed_daemon_are_accounted_for(world: VaultWorld) -> None:
    """Each by its turn, whether its end is on record or not."""
    await world.remember()
    await world.remember(kept=False)
    await world.crash()
    await world.start()
    assert await world.look() == []


async def test_a_look_without_change_digests_nothing(world: VaultWorld) -> None:
    """And after a touch one version alone."""
    await world.look()
    roots = [(one.size, one.root.hex()) for one in await world.ledger.read(lambda db: roots_of(db, "vault"))]

    async def digested() -> int:
        while not (answer := await world.child.ask("look", {"roots": roots}))["done"]:
            pass
        return int(answer["digested"])

    assert await digested() == 0
    path = next(path for path in (world.child.documents / "versions").rglob("*") if path.is_file())
    os.utime(path)
    assert await digested() == 1
