"""What goes into a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from epad.checkpoint.manifest import Part, is_safe
from epad.copying.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class SqliteSource:
    """A SQLite database that others may be writing; its copy is one consistent file.

    `datastore` is the role of one whose content its own probe judges. An `optional` source may not be there yet: then
    nothing is missing.
    """

    name: str
    path: Path
    role: Literal["database", "ledger", "datastore"] = "database"
    optional: bool = False


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file. One that turns out to be a SQLite database is copied as one."""

    name: str
    path: Path
    role: Literal["", "datastore"] = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """A directory and everything below it; sockets and FIFOs hold no state and are left out.

    `sealed` ones hold files that are never written again: they are linked where that is possible.
    """

    name: str
    path: Path
    sealed: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class BytesSource:
    """Something the daemon knows and no file holds, such as a report."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ReportSource:
    """A text about the sources before it, made when their parts are known."""

    name: str
    make: Callable[[tuple[Part, ...]], bytes]


PathSource = SqliteSource | FileSource | DirectorySource
Source = PathSource | BytesSource | ReportSource


def check_names(sources: Sequence[Source]) -> None:
    """Raise CheckpointError unless each source has a place of its own in the bundle.

    A name may have slashes (`wargame/state.json`), so no name may be a folder of another.
    """
    taken: set[str] = set()
    folders: set[str] = set()
    for source in sources:
        parents = {source.name[:at] for at, letter in enumerate(source.name) if letter == "/"}
        if not is_safe(source.name):
            raise CheckpointError(f"source {source.name!r}: not a usable file name inside a bundle")
        if source.name in taken | folders or parents & taken:
            raise CheckpointError(f"source {source.name!r}: another source has this place; rename one")
        taken.add(source.name)
        folders |= parents
