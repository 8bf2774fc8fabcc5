"""A checkpoint of a large graph beside a busy writer, its restore, and how much of what rots is found.

`python bench/checkpoint.py [--quick] [--json FILE]`; --quick takes a tenth of the size and of the rounds.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import apsw
from _harness import Row, run

from epad.checkpoint.bundle import Label, bundle_id, create
from epad.checkpoint.restore import restore
from epad.checkpoint.source import SqliteSource
from epad.checkpoint.verify import verify_bundle
from epad.inspection.inspect import look
from epad.ledger.head import Signer

GIGABYTE = 1_000_000_000
ROWS_PER_SECOND = 1_000
CHECKPOINT_SECONDS, WRITER_P99_MS = 10.0, 150.0
SHARE_FOUND = 0.95

SCHEMA = """
CREATE TABLE entities(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, entity_type TEXT, created_at TEXT);
CREATE TABLE observations(id INTEGER PRIMARY KEY, entity_id INTEGER REFERENCES entities(id), content TEXT);
CREATE TABLE relations(
    id INTEGER PRIMARY KEY, from_entity INTEGER, to_entity INTEGER, relation_type TEXT, uses INTEGER DEFAULT 0);
CREATE INDEX observation_entity ON observations(entity_id);
"""
WORDS = ("agent", "model", "graph", "token", "ledger", "memory", "round", "prompt", "defender", "night")

# Ten rows each 10 ms, committed with FULL durability; each line is when, and how many ms it took.
WRITER = """
import sys, time, apsw
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(60_000)
connection.pragma("journal_mode", "wal")
connection.pragma("synchronous", 2)
due = time.monotonic()
while True:
    due = max(due + 0.01, time.monotonic() - 0.05)
    time.sleep(max(0.0, due - time.monotonic()))
    began = time.monotonic()
    with connection:
        connection.executemany(
            "INSERT INTO observations(entity_id, content) VALUES (?, ?)", [(1, "x" * 120)] * 10)
    ended = time.monotonic()
    print(ended, (ended - began) * 1000, flush=True)
"""
BACKUP = """
import sys, apsw
source, copy = apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READONLY), apsw.Connection(sys.argv[2])
with copy.backup("main", source, "main") as backup:
    backup.step(-1)
"""


def grow(connection: apsw.Connection, first: int, count: int, choose: random.Random) -> None:
    """Add entities with three observations and a relation each."""
    for number in range(first, first + count):
        connection.execute(
            "INSERT INTO entities VALUES (?, ?, ?, '2026-11-22T10:00:00')",
            (number, f"{choose.choice(WORDS)} {number}", choose.choice(WORDS)),
        )
        for _ in range(3):
            text = " ".join(choose.choice(WORDS) for _ in range(choose.randint(5, 30)))
            connection.execute("INSERT INTO observations(entity_id, content) VALUES (?, ?)", (number, text))
        ends = (number, choose.randint(1, min(number, 120)), choose.choice(WORDS))
        connection.execute(
            "INSERT INTO relations(from_entity, to_entity, relation_type) VALUES (?, ?, ?)", ends
        )


def graph(path: Path, size_bytes: int) -> None:
    """A graph of about this size."""
    connection, choose, number = apsw.Connection(str(path)), random.Random(1), 1
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", 0)
    connection.execute(SCHEMA)
    while connection.pragma("page_count") * 4096 < size_bytes:
        with connection:
            grow(connection, number, 20_000, choose)
        number += 20_000
    connection.pragma("wal_checkpoint(truncate)")
    connection.close()


@contextmanager
def writer(path: Path, log: Path) -> Iterator[None]:
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=file)
        try:
            time.sleep(2.0)
            yield
        finally:
            process.kill()
            process.wait()


def p99_ms(log: Path, began: float, ended: float) -> tuple[float, int]:
    """The writer's 99th percentile within a span, and of how many commits."""
    rows = [tuple(map(float, line.split())) for line in log.read_text().splitlines() if line.count(" ") == 1]
    took = sorted(row[1] for row in rows if began <= row[0] <= ended)
    return (took[int(0.99 * (len(took) - 1))] if took else float("nan")), len(took)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    began = time.monotonic()
    work()
    return began, time.monotonic()


def processor_seconds(work: Callable[[], object]) -> float:
    """What it took of a core: the wall clock would measure the neighbours."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def checkpoint_rows(directory: Path, size_bytes: int, rounds: int) -> list[Row]:
    """The checkpoint and the bare backup in turns, beside one writer; the median of the rounds."""
    database, log = directory / "memory.db", directory / "writer.log"
    graph(database, size_bytes)
    signer, at = Signer(os.urandom(32)), datetime.now(UTC)
    spans: dict[str, list[tuple[float, float]]] = {"checkpoint": [], "bare": [], "nothing": []}
    size = database.stat().st_size / 1e9
    with writer(database, log):
        for number in range(1, rounds + 1):
            spans["nothing"].append(timed(lambda: time.sleep(5.0)))
            label = Label(bundle_id(at, number), "checkpoint", "a benchmark", at)
            source = SqliteSource("memory.db", database)
            made = create(directory / "checkpoints", [source], label, deadline_seconds=300.0, signer=signer)
            spans["checkpoint"].append(timed(lambda made=made: asyncio.run(made)))  # type: ignore[misc]
            copy = directory / "bare.db"
            command = [sys.executable, "-c", BACKUP, str(database), str(copy)]
            spans["bare"].append(timed(lambda command=command: subprocess.run(command, check=True)))  # type: ignore[misc]
            copy.unlink()
    bundle = directory / "checkpoints" / label.id
    verifying = processor_seconds(lambda: verify_bundle(bundle))
    restoring = processor_seconds(lambda: restore(bundle, state=directory, to=directory / "back", now=at))
    seconds = {name: sorted(b - a for a, b in of)[len(of) // 2] for name, of in spans.items()}
    p99 = {name: sorted(p99_ms(log, a, b)[0] for a, b in of)[len(of) // 2] for name, of in spans.items()}
    commits = sum(p99_ms(log, a, b)[1] for a, b in spans["checkpoint"])
    return [
        Row(
            f"a checkpoint of {size:.2g} GB under {ROWS_PER_SECOND} rows/s: copied, hashed, signed, fsynced",
            seconds["checkpoint"],
            "s",
            f"<= {CHECKPOINT_SECONDS:g} s",
            seconds["checkpoint"] <= CHECKPOINT_SECONDS,
            {
                "bare SQLite backup API, no fsync, no hash, s": seconds["bare"],
                "verification of the copy afterwards, processor s": verifying,
                "restore of it, checked before and after, processor s": restoring,
            },
            rounds,
        ),
        Row(
            "99th percentile of the writer's commits meanwhile",
            p99["checkpoint"],
            "ms",
            f"<= {WRITER_P99_MS:g} ms",
            p99["checkpoint"] <= WRITER_P99_MS,
            {"beside the bare backup API, ms": p99["bare"], "beside nothing, ms": p99["nothing"]},
            commits,
        ),
    ]


def small_store(path: Path, seed: int) -> random.Random:
    choose = random.Random(seed)
    connection = apsw.Connection(str(path))
    connection.execute(SCHEMA)
    with connection:
        grow(connection, 1, 120, choose)
    connection.close()
    rest(path)
    return choose


def rest(path: Path) -> None:
    """Let the last write lie a minute back."""
    minute_ago = time.time() - 60
    os.utime(path, (minute_ago, minute_ago))


def flip(path: Path, bit: int) -> None:
    """Rot: the file system is not told."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def use(path: Path, choose: random.Random, first: int) -> None:
    """What programs do: add, count up, take away."""
    connection = apsw.Connection(str(path))
    try:
        with connection:
            grow(connection, first, choose.randint(1, 4), choose)
            counted, gone = choose.randint(1, 120), choose.randint(1, 300)
            connection.execute("UPDATE relations SET uses = uses + 1 WHERE id = ?", (counted,))
            connection.execute("DELETE FROM observations WHERE id = ?", (gone,))
    except apsw.Error:
        pass  # the flipped bit was in the program's way: it stops, and the look comes all the same
    finally:
        connection.close()


def detection_rows(directory: Path, flips: int, clean: int) -> list[Row]:
    """One flipped bit in a store, at rest or with a writer going on after it; and honest use, without one."""
    rows = []
    for words, is_busy in (("at rest", False), ("written to after the flip, before the look", True)):
        seen: Counter[str] = Counter()
        for seed in range(flips):
            place = directory / f"{is_busy}-{seed}"
            place.mkdir()
            choose = small_store(path := place / "memory.db", seed)
            assert not look(path, place / "home", "auto", 0.05).faults
            flip(path, choose.randrange(path.stat().st_size * 8))
            if is_busy:
                use(path, choose, 1000)
            found = look(path, place / "home", "auto", 0.05)
            seen[found.faults[0][0] if found.faults else "unreadable" if found.error else "missed"] += 1
            shutil.rmtree(place)
        share = 1 - seen["missed"] / flips
        goal = "" if is_busy else f">= {SHARE_FOUND:.0%}"
        met = None if is_busy else share >= SHARE_FOUND
        kinds: dict[str, float | str] = {f"as {kind}": count for kind, count in seen.most_common()}
        rows.append(Row(f"flipped bits found in a store {words}", share * 100, "%", goal, met, kinds, flips))
    return [*rows, false_alarm_row(directory, clean)]


def false_alarm_row(directory: Path, clean: int) -> Row:
    choose, path, alarms = small_store(directory / "clean.db", 7), directory / "clean.db", 0
    for number in range(clean):
        if choose.random() < 0.7:
            use(path, choose, 10_000 + 10 * number)
        if choose.random() < 0.3:
            rest(path)
        seen = look(path, directory / "clean", "auto", 0.05)
        alarms += bool(seen.faults or seen.error)
    return Row("false alarms in honest use", alarms, "", "0", alarms == 0, {}, clean)


def cost_row(directory: Path) -> Row:
    """The processor time of one whole look, which is what the share of a core is reckoned from."""
    database = directory / "memory.db"
    seconds = processor_seconds(lambda: look(database, directory / "home", "sqlite", 0.05))
    size = database.stat().st_size
    return Row(
        f"processor time of a whole look at {size / 1e9:.2g} GB",
        seconds,
        "s",
        "",
        None,
        {"so at 3 % of a core one look each, s": seconds / 0.03, "per GB, s": seconds * 1e9 / size},
        1,
    )


def measure(quick: bool) -> list[Row]:
    size_bytes = GIGABYTE // 10 if quick else GIGABYTE
    with tempfile.TemporaryDirectory(prefix="epad-bench-") as name:
        directory = Path(name)
        rows = checkpoint_rows(directory, size_bytes, 1 if quick else 3)
        rows.append(cost_row(directory))
        return rows + detection_rows(directory, 60 if quick else 300, 100 if quick else 1_000)


if __name__ == "__main__":
    sys.exit(run("checkpoint", measure))
