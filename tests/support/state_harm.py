"""What can befall a state directory and what is in it: deleted, older, cut, read-only, full; and what is to follow."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_disk import Filler, tmpfs
from turn_scene import Scene

from epad.ledger.rows import open_reader

DIRECTORY, LEDGER, JOURNAL, ANCHOR = TARGETS = ("state directory", "ledger.db", "state.db", "anchor")
DELETED, OLDER, CUT, READ_ONLY, FULL = HARMS = ("deleted", "older", "truncated", "read-only", "full")

REFUSED = {401, 403, 503}
SMALL = """
[lifeboat]
ballast_bytes = 4194304
"""

RUNNING = {
    DELETED: "was deleted while it is in use: what is written now ends with the daemon; copy it",
    OLDER: "was replaced by another file while it is in use: what is written now ends with the daemon; copy it",
    CUT: r"was cut from \d+ to \d+ bytes",
    READ_ONLY: "was made read-only while it is in use, .*make it writable again",
    FULL: "no room is left on the file system of .*free some space",
}
"""What status says of each while the daemon runs; the path is in it."""


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
        if self._place.is_file():
            return [self._place]
        files = [self.path / LEDGER, self.path / JOURNAL] if self.target == DIRECTORY else []
        inside = self.path / ANCHOR if self.target == DIRECTORY else self._place
        return [*files, *(f for f in inside.iterdir() if f.is_file() and f.stat().st_size)]

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


def last_record(state: Path) -> int:
    with contextlib.closing(open_reader(state / LEDGER)) as reader:
        number: int = reader.execute("SELECT max(seq) FROM record").get
        return number


def assert_nothing_is_forwarded(scene: Scene) -> None:
    before = scene.stub.turns
    assert {scene.ask() for _ in range(12)} <= REFUSED
    assert scene.stub.turns == before


def shut(scene: Scene) -> str:
    """Why the gateway is shut, as `epactl status` says."""
    return " ".join(n for n in scene.house.status()["notices"] if n.startswith("the gateway is shut: "))


def some_slow(cells: Iterable[tuple[str, str]], in_every_run: Container[tuple[str, str]]) -> list[Any]:
    """The cells, all but those of every run marked as slow."""
    return [pytest.param(*cell, marks=() if cell in in_every_run else pytest.mark.slow) for cell in cells]
