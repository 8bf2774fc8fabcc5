"""What the ledger's tests share: a clock, turns, and damage done the way disks do it, behind SQLite's back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw

from epad.configuration.schema import LedgerConfig
from epad.ledger.entry import CloseTurn, OpenTurn
from epad.ledger.heads_and_segments import Keeping
from epad.ledger.paths import Places
from epad.ledger.record import Outcome, UsageSource
from epad.ledger.store import Ledger
from epad.storage.database import fetch
from statemachine.clock import ManualClock

BOOT = "6f1b8f52-2f0e-4b2e-9d3c-0c9f2f7d8a11"

# A child does it: open() and close() of a live database in this process would drop SQLite's locks.
_FLIP = """
import pathlib, sys
needle, offset, bit = bytes.fromhex(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
flipped = 0
for name in sys.argv[4:]:
    path = pathlib.Path(name)
    data = bytearray(path.read_bytes()) if path.exists() else bytearray()
    start = data.find(needle)
    while start >= 0:
        with path.open("r+b") as file:
            file.seek(start + offset)
            file.write(bytes([data[start + offset] ^ 1 << bit]))
        flipped += 1
        start = data.find(needle, start + 1)
print(flipped)
"""


def config(**changes: float | str) -> LedgerConfig:
    """The ledger's configuration, small enough to reach its limits."""
    values: dict[str, Any] = {
        "batch_turns": 256,
        "waiting_turns": 4096,
        "tail_check_records": 1000,
        "scrub_records_per_second": 5000,
        "head_records": 256,
        "head_seconds": 0.02,
        "seal_records": 65_536,
        "seal_seconds": 86_400.0,
        "payloads": "hashed",
        "payload_days": 30.0,
        "payload_bytes": 1 << 30,
    }
    return LedgerConfig(**(values | changes))


def keeping_of(ledger: Ledger) -> Keeping:
    """Its heads and segments, which a ledger has that was opened with places for them."""
    assert ledger._keeping is not None
    return ledger._keeping


async def sealed(ledger: Ledger) -> None:
    """Wait until nothing is being sealed."""
    while keeping_of(ledger)._sealing is not None:
        await asyncio.sleep(0.001)


async def open_ledger(path: Path, places: Places | None = None, **changes: float | str) -> Ledger:
    return await Ledger.open(path, config(**changes), ManualClock(), BOOT, places)


def places(path: Path) -> Places:
    """Heads, key and segments beside a ledger's file."""
    return Places.under(path.parent, {})


def turn_id(number: int) -> str:
    return f"{number:032x}"


def opening(number: int, subsystem: str = "chat", reserved_tokens: int = 100) -> OpenTurn:
    return OpenTurn(
        turn=turn_id(number),
        subsystem=subsystem,
        dialect="openai",
        model="embedded-lexical-defender",
        prompt_bound=40,
        output_cap=60,
        reserved_tokens=reserved_tokens,
        request_sha256=number.to_bytes(32, "big"),
    )


def closing(number: int, subsystem: str = "chat", charged_tokens: int = 30) -> CloseTurn:
    return CloseTurn(
        turn=turn_id(number),
        subsystem=subsystem,
        outcome=Outcome.DONE,
        input_tokens=20,
        output_tokens=charged_tokens - 20,
        charged_tokens=charged_tokens,
        usage_source=UsageSource.USAGE,
        http_status=200,
    )


async def fill(
    path: Path, turns: int, where: Places | None = None, first: int = 0, **changes: float | str
) -> None:
    """A ledger of so many closed turns, itself closed: records 2 and 3 are the first turn's."""
    ledger = await open_ledger(path, where, **changes)
    for number in range(first, first + turns):
        await ledger.open_turn(opening(number))
        await ledger.close_turn(closing(number))
    await ledger.close()


def stored(path: Path, sequence: int) -> tuple[Any, ...]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    [row] = fetch(connection, "SELECT * FROM record WHERE seq = ?", (sequence,))
    connection.close()
    return row


def flip(path: Path, needle: bytes, offset: int = 0, bit: int = 0) -> None:
    """Flip one bit of these bytes wherever they stand, in the database and in its WAL."""
    arguments = [needle.hex(), str(offset), str(bit), str(path), f"{path}-wal"]
    command = [sys.executable, "-I", "-S", "-c", _FLIP, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) > 0, "the bytes to damage were not found"


def flipped(data: bytes, needle: bytes, bit: int) -> bytes:
    """These bytes with one bit flipped, counted from the needle's start, wherever the needle stands.

    A page that was split keeps its old cells in what is now free space.
    """
    damaged = bytearray(data)
    start = data.find(needle)
    assert start >= 0, "the bytes to damage were not found"
    while start >= 0:
        damaged[start + bit // 8] ^= 1 << bit % 8
        start = data.find(needle, start + 1)
    return bytes(damaged)


def cell(row: tuple[object, ...]) -> bytes:
    """A row's values as SQLite lays them out one after another (kind 1 takes no byte)."""
    _sequence, turn, kind, subsystem, wall_ns, body, leaf, link = row
    assert isinstance(turn, str)
    assert isinstance(subsystem, str)
    assert isinstance(wall_ns, int)
    assert isinstance(body, bytes)
    assert isinstance(leaf, bytes)
    assert isinstance(link, bytes)
    number = b"" if kind == 1 else bytes([int(str(kind))])
    return turn.encode() + number + subsystem.encode() + wall_ns.to_bytes(8, "big") + body + leaf + link
