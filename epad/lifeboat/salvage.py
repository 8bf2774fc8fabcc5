"""Copy the readable blocks of a file that cannot be read whole, in a child process.

`python -m epad.lifeboat.salvage SOURCE DESTINATION`. Unreadable ranges are zeros in the copy, and are named. The
bytes are taken as they lie: this is for files that their own library refuses.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from epad.copying.copied_file import die_with_parent
from epad.lifeboat.frames import FILE_MODE

BLOCK_BYTES = 4096
"""What a disk that cannot read a sector gives up: the page cache reads no less."""

Read = Callable[[int, int, int], bytes]
"""`os.pread`: descriptor, length, offset."""


class Salvaged(Struct, frozen=True):
    """Reports the salvage of one file; `unreadable` are ranges as (first byte, bytes)."""

    size_bytes: int = 0
    unreadable: tuple[tuple[int, int], ...] = ()
    error: str = ""

    @property
    def sentence(self) -> str:
        """Describe it in one line for the report."""
        if self.error:
            return f"nothing could be saved: {self.error}"
        if not self.unreadable:
            return f"all {self.size_bytes} bytes were read, as they lay"
        lost = sum(length for _, length in self.unreadable)
        first = ", ".join(f"{at}-{at + length - 1}" for at, length in self.unreadable[:8])
        return f"{lost} of {self.size_bytes} bytes could not be read (bytes {first}) and are zeros"


def salvage(source: Path, destination: Path, read: Read = os.pread) -> Salvaged:
    """Copy block by block; never raises."""
    try:
        origin = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return Salvaged(error=f"{source}: {error.strerror}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(destination, flags, FILE_MODE), "wb") as copy:
            size = os.fstat(origin).st_size
            unreadable: list[tuple[int, int]] = []
            for at in range(0, size, BLOCK_BYTES):
                length = min(BLOCK_BYTES, size - at)
                copy.write(_block(origin, at, length, read, unreadable))
            copy.flush()
            os.fsync(copy.fileno())
    except OSError as error:
        return Salvaged(error=f"{destination}: {error.strerror}")
    finally:
        os.close(origin)
    return Salvaged(size, tuple(unreadable))


def _block(origin: int, at: int, length: int, read: Read, unreadable: list[tuple[int, int]]) -> bytes:
    """Return one block, or as many zeros; unread bytes join the range before."""
    try:
        data = read(origin, length, at)
    except OSError:
        data = b""
    if len(data) < length:
        start = at + len(data)
        if unreadable and sum(unreadable[-1]) == start:
            first, before = unreadable.pop()
            unreadable.append((first, before + at + length - start))
        else:
            unreadable.append((start, at + length - start))
    return data.ljust(length, b"\0")


def main(arguments: list[str]) -> int:
    """Run as a child of the daemon, or by hand."""
    die_with_parent()
    os.umask(0o077)
    source, destination = map(Path, arguments)
    salvaged = salvage(source, destination)
    sys.stdout.buffer.write(msgspec.json.encode(salvaged) + b"\n")
    return 1 if salvaged.error or salvaged.unreadable else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
