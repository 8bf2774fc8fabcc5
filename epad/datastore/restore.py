"""Put the last sound copy of a damaged store in its place, in a child process.

`python -m epad.datastore.restore PATH HOME CHECKPOINTS KIND SHRINK_RATIO KEY`. The store's writer is stopped. The copy
is staged beside it and compared before anything is touched; then the damaged file and its companions are renamed,
never removed, and the copy is renamed in and judged.

The state is on the disk, in four names, so that a run killed anywhere and run again comes to the same end:

| HOME/restoring.json | PATH | the damaged file's new name | the next run |
|---|---|---|---|
| none | damaged | none | begins: it clears a staged file and stages a copy |
| there | damaged | none | stages again, under the same new name |
| there | none | damaged | was between the two renames: stages again, under the same new name |
| there | the copy | damaged | judges the copy that is in place |
| none, but HOME/restored.json has KEY | the copy | damaged | returns that result |

Invariants: at each moment the damaged bytes have a name, and it is durable before the next rename needs it (the
directory is synced between the two). A copy is staged only if its digest is that of its sound moment, read back from
the disk. Companions (`-wal`, `-shm`, `-journal`) go aside first, since SQLite would play them into the copy.

There is no await in the child: a cancellation ends the process, which is a row of the table. An error, or no sound
copy, puts the damaged file back and removes the plan.

Rejected: restoring within the daemon, since SQLite may hold a thread for long and a crash of it would take the daemon
along; copying over the damaged file, since a kill half-way would leave neither; removing it after a success, since the
copy lacks the later writes and a person may want them.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import apsw
import msgspec
from msgspec import Struct

from epad.checkpoint.critical_state import DATASTORES
from epad.checkpoint.restore import COMPANIONS, refuse_open
from epad.checkpoint.retention import list_bundles
from epad.copying.copied_file import die_with_parent
from epad.copying.disk import DIRECTORY_MODE, Disk, OwnersDisk
from epad.copying.errors import NO_ROOM, CheckpointError
from epad.copying.file_copy import SQLITE_MAGIC
from epad.copying.rights import as_owner_of, our_own
from epad.inspection.baseline import GOOD_FILE, digest_of, load_baseline
from epad.inspection.inspect import Look, look
from epad.storage import page_checksums

INTENT_FILE = "restoring.json"
RECORD_FILE = "restored.json"
MAX_PUT_ASIDE = 5
"""Damaged files kept beside a store; with so many nothing is restored until a person has moved some away."""
OPEN_SECONDS = 10.0
"""How long whoever has the file open is waited for: a process that has just ended, a checkpoint that reads it."""
_OPEN_LOOK_SECONDS = 0.2
_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_WAL_HEADER = (len(SQLITE_MAGIC) + 2, b"\x02\x02")


class RestoreError(CheckpointError):
    """A store could not be restored, and is as it was."""


class Restored(Struct, frozen=True):
    """Records a restore: `aside` is the damaged file's new name, `sha256` that of its replacement.

    `rows` is 0 where they were not counted. `key` is the operation's: done twice, it is done once.
    """

    key: str
    at: datetime
    target: str
    aside: str
    source: str
    as_of: datetime
    rows: int
    sha256: str

    @property
    def sentence(self) -> str:
        rows = f"{self.rows} rows" if self.rows else "it"
        as_of = f"{self.as_of:%Y-%m-%d %H:%M:%S}Z"
        return f"restored {rows} as of {as_of} from {self.source}; what was written since is in {self.aside}"


class Answer(Struct, frozen=True):
    """The child's whole answer; `error` is why nothing was restored."""

    restored: Restored | None = None
    seen: Look = Look()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that was found sound when it was made, and its digest of then."""

    path: Path
    sha256: str
    source: str
    as_of: datetime
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Store:
    """Names the file behind any links, and the directory of its saved copies."""

    path: Path
    home: Path

    @property
    def staged(self) -> Path:
        return self.path.with_name(f".{self.path.name}.restoring")

    def begun(self) -> Restored | None:
        """Return the restore of this file that a killed run had begun, if there was one."""
        begun = _load(self.home / INTENT_FILE)
        return begun if begun is not None and begun.target == str(self.path) else None


Judge = Callable[[Restored], Sequence[str]]
"""Says what is wrong with what now stands in the store's place."""


class _UnfitError(Exception):
    """A copy differs from its original state."""


def last_restored(home: Path) -> Restored | None:
    """Return the last restore of a store; None if there was none."""
    return _load(home / RECORD_FILE)


def sound_copies(name: str, home: Path, checkpoints: Path) -> Iterator[Copy]:
    """Yield the last sound copy, then those in verified checkpoints, newest first. Raises CheckpointError."""
    if (baseline := load_baseline(home)) is not None:
        as_of = datetime.fromtimestamp(baseline.made_ns / 1e9, UTC)
        rows = sum(baseline.rows.values())
        yield Copy(home / GOOD_FILE, baseline.good_sha256, "the last sound copy", as_of, rows)
    for bundle in list_bundles(checkpoints).bundles:
        for part in bundle.manifest.files:
            if bundle.verified and part.name.startswith(f"{DATASTORES}/{name}/"):
                source, as_of = f"checkpoint {bundle.id}", bundle.manifest.at.astimezone(UTC)
                yield Copy(bundle.path / part.file, part.sha256, source, as_of)


def restore(
    store: Store, key: str, copies: Iterator[Copy], judge: Judge, now: datetime, disk: Disk
) -> Restored:
    """Put the first copy that is sound in the store's place. Raises RestoreError, OSError: it is then as it was."""
    begun, done = store.begun(), last_restored(store.home)
    if begun is None and done is not None and done.key == key:
        return done
    if begun is None:
        _refuse_more(store)
    why_not: list[str] = []
    try:
        for plan in _plans(store, key, copies, now, disk, why_not):
            _swap(store, plan, disk)
            if not (faults := judge(plan)):
                disk.rename(store.home / INTENT_FILE, store.home / RECORD_FILE)
                disk.sync_directory(store.home)
                return plan
            why_not.append(f"{plan.source}: {faults[0]}")
            _put_back(store, disk)
    except (OSError, CheckpointError):
        _put_back(store, disk)
        raise
    _put_back(store, disk)
    raise RestoreError(
        f"{store.path} is damaged and there is no good copy ({'; '.join(why_not) or 'none was made yet'}); put one "
        "there by hand, or take it as it is: epactl datastore accept"
    )


def _plans(
    store: Store, key: str, copies: Iterator[Copy], now: datetime, disk: Disk, why_not: list[str]
) -> Iterator[Restored]:
    """Yield the candidates to put in place, in turn; first the one that a killed run has put there already."""
    begun = store.begun()
    if begun is not None and _is_in_place(store, begun):
        yield begun
    for copy in copies:
        try:
            yield _stage(store, copy, key, now, disk)
        except _UnfitError as error:
            why_not.append(f"{copy.source}: {error}")


def _stage(store: Store, copy: Copy, key: str, now: datetime, disk: Disk) -> Restored:
    """Lay a copy beside the store, durable, and record the plan. Raises _UnfitError, OSError."""
    begun = store.begun()
    damaged = store.path if store.path.exists() or begun is None else Path(begun.aside)
    _clear(store, disk)
    try:
        _lay_beside(store, copy, damaged, disk)
    except (OSError, _UnfitError):
        _clear(store, disk)
        raise
    aside = _aside(store, begun, now)
    sha256 = digest_of(store.staged)
    plan = Restored(key, now, str(store.path), str(aside), copy.source, copy.as_of, copy.rows, sha256)
    new = store.home / f"{INTENT_FILE}.new"
    disk.write(new, msgspec.json.encode(plan))
    disk.rename(new, store.home / INTENT_FILE)
    disk.sync_directory(store.home)
    return plan


def _clear(store: Store, disk: Disk) -> None:
    """Remove the staged file, or any other under that name."""
    for suffix in ("", *COMPANIONS):
        if os.path.lexists(staged := _with(store.staged, suffix)):
            disk.remove_file(staged)


def _lay_beside(store: Store, copy: Copy, damaged: Path, disk: Disk) -> None:
    try:
        is_whole = digest_of(copy.path) == copy.sha256
    except OSError as error:
        raise _UnfitError(error.strerror) from error
    if not is_whole:
        raise _UnfitError("its bytes have changed")
    disk.copy(copy.path, store.staged, damaged.stat())
    if _digest_on_disk(store.staged) != copy.sha256:
        raise _UnfitError(f"{store.staged} does not read back as it was written; check the disk")
    if _is_wal(damaged):
        with as_owner_of(store.staged):
            _to_wal(store.staged)


def _aside(store: Store, begun: Restored | None, now: datetime) -> Path:
    """The damaged file's name to be: the one that a life that was killed has chosen, if that may be half-way there."""
    if begun is not None and not (store.path.exists() and Path(begun.aside).exists()):
        return Path(begun.aside)
    return _free(store.path.with_name(f"{store.path.name}.damaged-{now:%Y%m%dT%H%M%SZ}"))


def _swap(store: Store, plan: Restored, disk: Disk) -> None:
    """Rename the damaged file and its companions aside, and the copy in; finished renames are skipped."""
    for suffix in COMPANIONS:
        if (old := _with(store.path, suffix)).exists():
            disk.rename(old, _free(_with(Path(plan.aside), suffix)))
    if not _is_in_place(store, plan):
        if store.path.exists():
            disk.rename(store.path, Path(plan.aside))
        # Durable before its name is given to another: else a power cut could leave it without any.
        disk.sync_directory(store.path.parent)
        disk.rename(store.staged, store.path)
    disk.sync_directory(store.path.parent)


def _put_back(store: Store, disk: Disk) -> None:
    """Put the damaged file back, if it was moved. The file in its place is a copy of a copy that is kept."""
    if (begun := store.begun()) is None:
        return
    was_aside = Path(begun.aside).exists()
    for suffix in ("", *COMPANIONS):
        here, place = _with(store.path, suffix), _with(Path(begun.aside), suffix)
        if place.exists():
            disk.rename(place, here)
        elif suffix and was_aside:
            disk.remove_file(here)  # it was made for the copy: the damaged file's own went aside before it
    disk.sync_directory(store.path.parent)
    _clear(store, disk)
    disk.remove_file(store.home / INTENT_FILE)
    disk.sync_directory(store.home)


def _is_in_place(store: Store, plan: Restored) -> bool:
    return store.path.exists() and digest_of(store.path) == plan.sha256


def _refuse_more(store: Store) -> None:
    names = [path.name for path in store.path.parent.iterdir()]
    kept = [n for n in names if n.startswith(f"{store.path.name}.damaged-") and not n.endswith(COMPANIONS)]
    if len(kept) >= MAX_PUT_ASIDE:
        raise RestoreError(
            f"{len(kept)} damaged files lie beside {store.path} already, as many as are kept: look at the disk, "
            f"move {store.path.name}.damaged-* away"
        )


def _digest_on_disk(path: Path) -> str:
    """Return the digest of the synced bytes, read from the disk and not from memory."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return digest_of(path)


def _is_wal(path: Path) -> bool:
    """Tell if a database, damaged or not, is in WAL mode: its writer may rely on that, and copies never are."""
    start, mark = _WAL_HEADER
    with path.open("rb") as file:
        header = file.read(start + len(mark))
    return header.startswith(SQLITE_MAGIC) and header.endswith(mark) and len(header) == start + len(mark)


def _to_wal(staged: Path) -> None:
    with our_own():
        page_checksums.register()  # its first page is changed: without its sum renewed it could never be opened again
    connection = apsw.Connection(str(staged))
    try:
        connection.pragma("journal_mode", "wal")
    except apsw.Error as error:
        raise _UnfitError(str(error)) from error
    finally:
        connection.close()


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _free(wanted: Path) -> Path:
    """Return a name that nothing has: nobody's file is run over."""
    number, place = 1, wanted
    while place.exists():
        number += 1
        place = wanted.with_name(f"{wanted.name}.{number}")
    return place


def _load(path: Path) -> Restored | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Restored)
    except (OSError, msgspec.DecodeError):
        return None


def await_closed(paths: Sequence[Path], seconds: float) -> None:
    """Wait until nobody has any of them open. Raises CheckpointError with who still has."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return refuse_open(paths)
        except CheckpointError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_OPEN_LOOK_SECONDS)


def _in_words(path: Path, error: OSError) -> str:
    why = f"{error.filename or path}: {error.strerror or error}"
    if error.errno in _NO_RIGHT:
        return f"{why}; epad must be able to write in {path.parent} (under systemd: ReadWritePaths={path.parent})"
    return f"{why}; {'free some space' if error.errno in NO_ROOM else 'check the disk'}"


def answer(path: Path, home: Path, checkpoints: Path, kind: str, shrink_ratio: float, key: str) -> Answer:
    """Restore, look at the result, and report it."""
    store, now = Store(path.resolve(), home), datetime.now(UTC)
    seen: list[Look] = []

    def judge(plan: Restored) -> Sequence[str]:
        if _digest_on_disk(store.path) != plan.sha256:
            return [f"{store.path} does not read back as it was written; check the disk"]
        # A checkpoint's copy is older than the last look: what was added since is not missing from it.
        is_older = plan.source.startswith("checkpoint")
        seen.append(look(path, home, kind, shrink_ratio, accept=is_older))
        # What cannot be judged here was vouched for by its bytes alone before, too.
        unseen = "" if seen[-1].is_opaque else seen[-1].error
        return [*filter(None, [unseen]), *(f"{kind}: {detail}" for kind, detail in seen[-1].faults)]

    try:
        home.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        await_closed([_with(store.path, suffix) for suffix in ("", *COMPANIONS)], OPEN_SECONDS)
        copies = sound_copies(home.name, home, checkpoints)
        restored = restore(store, key, copies, judge, now, OwnersDisk(path))
        return Answer(restored, seen[-1] if seen else look(path, home, kind, shrink_ratio))
    except OSError as error:
        return Answer(error=_in_words(store.path, error))
    except CheckpointError as error:
        return Answer(error=str(error))


def main(arguments: list[str]) -> int:
    """Run as a child of the daemon, or by hand."""
    die_with_parent()
    os.umask(0o077)
    path, home, checkpoints, kind, shrink_ratio, key = arguments
    done = answer(Path(path), Path(home), Path(checkpoints), kind, float(shrink_ratio), key)
    sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
    return 1 if done.error else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
