"""The ledger's own writer killed at every operation: commits, heads, seals; what was acknowledged is never lost.

In process, over a disk that forgets: SQLite's files (tests/support/crash_disk.py), and those of heads and segments
(tests/support/crash_files.py), written in the order in which the daemon writes them: a head after its commit.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest
from crash_disk import CrashVfs, Death, Killed, Plug, mounted
from crash_files import CrashFiles, copy_all_but_the_ledger
from ledger_world import BOOT, closing, config, opening, places

from epad.ledger.anchor import Anchor, Heads
from epad.ledger.append import Appender
from epad.ledger.entry import Entry
from epad.ledger.errors import LedgerError
from epad.ledger.full_verification import verify_everything
from epad.ledger.head import Head
from epad.ledger.heads_and_segments import note_sealed, sum_up
from epad.ledger.rows import open_reader
from epad.ledger.seal import Sealer
from epad.ledger.tail import Tail
from epad.storage.database import connect, fetch
from statemachine.clock import ManualClock

PLANTED = 3
"""A planted bug is looked for at each third operation: it must be caught, not counted."""
BATCHES, TURNS_A_BATCH, SEAL_AFTER = 4, 3, (1, 3)
OPERATIONS = (
    "write ledger.db-wal, fsync ledger.db-wal, write ledger.db, fsync ledger.db, unlink ledger.db-wal,"
    " create head.new, write head.new, fsync head.new, rename head, fsync anchor, write heads.log, fsync heads.log,"
    " create 00000003.new, fsync 00000003.new, rename 00000003.seg, fsync segments"
)


@dataclass
class Told:
    """What callers were told is on the disk: each record's number and link."""

    links: dict[int, bytes] = field(default_factory=dict)
    went_on: str = "the next life never began"

    def written(self, tail: Tail) -> None:
        self.links[tail.seq] = tail.link


AppenderOf = Callable[[Path, Heads, Told], Appender]


def honest(path: Path, heads: Heads, _: Told) -> Appender:
    return Appender(path, config(), ManualClock(), BOOT, heads)


@dataclass
class Life:
    """One run of the writer: group commits, a head behind each, a seal now and then, an orderly end."""

    path: Path
    told: Told
    first_turn: int = 0
    appender_of: AppenderOf = honest
    appender: Appender | None = None

    def run(self) -> None:
        where = places(self.path)
        anchor = Anchor.open(where)
        self.appender = appender = self.appender_of(self.path, anchor.read(), self.told)
        appender.open()
        for batch in range(BATCHES):
            start = self.first_turn + batch * TURNS_A_BATCH
            turns = range(start, start + TURNS_A_BATCH)
            appender.append([entry(n) for n in turns for entry in (opening, closing)])
            self.told.written(appender.tail)
            self._write_head(appender, anchor)
            if batch in SEAL_AFTER:
                self._seal(appender, Sealer(where.segments, anchor.signer))
        appender.close()

    def _write_head(self, appender: Appender, anchor: Anchor) -> None:
        if appender.frontier is None:
            raise LedgerError(f"no head may be signed: {appender.withheld}")
        frontier, link = appender.frontier, appender.tail.link
        anchor.write(Head(frontier.size, frontier.root(), link, 0), log=True)

    def _seal(self, appender: Appender, sealer: Sealer) -> None:
        with contextlib.closing(open_reader(self.path)) as reader:
            seal = sealer.seal(reader, appender.tail.seq, 0)
            assert seal is not None
            sums = sum_up(reader, seal, sealer.signer)
        assert sums is not None
        appender.write(lambda connection: note_sealed(connection, seal, sums))


@dataclass
class Campaign:
    """Every operation of a life, each by so many kinds of death, which take turns."""

    directory: Path
    files: CrashFiles
    appender_of: AppenderOf = honest
    operations: Counter[str] = field(default_factory=Counter)
    cases: list[tuple[str, Path, Told]] = field(default_factory=list)

    def run(self, deaths: int = 1, *, lies: bool = False, stride: int = 1) -> list[str]:
        """The broken promises, of each operation or each so many; read when the disk that forgets is gone."""
        template = self.directory / "template/ledger.db"
        template.parent.mkdir()
        with mounted(CrashVfs(lies=lies)) as vfs:
            Life(template, Told()).run()
            tick = 1
            while self._die_at(vfs, tick, deaths):
                tick += stride
        return [
            f"{where}: {each}" for where, path, told in self.cases for each in broken_promises(path, told)
        ]

    def _die_at(self, vfs: CrashVfs, tick: int, deaths: int) -> bool:
        """Whether there is such an operation."""
        for turn in range(deaths):
            death = list(Death)[(tick + turn) % len(Death)]
            case = self.directory / f"{tick}-{turn}"
            told = Told()
            died_at = self._two_lives(vfs, tick, death, case, told)
            if not died_at:
                return False
            self.operations[died_at] += 1
            self.cases.append((f"{death} at operation {tick}, {died_at}", case / "two/ledger.db", told))
        return True

    def _two_lives(self, vfs: CrashVfs, tick: int, death: Death, case: Path, told: Told) -> str:
        """One that ends at this operation, and one that is left alone; where the first died."""
        template, path, after = self.directory / "template", case / "one/ledger.db", case / "two/ledger.db"
        copy_all_but_the_ledger(template, path.parent)
        vfs.load(template / "ledger.db", path)
        vfs.plug = plug = Plug(tick)
        self.files.watch(path.parent, plug)
        first = Life(path, told, 100, self.appender_of)
        try:
            first.run()
        except (Killed, LedgerError, apsw.Error):  # SQLite has words of its own for a disk that is gone
            if not plug.pulled:
                raise
        if first.appender is not None:
            with contextlib.suppress(Killed):
                first.appender.drop()
        after.parent.mkdir()
        self.files.leave(after.parent, death, random.Random(tick))
        vfs.leave(path, after, death, random.Random(tick))
        vfs.plug = Plug()
        self.files.watch(after.parent, Plug())
        told.went_on = _go_on(Life(after, told, 1_000))
        return plug.trace[-1] if plug.pulled else ""


def _go_on(life: Life) -> str:
    """Why the next life could not go on; empty if it could."""
    try:
        life.run()
    except LedgerError as error:
        if life.appender is not None:
            life.appender.drop()
        return f"the next life could not go on: {error}"
    return ""


def broken_promises(path: Path, told: Told) -> list[str]:
    """What is not as it was promised, after the last life."""
    broken = [told.went_on] if told.went_on else []
    try:
        report = verify_everything(path, places(path), full=True)
        with contextlib.closing(open_reader(path)) as reader:
            links = dict(fetch(reader, "SELECT seq, link FROM record"))
    except (LedgerError, apsw.Error) as error:
        return [*broken, f"the books cannot be read: {error}"]
    if report.words() != "OK":
        broken.append(f"verify says {report.words()}: {report.faults[:1]}")
    lost = [number for number, link in told.links.items() if links.get(number) != link]
    if lost:
        broken.append(f"acknowledged and lost: {lost}")
    return broken


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> CrashFiles:
    files = CrashFiles()
    files.install(monkeypatch)
    return files


@pytest.mark.parametrize("deaths", [1, pytest.param(len(Death), marks=pytest.mark.slow)])
def test_the_writer_killed_anywhere_loses_nothing_that_it_acknowledged(
    tmp_path: Path, files: CrashFiles, deaths: int
) -> None:
    """The records are there, the chain, the heads and the seals agree, and it goes on; the kinds take turns."""
    campaign = Campaign(tmp_path, files)
    broken = campaign.run(deaths)
    print(f"\n{campaign.operations.total()} kills: {dict(campaign.operations)}")
    assert not broken, broken[:5]
    assert set(OPERATIONS.split(", ")) <= set(campaign.operations)
    assert campaign.operations["fsync ledger.db-wal"] >= BATCHES * deaths


def test_a_disk_whose_fsync_does_nothing_is_caught(tmp_path: Path, files: CrashFiles) -> None:
    """Planted: SQLite's."""
    assert Campaign(tmp_path, files).run(lies=True, stride=PLANTED)


def test_a_ledger_that_is_not_synced_is_caught(
    tmp_path: Path, files: CrashFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: synchronous=NORMAL, as many a WAL tutorial has it."""

    def careless(path: Path, **options: bool) -> apsw.Connection:
        connection = connect(path, **options)
        connection.pragma("synchronous", "normal")
        return connection

    monkeypatch.setattr("epad.ledger.append.connect", careless)
    found = Campaign(tmp_path, files).run(stride=PLANTED)
    assert any("acknowledged and lost" in each for each in found), found[:5]


def test_heads_and_segments_that_are_not_synced_are_caught(tmp_path: Path, files: CrashFiles) -> None:
    """Planted: they are renamed before their bytes are on the disk."""
    files.lies = True
    found = Campaign(tmp_path, files).run(deaths=len(Death), stride=PLANTED)
    assert any("segment" in each for each in found), found[:5]


class Early(Appender):
    """Planted: the caller hears of a record before its commit."""

    told: Told

    def _append_together(
        self, connection: apsw.Connection, start: Tail, entries: Sequence[Entry]
    ) -> tuple[range, Tail]:
        numbers, tail = super()._append_together(connection, start, entries)
        self.told.written(tail)
        return numbers, tail


def test_an_early_acknowledgement_is_caught(tmp_path: Path, files: CrashFiles) -> None:
    """It is told after the insert, and the commit is still to come."""

    def early(path: Path, heads: Heads, told: Told) -> Appender:
        appender = Early(path, config(), ManualClock(), BOOT, heads)
        appender.told = told
        return appender

    found = Campaign(tmp_path, files, early).run(stride=PLANTED)
    assert any("acknowledged and lost" in each for each in found), found[:5]
