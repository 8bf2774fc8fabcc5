"""Define a member of an archive, whatever the format, and the bounds within which one is unpacked.

An archive is judged as a whole before a byte of it is written: by its count of members, by their bytes, and by how many
times the archive's own size these are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from runners.tools.signature import ToolError

MOST_MEMBERS: Final = 5_000
MOST_BYTES: Final = 256 << 20
MOST_DEPTH: Final = 64
MOST_RATIO: Final = 100
RATIO_FROM_BYTES: Final = 16 << 20
"""Below this an archive is unpacked whatever its ratio: a small file of zeros is no bomb."""
BLOCK_BYTES: Final = 1 << 20

Blocks = Callable[[], Iterator[bytes]]
"""Yields the content of a member. Raises ToolError where the archive is damaged."""


@dataclass(frozen=True, slots=True)
class Member:
    """Describes one member. `why` says why it is never unpacked; empty where it may be."""

    name: str
    kind: str
    bytes: int
    executable: bool = False
    why: str = ""


class Archive(Protocol):
    """An open archive."""

    @property
    def size(self) -> int:
        """Return the bytes of the archive itself."""
        ...

    def members(self) -> Iterator[tuple[Member, Blocks]]:
        """Yield the members from the beginning. A member's content is read before the next member is asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Survey:
    """Holds the sums over all members of an archive."""

    count: int
    bytes: int
    ratio: float


def survey(archive: Archive) -> Survey:
    """Return the sums over an archive. Raises ToolError for one above the bounds."""
    count = total = 0
    for member, _ in archive.members():
        count += 1
        total += member.bytes
        if count > MOST_MEMBERS:
            raise ToolError(
                f"the archive has over {MOST_MEMBERS} members", "ask a person to unpack a larger one"
            )
        if total > MOST_BYTES:
            raise ToolError(
                f"the archive's members have over {MOST_BYTES} bytes", "ask a person to unpack a larger one"
            )
        refuse_ratio(total, archive.size)
    return Survey(count, total, ratio_of(total, archive.size))


def refuse_ratio(unpacked: int, packed: int) -> None:
    """Raise ToolError where so many bytes out of so few are a bomb's."""
    if unpacked > RATIO_FROM_BYTES and unpacked > MOST_RATIO * packed:
        raise ToolError(
            f"the archive has {packed} bytes and would unpack to over {MOST_RATIO} times that",
            "that is the shape of an archive bomb; ask a person to unpack it",
        )


def ratio_of(unpacked: int, packed: int) -> float:
    """Return how many times its own size an archive unpacks to."""
    return round(unpacked / max(1, packed), 1)


def place_of(name: str) -> str:
    """Return the path below the destination that a member's name stands for; empty for the destination itself.

    Raises ToolError for a name that leads outside, whatever is there: nothing is resolved here.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ToolError("its name is not UTF-8", "pack it again with a name in UTF-8") from None
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts:
        raise ToolError("its name leads outside", "names of members are relative, without `..`")
    if len(parts) > MOST_DEPTH:
        raise ToolError(f"it lies over {MOST_DEPTH} directories deep", "pack it again from nearer")
    return "/".join(parts)


def shown(name: str) -> str:
    """Return a member's name as JSON can carry it."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")
