"""The last sound copy of a damaged store in its place, and the damaged file as it was beside it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import apsw
import msgspec
import pytest
from datastore_world import Store
from patience import PATIENCE_SECONDS

from epad.checkpoint.bundle import Label, bundle_id, create, verify
from epad.checkpoint.source import FileSource
from epad.datastore import restore as module
from epad.datastore.restore import (
    INTENT_FILE,
    MAX_PUT_ASIDE,
    RECORD_FILE,
    Answer,
    Restored,
    answer,
    await_closed,
    last_restored,
)
from epad.inspection.baseline import GOOD_FILE
from epad.inspection.inspect import Look, look

MakeStore = Callable[..., Store]
NOW = datetime(2026, 11, 23, tzinfo=UTC)


class Bench:
    """A store that was found sound once, with all that is kept of it."""

    def __init__(self, store: Store, root: Path) -> None:
        self.store, self.path = store, store.path
        self.home, self.checkpoints = root / "datastores" / "memory", root / "checkpoints"
        self.checkpoints.mkdir()
        store.rest()
        assert look(self.path, self.home, "auto", 0.05).faults == ()

    def damage(self) -> bytes:
        """Make it a file that no SQLite reads; return what it is now."""
        whole = self.path.read_bytes()
        self.path.write_bytes(whole[:4096] + os.urandom(4096) + whole[8192:])
        return self.path.read_bytes()

    def restore(self, key: str = "k") -> Answer:
        return answer(self.path, self.home, self.checkpoints, "auto", 0.05, key)

    def aside(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.path.parent.glob("memory.db.damaged-*")}

    def others(self) -> set[str]:
        """What lies beside it that is neither it nor put aside."""
        return {p.name for p in self.path.parent.glob("*memory.db*")} - {self.path.name} - set(self.aside())

    async def checkpoint(self, number: int) -> str:
        label = Label(bundle_id(NOW, number), "checkpoint", "a test", NOW)
        source = FileSource("datastores/memory/memory.db", self.path, role="datastore")
        bundle = await create(self.checkpoints, [source], label, deadline_seconds=PATIENCE_SECONDS)
        await verify(bundle.path, deadline_seconds=PATIENCE_SECONDS)
        return bundle.id


@pytest.fixture
def bench(make_store: MakeStore, tmp_path: Path) -> Bench:
    return Bench(make_store(), tmp_path)


def rows(path: Path) -> int:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(connection.execute("SELECT count(*) FROM entities").get)
    finally:
        connection.close()


def test_the_last_sound_copy_takes_the_place_of_the_damaged_file(bench: Bench) -> None:
    """The file and its log are kept as they were, the copy has their mode, and who reads is told from when it is."""
    bench.path.chmod(0o640)
    wal = bench.path.with_name("memory.db-wal")
    wal.write_bytes(b"what was never checkpointed")
    damaged = bench.damage()
    done = bench.restore()
    assert done.error == ""
    assert done.restored is not None
    assert done.seen.is_sound
    assert rows(bench.path) == 120
    assert bench.path.stat().st_mode & 0o777 == 0o640
    aside = Path(done.restored.aside)
    assert bench.aside() == {aside.name: damaged, f"{aside.name}-wal": b"what was never checkpointed"}
    assert bench.others() == set()
    assert f"restored 600 rows as of {done.restored.as_of:%Y-%m-%d}" in done.restored.sentence
    assert done.restored.sentence.endswith(f"what was written since is in {aside}")
    assert last_restored(bench.home) == done.restored


def test_a_database_in_wal_mode_is_in_wal_mode_again(make_store: MakeStore, tmp_path: Path) -> None:
    """Its writer may rely on readers that do not block it; every copy is a single file, and never in that mode."""
    store = make_store()
    store.connection.pragma("journal_mode", "wal")
    bench = Bench(store, tmp_path)
    bench.damage()
    assert bench.restore().seen.is_sound
    connection = apsw.Connection(str(bench.path))
    assert connection.pragma("journal_mode") == "wal"
    connection.close()


async def test_where_the_last_sound_copy_is_gone_bad_a_verified_checkpoint_is_next(bench: Bench) -> None:
    """The newest; that it has fewer rows than the last look saw is no damage of it."""
    bench.store.connection = apsw.Connection(str(bench.path))
    await bench.checkpoint(1)
    newest = await bench.checkpoint(2)
    bench.store.grow(80)
    bench.store.rest()
    assert look(bench.path, bench.home, "auto", 0.05).is_sound
    (bench.home / GOOD_FILE).write_bytes(b"rotten")
    bench.damage()
    done = bench.restore()
    assert done.restored is not None, done.error
    assert (done.restored.source, rows(bench.path)) == (f"checkpoint {newest}", 120)
    assert "restored it as of 2026-11-23 00:00:00Z" in done.restored.sentence
    assert look(bench.path, bench.home, "auto", 0.05).is_sound


@pytest.mark.parametrize("good", [b"rotten", None])
def test_without_a_good_copy_it_is_as_it_was(bench: Bench, good: bytes | None) -> None:
    """The same file, with its time; the error names it and what is left to do."""
    (bench.home / GOOD_FILE).unlink()
    if good is not None:
        (bench.home / GOOD_FILE).write_bytes(good)
    damaged, before = bench.damage(), bench.path.stat()
    error = bench.restore().error
    assert str(bench.path) in error
    assert "there is no good copy (the last sound copy: " in error
    assert "epactl datastore accept" in error
    assert (bench.path.stat().st_ino, bench.path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert bench.path.read_bytes() == damaged
    assert (bench.aside(), bench.others(), (bench.home / INTENT_FILE).exists()) == ({}, set(), False)


def test_a_copy_that_is_not_sound_in_its_place_is_taken_out_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the look finds is in the error, and the damaged file has its log again."""
    damaged = bench.damage()
    wal = bench.path.with_name("memory.db-wal")
    wal.write_bytes(b"its log")
    monkeypatch.setattr(module, "look", lambda *_, **__: Look("copy", (("flip", "a bit"),)))
    assert "the last sound copy: flip: a bit" in bench.restore().error
    assert (bench.path.read_bytes(), wal.read_bytes()) == (damaged, b"its log")
    assert (bench.aside(), bench.others()) == ({}, {"memory.db-wal"})


def test_one_operation_restores_once(bench: Bench) -> None:
    """A life that was killed before the journal heard of it asks again, and no sound copy is put aside."""
    bench.damage()
    first = bench.restore("k")
    again = bench.restore("k")
    assert again.restored == first.restored
    assert again.seen.is_sound
    assert len(bench.aside()) == 1


def test_no_more_damaged_files_than_are_kept(bench: Bench) -> None:
    """None is removed: the next is refused, and says what to do."""
    for number in range(MAX_PUT_ASIDE):
        bench.damage()
        assert bench.restore(f"k{number}").error == ""
    damaged = bench.damage()
    assert len(bench.aside()) == MAX_PUT_ASIDE
    assert f"{MAX_PUT_ASIDE} damaged files lie beside" in bench.restore("one more").error
    assert bench.path.read_bytes() == damaged


def test_nothing_is_replaced_under_a_process_that_has_it_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on writing to the file that was put aside; which process it is, is said."""
    monkeypatch.setattr(module, "OPEN_SECONDS", 0.0)
    damaged = bench.damage()
    with bench.path.open("rb") as held:
        holder = subprocess.Popen(["/bin/sleep", "600"], pass_fds=(held.fileno(),))
    try:
        assert f"is open in sleep (pid {holder.pid}); stop it first" in bench.restore().error
        assert bench.path.read_bytes() == damaged
    finally:
        holder.kill()
        holder.wait()
    await_closed([bench.path], 30.0)


def test_what_somebody_has_put_under_the_name_of_the_staged_copy_is_not_written_to(
    bench: Bench, tmp_path: Path
) -> None:
    """The directory is another's: a link there must not lead a daemon that is root to a file of its choice."""
    target = tmp_path / "somebody's"
    target.write_bytes(b"not to be touched")
    bench.path.with_name(".memory.db.restoring").symlink_to(target)
    bench.path.with_name(".memory.db.restoring-wal").write_bytes(b"of a life that was killed")
    bench.damage()
    assert bench.restore().seen.is_sound
    assert target.read_bytes() == b"not to be touched"
    assert bench.others() == set()


def test_what_was_begun_for_another_file_is_not_gone_on_with(bench: Bench, tmp_path: Path) -> None:
    """The table's path was changed in between: the other file keeps its name, whatever it has."""
    other = tmp_path / "other.db"
    other.write_bytes(bench.path.read_bytes())
    plan = Restored("k", NOW, str(other), f"{other}.damaged", "the last sound copy", NOW, 600, "0" * 64)
    (bench.home / INTENT_FILE).write_bytes(msgspec.json.encode(plan))
    damaged = bench.damage()
    assert bench.restore().seen.is_sound
    assert list(bench.aside().values()) == [damaged]
    assert other.exists()


def test_a_link_is_followed_and_stays(bench: Bench, tmp_path: Path) -> None:
    """What is restored is the file, wherever the link leads."""
    link = tmp_path / "link.db"
    link.symlink_to(bench.path)
    damaged = bench.damage()
    done = answer(link, bench.home, bench.checkpoints, "auto", 0.05, "k")
    assert done.error == ""
    assert link.is_symlink()
    assert list(bench.aside().values()) == [damaged]
    assert (bench.home / RECORD_FILE).exists()
