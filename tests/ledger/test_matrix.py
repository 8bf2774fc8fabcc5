"""Each kind of damage against the verdict it must get: all found, each by its name, and nothing sound accused."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest
from ledger_world import (
    cell,
    closing,
    fill,
    flipped,
    keeping_of,
    open_ledger,
    opening,
    places,
    sealed,
    stored,
)

from epad.ledger.full_verification import verify_everything
from epad.ledger.hashes import leaf_hash, link_hash
from epad.ledger.record import columns_of, decode, encode
from epad.ledger.verify import Report, Scrubber, Verdict
from epad.storage.database import fetch
from statemachine.clock import ManualClock

TURNS = 20
FIRST_RECORDS = 1 + 2 * TURNS
RECORDS = FIRST_RECORDS + 1 + 2 * TURNS
SEALED = 30  # records a segment holds here
TARGETS = (2, 15, 30, 44, 60, RECORDS - 1)


@dataclass(frozen=True)
class State:
    """A ledger with its heads, key and segments, as it is on the disk."""

    directory: Path

    @property
    def path(self) -> Path:
        return self.directory / "ledger.db"

    def change(self, statement: str, *bindings: Any) -> None:
        connection = apsw.Connection(str(self.path))
        connection.execute(statement, bindings)
        connection.close()

    def report(self, *, full: bool = False) -> Report:
        return verify_everything(self.path, places(self.path), full=full)

    def copy(self, name: str) -> State:
        return State(Path(shutil.copytree(self.directory, self.directory.with_name(name))))

    def rechain(self, first: int) -> None:
        """Make everything from record `first` on rest on what is there now, as a forger would."""
        connection = apsw.Connection(str(self.path))
        link = stored(self.path, first - 1)[7]
        rows = fetch(connection, "SELECT seq, body FROM record WHERE seq >= ? ORDER BY seq", (first,))
        for sequence, (old, body) in enumerate(rows, first):
            leaf = leaf_hash(body)
            link = link_hash(link, sequence, leaf)
            connection.execute(
                "UPDATE record SET seq = ?, leaf = ?, link = ? WHERE seq = ?", (sequence, leaf, link, old)
            )
        connection.close()


async def make(path: Path) -> None:
    """Two epochs, sealed in part: what a ledger looks like that has been used."""
    for first in (0, TURNS):
        ledger = await open_ledger(path, places(path), seal_records=SEALED)
        for number in range(first, first + TURNS):
            await ledger.open_turn(opening(number))
            await ledger.close_turn(closing(number))
        await sealed(ledger)
        await ledger.close()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pristine") / "state"
    directory.mkdir()
    asyncio.run(make(directory / "ledger.db"))
    assert len(list((directory / "segments").glob("*.seg"))) == 2
    return directory


@pytest.fixture
def state(pristine: Path, tmp_path: Path) -> State:
    return State(Path(shutil.copytree(pristine, tmp_path / "state")))


def bit_flip(state: State, sequence: int, offset: int) -> None:
    needle = cell(stored(state.path, sequence))
    state.path.write_bytes(flipped(state.path.read_bytes(), needle, (len(needle) + offset) * 8))


def lost_write(state: State, sequence: int) -> None:
    """The page with this record reads as it was before the record came: an old page, whole in itself."""
    data = bytearray(state.path.read_bytes())
    needle = cell(stored(state.path, sequence))
    state.change("DELETE FROM record WHERE seq = ?", sequence)
    stale = state.path.read_bytes()
    for at in _finds(bytes(data), needle):
        start = at // 4096 * 4096
        data[start : start + 4096] = stale[start : start + 4096]
    state.path.write_bytes(data)


def truncated(state: State, count: int) -> None:
    state.change("DELETE FROM record WHERE seq > ?", RECORDS - count)


def rolled_back(state: State, count: int) -> None:
    """Cut off, then written on by something that knows no heads: as long as before, another history."""
    truncated(state, count)
    asyncio.run(fill(state.path, count + 5, first=1_000))


def forged(state: State, sequence: int) -> None:
    """A record says something else, and all hashes behind it are made to fit."""
    body = stored(state.path, sequence)[5]
    assert isinstance(body, bytes)
    record = decode(sequence, body)
    changed = type(record)(
        **{name: getattr(record, name) for name in record.__struct_fields__}
        | {"wall_ns": columns_of(record)[3] + 1}
    )
    state.change("UPDATE record SET body = ?, wall_ns = wall_ns + 1 WHERE seq = ?", encode(changed), sequence)
    state.rechain(sequence)


def deleted_and_rechained(state: State, sequence: int) -> None:
    state.change("DELETE FROM record WHERE seq = ?", sequence)
    state.rechain(sequence)
    asyncio.run(fill(state.path, 5, first=1_000))


def forked(state: State, sequence: int) -> None:
    """From here on the rows are another ledger's, which shares the past; they link among themselves."""
    other = state.copy("other")
    forged(other, sequence)
    connection = apsw.Connection(str(state.path))
    connection.execute("ATTACH ? AS other", (str(other.path),))
    connection.execute("DELETE FROM record WHERE seq >= ?", (sequence,))
    connection.execute("INSERT INTO record SELECT * FROM other.record WHERE seq >= ?", (sequence,))
    connection.close()


def reordered(state: State, sequence: int) -> None:
    """Two records have changed places, whole rows but for their numbers."""
    other = sequence + 2
    for old, new in ((sequence, -1), (other, sequence), (-1, other)):
        state.change("UPDATE record SET seq = ? WHERE seq = ?", new, old)


def duplicated(state: State, sequence: int) -> None:
    """A record stands a second time, where another one should."""
    other = sequence + 2
    state.change("DELETE FROM record WHERE seq = ?", other)
    state.change(
        "INSERT INTO record SELECT ?, turn, kind + 2, subsystem, wall_ns, body, leaf, link FROM record "
        "WHERE seq = ?",
        other,
        sequence,
    )


def gap(state: State, sequence: int) -> None:
    """Everything behind it has moved on by one."""
    state.change("UPDATE record SET seq = -seq WHERE seq >= ?", sequence)
    state.change("UPDATE record SET seq = 1 - seq WHERE seq < 0")


def deleted(state: State, sequence: int) -> None:
    state.change("DELETE FROM record WHERE seq = ?", sequence)


def zeroed_page(state: State, sequence: int) -> None:
    data = bytearray(state.path.read_bytes())
    page = data.rfind(cell(stored(state.path, sequence))) // 4096 * 4096
    data[page : page + 4096] = bytes(4096)
    state.path.write_bytes(data)


def index_dropped(state: State, _: int) -> None:
    state.change("DROP INDEX record_turn")


def index_key_flipped(state: State, sequence: int) -> None:
    """A bit of the key in the index alone: the row is whole, and a look-up by its turn finds nothing."""
    turn = str(stored(state.path, sequence)[1]).encode()
    data = bytearray(state.path.read_bytes())
    keys = [at for at in _finds(bytes(data), turn) if b"chat" not in data[at + 32 : at + 38]]
    assert keys
    for at in keys:
        data[at + 31] ^= 1
    state.path.write_bytes(data)


def _finds(data: bytes, needle: bytes) -> Iterator[int]:
    at = data.find(needle)
    while at >= 0:
        yield at
        at = data.find(needle, at + 1)


def head_flipped(state: State, _: int) -> None:
    path = state.directory / "anchor/head"
    path.write_bytes(flipped(path.read_bytes(), b"epad/ledger", 90))


def segment_flipped(state: State, number: int) -> None:
    path = state.directory / f"segments/{number:08d}.seg"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 16
    path.chmod(0o644)
    path.write_bytes(data)


def segment_missing(state: State, number: int) -> None:
    (state.directory / f"segments/{number:08d}.seg").unlink()


Damage = Callable[[State, int], None]
MATRIX: list[tuple[str, Damage, int, str]] = [
    *[
        (f"bit of the body of {n}", lambda s, n: bit_flip(s, n, -80), n, f"CORRUPT({n}, body)")
        for n in TARGETS
    ],
    *[
        (f"bit of the leaf of {n}", lambda s, n: bit_flip(s, n, -40), n, f"CORRUPT({n}, leaf)")
        for n in TARGETS
    ],
    *[
        (f"bit of the link of {n}", lambda s, n: bit_flip(s, n, -1), n, f"CORRUPT({n}, link)")
        for n in TARGETS
    ],
    *[(f"lost write of {n}", lost_write, n, f"CORRUPT({n}, ") for n in (5, 15, 60)],
    *[(f"zeroed page of {n}", zeroed_page, n, "CORRUPT(") for n in (15, 60)],
    *[(f"{n} cut off", truncated, n, f"TRUNCATED({n})") for n in (1, 3, 40, RECORDS - 1)],
    *[(f"{n} cut off, others written", rolled_back, n, "FORKED(") for n in (1, 3, 40)],
    *[(f"{n} forged, chain rebuilt", forged, n, "FORKED(") for n in (2, 15, 42, RECORDS)],
    *[(f"{n} deleted, chain rebuilt", deleted_and_rechained, n, "FORKED(") for n in (3, 41, 60)],
    *[(f"forked at {n}", forked, n, "FORKED(") for n in (3, 42, 60)],
    *[(f"{n} and {n + 2} reordered", reordered, n, f"CORRUPT({n}, ") for n in (3, 40, RECORDS - 2)],
    *[(f"{n} twice", duplicated, n, f"CORRUPT({n + 2}, ") for n in (3, 40)],
    *[(f"gap at {n}", gap, n, f"CORRUPT({n}, ") for n in (3, 40)],
    *[(f"{n} deleted", deleted, n, f"CORRUPT({n}, gap)") for n in (1, 3, 42, RECORDS - 1)],
    ("an index dropped", index_dropped, 0, "CORRUPT(0, index)"),
    ("the newest head flipped", head_flipped, 0, "CORRUPT(0, head)"),
    *[
        (f"segment {n} flipped", segment_flipped, n, f"CORRUPT({1 + SEALED * (n - 1)}, segment)")
        for n in (1, 2)
    ],
    *[
        (f"segment {n} missing", segment_missing, n, f"CORRUPT({1 + SEALED * (n - 1)}, segment)")
        for n in (1, 2)
    ],
]


@pytest.mark.parametrize(
    ("damage", "target", "expected"), [row[1:] for row in MATRIX], ids=[row[0] for row in MATRIX]
)
def test_each_fault_gets_its_verdict(state: State, damage: Damage, target: int, expected: str) -> None:
    """Offline, over rows, heads and segments."""
    assert state.report().words() == "OK"
    damage(state, target)

    words = state.report().words()
    assert words.startswith(expected), words
    assert state.report(full=True).words().startswith(expected[: expected.find("(") + 1])


def test_an_index_whose_key_has_changed_is_found_by_the_full_check(state: State) -> None:
    """Counting entries does not see it, reading them does; and repair builds it anew."""
    index_key_flipped(state, 63)

    assert state.report().words() == "OK"
    assert state.report(full=True).words() == "CORRUPT(0, index)"


TICK_ROWS = [row for row in MATRIX if "segment" not in row[0]]


@pytest.mark.parametrize(
    ("damage", "target"), [row[1:3] for row in TICK_ROWS], ids=[row[0] for row in TICK_ROWS]
)
def test_each_fault_is_found_by_the_tick_and_stays(state: State, damage: Damage, target: int) -> None:
    """The probe's own look finds it too, and no later look forgets it."""
    from ledger_world import config  # noqa: PLC0415

    clock = ManualClock()
    scrubber = Scrubber(state.path, config(), clock, places(state.path).anchor)
    assert scrubber.check().verdict is Verdict.OK
    damage(state, target)
    clock.advance(1.0)
    verdicts = [scrubber.check().verdict for _ in range(2)]
    assert not verdicts[-1].is_sound, verdicts
    clock.advance(1.0)
    assert scrubber.check().verdict is verdicts[-1]


async def clean_run(path: Path, run: int) -> None:
    """A ledger opened, used, sealed, crashed or closed, and looked at all the while."""
    ledger = await open_ledger(path, places(path), seal_records=7, head_records=1 + run % 5)
    scrubber_clock = ManualClock()
    from ledger_world import config  # noqa: PLC0415

    scrubber = Scrubber(path, config(tail_check_records=3), scrubber_clock, places(path).anchor)
    for number in range(run * 10, run * 10 + 2):
        await ledger.open_turn(opening(number))
        if number % 3:
            await ledger.close_turn(closing(number))
        scrubber_clock.advance(0.01)
        report = scrubber.check()
        assert report.verdict.is_sound, report
    if run % 4 == 3:  # as if killed: what is written stays, nothing is closed
        await ledger._writer.call(ledger._appender.drop)
        keeping_of(ledger)._appender.frontier = None
    await ledger.close()
    report = verify_everything(path, places(path), full=run % 3 == 0)
    assert report.verdict.is_sound, report


@pytest.mark.parametrize("runs", [15, pytest.param(100, marks=pytest.mark.long)])
async def test_clean_runs_raise_no_alarm(tmp_path: Path, runs: int) -> None:
    """Openings, turns, seals, crashes and checks, one after another in the same files: never a fault."""
    for run in range(runs):
        await clean_run(tmp_path / "ledger.db", run)


@pytest.mark.slow
async def test_a_thousand_clean_runs_raise_no_alarm(tmp_path: Path) -> None:
    """Likewise, for as long as a ledger is restarted in three years."""
    for run in range(1_000):
        await clean_run(tmp_path / f"{run // 100}" / "ledger.db", run) if _made(tmp_path, run) else None


def _made(tmp_path: Path, run: int) -> bool:
    (tmp_path / f"{run // 100}").mkdir(exist_ok=True)
    return True
