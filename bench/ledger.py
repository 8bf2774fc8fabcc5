"""The turn ledger's claims: acknowledged in time on a busy machine, read back at the speed of its hashes.

Beside each figure stands what the machine itself does: a bare fdatasync, a bare SHA-256 over the same bytes.
Rates are per CPU second of one core; a turn has two records.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from _harness import Row, run
from msgspec import structs

from epad.configuration.load import load
from epad.configuration.schema import LedgerConfig
from epad.ledger.entry import TurnNames
from epad.ledger.full_verification import check_segments
from epad.ledger.paths import Places
from epad.ledger.record import Outcome, UsageSource
from epad.ledger.segment import segment_paths
from epad.ledger.store import CloseTurn, Ledger, OpenTurn
from epad.ledger.verify import verify
from epad.runtime.clock import SystemClock

TURNS_PER_SECOND = 100
AT_ONCE = 32
ROUNDS = 5
BURN = "while True: pass"
COMMAND = shlex.join(["python", "bench/ledger.py", *sys.argv[1:]])


def opening(number: int) -> OpenTurn:
    return OpenTurn(
        turn=f"{number:032x}",
        subsystem="writer",
        dialect="openai",
        model="qwen2.5-coder:7b-instruct-q4_K_M",
        prompt_bound=1_800,
        output_cap=1_024,
        reserved_tokens=2_824,
        request_sha256=sha256(number.to_bytes(8, "big")).digest(),
    )


def closing(number: int) -> CloseTurn:
    turn = f"{number:032x}"
    return CloseTurn(turn, "writer", Outcome.DONE, 900, 100, 1_000, UsageSource.USAGE, 200)


OPENING, CLOSING = opening(0), closing(0)


async def fill(directory: Path, turns: int, config: LedgerConfig) -> None:
    """A ledger of so many turns, sealed in segments, in commits as large as may be."""
    config = structs.replace(config, batch_turns=4_096, waiting_turns=8_192)
    places = Places.under(directory, {})
    ledger = await Ledger.open(directory / "ledger.db", config, SystemClock(), "bench", places)
    for first in range(0, turns, 2_000):
        batch = range(first, min(first + 2_000, turns))
        await asyncio.gather(*(ledger.open_turn(opening(number)) for number in batch))
        await asyncio.gather(*(ledger.close_turn(closing(number)) for number in batch))
    deadline = time.monotonic() + 120.0
    number = turns
    while _unsealed(ledger, places) > config.seal_records and time.monotonic() < deadline:
        await ledger.open_turn(opening(number))
        number += 1
        await asyncio.sleep(0.05)
    await ledger.close()


def _unsealed(ledger: Ledger, places: Places) -> int:
    return ledger.records - len(segment_paths(places.segments)) * load().ledger.seal_records


def best_rate(work: Callable[[], int]) -> float:
    """Units a CPU second: the best of some rounds, since what others do to the caches only ever slows."""
    rates = []
    for _ in range(ROUNDS):
        start = time.process_time()
        count = work()
        rates.append(count / (time.process_time() - start))
    return max(rates)


def verify_rate(directory: Path, *, full: bool) -> float:
    """Records a CPU second, in a process of its own: this one's heap is full of what wrote them."""
    code = (
        "import sys; from pathlib import Path; import ledger; from epad.ledger.verify import verify\n"
        "path, anchor, full = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == 'full'\n"
        "print(ledger.best_rate(lambda: verify(path, anchor=anchor, full=full).checked))"
    )
    anchor = Places.under(directory, {}).anchor
    arguments = [directory / "ledger.db", anchor, "full" if full else "rows"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, cwd=Path(__file__).parent
    )
    return float(done.stdout)


def verify_rows(directory: Path) -> Row:
    path, places = directory / "ledger.db", Places.under(directory, {})
    report = verify(path, anchor=places.anchor)
    assert report.verdict.is_sound, report.words()
    bodies, link = [b"\0" + os.urandom(200)] * report.checked, os.urandom(84)

    def raw() -> int:
        for body in bodies:
            sha256(body).digest()
            sha256(link).digest()
        return len(bodies)

    rate = verify_rate(directory, full=False)
    peers: dict[str, float | str] = {
        "its two SHA-256 alone, records/s": best_rate(raw),
        "with --full beside (roots, indexes to the byte), records/s": verify_rate(directory, full=True),
    }
    peers["the same in turns/s/core (a turn has two records)"] = rate / 2
    return Row(
        "verify by rows: every hash, link and column; a row is a record, as in the rates that the goal is from",
        rate,
        "records/s/core",
        ">= 500,000",
        rate >= 500_000,
        peers,
        report.checked,
        COMMAND,
    )


def verify_by_segments(directory: Path) -> Row:
    path, places = directory / "ledger.db", Places.under(directory, {})
    found = check_segments(path, places)
    assert not found.faults, found.faults
    files = segment_paths(places.segments)
    blob = b"".join(file.read_bytes() for file in files)

    def raw() -> int:
        sha256(blob).digest()
        return found.records

    rate = best_rate(lambda: check_segments(path, places).records)
    return Row(
        "verify by segments: each hashed whole, chained, signed",
        rate,
        "records/s/core",
        ">= 2,000,000",
        rate >= 2_000_000,
        {
            "SHA-256 of the same bytes in memory, records/s": best_rate(raw),
            "bytes a record": len(blob) / found.records,
        },
        found.records,
        COMMAND,
    )


@contextlib.contextmanager
def busy(cores: int) -> Iterator[None]:
    """Keep so many cores busy with something that never waits."""
    burners = [subprocess.Popen([sys.executable, "-S", "-c", BURN]) for _ in range(cores)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


async def open_loop(seconds: float, turn: Callable[[int], Awaitable[list[float]]]) -> list[float]:
    """Start a turn every 10 ms whatever became of those before; the latencies of all."""
    start = time.monotonic()
    tasks: list[asyncio.Task[list[float]]] = []
    for number in range(int(seconds * TURNS_PER_SECOND)):
        await asyncio.sleep(max(0.0, start + number / TURNS_PER_SECOND - time.monotonic()))
        tasks.append(asyncio.ensure_future(turn(number)))
    return [latency for latencies in await asyncio.gather(*tasks) for latency in latencies]


async def acknowledged(directory: Path, seconds: float) -> list[float]:
    """From the call to the answer, of both records of each turn; heads and segments are kept meanwhile."""
    places = Places.under(directory, {})
    ledger = await Ledger.open(directory / "ledger.db", load().ledger, SystemClock(), "bench", places)

    async def turn(number: int) -> list[float]:
        start = time.perf_counter()
        await ledger.open_turn(opening(number))
        opened = time.perf_counter()
        await asyncio.sleep(0.05)
        ended = time.perf_counter()
        await ledger.close_turn(closing(number))
        return [opened - start, time.perf_counter() - ended]

    latencies = await open_loop(seconds, turn)
    await ledger.close()
    assert verify(directory / "ledger.db", anchor=places.anchor).words() == "OK"
    return latencies


async def raw_fdatasync(path: Path, seconds: float) -> list[float]:
    """The same load on a bare file: append 500 bytes, fdatasync, in a thread."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    lock = asyncio.Lock()

    def append() -> None:
        os.write(file, bytes(500))
        os.fdatasync(file)

    async def once() -> float:
        start = time.perf_counter()
        async with lock:
            await asyncio.to_thread(append)
        return time.perf_counter() - start

    async def turn(_: int) -> list[float]:
        first = await once()
        await asyncio.sleep(0.05)
        return [first, await once()]

    try:
        return await open_loop(seconds, turn)
    finally:
        os.close(file)


def percentile(values: Sequence[float], percent: int) -> float:
    """In milliseconds."""
    return statistics.quantiles(values, n=100)[percent - 1] * 1e3


def acknowledgements(directory: Path, seconds: float, cores: int) -> list[Row]:
    """Rounds in turn, ledger and bare file, so that both meet the same neighbours."""
    ledger: list[float] = []
    raw: list[float] = []
    with busy(cores):
        for number in range(ROUNDS):
            (directory / f"ack-{number}").mkdir()
            ledger += asyncio.run(acknowledged(directory / f"ack-{number}", seconds / ROUNDS))
            raw += asyncio.run(raw_fdatasync(directory / f"raw-{number}", seconds / ROUNDS))
    (directory / "ack-idle").mkdir()
    idle = asyncio.run(acknowledged(directory / "ack-idle", seconds / ROUNDS))
    what = f"at {TURNS_PER_SECOND} turns/s open loop, {cores} cores busy"
    rows = []
    for percent, goal in ((50, None), (99, 25.0)):
        value = percentile(ledger, percent)
        peers: dict[str, float | str] = {
            "bare append and fdatasync, same load, ms": percentile(raw, percent),
            "the ledger with no burners, ms": percentile(idle, percent),
        }
        met = None if goal is None else value <= goal
        words = "" if goal is None else f"<= {goal:g} ms"
        rows.append(
            Row(
                f"record acknowledged p{percent} {what}", value, "ms", words, met, peers, len(ledger), COMMAND
            )
        )
    return rows


async def turns_at_once(directory: Path, turns: int, closed_before: int) -> Row:
    """Turns named and opened as the gateway does it, 32 callers, each asking again as soon as it may."""
    places = Places.under(directory, {})
    clock = SystemClock()
    ledger = await Ledger.open(directory / "ledger.db", load().ledger, clock, "bench", places)
    name = TurnNames()

    async def caller(count: int) -> None:
        for _ in range(count):
            turn = name(clock.monotonic())
            await ledger.open_turn(structs.replace(OPENING, turn=turn))
            closed = ledger.close_turn(structs.replace(CLOSING, turn=turn), lazily=True)
        await closed

    await asyncio.gather(*(caller(closed_before // AT_ONCE) for _ in range(AT_ONCE)))
    rounds = []
    writer = time.pthread_getcpuclockid(
        next(t.ident or 0 for t in threading.enumerate() if t.name == "ledger")
    )
    for _ in range(ROUNDS):
        commits, before = (
            ledger.commits,
            (time.process_time(), time.thread_time(), time.clock_gettime(writer)),
        )
        await asyncio.gather(*(caller(turns // ROUNDS // AT_ONCE) for _ in range(AT_ONCE)))
        after = (time.process_time(), time.thread_time(), time.clock_gettime(writer))
        done = turns // ROUNDS // AT_ONCE * AT_ONCE
        spent = [(end - start) / done * 1e6 for start, end in zip(before, after, strict=True)]
        rounds.append((*spent, (ledger.commits - commits) / done))
    await ledger.close()
    total, loop, writing, commits_a_turn = (statistics.median(column) for column in zip(*rounds, strict=True))
    peers: dict[str, float | str] = {
        "of it in the event loop, us": loop,
        "of it in the writer's thread (hashes, SQLite, fsync), us": writing,
        "the round with the least, us": min(rounds)[0],
        "commits a turn": commits_a_turn,
    }
    return Row(
        f"processor time of a turn, opened and closed, {AT_ONCE} at once",
        total,
        "us",
        "<= 60 us",
        total <= 60,
        peers,
        turns,
        COMMAND,
    )


def measure(quick: bool) -> Sequence[Row]:
    """Everything, in a directory of its own on the disk of the temporary files."""
    turns, seconds = (70_000, 10.0) if quick else (500_000, 60.0)
    with tempfile.TemporaryDirectory(prefix="epad-ledger-") as name:
        directory = Path(name)
        asyncio.run(fill(directory, turns, load().ledger))
        rows = [verify_rows(directory), verify_by_segments(directory)]
        (directory / "at-once").mkdir()
        rows.append(asyncio.run(turns_at_once(directory / "at-once", turns // 2, closed_before=turns // 5)))
        return [*acknowledgements(directory, seconds, os.cpu_count() or 1), *rows]


if __name__ == "__main__":
    sys.exit(run("ledger", measure))
