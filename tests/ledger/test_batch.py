"""Many records at once are what they would be one by one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_world import BOOT, closing, config, opening
from msgspec.structs import replace

from epad.ledger.append import Appender
from epad.ledger.entry import Entry
from epad.ledger.errors import LedgerError
from epad.ledger.record import Outcome
from epad.ledger.tree import Frontier
from epad.ledger.verify import Verdict, verify
from statemachine.clock import ManualClock

numbers = st.integers(0, 9)
entries = st.one_of(
    numbers.map(opening),
    numbers.map(closing),
    numbers.map(lambda number: replace(closing(number), outcome=Outcome.REFUSED)),
    numbers.map(lambda number: replace(opening(number), model="\ud800")),
)
batches = st.lists(st.lists(entries, min_size=1, max_size=12), max_size=6)


def appended(path: Path, parts: Sequence[Sequence[Entry]]) -> tuple[list[int | None], list[bytes]]:
    """What came of each entry, and the leaves of the tree's peaks, after appending part by part."""
    appender = Appender(path, config(), ManualClock(), BOOT)
    appender.open()
    appender.frontier = Frontier()
    results = [result for part in parts for result in appender.append(part)]
    appender.close()
    return [
        None if isinstance(result, LedgerError) else result for result in results
    ], appender.frontier.peaks


def rows(path: Path) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    stored = connection.execute("SELECT * FROM record WHERE seq > 1").fetchall()
    connection.close()
    return [(*row[:5], row[6]) for row in stored]  # not the link, which rests on the epoch's own chance


@settings(max_examples=30, deadline=None)
@given(parts=batches)
def test_a_batch_is_taken_as_its_entries_would_be_alone(parts: list[list[Entry]]) -> None:
    """Duplicates, closings of nothing and text that cannot be written harm only themselves, in any mix."""
    with tempfile.TemporaryDirectory() as name:
        together, alone = Path(name) / "together.db", Path(name) / "alone.db"

        results = appended(together, parts)
        assert results == appended(alone, [[entry] for part in parts for entry in part])
        assert rows(together) == rows(alone)
        assert verify(together).verdict is Verdict.OK


def test_a_batch_of_any_size_is_written_whole(tmp_path: Path) -> None:
    """Statements hold powers of two rows; what is left over is written too."""
    parts = [
        [opening(size * 1_000 + number) for number in range(size)] for size in (1, 2, 3, 63, 64, 65, 200)
    ]

    results, _ = appended(tmp_path / "ledger.db", parts)
    assert results == list(range(2, 2 + sum(map(len, parts))))
    assert verify(tmp_path / "ledger.db").verdict is Verdict.OK
