"""The lifeboat's first tier on a full file system: how long until everything irreplaceable is on the disk.

`python bench/lifeboat.py`; root, for a tmpfs of its own, else the directory for temporary files is used, unfilled.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _harness import Row, run

from epad.configuration.load import load
from epad.control_loop.journal import JOURNAL_SCHEMA
from epad.ledger.entry import CloseTurn, OpenTurn
from epad.ledger.paths import Places
from epad.ledger.record import Outcome, UsageSource
from epad.ledger.store import Ledger
from epad.lifeboat.contents import Cargo
from epad.lifeboat.first_tier import FirstTier
from epad.lifeboat.frames import newest
from epad.storage.database import Database
from statemachine.clock import ManualClock

GOAL_SECONDS = 1.0
TIER_BYTES = 4 << 20
OPEN_TURNS = 256  # [gateway] max_in_flight: no more can be open


def measure(quick: bool) -> Sequence[Row]:
    with tempfile.TemporaryDirectory(prefix="epad-bench-") as directory:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256m", "none", directory], check=False, capture_output=True
        )
        try:
            full = mounted.returncode == 0
            times, frames = asyncio.run(
                write_often(Path(directory), 5 if quick else 30, 2_000 if quick else 20_000, full=full)
            )
        finally:
            if mounted.returncode == 0:
                subprocess.run(["umount", "-l", directory], check=False)
    place = "full tmpfs" if full else "unfilled disk"
    worst = max(times)
    peers = {"median s": statistics.median(times), "frames": ", ".join(frames)}
    claim = f"first tier of 4 MiB written and read back, {place}, slowest"
    return [Row(claim, worst, "s", f"< {GOAL_SECONDS:g} s", worst < GOAL_SECONDS, peers, len(times))]


async def write_often(state: Path, rounds: int, turns: int, *, full: bool) -> tuple[list[float], list[str]]:
    clock = ManualClock()
    database = Database(state / "state.db", JOURNAL_SCHEMA)
    await database.open()
    ledger = await Ledger.open(state / "ledger.db", load().ledger, clock, "bench", Places.under(state, {}))
    for start in range(0, turns, 1_000):
        numbers = range(start, start + 1_000)
        await asyncio.gather(*(ledger.open_turn(opened(n)) for n in numbers))
        await asyncio.gather(*(ledger.close_turn(closed(n)) for n in numbers if n >= OPEN_TURNS))
    cargo = Cargo(state / "state.db", state / "ledger.db", state / "anchor", lambda: b"{}", dict, lambda: 0)
    tier = FirstTier(state / "lifeboat/first-tier", TIER_BYTES, cargo.items)
    await tier.prepare()
    if full:
        fill(state)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        written = await tier.write("a bench")
        times.append(time.perf_counter() - began)
        if written.failure or written.missing:
            sys.exit(written.sentence)
    return times, [frame.name for frame in newest(tier.path.read_bytes())]


def opened(number: int) -> OpenTurn:
    digest = os.urandom(32)
    return OpenTurn(f"{number:032x}", "bench", "openai", "model", 100, 100, 200, digest, f"key-{number}")


def closed(number: int) -> CloseTurn:
    return CloseTurn(f"{number:032x}", "bench", Outcome.DONE, 90, 90, 180, UsageSource.USAGE, 200)


def fill(directory: Path) -> None:
    with (directory / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


if __name__ == "__main__":
    sys.exit(run("lifeboat", measure))
