"""What can befall the state directory, its two databases and the anchor: deleted, older, cut, read-only, full."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disk import Filler, tmpfs

DIRECTORY, LEDGER, JOURNAL, ANCHOR = TARGETS = ("state directory", "ledger.db", "state.db", "anchor")
DELETED, OLDER, CUT, READ_ONLY, FULL = HARMS = ("deleted", "older", "truncated", "read-only", "full")


class State:
    """A state directory of which one `target` can be harmed; `older` is a copy from before."""

    def __init__(self, path: Path, target: str, older: Path) -> None:
        self.path = path
        self.target = target
        self.older = older

    @property
    def _place(self) -> Path:
        return self.path if self.target == DIRECTORY else self.path / self.target

    @contextlib.contextmanager
    def harmed(self, harm: str, disk: Path | None = None) -> Iterator[None]:
        """Do it; what can be undone is undone at the end. `disk` is the small one that `full` needs."""
        match harm:
            case "deleted":
                self._delete()
                yield
            case "older":
                self._put_older()
                yield
            case "truncated":
                for file in self._files():
                    os.truncate(file, file.stat().st_size // 2)
                yield
            case "read-only":
                with _read_only(self._place):
                    yield
            case "full":
                assert disk is not None
                with Filler(disk, greedy=True):
                    yield
                (disk / "filler").unlink()
            case _:
                raise AssertionError(harm)

    def _files(self) -> list[Path]:
        """The files of the target that something was written to."""
        if self.target in {LEDGER, JOURNAL}:
            return [self._place]
        files = [self.path / LEDGER, self.path / JOURNAL] if self.target == DIRECTORY else []
        return [*files, *(f for f in (self.path / ANCHOR).iterdir() if f.is_file() and f.stat().st_size)]

    def _delete(self) -> None:
        if self._place.is_dir():
            # The daemon may write into it meanwhile.
            shutil.rmtree(self._place, ignore_errors=True)
            shutil.rmtree(self._place, ignore_errors=True)
            return
        for file in self.path.glob(f"{self.target}*"):
            file.unlink(missing_ok=True)

    def _put_older(self) -> None:
        """By a rename, as `mv` and editors do."""
        old, new = self._place.with_name(f"{self._place.name}.aside"), self._place
        copy = self._place.with_name(f"{self._place.name}.copy")
        source = self.older if self.target == DIRECTORY else self.older / self.target
        if source.is_dir():
            shutil.copytree(source, copy)
            new.rename(old)
        else:
            shutil.copyfile(source, copy)
            for file in self.path.glob(f"{self.target}-*"):
                file.unlink()
        copy.rename(new)


@contextlib.contextmanager
def _read_only(place: Path) -> Iterator[None]:
    """A mount over itself: who has it open for writing goes on, nobody can open it for writing any more."""
    if subprocess.run(["mount", "--bind", place, place], check=False, capture_output=True).returncode:
        pytest.skip("no mount here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=False)


@contextlib.contextmanager
def small_state(directory: Path, target: str) -> Iterator[tuple[Path, Path]]:
    """A state directory whose `target` lies on a small disk of its own; where the state is, and the disk."""
    disk, state = directory / "disk", directory / "state"
    with tmpfs(disk, "48m"):
        if target == DIRECTORY:
            yield disk / "state", disk
            return
        state.mkdir(mode=0o700)
        if target == ANCHOR:
            (disk / target).mkdir(mode=0o700)
        (state / target).symlink_to(disk / target)
        yield state, disk
