"""Putting a bundle back: read whole, staged beside the target, swapped in by renames, read again.

It runs in `epactl` or in a child process, never in the daemon: the daemon's own state can only be replaced while the
daemon is dead, and databases are opened here that others may have open. Each restored file gets its former owner,
whoever runs this: a daemon cannot open root's files.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from epad.checkpoint.bundle import read_bundle
from epad.checkpoint.manifest import Manifest, Part
from epad.checkpoint.verify import bundle_faults, part_faults
from epad.copying.copied_file import CopiedFile, DestinationError, sealed
from epad.copying.disk import FILE_MODE, Disk, Owner
from epad.copying.errors import CheckpointError, disk_error, no_room
from epad.copying.rights import as_owner_of, our_own
from epad.ledger.paths import ANY_STARTS, STARTS_FILE, witness_of
from epad.storage.state_lock import LOCK_FILE, locked

LOG_FILE = "restores.jsonl"
CONFIG_PART = "config.json"  # a person merges it: what stands in /etc may be newer, or why it all went wrong
COMPANIONS = ("-wal", "-shm", "-journal")
"""What belongs to a database file: left beside another file of its name, they would be played into it."""


@dataclass(frozen=True, slots=True)
class Move:
    """Pairs one file of the bundle with its destination."""

    part: Part
    source: Path
    target: Path

    def staged(self, identity: str) -> Path:
        return self.target.with_name(f".{self.target.name}.restoring-{identity}")


@dataclass(frozen=True, slots=True)
class Wish:
    """Selects the parts to restore, permits writing outside of the state directory, and gives the reason.

    `only` is how the names of the wanted parts begin. A bundle names the places that its files came from, which may be
    anywhere: those outside of the state directory are written only with `outside`. `reason` is kept in restores.jsonl.
    """

    only: str = ""
    outside: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Restored:
    """Reports a restore: the files put back, the displaced ones, and the faults found by reading again."""

    bundle: str
    files: tuple[str, ...]
    put_aside: tuple[str, ...]
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.faults


def moves(directory: Path, manifest: Manifest, state: Path, to: Path | None, only: str = "") -> list[Move]:
    """Plan the destination of each file: below `to` as it lies in the bundle, else its origin.

    Files of the old state directory go to `state`, wherever the old one was. Raises CheckpointError.
    """
    parts = [part for part in manifest.files if part.name.startswith(only)]
    if not parts:
        known = ", ".join(sorted({part.name for part in manifest.files}))
        raise CheckpointError(f"{directory.name} has no part {only!r}; it has: {known}")
    if to is not None:
        return [Move(part, directory / part.file, to / part.file) for part in parts]
    old = next((Path(part.origin).parent for part in manifest.parts if part.name == "state.db"), state)
    wanted = [part for part in parts if part.origin and part.name != CONFIG_PART]
    return [Move(part, directory / part.file, _home(Path(part.origin), old, state)) for part in wanted]


def _refuse_outside(plan: Sequence[Move], state: Path) -> None:
    """Raises CheckpointError."""
    places = outside_of(plan, state)
    if places:
        raise CheckpointError(
            f"the bundle would write outside of {state}: {', '.join(places)}; nothing was restored: if that is right "
            "add --outside, or choose what to put back with --only"
        )


def outside_of(plan: Iterable[Move], state: Path) -> list[str]:
    """Return the targets that do not lie in the state directory, wherever links lead."""
    home = state.resolve()
    return sorted(str(move.target) for move in plan if not move.target.resolve().is_relative_to(home))


def _home(origin: Path, old_state: Path, state: Path) -> Path:
    return state / origin.relative_to(old_state) if origin.is_relative_to(old_state) else origin


def restore(
    directory: Path,
    *,
    state: Path,
    now: datetime,
    to: Path | None = None,
    wish: Wish | None = None,
    disk: Disk | None = None,
) -> Restored:
    """Put a bundle back, or the parts chosen by `wish`. Raises CheckpointError.

    The present state is touched only after every file is staged and on the disk. Displaced files are renamed, never
    removed. Interrupted at any point and run again, it comes to the same end.
    """
    disk, wish = disk or Disk(), wish or Wish()
    try:
        if faults := bundle_faults(directory, state if to is None else None):
            raise CheckpointError(f"{directory.name} is damaged, nothing was restored: {'; '.join(faults)}")
        manifest = read_bundle(directory).manifest
        plan = moves(directory, manifest, state, to, wish.only)
        with _daemon_kept_out(disk, state) if to is None else nullcontext():
            if to is None and not wish.outside:
                _refuse_outside(plan, state)
            refuse_open(move.target for move in plan)
            for move in plan:
                _stage(disk, move, manifest.id)
            aside = [path for move in plan for path in _swap(disk, move, manifest.id)]
            faults = _read_again(plan)
            restored = Restored(manifest.id, tuple(str(m.target) for m in plan), tuple(aside), faults)
            _note(disk, to or state, restored, now, wish.reason)
            if to is None:
                disk.remove_file(witness_of(state))  # it would speak of records that are given up hereby
                _take_any_count(disk, state, plan)
    except DestinationError as error:
        raise no_room(directory, str(error)) if error.disk_full else CheckpointError(str(error)) from error
    except OSError as error:
        raise disk_error(Path(error.filename or directory), error) from error
    return restored


@contextmanager
def _daemon_kept_out(disk: Disk, state: Path) -> Iterator[None]:
    """Hold the daemon's own lock, so that it cannot start half-way. Raises CheckpointError."""
    owner = Owner.of(state)
    _make_directory(disk, state, owner)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(state))
        except BlockingIOError as error:
            message = f"an epad runs on {state}; stop it, or restore elsewhere with --to DIR"
            raise CheckpointError(message) from error
        disk.give(state / LOCK_FILE, owner)
        yield


def refuse_open(paths: Iterable[Path]) -> None:
    """A writer would go on writing to the file that was put aside. Raises CheckpointError."""
    targets = {str(path) for path in paths if path.exists()}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with suppress(OSError):
            held = {str(link.readlink()) for link in (process / "fd").iterdir()} & targets
            if held:
                command = (process / "comm").read_text().strip()
                raise CheckpointError(f"{min(held)} is open in {command} (pid {process.name}); stop it first")


def _stage(disk: Disk, move: Move, identity: str) -> None:
    """Lay the new file beside the old one, durable and compared with the manifest; it belongs to whom that one does.

    What another user could put a link into is written with that user's rights (`copying/rights.py`): those of the
    directory's owner, for a file of theirs in a directory of root's has its neighbours made by root alone.
    """
    with as_owner_of(move.target.parent):
        _lay_beside(disk, move, identity)


def _lay_beside(disk: Disk, move: Move, identity: str) -> None:
    owner, mode = Owner.of(move.target), _mode(move)
    _make_directory(disk, move.target.parent, owner)
    staged = move.staged(identity)
    disk.remove_file(staged)
    try:
        _copy_bytes(move.source, staged)
    except OSError:
        with suppress(OSError):
            disk.remove_file(staged)
        raise
    copy: CopiedFile = sealed(move.part.file, staged, move.part.how)
    if copy.sha256 != move.part.sha256:
        raise CheckpointError(f"{staged}: does not read back as it was written; check the disk")
    staged.chmod(mode)
    disk.give(staged, owner)


def _copy_bytes(source: Path, staged: Path) -> None:
    with our_own():
        origin = source.open("rb")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with origin, os.fdopen(os.open(staged, flags, FILE_MODE), "wb") as file:
        shutil.copyfileobj(origin, file)


def _mode(move: Move) -> int:
    """Return the mode of the displaced file; a part that is never written again is read-only."""
    if move.part.how == "hard_link":
        return 0o444
    return stat.S_IMODE(move.target.stat().st_mode) if move.target.exists() else FILE_MODE


def _make_directory(disk: Disk, path: Path, owner: Owner) -> None:
    """Make a directory and its missing parents, all with one owner."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    disk.make_directory(path)
    for folder in missing:
        disk.give(folder, owner)


def _swap(disk: Disk, move: Move, identity: str) -> list[str]:
    """Rename the old aside with its companions, and the new one in."""
    with as_owner_of(move.target.parent):
        return _rename_in(disk, move, identity)


def _rename_in(disk: Disk, move: Move, identity: str) -> list[str]:
    aside: list[str] = []
    for suffix in (*COMPANIONS, ""):
        old = move.target.with_name(move.target.name + suffix)
        if old.exists():
            place = _free_name(old, identity)
            disk.rename(old, place)
            aside.append(str(place))
    disk.rename(move.staged(identity), move.target)
    disk.sync_directory(move.target.parent)
    return aside


def _free_name(old: Path, identity: str) -> Path:
    """Return an unused name: a second restore must not overwrite the files that the first has put aside."""
    number, place = 1, old.with_name(f"{old.name}.before-{identity}")
    while place.exists():
        number += 1
        place = old.with_name(f"{old.name}.before-{identity}.{number}")
    return place


def _read_again(plan: Sequence[Move]) -> tuple[str, ...]:
    """Check the files that now lie at the targets: hashes, databases, the ledger's chain and heads."""
    anchor = next((move.target.parent for move in plan if move.part.name == "anchor/head"), None)
    return tuple(fault for move in plan for fault in part_faults(move.target, move.part, anchor))


def _take_any_count(disk: Disk, state: Path, plan: Sequence[Move]) -> None:
    """Let the next start accept the restored state, however old it is: a person has ordered it."""
    if any(move.part.name == "state.db" or move.part.name.startswith("anchor/") for move in plan):
        path = state / "anchor" / STARTS_FILE
        owner = Owner.of(path)
        _make_directory(disk, path.parent, owner)
        disk.write(path, ANY_STARTS)
        disk.give(path, owner)
        disk.sync_directory(path.parent)


def _note(disk: Disk, place: Path, restored: Restored, now: datetime, reason: str) -> None:
    """Append a record of the restore where the next reader of the state will look."""
    line = {
        "at": now.isoformat(timespec="seconds"),
        "bundle": restored.bundle,
        "reason": reason,
        "files": restored.files,
        "put_aside": restored.put_aside,
        "faults": restored.faults,
    }
    path = place / LOG_FILE
    before = path.read_bytes() if path.exists() else b""
    owner = Owner.of(path)
    disk.write(path, before + json.dumps(line).encode() + b"\n")
    disk.give(path, owner)
    disk.sync_directory(place)
