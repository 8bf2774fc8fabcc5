"""Decide which bundles are kept: never fewer good ones than configured, and always the last good one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import takewhile
from pathlib import Path

from epad.checkpoint.bundle import PARTIAL_SUFFIX, Bundle, bundle_number, read_bundle
from epad.copying.disk import Disk
from epad.copying.errors import BundleDamagedError, disk_error

# Renamed to this before it is emptied, so that a half-removed bundle never looks like one.
REMOVING_SUFFIX = ".removing"

FreeBytes = Callable[[Path], tuple[int, int]]
"""Says how many bytes are free on a path's file system, and of how many."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A bundle whose manifest cannot be read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Lists a directory of bundles, each kind newest first."""

    bundles: tuple[Bundle, ...]
    damaged: tuple[Damaged, ...]
    unfinished: tuple[Path, ...]

    @property
    def newest_verified(self) -> Bundle | None:
        """Return the bundle to restore from."""
        return next((bundle for bundle in self.bundles if bundle.verified), None)

    @property
    def next_number(self) -> int:
        """Return a number that no bundle has had, finished or not."""
        paths = [b.path for b in self.bundles] + [d.path for d in self.damaged] + [*self.unfinished]
        return max(map(_number, paths), default=0) + 1


@dataclass(frozen=True, slots=True)
class Retention:
    """Says how many verified checkpoints are kept: the newest ones, and the newest of each day and week.

    `free_ratio` of the file system is left to others: below it the oldest go before their time. `frozen` keeps every
    verified one, since present damage may be absent in any of them.
    """

    keep: int
    daily: int = 0
    weekly: int = 0
    free_ratio: float = 0.0
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """Describes a bundle to the retention rules. A damaged one is an unverified checkpoint."""

    name: str
    verified: bool
    partial: bool = False
    lifeboat: bool = False


def doomed(candidates: Iterable[Candidate], retention: Retention) -> set[str]:
    """Choose the names to remove. Pure.

    Kept are the `keep` newest verified checkpoints, the newest verified one that lacks no source, the newest
    verified ones of so many days and weeks, and the `keep` newest unverified ones that are newer than every
    verified one: they may be all there is of today. An unverified one never counts as a copy, and so dooms
    nothing. A lifeboat is the record of an end: only a person removes it.

    A clock may be set back and a number may start over, so a bundle goes only if its number and its time
    both say that it is old.
    """
    checkpoints = [c for c in candidates if not c.lifeboat]
    by_number = sorted(checkpoints, key=lambda c: (bundle_number(c.name) or 0, c.name), reverse=True)
    by_time = sorted(checkpoints, key=lambda c: c.name, reverse=True)
    return {c.name for c in checkpoints} - _kept(by_number, retention) - _kept(by_time, retention)


def expendable(candidates: Iterable[Candidate]) -> list[str]:
    """Return the bundles that may go if room is short, the oldest first; never the only one of its kind. Pure."""
    checkpoints = [c for c in candidates if not c.lifeboat]
    last_resort = {c.name for c in checkpoints} - doomed(checkpoints, Retention(keep=1))
    by_number = sorted(checkpoints, key=lambda c: (bundle_number(c.name) or 0, c.name))
    return [c.name for c in by_number if c.name not in last_resort]


def _kept(newest_first: list[Candidate], retention: Retention) -> set[str]:
    keep = max(retention.keep, 1)
    verified = [c.name for c in newest_first if c.verified]
    complete = [c.name for c in newest_first if c.verified and not c.partial]
    waiting = [c.name for c in takewhile(lambda c: not c.verified, newest_first)]
    days = _first_of_each(verified, lambda name: name[:8], retention.daily)
    weeks = _first_of_each(verified, _week, retention.weekly)
    newest = verified if retention.frozen else verified[:keep]
    return {*newest, *complete[:1], *waiting[:keep], *days, *weeks}


def _first_of_each(newest_first: list[str], span: Callable[[str], str], count: int) -> list[str]:
    """Return the newest of each of the first `count` spans that there is one of."""
    found: dict[str, str] = {}
    for name in newest_first:
        found.setdefault(span(name), name)
    return list(found.values())[:count]


def _week(name: str) -> str:
    """Return the ISO week of a bundle's name; one whose date is none is a week of its own."""
    try:
        year, week, _ = date(int(name[:4]), int(name[4:6]), int(name[6:8])).isocalendar()
    except ValueError:
        return name
    return f"{year}-{week}"


def list_bundles(directory: Path) -> Inventory:
    """List the bundles of a directory; anything else in it is not touched. Raises CheckpointError."""
    bundles: list[Bundle] = []
    damaged: list[Damaged] = []
    unfinished: list[Path] = []
    for path in sorted(_entries(directory), key=_number, reverse=True):
        if path.name.endswith(PARTIAL_SUFFIX):
            unfinished.append(path)
            continue
        try:
            bundles.append(read_bundle(path))
        except BundleDamagedError as error:
            damaged.append(Damaged(path, str(error)))
    return Inventory(tuple(bundles), tuple(damaged), tuple(unfinished))


async def prune(
    directory: Path, retention: Retention, disk: Disk | None = None, free_bytes: FreeBytes | None = None
) -> list[Path]:
    """Remove the bundles chosen by `doomed`, unfinished ones older than the newest bundle, and more if room is short.

    Returns the removed ones. Raises CheckpointError.
    """
    return await asyncio.to_thread(_prune, directory, retention, disk or Disk(), free_bytes or _free_bytes)


def _prune(directory: Path, retention: Retention, disk: Disk, free_bytes: FreeBytes) -> list[Path]:
    inventory = list_bundles(directory)
    candidates = [_candidate(bundle) for bundle in inventory.bundles]
    candidates += [Candidate(damaged.path.name, verified=False) for damaged in inventory.damaged]
    names = doomed(candidates, retention)
    newest = max((bundle_number(c.name) or 0 for c in candidates), default=0)
    strays = [path for path in inventory.unfinished if _number(path) < newest]
    removed = [directory / name for name in sorted(names)] + strays
    try:
        _remove(directory, removed, disk)
        for name in expendable(c for c in candidates if c.name not in names):
            free, total = free_bytes(directory)
            if free >= retention.free_ratio * total:
                break
            _remove(directory, [directory / name], disk)
            removed.append(directory / name)
    except OSError as error:
        raise disk_error(directory, error) from error
    return removed


def _remove(directory: Path, paths: Sequence[Path], disk: Disk) -> None:
    for path in paths:
        disk.rename(path, path.with_name(path.name + REMOVING_SUFFIX))
    if paths:
        disk.sync_directory(directory)
    for leftover in directory.glob("*" + REMOVING_SUFFIX):
        disk.remove_tree(leftover)


def _free_bytes(directory: Path) -> tuple[int, int]:
    """Return the free bytes of a directory's file system, and its size."""
    if not directory.exists():
        return 1, 1
    usage = shutil.disk_usage(directory)
    return usage.free, usage.total


def _candidate(bundle: Bundle) -> Candidate:
    lifeboat = bundle.manifest.kind == "lifeboat"
    return Candidate(bundle.path.name, bundle.verified, bundle.partial, lifeboat)


def _entries(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if bundle_number(path.name) is not None]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise disk_error(directory, error) from error


def _number(path: Path) -> int:
    return bundle_number(path.name) or 0
