"""A file system of one's own, to be filled to the last block or made read-only."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest


@contextlib.contextmanager
def tmpfs(place: Path, size: str) -> Iterator[Path]:
    """A tmpfs mounted there; skips the test where that is not allowed."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no mount here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def make_read_only(place: Path) -> None:
    """As a file system does by itself after an error; nobody may have a file of it open for writing."""
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)


@dataclass
class Filler:
    """Takes every last block, as a runaway log would; a greedy one takes what is freed as well."""

    directory: Path
    greedy: bool = False
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._fill()
        self._thread = threading.Thread(target=self._go_on)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)

    def _go_on(self) -> None:
        while self.greedy and not self._stopping.wait(0.01):
            self._fill()

    def _fill(self) -> None:
        with (self.directory / "filler").open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
