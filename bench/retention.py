"""Measure what stays of the ledger's oldest records once their bodies go, and how long others wait meanwhile.

`python bench/retention.py [--quick] [--json FILE]`. A year's ledger is written, and half of its records are let go. The
file is compacted before and after to be measured, since it keeps freed pages for later records; that it does not grow
meanwhile is shown by tests/ledger/test_trim.py. A turn that comes while bodies go waits for one batch at most.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import apsw
from _harness import Row, run
from _startup_ledger import YearOfTurns

from epad.configuration.load import load
from epad.ledger.anchor import Anchor, verifier_at
from epad.ledger.append import Appender
from epad.ledger.full_verification import verify_everything
from epad.ledger.paths import Places
from epad.ledger.rows import last_sequence, open_reader
from epad.ledger.trim import BATCH_ROWS, Trim, drop_bodies, drop_segments, plan_trim
from epad.runtime.clock import SystemClock

HASHES_GOAL_BYTES = 100.0
WAIT_GOAL_MS = 20.0


def measure(quick: bool) -> list[Row]:
    """Measure one ledger; its verification afterwards is a row, since else a wrong trimming would be the fastest."""
    turns = 100_000 if quick else 1_000_000
    command = "python bench/retention.py" + (" --quick" if quick else "")
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory) / "state"
        YearOfTurns(state, turns, time.time()).write()
        places, path = Places.under(state, {}), state / "ledger.db"
        with contextlib.closing(open_reader(path)) as reader:
            records = last_sequence(reader)
            began = time.perf_counter()
            trim = plan_trim(reader, records // 2, records, verifier_at(places.anchor))
            planned = time.perf_counter() - began
        if trim is None:
            raise SystemExit("there was nothing to let go")
        whole, copies = _bytes(path), _copies(places)
        seconds = _let_go(places, path, trim)
        left, copies_left = _bytes(path), _copies(places)
        report = verify_everything(path, places, full=True)
    per_record = whole / records
    per_hash = (left - (records - trim.through) * per_record) / trim.through
    worst, median = 1e3 * max(seconds), 1e3 * statistics.median(seconds)
    is_whole = not report.faults and report.trimmed == trim.through
    return [
        Row("a record of which the hashes stay", per_hash, "bytes", f"<= {HASHES_GOAL_BYTES:g}",
            per_hash <= HASHES_GOAL_BYTES,
            {"a whole one": per_record, "its second copy, which goes": (copies - copies_left) / trim.through,
             "two hashes": 64.0}, trim.through, command),
        Row("a turn waits for a batch of bodies, median", median, "ms", f"<= {WAIT_GOAL_MS:g}", median <= WAIT_GOAL_MS,
            {"slowest": worst, "records a batch": BATCH_ROWS, "planned, s": planned}, len(seconds), command),
        Row("after it the whole check finds", len(report.faults), "faults", "0", is_whole,
            {"verdict": report.words(), "records without bodies": report.trimmed}, records, command),
    ]  # fmt: skip


def _let_go(places: Places, path: Path, trim: Trim) -> Sequence[float]:
    """Let the bodies go as the daemon does; return how long each batch took, its fsync included."""
    anchor = Anchor.open(places)
    appender = Appender(path, load().ledger, SystemClock(), "bench", anchor.read())
    appender.open()
    appender.append_own(trim.record)
    seconds, first = [], 1
    while first <= trim.through:
        began = time.perf_counter()
        first = appender.write(partial(_drop, first, trim.through))
        seconds.append(time.perf_counter() - began)
    drop_segments(appender.connection(), places.segments, trim.through)
    appender.close()
    return seconds


def _drop(first: int, through: int, connection: apsw.Connection) -> int:
    return drop_bodies(connection, first, through)


def _bytes(path: Path) -> int:
    """Return the size of the file, compacted."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("VACUUM")
        connection.pragma("wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def _copies(places: Places) -> int:
    return sum(each.stat().st_size for each in places.segments.iterdir())


if __name__ == "__main__":
    sys.exit(run("retention", measure))
