"""Choose the files that a search looks into, and count those that it leaves out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from runners.tools import beneath, patterns, walk

_MOST_BYTES: Final = 16 << 20
_BINARY_BYTES: Final = 8192


class Skipped:
    """Counts the files that a search has looked into, and those that it has left out."""

    def __init__(self) -> None:
        self.searched = 0
        self.skipped = 0

    def read(self, found: walk.Found, limit: int = _MOST_BYTES) -> bytes | None:
        """Return a file's bytes, or None for one that is left out."""
        data = None if found.status.st_size > limit else _content(found, limit)
        if data is None or b"\0" in data[:_BINARY_BYTES]:
            self.skipped += 1
            return None
        self.searched += 1
        return data


def _content(found: walk.Found, limit: int) -> bytes | None:
    try:
        descriptor = found.open()
    except OSError:
        return None
    try:
        return b"".join(beneath.blocks(descriptor, limit))
    finally:
        os.close(descriptor)


def chosen(path: str, glob: str | None) -> Iterator[walk.Found]:
    """Yield the files of a tree that a glob pattern, relative to the path, is for."""
    wanted = patterns.matcher(glob) if glob else None
    base = base_of(path)
    for found in walk.files(path):
        if wanted is None or wanted(found.path.removeprefix(base)):
            yield found


def base_of(path: str) -> str:
    """Return the beginning that a walk's paths have in common, by the directory's real place."""
    descriptor = beneath.open_path(path, os.O_PATH)
    try:
        real = beneath.real_path(descriptor)
    finally:
        os.close(descriptor)
    return "" if real == "." else real + "/"
