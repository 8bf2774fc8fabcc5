"""Putting a bundle back: all or nothing before the first rename, and nothing lost after it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from epad.checkpoint.bundle import Label, create
from epad.checkpoint.drill import drill
from epad.checkpoint.manifest import MANIFEST_FILE, SIGNATURE_FILE, SUMS_FILE, decode, encode, sums
from epad.checkpoint.restore import LOG_FILE, Restored, Wish, restore
from epad.checkpoint.source import BytesSource, DirectorySource, FileSource, Source, SqliteSource
from epad.checkpoint.verify import bundle_faults, verify_bundle
from epad.copying.disk import Disk
from epad.copying.errors import CheckpointError, DiskFullError
from epad.ledger.head import Signer
from epad.storage.state_lock import LOCK_FILE

NOW = datetime(2026, 11, 22, 20, tzinfo=UTC)


class Place:
    """A state directory with a database, files and sealed segments, and a signed bundle of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        work = self.state / "subsystems/wargame"
        for directory in (work, self.state / "segments", self.state / "anchor"):
            directory.mkdir(parents=True)
        self.database = self.state / "state.db"
        self.connection = apsw.Connection(str(self.database))
        self.connection.pragma("journal_mode", "wal")
        self.connection.execute("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
        self.rounds = work / "rounds.json"
        self.rounds.write_text("4")
        self.segment = self.state / "segments/00000001.seg"
        self.segment.write_bytes(b"sealed")
        self.segment.chmod(0o444)
        self.signer = Signer(b"k" * 32)
        (self.state / "anchor/ledger.pub").write_text(self.signer.verifier_key + "\n")
        self.sources: list[Source] = [
            BytesSource("config.json", b"{}"),
            SqliteSource("state.db", self.database),
            FileSource("subsystems/wargame/rounds.json", self.rounds),
            DirectorySource("segments", self.state / "segments", sealed=True),
        ]
        self.bundle = Path()

    async def save(self, label: Label) -> None:
        made = await create(
            self.root / "checkpoints", self.sources, label, deadline_seconds=60.0, signer=self.signer
        )
        self.bundle = made.path
        assert verify_bundle(self.bundle, state=self.state).ok

    def damage(self) -> None:
        """The daemon is gone, and left a WAL; then everything is lost."""
        self.connection.execute("INSERT INTO t VALUES (2)")
        wal = self.database.with_name("state.db-wal").read_bytes()
        self.connection.close()
        self.database.write_bytes(b"garbage")
        self.database.with_name("state.db-wal").write_bytes(wal)
        self.rounds.write_text("")
        self.segment.unlink()

    def restore(self, **options: Any) -> Restored:
        return restore(self.bundle, state=self.state, now=NOW, **options)

    def is_whole(self) -> bool:
        connection = apsw.Connection(str(self.database), flags=apsw.SQLITE_OPEN_READONLY)
        rows = connection.execute("SELECT a FROM t").fetchall()
        connection.close()
        return (rows, self.rounds.read_text(), self.segment.read_bytes()) == ([(1,)], "4", b"sealed")


@pytest.fixture
async def place(tmp_path: Path, label: Callable[..., Label]) -> Place:
    place = Place(tmp_path)
    await place.save(label())
    return place


def test_a_bundle_is_put_back_where_it_came_from(place: Place) -> None:
    """What is displaced is renamed with its WAL, and the restore is on record; the segment was linked."""
    how = {
        part["name"]: part["how"] for part in json.loads((place.bundle / MANIFEST_FILE).read_text())["parts"]
    }
    assert how["segments"] == "hard_link"
    place.damage()
    restored = place.restore()
    assert restored.ok, restored.faults
    assert place.is_whole()
    aside = {Path(path).name for path in restored.put_aside}
    identity = place.bundle.name
    assert {f"state.db.before-{identity}", f"state.db-wal.before-{identity}"} <= aside
    assert (place.state / f"state.db.before-{identity}").read_bytes() == b"garbage"
    (line,) = (place.state / LOG_FILE).read_text().splitlines()
    assert json.loads(line)["bundle"] == identity


def test_a_second_restore_runs_over_nothing_the_first_put_aside(place: Place) -> None:
    """However often: every file that was ever displaced is there."""
    place.damage()
    for _ in range(3):
        assert place.restore().ok
    assert (place.state / f"state.db.before-{place.bundle.name}").read_bytes() == b"garbage"
    assert len(list(place.state.glob("state.db.before-*"))) == 3
    assert len((place.state / LOG_FILE).read_text().splitlines()) == 3


def test_onto_an_empty_machine(place: Place, tmp_path: Path) -> None:
    """Another state directory, no keys: what lay below the old one comes below the new one."""
    other = tmp_path / "other"
    shutil.rmtree(place.state)
    assert restore(place.bundle, state=other, now=NOW).ok
    assert (other / "subsystems/wargame/rounds.json").read_text() == "4"
    assert not (other / "config.json").exists()


def test_elsewhere_touches_nothing_here(place: Place, tmp_path: Path) -> None:
    """With --to everything lies below one directory as in the bundle; a daemon may run meanwhile."""
    place.damage()
    with (place.state / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        restored = place.restore(to=tmp_path / "look")
    assert restored.ok
    assert (tmp_path / "look/subsystems/wargame/rounds.json").read_text() == "4"
    assert place.database.read_bytes() == b"garbage"


def test_a_part_alone(place: Place) -> None:
    """Named as in the manifest; one that is not there names those that are."""
    place.damage()
    assert place.restore(wish=Wish(only="subsystems/wargame")).files == (str(place.rounds),)
    assert place.database.read_bytes() == b"garbage"
    with pytest.raises(
        CheckpointError, match=r"no part 'nothing'; it has: config\.json, segments, state\.db"
    ):
        place.restore(wish=Wish(only="nothing"))


def test_under_a_living_daemon_it_is_refused(place: Place) -> None:
    """The daemon's own lock says so."""
    with (place.state / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="stop it, or restore elsewhere with --to"):
            place.restore()


def test_under_the_hands_of_another_program_it_is_refused(place: Place) -> None:
    """It would go on writing to the file that was put aside."""
    holder = subprocess.Popen(
        [sys.executable, "-c", f"f = open({str(place.rounds)!r}); print('open', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(CheckpointError, match=rf"rounds.json is open in \S+ \(pid {holder.pid}\)"):
            place.restore()
        holder.kill()


@pytest.mark.parametrize("file", ["state.db", MANIFEST_FILE, SIGNATURE_FILE, "SHA256SUMS"])
def test_any_flipped_bit_in_a_bundle_stops_a_restore(place: Place, file: str) -> None:
    """And says which file; nothing here was touched."""
    path = place.bundle / file
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), max(1, 8 * len(whole) // 60)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            place.restore()
    path.write_bytes(whole)
    assert not list(place.state.glob("*.before-*"))
    assert place.restore(to=place.root / "whole").ok


def test_a_manifest_signed_by_another_key_is_not_believed(place: Place) -> None:
    """The anchor's keys decide, not the one that the manifest names."""
    (place.state / "anchor/ledger.pub").write_text(Signer(b"o" * 32).verifier_key + "\n")
    assert not verify_bundle(place.bundle, state=place.state).ok
    with pytest.raises(CheckpointError, match=SIGNATURE_FILE):
        place.restore()


class Died(Exception):  # noqa: N818
    """The power went."""


class MortalDisk(Disk):
    """A disk whose owner dies, or which fails, at its n-th call."""

    def __init__(self, dies_at: int, error: Exception, *, after: bool = False) -> None:
        self.calls = 0
        self._dies_at = dies_at
        self._error = error
        self._after = after

    def __getattribute__(self, name: str) -> object:
        attribute = super().__getattribute__(name)
        if name.startswith("_") or not callable(attribute):
            return attribute

        def mortal(*arguments: object) -> None:
            self.calls += 1
            if self.calls == self._dies_at and not self._after:
                raise self._error
            attribute(*arguments)
            if self.calls == self._dies_at:
                raise self._error

        return mortal


def test_death_at_every_step_converges(place: Place) -> None:
    """Killed anywhere and run again, everything is whole, and the damaged original is still there."""
    place.damage()
    original = {
        p: p.read_bytes() for p in (place.database, place.database.with_name("state.db-wal"), place.rounds)
    }
    counting = MortalDisk(0, Died())
    place.restore(disk=counting)
    assert counting.calls > 15
    for dies_at in range(1, counting.calls + 1):
        for after in (False, True):
            for path in [*place.state.rglob("*.before-*"), *place.state.rglob("*.restoring-*")]:
                path.unlink()
            for path, data in original.items():
                path.write_bytes(data)
            place.segment.unlink(missing_ok=True)
            with pytest.raises(Died):
                place.restore(disk=MortalDisk(dies_at, Died(), after=after))
            assert place.restore().ok
            assert place.is_whole()
            assert b"garbage" in {p.read_bytes() for p in place.state.glob("state.db.before-*")}
            assert not list(place.state.rglob("*.restoring-*"))


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFullError), (errno.EIO, CheckpointError), (errno.EROFS, CheckpointError)],
)
def test_a_disk_that_fails_while_staging_changes_nothing(
    place: Place, number: int, kind: type[Exception]
) -> None:
    """Full, broken or read-only: an error that names a file, and the old state where it was."""
    place.damage()
    error = OSError(number, os.strerror(number), "/x")
    with pytest.raises(kind, match=os.strerror(number)):
        place.restore(disk=MortalDisk(1, error))
    assert place.database.read_bytes() == b"garbage"
    assert not list(place.state.glob("*.before-*"))


def test_the_drill_takes_the_same_path_and_leaves_nothing(place: Place) -> None:
    """A good bundle passes; one with a flipped bit, a missing part or no manifest does not."""
    scratch = place.state / "drill"
    assert drill(place.bundle, place.state, scratch).ok
    assert not scratch.exists()
    whole = (place.bundle / "state.db").read_bytes()
    (place.bundle / "state.db").write_bytes(whole[:-1])
    assert "state.db" in drill(place.bundle, place.state, scratch).faults[0]
    (place.bundle / "state.db").unlink()
    assert not drill(place.bundle, place.state, scratch).ok
    assert not scratch.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can put back what is another's")
def test_what_is_put_back_belongs_to_whom_it_belonged(place: Place) -> None:
    """Root restores a daemon's state: every file, every directory and the record of it are the daemon's."""
    place.damage()
    for path in (place.state, *place.state.rglob("*")):
        os.chown(path, 12_345, 12_346)
    place.rounds.chmod(0o640)
    shutil.rmtree(place.segment.parent)
    assert place.restore().ok
    strangers = [
        path
        for path in place.state.rglob("*")
        if (path.stat().st_uid, path.stat().st_gid) != (12_345, 12_346)
    ]
    assert strangers == []
    assert stat.S_IMODE(place.rounds.stat().st_mode) == 0o640


async def test_what_lies_elsewhere_is_written_only_when_that_is_said(
    place: Place, label: Callable[..., Label]
) -> None:
    """A bundle says where its files came from; whoever made it up could say /etc/cron.d."""
    elsewhere = place.root / "memory.jsonl"
    elsewhere.write_text("{}")
    place.sources.append(FileSource("datastores/memory/memory.jsonl", elsewhere))
    await place.save(label(2))
    place.damage()
    elsewhere.write_text("newer")
    with pytest.raises(CheckpointError, match=rf"outside of .*{elsewhere}.*--outside"):
        place.restore()
    assert elsewhere.read_text() == "newer"
    assert place.rounds.read_text() == ""
    assert place.restore(wish=Wish(outside=True)).ok
    assert elsewhere.read_text() == "{}"


def test_a_signature_that_was_taken_away_is_missed(place: Place) -> None:
    """With the hashes mended after it; where no key is known nothing could be missed."""
    manifest = decode((place.bundle / MANIFEST_FILE).read_bytes(), place.bundle)
    encoded = encode(msgspec.structs.replace(manifest, signer=""))
    (place.bundle / MANIFEST_FILE).write_bytes(encoded)
    (place.bundle / SIGNATURE_FILE).unlink()
    (place.bundle / SUMS_FILE).write_bytes(sums(manifest, encoded))
    assert [fault for fault in bundle_faults(place.bundle, place.state) if "is missing" in fault]
    with pytest.raises(CheckpointError, match=f"{SIGNATURE_FILE}: is missing"):
        place.restore()
    assert place.restore(to=place.root / "look").ok
