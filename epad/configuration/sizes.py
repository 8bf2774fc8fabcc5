"""Sizes of memory in the configuration: bytes, or a number with a unit, as systemd and Docker have them."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?([KMGT](i?B)?|B)?$"
Size = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(pattern=SIZE_PATTERN)]
"""0 is none. K and KiB are 1024, as systemd has it; KB is 1000."""

_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}


def size_bytes(size: int | str) -> int:
    """Return a size in bytes. Raises ValueError for a text that is none."""
    if isinstance(size, int):
        return size
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)(iB|B)?", size)
    if found is None:
        raise ValueError(f"{size!r} is no size, such as 4GiB")
    number, letter, unit = found.groups()
    base = 1_000 if letter and unit == "B" else 1_024
    return int(float(number) * base ** _POWERS.get(letter, 0))
