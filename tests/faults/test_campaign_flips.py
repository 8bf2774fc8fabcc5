"""One flipped bit, anywhere in anything that epad writes: found, or nothing that it holds was touched.

Files are as a life of the daemon leaves them; each flip is put right again before the next. What is printed is in
docs/faults.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest
from crash_campaign import decision_of, is_whole
from datastore_world import Store
from ledger_world import closing, open_ledger, opening, places
from patience import PATIENCE_SECONDS

from epad.checkpoint.bundle import Label, create, read_bundle
from epad.checkpoint.source import BytesSource
from epad.checkpoint.verify import verify_bundle
from epad.control_loop.journal import Journal
from epad.copying.errors import CheckpointError
from epad.daemon.stores import SCHEMA
from epad.inspection.inspect import look
from epad.ledger.errors import LedgerError
from epad.ledger.full_verification import verify_everything
from epad.storage.database import Database, connect, fetch
from epad.storage.page_checksums import damage_of
from statemachine.clock import ManualClock
from statemachine.table import TABLE

TURNS, SEALED = 30, 40
NAMES = ("ledger", "segments", "heads", "journal", "manifests", "checkpointed files", "knowledge graph")
Look = Callable[[], str]
"""Checks what the daemon would check: what is wrong, or nothing."""


@dataclass(frozen=True)
class Class:
    """Some files of one kind, what looks after them, and what they hold."""

    files: tuple[Path, ...]
    look: Look
    content: Callable[[], object]


def flips(kind: Class, trials: int, seed: str) -> Counter[str]:
    """Flip so many bits, one at a time: `found`, `harmless` where everything reads the same, or `missed`."""
    dice, seen = random.Random(seed), Counter[str]()
    held = kind.content()
    for _ in range(trials):
        file = dice.choices(kind.files, [path.stat().st_size for path in kind.files])[0]
        whole = file.read_bytes()
        at = dice.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[at] ^= 1 << dice.randrange(8)
        write(file, bytes(damaged))
        try:
            outcome = "found" if kind.look() else "harmless" if kind.content() == held else "missed"
            seen[outcome] += 1
            if outcome == "missed":
                seen[f"{file.name} byte {at}"] += 1
        finally:
            write(file, whole)
    return seen


def write(path: Path, data: bytes) -> None:
    before = path.stat()
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # rot tells no file system
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def rows_of(path: Path) -> object:
    """All that a database says, whatever its pages look like; an error is another content."""
    with contextlib.ExitStack() as stack:
        try:
            connection = connect(path, readonly=True)
            stack.callback(connection.close, True)
            tables = fetch(connection, "SELECT name, sql FROM sqlite_schema ORDER BY name")
            names = [name for name, sql in tables if sql and sql.startswith("CREATE TABLE")]
            return tables, [connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in names]  # noqa: S608
        except Exception as error:
            return repr(error)


async def make_ledger(state: Path) -> None:
    path = state / "ledger.db"
    ledger = await open_ledger(path, places(path), seal_records=SEALED)
    for number in range(TURNS):
        await ledger.open_turn(opening(number))
        await ledger.close_turn(closing(number))
    while ledger._keeping is None or ledger._keeping._sealing is not None:
        await asyncio.sleep(0.002)
    await ledger.close()


async def make_journal(state: Path) -> None:
    """Every transition there is, each with its steps."""
    database = Database(state / "state.db", SCHEMA)
    await database.open()
    journal = Journal(database, ManualClock(), "a-boot")
    for row in TABLE:
        await journal.commit(decision_of(row))
    await database.close()


async def make_bundle(state: Path) -> Path:
    sources = [BytesSource("REPORT.md", b"why\n" * 50), BytesSource("config.json", b'{"a": 1}\n')]
    label = Label("20260101T000000Z-000001", "checkpoint", "a reason", datetime.now(UTC), {"phase": "NORMAL"})
    bundle = await create(state / "checkpoints", sources, label, deadline_seconds=PATIENCE_SECONDS)
    assert verify_bundle(bundle.path).ok
    return bundle.path


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Class]:
    state = tmp_path_factory.mktemp("flips")
    (state / "checkpoints").mkdir()
    asyncio.run(make_ledger(state))
    asyncio.run(make_journal(state))
    bundle = asyncio.run(make_bundle(state))
    ledger, journal, anchor = state / "ledger.db", state / "state.db", state / "anchor"
    segments = tuple((state / "segments").glob("*.seg"))
    assert segments

    def look_at_ledger() -> str:
        try:
            report = verify_everything(ledger, places(ledger), full=True)
        except LedgerError as error:
            return str(error)
        return "" if report.verdict.is_sound else report.words()

    def look_at_bundle() -> str:
        try:
            return "" if is_whole(bundle) and read_bundle(bundle).verified else "not as it was made"
        except CheckpointError as error:
            return str(error)

    def bytes_of(*paths: Path) -> Callable[[], object]:
        return lambda: [path.read_bytes() for path in paths]

    graph = Store(state / "memory.db")
    graph.rest()

    def look_at_graph() -> str:
        seen = look(graph.path, state / "datastore", "auto", 0.05)
        return seen.error or "; ".join(detail for _, detail in seen.faults)

    assert not look_at_graph()
    heads = tuple(anchor / name for name in ("head", "heads.log", "ledger.pub"))
    manifests = tuple(bundle / name for name in ("MANIFEST.json", "SHA256SUMS", "VERIFIED"))
    copies = (bundle / "REPORT.md", bundle / "config.json")
    return {
        "ledger": Class((ledger,), look_at_ledger, lambda: rows_of(ledger)),
        "segments": Class(segments, look_at_ledger, bytes_of(*segments)),
        "heads": Class(heads, look_at_ledger, bytes_of(*heads)),
        "journal": Class((journal,), lambda: damage_of(journal), lambda: rows_of(journal)),
        "manifests": Class(manifests, look_at_bundle, bytes_of(*manifests)),
        "checkpointed files": Class(copies, look_at_bundle, bytes_of(*copies)),
        "knowledge graph": Class((graph.path,), look_at_graph, bytes_of(graph.path)),
    }


def check(classes: dict[str, Class], trials: int, clean_runs: int) -> None:
    """The campaign, with its table printed."""
    missed = {}
    for name, kind in classes.items():
        seen = flips(kind, trials, name)
        alarms = sum(bool(kind.look()) for _ in range(clean_runs))
        print(
            f"\n{name:20} {trials} flips: {dict(seen)}; {clean_runs} clean runs: {alarms} false alarms",
            end="",
        )
        missed[name] = {key: value for key, value in seen.items() if key not in {"found", "harmless"}} | (
            {"false alarms": alarms} if alarms else {}
        )
        assert seen["found"] >= 0.2 * trials, name  # a page of the ledger may be all but empty
    assert not any(missed.values()), missed


def test_a_flipped_bit_is_found_in_all_that_epad_writes(classes: dict[str, Class]) -> None:
    """Per class: nothing missed, no false alarm."""
    check(classes, trials=150, clean_runs=50)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_flips_and_a_thousand_clean_runs(classes: dict[str, Class], name: str) -> None:
    """The same at length."""
    check({name: classes[name]}, trials=2_000, clean_runs=1_000)


def test_without_page_sums_flips_in_the_journal_are_missed(classes: dict[str, Class]) -> None:
    """Planted: `quick_check` alone, as one would have it; so the campaign can fail, and the sums are needed."""
    journal = classes["journal"].files[0]

    def quick_check() -> str:
        connection = apsw.Connection(str(journal), vfs="unix", flags=apsw.SQLITE_OPEN_READONLY)
        try:
            lines = [line for (line,) in connection.execute("PRAGMA quick_check(1)")]
        except (apsw.Error, UnicodeDecodeError) as error:
            lines = [str(error)]
        finally:
            connection.close(True)
        return "" if lines == ["ok"] else lines[0]

    naive = Class((journal,), quick_check, journal.read_bytes)
    assert flips(naive, 60, "naive")["missed"] > 20
