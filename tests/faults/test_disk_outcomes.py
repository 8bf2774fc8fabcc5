"""A full disk, a read-only one, one that cannot be read, a clock that lies: what a step says and leaves of each.

On a tmpfs of one's own; the table is that of docs/recovery.md.
"""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from datastore_world import Store
from epad_story import Story, into_recovery, memory_database
from ledger_world import closing, config, fill, flip, opening, places, stored
from patience import PATIENCE_SECONDS
from small_disk import Filler, make_read_only, tmpfs

from epad.checkpoint.bundle import bundle_id, read_bundle
from epad.checkpoint.source import BytesSource, FileSource, Source
from epad.configuration.schema import CheckpointConfig
from epad.control_loop.history import History
from epad.control_loop.step import Lane, Operation, Step, StepFailedError, StepName
from epad.datastore.restore import answer
from epad.inspection.inspect import look
from epad.ledger.errors import LedgerError
from epad.ledger.repair import RepairOutcome
from epad.ledger.store import Ledger
from epad.ledger.verify import verify
from epad.lifeboat.ballast import Ballast
from epad.lifeboat.first_tier import END, FirstTier, Item
from epad.lifeboat.frames import newest
from epad.metrics.registry import Metrics
from epad.response.lifeboat import Lifeboat
from epad.response.preservation import Preservation
from epad.response.recovery import Recovery
from statemachine.clock import ManualClock
from statemachine.phase import Phase

BULK = BytesSource("bulk", bytes(1 << 20))
NO_SECTOR = Path("/proc/self/mem")  # a regular file whose first byte the kernel answers with EIO
ARGUMENTS = {"reason": "a test", "sentence": "a test"}
CONFIG = CheckpointConfig(keep=2, deadline_seconds=PATIENCE_SECONDS)


@dataclass
class Bench:
    """The steps of PRESERVATION and LIFEBOAT over one disk."""

    disk: Path
    clock: ManualClock
    sources: list[Source]
    ballast_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        room = self.disk / "lifeboat"
        self.tier = FirstTier(room / "first-tier", 1 << 17, lambda why: [Item("why", lambda _: why.encode())])
        self.ballast = Ballast(room / "ballast", self.ballast_bytes)
        self.boat = Lifeboat(
            self.checkpoints,
            CONFIG,
            lambda: self.sources,
            dict,
            History(memory_database()),
            self.clock,
            self.tier,
            self.ballast,
        )
        self.preservation = Preservation(
            self.checkpoints, CONFIG, lambda: self.sources, dict, self.clock, Metrics()
        )

    @property
    def checkpoints(self) -> Path:
        return self.disk / "checkpoints"

    async def do(self, name: StepName, number: int = 1) -> str:
        """Do a step; what it says, or why it failed."""
        operation = Operation(number, bundle_id(self.clock.utc(), number), Lane.PHASE, "a test", ())
        works: dict[StepName, Callable[[Step, Operation], Awaitable[str]]] = {
            StepName.CHECKPOINT: self.preservation.checkpoint,
            StepName.FIRST_TIER: self.boat.save_first,
            StepName.LIFEBOAT: self.boat.save,
        }
        try:
            return await works[name](Step(name, "host", ARGUMENTS), operation)
        except StepFailedError as error:
            return f"failed: {error}"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "disk", "16m") as place:
        yield place


async def ready(disk: Path, *sources: Source, ballast_bytes: int = 4 << 20) -> Bench:
    """With the first tier's file and the ballast made while there was room."""
    bench = Bench(disk, ManualClock(), [BULK, *sources], ballast_bytes)
    assert await bench.tier.prepare() == ""
    assert bench.ballast.make()
    bench.checkpoints.mkdir()
    return bench


OUTCOMES = {
    "full disk": {
        StepName.CHECKPOINT: r"failed: .*disk full .*free some space",
        StepName.FIRST_TIER: r"first tier written: why; 4 MiB of ballast released",
        StepName.LIFEBOAT: r".* written, verified; ",  # in the ballast's room
    },
    "read-only": {
        StepName.CHECKPOINT: r"failed: .*Read-only file system",
        StepName.FIRST_TIER: r"the first tier could not be written: .*Read-only file system; "
        r"the ballast could not be removed: Read-only file system",
        StepName.LIFEBOAT: r"failed: .*Read-only file system; .*the first tier is in .*first-tier",
    },
    "I/O error in a source": {
        StepName.CHECKPOINT: r"\S+ written, NOT verified: mem is not in it: .*Input/output error; rotation is frozen",
        StepName.FIRST_TIER: r"first tier written: why; ",
        StepName.LIFEBOAT: r".* written, verified; raw copies in .*\.salvage: mem: ",
    },
}


@pytest.mark.parametrize("name", [StepName.CHECKPOINT, StepName.FIRST_TIER, StepName.LIFEBOAT])
@pytest.mark.parametrize("fault", OUTCOMES)
async def test_each_step_has_its_stated_outcome(disk: Path, fault: str, name: StepName) -> None:
    """In words that name the fault; nothing half-made is left under a name that says it is whole."""
    unreadable = [FileSource("mem", NO_SECTOR)] if fault == "I/O error in a source" else []
    bench = await ready(disk, *unreadable)
    if fault == "read-only":
        make_read_only(disk)
    if fault == "full disk":
        with Filler(disk):
            said = await bench.do(name)
    else:
        said = await bench.do(name)
    assert re.match(OUTCOMES[fault][name], said), said
    left = list(bench.checkpoints.glob("*Z-*[0-9]"))
    made = "written" in said and name is not StepName.FIRST_TIER
    assert len(left) == made
    for path in left:
        bundle = read_bundle(path)
        assert bundle.verified is not bool(unreadable and name is StepName.CHECKPOINT)
        assert {part.name for part in bundle.manifest.files} >= {"bulk"}
        lost = [(part.name, "Input/output error" in part.error) for part in bundle.manifest.lost]
        assert lost == [("mem", True)] * len(unreadable)


async def test_a_bundle_that_even_the_ballast_makes_no_room_for_leaves_the_first_tier(disk: Path) -> None:
    """It is too small: the step fails with the reason, and says where the first tier is."""
    bench = await ready(disk, ballast_bytes=1 << 19)
    with Filler(disk):
        assert "first tier written: why" in await bench.do(StepName.FIRST_TIER)
        said = await bench.do(StepName.LIFEBOAT)
    assert re.match(r"failed: .*disk full.*; the first tier is in .*first-tier", said), said
    assert [frame.name for frame in newest(bench.tier.path.read_bytes())] == ["why", END]
    assert list(bench.checkpoints.iterdir()) == []


async def test_a_ledger_on_a_full_disk_is_not_repaired_and_not_worse_and_then_it_is(
    disk: Path, tmp_path: Path
) -> None:
    """The step fails in SQLite's words; with room again the same step restores every record."""
    path = disk / "ledger.db"
    await fill(path, 20, places(path))
    copy = tmp_path / "checkpoints/one/ledger.db"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    flip(path, stored(path, 9)[5])  # its body
    ledger = await Ledger.open(path, config(), ManualClock(), "boot", places(path))
    recovery = Recovery(None, None, None, lambda _: repair(ledger, path, copy), tmp_path / "checkpoints")  # type: ignore[arg-type]  # one step alone
    step, operation = Step(StepName.REPAIR_LEDGER, "ledger"), Operation(1, "k", Lane.PHASE, "a test", ())
    with Filler(disk):
        with pytest.raises(StepFailedError, match="disk is full"):
            await recovery.repair_ledger(step, operation)
        with pytest.raises(LedgerError, match="disk is full"):
            await ledger.open_turn(opening(500))
    assert [fault.seq for fault in verify(path).faults] == [9]
    (disk / "filler").unlink()
    assert await recovery.repair_ledger(step, operation) == "restored records 9; lost for good none"
    await ledger.open_turn(opening(501))
    await ledger.close_turn(closing(501))
    await ledger.close()
    assert verify(path, anchor=places(path).anchor).verdict.is_sound


async def repair(ledger: Ledger, path: Path, *copies: Path) -> RepairOutcome:
    return await ledger.repair(verify(path, anchor=places(path).anchor), copies)


@contextmanager
def no_writes() -> Iterator[None]:
    """Every write of this process fails, as on a disk that is dying or has gone read-only: SQLite's I/O error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_ledger_whose_disk_fails_is_not_repaired_and_not_worse_and_then_it_is(tmp_path: Path) -> None:
    """The step fails in SQLite's words; a copy that cannot be read is passed over, and an hour lost changes nothing."""
    path = tmp_path / "ledger.db"
    await fill(path, 20, places(path))
    copies = [tmp_path / name / "ledger.db" for name in ("unreadable", "good")]
    for copy in copies:
        copy.parent.mkdir()
    copies[0].symlink_to(NO_SECTOR)
    copies[1].write_bytes(path.read_bytes())
    flip(path, stored(path, 9)[5])  # its body
    clock = ManualClock()
    ledger = await Ledger.open(path, config(), clock, "boot", places(path))
    recovery = Recovery(None, None, None, lambda _: repair(ledger, path, *copies), tmp_path)  # type: ignore[arg-type]  # one step alone
    step, operation = Step(StepName.REPAIR_LEDGER, "ledger"), Operation(1, "k", Lane.PHASE, "a test", ())
    with no_writes(), pytest.raises(StepFailedError, match=r"ledger\.db: disk I/O error"):
        await recovery.repair_ledger(step, operation)
    assert [fault.seq for fault in verify(path).faults] == [9]
    clock.jump_wall_clock(-3_600.0)
    assert await recovery.repair_ledger(step, operation) == "restored records 9; lost for good none"
    await ledger.close()
    assert verify(path, anchor=places(path).anchor).verdict.is_sound


DATASTORE_OUTCOMES = {
    "full disk": r"No space left on device; free some space$",
    "read-only": r"Read-only file system; epad must be able to write in \S+ \(under systemd: ReadWritePaths=\S+\)$",
    "I/O error in the copy": r"there is no good copy \(the last sound copy: Input/output error\)",
}


@pytest.mark.parametrize("fault", DATASTORE_OUTCOMES)
def test_a_datastore_that_cannot_be_restored_is_as_it_was_and_then_it_is(
    disk: Path, tmp_path: Path, fault: str
) -> None:
    """In words that name file and fix; with the fault gone the same step restores it."""
    store, home = Store(disk / "memory.db"), tmp_path / "datastores" / "memory"
    store.rest()
    assert look(store.path, home, "auto", 0.05).is_sound
    store.path.write_bytes(store.path.read_bytes()[:8192] + bytes(4096))
    damaged, good = store.path.read_bytes(), home / "good"
    kept = good.rename(home / "kept") if "copy" in fault else good
    if "copy" in fault:
        good.symlink_to(NO_SECTOR)
    if fault == "read-only":
        make_read_only(disk)
    with Filler(disk) if fault == "full disk" else nullcontext():
        said = answer(store.path, home, tmp_path / "checkpoints", "auto", 0.05, "key").error
    assert re.search(DATASTORE_OUTCOMES[fault], said), said
    assert str(store.path.parent) in said
    assert store.path.read_bytes() == damaged
    assert {path.name for path in disk.iterdir()} <= {"memory.db", "filler"}
    if fault == "read-only":
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    (disk / "filler").unlink(missing_ok=True)
    if kept != good:
        kept.replace(good)
    assert answer(store.path, home, tmp_path / "checkpoints", "auto", 0.05, "key").seen.is_sound


def test_a_wall_clock_set_back_an_hour_changes_nothing_of_a_recovery() -> None:
    """How long an attempt has been quiet, and which came first, goes by the clock that nobody can set."""
    paths, seconds = [], []
    for back in (0.0, -3_600.0):
        story = Story()
        into_recovery(story, "model")
        story.world.broken.clear()
        story.clock.jump_wall_clock(back)
        story.end()
        began = story.clock.monotonic()
        story.wait_until(Phase.NORMAL, 60)
        paths.append(story.path())
        seconds.append(story.clock.monotonic() - began)
    assert paths[0] == paths[1] == ["QUARANTINE", "PRESERVATION", "RECOVERY", "NORMAL"]
    assert seconds[0] == seconds[1]


@pytest.mark.parametrize("name", [StepName.CHECKPOINT, StepName.LIFEBOAT])
async def test_a_clock_that_lies_changes_names_and_not_the_order(tmp_path: Path, name: StepName) -> None:
    """Back by decades, forward by a century, standing still: the last one made is the one to restore from."""
    bench = Bench(tmp_path, ManualClock(utc=datetime(2026, 11, 22, tzinfo=UTC)), [BULK])
    for number, seconds in enumerate((0.0, -1.5e9, 4.7e9, 0.0, -3.0e9), 1):
        bench.clock.jump_wall_clock(seconds)
        said = await bench.do(name, number)
        assert "verified" in said, said
        assert "NOT verified" not in said, said
        last = bench.preservation.last_verified()
        assert last is not None
        assert last.id == bundle_id(bench.clock.utc(), number)
