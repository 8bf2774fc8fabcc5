"""Read Python's source files into syntax trees, and tell why one cannot be read. Nothing is imported or run."""

from __future__ import annotations

import ast
import codecs
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from runners.tools import beneath, files, walk
from runners.tools.searched import chosen
from runners.tools.signature import ToolError

MOST_BYTES: Final = 2 << 20
"""A larger file was written by a program; its tree would take the memory of a call."""
_MOST_TOLD: Final = 50
for _name in ("cp1251", "cp1252", "koi8-r", "latin-1", "iso8859-15", "shift_jis", "euc_jp", "gbk", "big5"):
    codecs.lookup(_name)  # loaded here, since a call may not read Python's own files


@dataclass(frozen=True, slots=True)
class Source:
    """Holds a source file: its path in the workspace, its bytes and its tree."""

    path: str
    data: bytes
    tree: ast.Module


@dataclass(slots=True)
class Skipped:
    """Collects the files that cannot be read, each with the reason."""

    told: list[str] = field(default_factory=list)

    def add(self, path: str, why: str) -> None:
        """Tell one file; of very many the first ones."""
        if len(self.told) < _MOST_TOLD:
            self.told.append(f"{files.shown(path)}: {why}")


def parsed(data: bytes) -> ast.Module:
    """Return the tree of a source. Raises ValueError with the reason."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has {len(data)} bytes, over the limit of {MOST_BYTES}")
    if b"\0" in data:
        raise ValueError("it is binary: it has NUL bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(data)
    except SyntaxError as error:
        raise ValueError(f"no Python at line {error.lineno or 0}: {error.msg}") from None
    except (LookupError, OSError):  # Python reads the file of a rare encoding when it is asked for
        raise ValueError("no Python in an encoding that is known here") from None
    except (RecursionError, MemoryError):
        raise ValueError("it is nested too deeply, or too large a tree") from None


def source_at(path: str) -> Source:
    """Return one file's tree. Raises ToolError with the reason."""
    data = beneath.read_whole(path, MOST_BYTES)
    try:
        return Source(path, data, parsed(data))
    except ValueError as error:
        raise ToolError(f"{path!r} cannot be read as Python: {error}", "file_read shows it as text") from None


def sources(path: str, skipped: Skipped) -> Iterator[Source]:
    """Yield the trees of the Python files below a directory, or of the one file."""
    for found in named(path):
        if found.status.st_size > MOST_BYTES:
            skipped.add(found.path, f"it has over {MOST_BYTES} bytes")
            continue
        try:
            data = content(found)
            yield Source(found.path, data, parsed(data))
        except ValueError as error:
            skipped.add(found.path, str(error))
        except OSError as error:
            skipped.add(found.path, error.strerror or "it cannot be read")


def named(path: str) -> Iterator[walk.Found]:
    """Yield the files that are Python's by their names."""
    yield from chosen(path, "*.py")


def content(found: walk.Found) -> bytes:
    """Return the bytes of a file that a walk has found. Raises OSError."""
    descriptor = found.open()
    try:
        return b"".join(beneath.blocks(descriptor, MOST_BYTES + 1))
    finally:
        os.close(descriptor)
