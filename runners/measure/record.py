"""Keep the parts of a start in a file, and compare them with those of the last one."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from runners.measure.parts import Part, Parts
from runners.measure.request import Change, Measured

MOST_TOLD: Final = 50
COMMAND: Final = "(command)"
"""The name of the command line itself among the parts."""


class Record(Struct, frozen=True):
    """Holds all parts of one start, and their common digest."""

    digest: str
    parts: dict[str, Part]


def record_of(parts: Parts, command: bytes) -> Record:
    """Return the record of a start: of its parts, and of the command line itself."""
    found = {
        COMMAND: Part("command", sha256(command).hexdigest()),
        **dict(sorted(parts.found.items())),
    }
    whole = sha256()
    for path, part in found.items():
        name = path.encode(errors="surrogateescape")
        whole.update(f"{len(name)} ".encode() + name + part.digest.encode())
    return Record(whole.hexdigest(), found)


def read_record(path: Path) -> Record | None:
    """Return a record that was kept; None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def write_record(path: Path, record: Record) -> None:
    """Keep a record: all of it or nothing is there after a crash. Raises OSError."""
    new = path.with_name(f"{path.name}.part")
    with open(  # noqa: PTH123  a mode of its own
        os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
    ) as file:
        file.write(msgspec.json.encode(record))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def compared(before: Record | None, now: Record, left_out: tuple[str, ...] = ()) -> Measured:
    """Return how a start differs from the one before it."""
    if before is None:
        return Measured(now.digest, len(now.parts), is_first=True, left_out=left_out)
    changes = [
        *(Change(path, "added", part.role) for path, part in now.parts.items() if path not in before.parts),
        *(Change(path, "removed", part.role) for path, part in before.parts.items() if path not in now.parts),
        *(
            Change(path, "changed", part.role)
            for path, part in now.parts.items()
            if path in before.parts and before.parts[path].digest != part.digest
        ),
    ]
    changes.sort(key=lambda change: (_ORDER.index(change.role), change.path))
    told = tuple(changes[:MOST_TOLD])
    return Measured(now.digest, len(now.parts), False, before.digest, len(changes), told, left_out)


_ORDER: Final = ("command", "program", "script", "module", "named", "model", "library", "environment")
"""What is told first."""
