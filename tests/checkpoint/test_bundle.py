"""Bundles from outside: made beside a busy writer, killed anywhere, damaged, starved of room."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import resource
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from epad.checkpoint.bundle import Bundle, Label, bundle_id, bundle_number, create, read_bundle, verify
from epad.checkpoint.manifest import MANIFEST_FILE, SUMS_FILE, VERIFIED_FILE
from epad.checkpoint.source import BytesSource, DirectorySource, FileSource, Source, SqliteSource
from epad.checkpoint.verify import bundle_faults
from epad.copying.disk import Disk
from epad.copying.errors import BundleDamagedError, CheckpointError, DiskFullError

AT = datetime(2026, 11, 22, 13, 30, tzinfo=UTC)

WRITER = textwrap.dedent(
    """
    import sys, apsw
    connection = apsw.Connection(sys.argv[1])
    connection.set_busy_timeout(5000)
    number = 1000
    while True:
        with connection:
            connection.execute("INSERT INTO entity VALUES (?, 'busy')", (number,))
            connection.execute("INSERT INTO observation VALUES (?, ?, 'busy')", (number, number))
        number += 1
        if number == 1010:
            print("writing", flush=True)
    """
)

MAKER = textwrap.dedent(
    """
    import asyncio, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from epad.checkpoint.bundle import Label, create
    from epad.checkpoint.source import BytesSource, FileSource, SqliteSource
    directory, identity, database, file = sys.argv[1:]
    sources = [
        SqliteSource("graph.db", Path(database)),
        FileSource("wargame/rounds.json", Path(file)),
        BytesSource("REPORT.md", b"why"),
    ]
    label = Label(identity, "checkpoint", "killed", datetime(2026, 1, 1, tzinfo=UTC))
    asyncio.run(create(Path(directory), sources, label, deadline_seconds=60))
    """
)


def state_of(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(bytes(data))


@pytest.fixture
def sources(tmp_path: Path, database: Path) -> list[Source]:
    rounds = tmp_path / "rounds.json"
    rounds.write_text('{"round": 4}')
    return [
        BytesSource("REPORT.md", b"# Why\n"),
        FileSource("wargame/rounds.json", rounds),
        SqliteSource("graph.db", database),
    ]


async def test_a_bundle_holds_every_source_and_reads_without_epad(
    make_bundle: Callable[..., Awaitable[Bundle]], sources: list[Source]
) -> None:
    """What is in, what the manifest says and what sha256sum says agree, and only the owner may look."""
    bundle = await make_bundle(*sources)
    assert bundle.id == "20261122T133000Z-000001"
    assert not bundle.partial
    assert not bundle.verified
    assert [(p.name, p.how) for p in bundle.manifest.parts] == [
        ("REPORT.md", "bytes"),
        ("wargame/rounds.json", "copy"),
        ("graph.db", "sqlite_backup"),
    ]
    assert bundle.manifest.facts == {"phase": "PRESERVATION", "ledger_size": 7}
    graph = sources[2]
    assert isinstance(graph, SqliteSource)
    assert bundle.manifest.parts[2].origin == str(graph.path)
    assert bundle.path.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in bundle.path.rglob("*"))
    for part in bundle.manifest.files:
        data = (bundle.path / part.file).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part.size_bytes, part.sha256)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", "--quiet", SUMS_FILE], cwd=bundle.path, check=True)


async def test_a_database_is_copied_whole_beside_a_busy_writer(
    make_bundle: Callable[..., Awaitable[Bundle]], database: Path
) -> None:
    """The copy is one consistent moment of a WAL database, in one file."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(database)], stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        bundle = await make_bundle(SqliteSource("graph.db", database))
        verification = await verify(bundle.path, 60.0)
        writer.kill()
    assert verification.ok, verification.faults
    assert set(state_of(bundle.path)) == {"graph.db", MANIFEST_FILE, SUMS_FILE, VERIFIED_FILE}
    copy = apsw.Connection(str(bundle.path / "graph.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert copy.pragma("journal_mode") == "delete"
    entities = copy.execute("SELECT count(*) FROM entity").fetchall()
    observations = copy.execute("SELECT count(*) FROM observation").fetchall()
    copy.close()
    assert entities == observations
    assert entities >= [(210,)]


async def test_a_source_that_cannot_be_read_is_recorded_and_stops_nothing(
    make_bundle: Callable[..., Awaitable[Bundle]], sources: list[Source], tmp_path: Path
) -> None:
    """Missing, unreadable as a database, a FIFO: each has its line, the rest is saved; but it is no whole copy."""
    (tmp_path / "noise.db").write_bytes(b"no database at all" * 100)
    os.mkfifo(tmp_path / "pipe")
    bundle = await make_bundle(
        SqliteSource("gone.db", tmp_path / "gone.db"),
        SqliteSource("noise.db", tmp_path / "noise.db"),
        FileSource("gone.json", tmp_path / "gone.json"),
        FileSource("pipe", tmp_path / "pipe"),
        *sources,
    )
    assert bundle.partial
    errors = {part.name: part.error for part in bundle.manifest.lost}
    assert errors == {
        "gone.db": f"{tmp_path}/gone.db: no such file",
        "noise.db": f"{tmp_path}/noise.db: file is not a database",
        "gone.json": f"{tmp_path}/gone.json: No such file or directory",
        "pipe": f"{tmp_path}/pipe: not a regular file",
    }
    assert {part.name for part in bundle.manifest.files} == {s.name for s in sources}
    assert bundle_faults(bundle.path) == ()
    verification = await verify(bundle.path, 60.0)
    assert verification.faults == tuple(f"{name} is not in it: {why}" for name, why in errors.items())
    assert not read_bundle(bundle.path).verified


async def test_what_is_not_made_yet_is_not_missed_and_what_cannot_be_looked_at_is(
    make_bundle: Callable[..., Awaitable[Bundle]], sources: list[Source], tmp_path: Path
) -> None:
    """A subsystem's own state may come later; a place that refuses the question is no such place."""
    file = tmp_path / "a file"
    file.touch()
    unseen = tmp_path / ("x" * 300)
    bundle = await make_bundle(
        *sources,
        FileSource("later.json", tmp_path / "later.json", optional=True),
        FileSource("below.json", file / "below.json", optional=True),
        FileSource("unseen.json", unseen, optional=True),
    )
    [lost] = bundle.manifest.lost
    assert (lost.name, "File name too long" in lost.error) == ("unseen.json", True)
    assert {part.name for part in bundle.manifest.parts} == {*(s.name for s in sources), "unseen.json"}


async def test_a_source_that_hangs_costs_its_share_of_the_time_and_no_more(
    label: Callable[..., Label], sources: list[Source], tmp_path: Path, database: Path
) -> None:
    """A database that another program holds locked for ever does not stop the rest."""
    holder = apsw.Connection(str(database))
    holder.pragma("locking_mode", "exclusive")
    holder.execute("BEGIN EXCLUSIVE")
    bundle = await create(tmp_path / "checkpoints", [sources[2], *sources[:2]], label(), deadline_seconds=6.0)
    holder.close()
    assert [part.name for part in bundle.manifest.lost] == ["graph.db"]
    assert "not done within" in bundle.manifest.lost[0].error
    assert {part.name for part in bundle.manifest.files} == {"REPORT.md", "wargame/rounds.json"}
    assert not list(bundle.path.glob("graph.db*"))


async def test_made_twice_is_made_once(
    make_bundle: Callable[..., Awaitable[Bundle]], sources: list[Source]
) -> None:
    """The same id gives the same bundle back, whatever the sources say by then."""
    first = await make_bundle(*sources)
    before = state_of(first.path)
    again = await make_bundle(BytesSource("REPORT.md", b"something else"))
    assert again == first
    assert state_of(again.path) == before


async def test_a_leftover_is_started_over(
    make_bundle: Callable[..., Awaitable[Bundle]], sources: list[Source], tmp_path: Path
) -> None:
    """What a killed daemon left is not mixed into the new bundle."""
    leftover = tmp_path / "checkpoints" / (bundle_id(AT, 1) + ".partial")
    leftover.mkdir(parents=True)
    (leftover / "half.db").write_bytes(b"half")
    bundle = await make_bundle(*sources)
    assert not leftover.exists()
    assert not (bundle.path / "half.db").exists()
    assert (await verify(bundle.path, 60.0)).ok


class Died(Exception):  # noqa: N818
    """The power went."""


class MortalDisk(Disk):
    """A disk whose owner dies at its n-th call: before it is done, or just after."""

    def __init__(self, dies_at: int, *, after: bool) -> None:
        self.calls = 0
        self._dies_at = dies_at
        self._after = after

    def __getattribute__(self, name: str) -> object:
        attribute = super().__getattribute__(name)
        if name.startswith("_") or not callable(attribute):
            return attribute

        def mortal(*arguments: object) -> None:
            self.calls += 1
            if self.calls == self._dies_at and not self._after:
                raise Died
            attribute(*arguments)
            if self.calls == self._dies_at:
                raise Died

        return mortal


async def test_death_at_every_step_converges_to_the_same_bundle(
    label: Callable[..., Label], tmp_path: Path
) -> None:
    """Whatever call the daemon died at, either no bundle has the name or a good one; the next try makes it."""
    sources = [BytesSource("REPORT.md", b"why"), BytesSource("wargame/rounds.json", b"{}")]
    counting = MortalDisk(0, after=False)
    whole = await create(tmp_path / "whole", sources, label(), deadline_seconds=9.0, disk=counting)
    expected = state_of(whole.path)
    assert counting.calls > 8
    for dies_at in range(1, counting.calls + 1):
        for after in (False, True):
            place = tmp_path / f"{dies_at}-{after}"
            with pytest.raises(Died):
                await create(
                    place, sources, label(), deadline_seconds=9.0, disk=MortalDisk(dies_at, after=after)
                )
            if (place / whole.id).exists():
                assert state_of(place / whole.id) == expected
            again = await create(place, sources, label(), deadline_seconds=9.0)
            assert state_of(again.path) == expected
            assert [path.name for path in place.iterdir()] == [whole.id]


async def test_kill_9_at_random_moments_converges(tmp_path: Path, database: Path) -> None:
    """A maker killed anywhere leaves no child behind and no half bundle with a whole one's name."""
    directory = tmp_path / "checkpoints"
    rounds = tmp_path / "rounds.json"
    rounds.write_bytes(b"r" * 300_000)
    generator = random.Random(5)
    for number in range(1, 9):
        identity = bundle_id(AT, number)
        command = [sys.executable, "-c", MAKER, str(directory), identity, str(database), str(rounds)]
        maker = await asyncio.create_subprocess_exec(*command)
        await asyncio.sleep(generator.uniform(0.05, 0.7))
        if maker.returncode is None:
            maker.kill()
        await maker.wait()
        if (directory / identity).exists():
            assert read_bundle(directory / identity).manifest.id == identity
        again = await asyncio.create_subprocess_exec(*command)
        assert await again.wait() == 0
        bundle = read_bundle(directory / identity)
        assert [part.name for part in bundle.manifest.files] == [
            "graph.db",
            "wargame/rounds.json",
            "REPORT.md",
        ]
    assert (await verify(bundle.path, 60.0)).ok


async def test_a_full_disk_is_said_and_leaves_no_bundle(
    label: Callable[..., Label], sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a copier runs out of room the error says so, names the place, and the room is given back."""
    real = asyncio.create_subprocess_exec

    def starve() -> None:  # more than the 32 KiB of the source's own -shm, less than either copy
        resource.setrlimit(resource.RLIMIT_FSIZE, (36_864, 36_864))

    async def starved(*arguments: str, **options: Any) -> object:
        return await real(*arguments, preexec_fn=starve, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", starved)
    big = tmp_path / "big.bin"
    big.write_bytes(b"b" * 80_000)
    graph = sources[2]
    assert isinstance(graph, SqliteSource)
    assert graph.path.stat().st_size > 36_864
    for source in (graph, FileSource("big.bin", big)):
        with pytest.raises(DiskFullError, match="disk full") as raised:
            await create(tmp_path / "checkpoints", [source], label(), deadline_seconds=60.0)
        assert str(tmp_path / "checkpoints") in str(raised.value)
        assert list((tmp_path / "checkpoints").iterdir()) == []


async def test_a_full_disk_at_the_manifest_is_the_same(label: Callable[..., Label], tmp_path: Path) -> None:
    """The last few hundred bytes can be what does not fit."""

    class FullDisk(Disk):
        def write(self, path: Path, data: bytes) -> None:
            if path.name == MANIFEST_FILE:
                raise OSError(28, "No space left on device")
            super().write(path, data)

    with pytest.raises(DiskFullError, match="disk full"):
        await create(tmp_path / "c", [BytesSource("a", b"a")], label(), deadline_seconds=9.0, disk=FullDisk())
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "", "a//b", "MANIFEST.json", "a\nb", "wargame"])
async def test_a_source_without_a_place_of_its_own_is_refused(
    label: Callable[..., Label], tmp_path: Path, name: str
) -> None:
    """Names stay inside the bundle, and no two sources share one."""
    sources = [BytesSource("wargame/rounds.json", b""), BytesSource(name, b"")]
    with pytest.raises(CheckpointError, match="source"):
        await create(tmp_path, sources, label(), deadline_seconds=1.0)
    assert list(tmp_path.iterdir()) == []


async def test_every_flipped_byte_is_found_and_named(
    make_bundle: Callable[..., Awaitable[Bundle]], sources: list[Source]
) -> None:
    """One bit in any file of a bundle, its own included, and it is not VERIFIED any more."""
    bundle = await make_bundle(*sources)
    generator = random.Random(6)
    for name, data in state_of(bundle.path).items():
        assert (await verify(bundle.path, 60.0)).ok
        assert read_bundle(bundle.path).verified
        flip(bundle.path / name, generator.randrange(len(data)), generator.randrange(8))
        verification = await verify(bundle.path, 60.0)
        assert not verification.ok
        assert any(name in fault for fault in verification.faults), (name, verification.faults)
        assert not (bundle.path / VERIFIED_FILE).exists()
        (bundle.path / name).write_bytes(data)
    assert (await verify(bundle.path, 60.0)).ok
    flip(bundle.path / VERIFIED_FILE, 5)
    assert not read_bundle(bundle.path).verified


async def test_damage_that_was_copied_is_found(
    make_bundle: Callable[..., Awaitable[Bundle]], database: Path
) -> None:
    """A faithful copy of a broken database is a faithful copy, and not a verified one."""
    size = database.stat().st_size
    data = bytearray(database.read_bytes())
    data[size // 2 : size // 2 + 4096] = bytes(4096)
    database.write_bytes(bytes(data))
    bundle = await make_bundle(SqliteSource("graph.db", database))
    verification = await verify(bundle.path, 60.0)
    assert not verification.ok
    assert verification.faults[0].startswith("graph.db: ")


async def test_a_dangling_row_of_a_declared_database_is_found(
    make_bundle: Callable[..., Awaitable[Bundle]], database: Path
) -> None:
    """Foreign keys are checked where the database was declared; a stranger's file may break its own rules."""
    connection = apsw.Connection(str(database))
    connection.execute("DELETE FROM entity WHERE id = 17")
    connection.close()
    declared = await verify((await make_bundle(SqliteSource("graph.db", database))).path, 60.0)
    assert declared.faults == ("graph.db: row 17 of observation refers to a row of entity that is not there",)
    found = await make_bundle(DirectorySource("home", database.parent), number=2)
    assert [part.how for part in found.manifest.parts] == ["sqlite_backup"]
    assert (await verify(found.path, 60.0)).ok


async def test_a_file_that_is_missing_or_too_many_is_found(
    make_bundle: Callable[..., Awaitable[Bundle]], sources: list[Source]
) -> None:
    """A bundle is exactly what its manifest says."""
    bundle = await make_bundle(*sources)
    (bundle.path / "wargame/rounds.json").unlink()
    (bundle.path / "stranger").write_bytes(b"?")
    verification = await verify(bundle.path, 60.0)
    assert set(verification.faults) == {
        "wargame/rounds.json: No such file or directory",
        "stranger: not in the manifest",
    }


async def test_a_check_that_takes_too_long_is_not_a_good_one(
    make_bundle: Callable[..., Awaitable[Bundle]], sources: list[Source]
) -> None:
    """Out of time means not verified, and nothing is marked."""
    bundle = await make_bundle(*sources)
    verification = await verify(bundle.path, 0.001)
    assert not verification.ok
    assert "not done within" in verification.faults[0]
    assert not read_bundle(bundle.path).verified


async def test_a_damaged_bundle_is_not_taken_for_a_made_one(
    make_bundle: Callable[..., Awaitable[Bundle]], sources: list[Source]
) -> None:
    """Asked for again, a bundle whose manifest is gone is an error that names it."""
    bundle = await make_bundle(*sources)
    (bundle.path / MANIFEST_FILE).write_bytes(b"{")
    with pytest.raises(BundleDamagedError, match=MANIFEST_FILE):
        await make_bundle(*sources)
    assert bundle.path.exists()


async def test_cancelling_ends_the_copier(
    label: Callable[..., Label], database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled checkpoint leaves no process writing behind it."""
    holder = apsw.Connection(str(database))
    holder.pragma("locking_mode", "exclusive")
    holder.execute("BEGIN EXCLUSIVE")
    started: list[asyncio.subprocess.Process] = []
    real = asyncio.create_subprocess_exec

    async def noted(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(await real(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    source = SqliteSource("graph.db", database)
    task = asyncio.create_task(create(tmp_path / "c", [source], label(), deadline_seconds=60.0))
    while not started:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert started[0].returncode is not None
    holder.close()


def test_numbers_order_and_names_are_for_people() -> None:
    """A bundle's name says when; only its number says which is newer."""
    assert bundle_number("20261122T133000Z-000123") == 123
    assert bundle_number("20261122T133000Z-000123.partial") == 123
    assert bundle_number("lost+found") is None
    assert bundle_number("20261122T133000Z-000123.removing") is None
