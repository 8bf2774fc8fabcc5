"""Plain files that the ledger's writer makes (heads, logs, segments), on a disk that loses its power.

Its calls of `os` are counted like SQLite's writes; what a power cut leaves is what was fsynced, under the names
that were fsynced with their directory.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from crash_disk import Death, Plug


def _contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and _is_plain(path)}


def _is_plain(path: Path) -> bool:
    return not path.name.startswith("ledger.db")


@dataclass
class CrashFiles:
    """While installed, the files below `root`; `lies`: no sync is one."""

    lies: bool = False
    plug: Plug = field(default_factory=Plug)
    root: Path = Path("/nowhere")
    _open: dict[int, Path] = field(default_factory=dict)
    _synced: dict[Path, bytes] = field(default_factory=dict)  # under the name that the file has now
    _kept: dict[Path, bytes] = field(default_factory=dict)  # what a power cut leaves

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for the calls of `os` by which files and names come to be."""
        calls: dict[str, Callable[..., Any]] = {
            "open": self._opened(os.open),
            "write": self._counted("write", os.write),
            "fsync": self._fsync,
            "replace": self._renamed(os.replace),
            "truncate": self._counted("truncate", os.truncate),
        }
        for name, call in calls.items():
            monkeypatch.setattr(os, name, call)

    def watch(self, root: Path, plug: Plug) -> None:
        """Begin with what lies there, all of it safe."""
        self.root, self.plug = root, plug
        self._open.clear()
        self._synced = _contents(root)
        self._kept = dict(self._synced)

    def leave(self, destination: Path, death: Death, dice: random.Random) -> None:
        """Give the next life what this death has left."""
        now = _contents(self.root)
        for path in sorted(now.keys() | self._kept.keys()):
            content = self._left_of(path, now.get(path), death, dice)
            if content is not None:
                copy = destination / path.relative_to(self.root)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(content)

    def _left_of(self, path: Path, now: bytes | None, death: Death, dice: random.Random) -> bytes | None:
        if death is Death.KILL_9:
            return now
        if death is Death.POWER or dice.random() < 0.5:
            return self._kept.get(path)
        synced = self._synced.get(path, b"")
        if now is None or now == synced:
            return now
        return now[: dice.randint(min(len(synced), len(now)), len(now))]

    def _opened(self, really: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
            mine = Path(os.fsdecode(path)).is_relative_to(self.root)
            if mine and flags & os.O_CREAT:
                self.plug.tick(f"create {Path(path).name}")
            descriptor = really(path, flags, mode, **more)
            self._open.pop(descriptor, None)
            if mine:
                self._open[descriptor] = Path(path)
            return descriptor

        return call

    def _counted(self, what: str, really: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: int | Path, *more: Any) -> Any:
            path = self._open.get(target) if isinstance(target, int) else target
            if path is not None and path.is_relative_to(self.root):
                self.plug.tick(f"{what} {path.name}")
            return really(target, *more)

        return call

    def _renamed(self, really: Callable[..., None]) -> Callable[..., None]:
        def call(source: Any, destination: Any, **more: Any) -> None:
            source, destination = Path(source), Path(destination)
            if source.is_relative_to(self.root):
                self.plug.tick(f"rename {destination.name}")
                self._synced[destination] = self._synced.pop(source, b"")
            really(source, destination, **more)

        return call

    def _fsync(self, descriptor: int) -> None:
        """The real disk need not be waited for: what a death takes is decided here."""
        path = self._open.get(descriptor)
        if path is None:
            return
        self.plug.tick(f"fsync {path.name}")
        if self.lies:
            return
        if path.is_dir():
            there = {each for each in path.iterdir() if each.is_file() and _is_plain(each)}
            self._kept = {each: data for each, data in self._kept.items() if each.parent != path}
            self._kept |= {each: self._synced.get(each, b"") for each in there}
            return
        self._synced[path] = path.read_bytes()
        if path in self._kept:
            self._kept[path] = self._synced[path]


def copy_all_but_the_ledger(source: Path, destination: Path) -> None:
    """Lay out the plain files of a template."""
    shutil.copytree(source, destination, ignore=shutil.ignore_patterns("ledger.db*"))
