"""Define the sources of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from epad.checkpoint.manifest import OWN_FILES, Part
from epad.copying.errors import CheckpointError
from epad.storage.bundle_names import name_fault


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
    """Raise CheckpointError unless each source has a place of its own in the bundle."""
    fault = name_fault((source.name for source in sources), OWN_FILES)
    if fault:
        raise CheckpointError(fault)
