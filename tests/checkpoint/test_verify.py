"""Reading a bundle back: what the ledger in it says of itself, and what a mark is worth."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from epad.checkpoint.bundle import Bundle, read_bundle
from epad.checkpoint.manifest import VERIFIED_FILE
from epad.checkpoint.source import BytesSource, SqliteSource
from epad.checkpoint.verify import verify_bundle
from epad.configuration.load import load
from epad.copying.disk import Disk
from epad.ledger.entry import OpenTurn
from epad.ledger.store import Ledger
from statemachine.clock import ManualClock

TURNS = 5


def opening(number: int) -> OpenTurn:
    return OpenTurn(
        turn=f"{number:032x}",
        subsystem="chat",
        dialect="openai",
        model="embedded-lexical-defender",
        prompt_bound=40,
        output_cap=60,
        reserved_tokens=100,
        request_sha256=bytes([0xE0 + number]) * 32,
    )


async def ledger_file(path: Path) -> Path:
    ledger = await Ledger.open(path, load().ledger, ManualClock(), "boot")
    for number in range(TURNS):
        await ledger.open_turn(opening(number))
    await ledger.close()
    return path


async def test_a_ledger_is_walked_along_its_chain(
    make_bundle: Callable[..., Awaitable[Bundle]], tmp_path: Path
) -> None:
    """A sound ledger verifies; one whose record was changed before the copy is named by its number."""
    path = await ledger_file(tmp_path / "ledger.db")
    sound = await make_bundle(SqliteSource("ledger.db", path, role="ledger"))
    assert verify_bundle(sound.path).ok
    data = path.read_bytes()
    third = opening(2).request_sha256
    assert data.count(third) == 1
    path.write_bytes(data.replace(third, bytes(32)))
    damaged = await make_bundle(SqliteSource("ledger.db", path, role="ledger"), number=2)
    verification = verify_bundle(damaged.path)
    assert not verification.ok
    assert any(fault.startswith("ledger.db: record 4: ") for fault in verification.faults), (
        verification.faults
    )
    unmarked = await make_bundle(SqliteSource("ledger.db", path), number=3)
    assert verify_bundle(unmarked.path).ok


async def test_a_database_that_is_no_ledger_is_said_to_be_none(
    make_bundle: Callable[..., Awaitable[Bundle]], database: Path
) -> None:
    """A fault, not a crash."""
    bundle = await make_bundle(SqliteSource("ledger.db", database, role="ledger"))
    verification = verify_bundle(bundle.path)
    assert not verification.ok
    assert verification.faults[0].startswith("ledger.db: ")


async def test_a_mark_that_cannot_be_written_is_no_mark(
    make_bundle: Callable[..., Awaitable[Bundle]],
) -> None:
    """A full disk at the very last byte leaves the bundle unverified, and says why."""

    class FullDisk(Disk):
        def write(self, path: Path, data: bytes) -> None:
            super().write(path, data[: len(data) // 2])
            raise OSError(28, "No space left on device", str(path))

    bundle = await make_bundle(BytesSource("a", b"a"))
    verification = verify_bundle(bundle.path, FullDisk())
    assert not verification.ok
    assert "No space left" in verification.faults[0]
    assert not read_bundle(bundle.path).verified


async def test_a_bundle_under_another_name_is_found(make_bundle: Callable[..., Awaitable[Bundle]]) -> None:
    """Its name orders it: a renamed copy would pass for a newer one."""
    bundle = await make_bundle(BytesSource("a", b"a"))
    moved = bundle.path.rename(bundle.path.with_name("20300101T000000Z-000999"))
    verification = verify_bundle(moved)
    assert verification.faults == (f"{moved}: the manifest is of bundle {bundle.id}",)
    assert not (moved / VERIFIED_FILE).exists()


async def test_an_empty_bundle_is_no_copy_of_anything(
    make_bundle: Callable[..., Awaitable[Bundle]], tmp_path: Path
) -> None:
    """A checkpoint that saved nothing must not push a good one out."""
    bundle = await make_bundle(SqliteSource("gone.db", tmp_path / "gone.db"))
    gone = f"gone.db is not in it: {tmp_path}/gone.db: no such file"
    assert verify_bundle(bundle.path).faults == (gone, f"{bundle.path}: holds nothing")


def test_a_directory_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    """A fault that names the place."""
    verification = verify_bundle(tmp_path / "20300101T000000Z-000999")
    assert not verification.ok
    assert "MANIFEST.json" in verification.faults[0]
