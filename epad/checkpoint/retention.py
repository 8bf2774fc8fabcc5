"""Which bundles are kept: never fewer good ones than asked for, and never without the last good one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from epad.checkpoint.bundle import PARTIAL_SUFFIX, Bundle, bundle_number, read_bundle
from epad.checkpoint.disk import Disk
from epad.checkpoint.errors import BundleDamagedError, disk_error

# Renamed to this before it is emptied, so that a half-removed bundle never looks like one.
REMOVING_SUFFIX = ".removing"


@dataclass(frozen=True, slots=True)
class Damaged:
    """A bundle whose manifest cannot be read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What lies in a directory of bundles, each kind newest first."""

    bundles: tuple[Bundle, ...]
    damaged: tuple[Damaged, ...]
    unfinished: tuple[Path, ...]

    @property
    def newest_verified(self) -> Bundle | None:
        """The bundle to restore from."""
        return next((bundle for bundle in self.bundles if bundle.verified), None)

    @property
    def next_number(self) -> int:
        """A number that no bundle has had, finished or not."""
        paths = [b.path for b in self.bundles] + [d.path for d in self.damaged] + [*self.unfinished]
        return max(map(_number, paths), default=0) + 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """What retention needs to know of a bundle. A damaged one is an unverified checkpoint."""

    name: str
    verified: bool
    partial: bool = False
    lifeboat: bool = False


def doomed(candidates: Iterable[Candidate], keep: int) -> set[str]:
    """Choose the names to remove. Pure.

    Kept are the `keep` newest verified checkpoints, the newest verified one that lacks no source, and the
    `keep` newest unverified ones that are newer than every verified one: they may be all there is of
    today. An unverified one never counts as a copy, and so dooms nothing. A lifeboat is the record of an
    end: only a person removes it.

    A clock may be set back and a number may start over, so a bundle goes only if its number and its time
    both say that it is old.
    """
    checkpoints = [c for c in candidates if not c.lifeboat]
    by_number = sorted(checkpoints, key=lambda c: (bundle_number(c.name) or 0, c.name), reverse=True)
    by_time = sorted(checkpoints, key=lambda c: c.name, reverse=True)
    return {c.name for c in checkpoints} - _kept(by_number, keep) - _kept(by_time, keep)


def _kept(newest_first: list[Candidate], keep: int) -> set[str]:
    verified = [c.name for c in newest_first if c.verified]
    complete = [c.name for c in newest_first if c.verified and not c.partial]
    waiting = [c.name for c in takewhile(lambda c: not c.verified, newest_first)]
    return {*verified[: max(keep, 1)], *complete[:1], *waiting[: max(keep, 1)]}


def list_bundles(directory: Path) -> Inventory:
    """Look through a directory; what is not a bundle is not touched. Raises CheckpointError."""
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


async def prune(directory: Path, keep: int, disk: Disk | None = None) -> list[Path]:
    """Remove what `doomed` chooses, and unfinished ones older than the newest bundle; say what went.

    Raises CheckpointError.
    """
    return await asyncio.to_thread(_prune, directory, keep, disk or Disk())


def _prune(directory: Path, keep: int, disk: Disk) -> list[Path]:
    inventory = list_bundles(directory)
    candidates = [_candidate(bundle) for bundle in inventory.bundles]
    candidates += [Candidate(damaged.path.name, verified=False) for damaged in inventory.damaged]
    names = sorted(doomed(candidates, keep))
    newest = max((bundle_number(c.name) or 0 for c in candidates), default=0)
    strays = [path for path in inventory.unfinished if _number(path) < newest]
    removed = [directory / name for name in names] + strays
    try:
        for path in removed:
            disk.rename(path, path.with_name(path.name + REMOVING_SUFFIX))
        if removed:
            disk.sync_directory(directory)
        for leftover in directory.glob("*" + REMOVING_SUFFIX):
            disk.remove_tree(leftover)
    except OSError as error:
        raise disk_error(directory, error) from error
    return removed


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
