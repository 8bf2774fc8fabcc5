"""Every write, fsync and rename of a datastore's restore killed, and its next life too: it ends as if it never was.

What must hold at each end: the sound copy stands in the store's place, the damaged file and its log lie beside it
byte for byte under one name; or, where the copy does not do, everything is as it was.
"""

from __future__ import annotations

import errno
import itertools
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from crash_disk import CrashDisk, Death, Killed, Plug

from epad.datastore import restore as module
from epad.datastore.restore import Copy, Restored, RestoreError, Store, restore

DAMAGED, LOG, GOOD = b"damaged" * 900, b"its log" * 30, b"sound" * 1000
NOW = datetime(2026, 11, 23, tzinfo=UTC)
ASIDE = "memory.db.damaged-20261123T000000Z"
RESTORED = {"memory.db": GOOD, ASIDE: DAMAGED, f"{ASIDE}-wal": LOG}
AS_IT_WAS = {"memory.db": DAMAGED, "memory.db-wal": LOG}
OPERATIONS = (
    "copy .memory.db.restoring, fsync .memory.db.restoring, write restoring.json.new, fsync restoring.json.new,"
    " rename, fsync directory"
)


@dataclass
class Case:
    """One restore on one disk, through as many lives as it takes."""

    root: Path
    is_sound: bool
    disk_kind: type[CrashDisk] = CrashDisk
    broken: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("data", "home", "kept", "graves"):
            (self.root / name).mkdir()
        self.store = Store(self.root / "data/memory.db", self.root / "home")
        self.store.path.write_bytes(DAMAGED)
        (self.root / "data/memory.db-wal").write_bytes(LOG)
        self.good = self.root / "kept/good"
        self.good.write_bytes(GOOD)
        self.disk = self.disk_kind(Plug(), self.root / "graves")

    def live(self, pull_at: int = 0, plug: Plug | None = None) -> Plug:
        """One life of the child, up to its end or to the chosen operation."""
        self.disk.plug = plug = plug or Plug(pull_at)
        copies = iter([Copy(self.good, sha256(GOOD).hexdigest(), "the last sound copy", NOW, 5)])
        try:
            with suppress(Killed, RestoreError):
                restore(self.store, "key", copies, self._judge, NOW, self.disk)
        except OSError as error:
            self.errors.append(str(error))
        return plug

    def found(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.root / "data").iterdir()}

    def die(self, death: Death, dice: random.Random) -> None:
        self.disk.die(death, dice)
        held = self.found().values()
        if DAMAGED not in held or LOG not in held:
            self.broken.append("the damaged file is lost")

    def end(self) -> list[str]:
        """What of the promise does not hold."""
        found, wanted = self.found(), RESTORED if self.is_sound else AS_IT_WAS
        if found != wanted:
            self.broken.append(f"it ended as {sorted(found)}, not {sorted(wanted)}")
        if (self.store.home / module.INTENT_FILE).exists():
            self.broken.append("it is still under way")
        return self.broken

    def _judge(self, _: Restored) -> Sequence[str]:
        if self.store.path.read_bytes() != GOOD:
            self.broken.append("something else was taken for the copy")
        if (self.root / "data/memory.db-wal").exists():
            self.broken.append("the old log would be played into the copy")
        return [] if self.is_sound else ["it does not do"]


@pytest.fixture
def root() -> Iterator[Path]:
    memory = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(prefix="epad-restore-", dir=memory if memory.is_dir() else None))
    yield place
    shutil.rmtree(place)


def campaign(
    root: Path, *, is_sound: bool, disk: type[CrashDisk] = CrashDisk
) -> tuple[int, set[str], list[str]]:
    """Kill each operation by each kind of death, then each operation of the life after it: cases, what, broken."""
    numbers = itertools.count()

    def another() -> Case:
        place = root / str(next(numbers))
        place.mkdir()
        return Case(place, is_sound, disk)

    undisturbed = another()
    trace = undisturbed.live().trace
    broken, cases = undisturbed.end(), 0
    for first, death in itertools.product(range(1, len(trace) + 2), Death):
        for second in itertools.count(1):
            case, dice = another(), random.Random(f"{first}{second}{death}")
            name = trace[first - 1] if case.live(first).pulled else "it was done"
            case.die(death, dice)
            was_killed_again = case.live(second).pulled
            case.die(death, dice)
            case.live()
            case.die(death, dice)  # it was said to be done: nothing may undo it
            wrong = case.end() + case.errors
            broken += [f"{death} at {first} ({name}), then at {second}: {each}" for each in wrong]
            cases += 1
            shutil.rmtree(case.root)
            if broken and disk is not CrashDisk:
                return cases, set(trace), broken
            if not was_killed_again:
                break
    return cases, set(trace), broken


@pytest.mark.parametrize(
    "is_sound",
    [pytest.param(True, id="restored"), pytest.param(False, id="put back", marks=pytest.mark.long)],
)
def test_a_restore_killed_anywhere_and_again_ends_as_if_it_never_was(root: Path, is_sound: bool) -> None:
    """All operations, all kinds of death: the damaged file is never lost, the copy never taken for it."""
    cases, operations, broken = campaign(root, is_sound=is_sound)
    assert broken[:5] == []
    assert cases > 400
    assert operations >= set(OPERATIONS.split(", "))
    print(f"\n{cases} restores killed twice, 0 went astray")


@dataclass
class BadDisk(Plug):
    """Nobody dies: the chosen operation fails, and so many after it."""

    failing: int = 1

    def tick(self, what: str) -> None:
        self.ticks += 1
        if self.pull_at <= self.ticks < self.pull_at + self.failing:
            raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("failing", [1, 100], ids=["once", "for good"])
def test_an_operation_that_fails_leaves_the_store_as_it_was_and_the_next_attempt_restores_it(
    root: Path, failing: int
) -> None:
    """At each of them; on a disk that takes nothing any more the damaged file has one of its two names."""
    case = Case(root, is_sound=True)
    operations = case.live().ticks
    for number in range(1, operations + 1):
        place = root / str(number)
        place.mkdir()
        case = Case(place, is_sound=True)
        case.live(plug=BadDisk(number, failing=failing))
        assert case.errors == ["[Errno 5] Input/output error"]
        left = case.found()
        left.pop(case.store.staged.name, None)
        if failing > 1:
            assert {DAMAGED, LOG} <= set(left.values()), number
        else:  # only the last, the record of what is done, comes too late to undo anything
            assert left == (AS_IT_WAS if number < operations else RESTORED), number
        case.live()
        assert case.end() == [], number


class NoFileSync(CrashDisk):
    """Planted: the copy is not synced."""

    def _sync_file(self, path: Path) -> None:
        self.plug.tick(f"fsync {path.name}")


class NoDirectorySync(CrashDisk):
    """Planted: the names are not synced."""

    def sync_directory(self, path: Path) -> None:
        self.plug.tick("fsync directory")


@pytest.mark.parametrize("disk", [NoFileSync, NoDirectorySync])
def test_a_missing_sync_is_caught(root: Path, disk: type[CrashDisk]) -> None:
    """What was said to be done is undone by a power cut."""
    assert campaign(root, is_sound=True, disk=disk)[2] != []


def test_a_restore_that_writes_nothing_down_beforehand_is_caught(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: the life after a kill does not know what stands there, and puts the sound copy aside."""
    monkeypatch.setattr(Store, "begun", lambda _: None)
    assert campaign(root, is_sound=True)[2] != []
