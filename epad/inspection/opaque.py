"""Tell stores that cannot be judged here at all from damaged ones.

An encrypted database has no header, or one with ciphertext behind it; one of a later SQLite says so in its header.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from epad.copying.file_copy import SQLITE_MAGIC

SAMPLE_BYTES = 1 << 16
LEAST_BYTES = 2_048
"""A shorter piece of anything has too few bytes to tell ciphertext by."""
CIPHERTEXT_BITS = 0.985
"""The share of the greatest possible entropy from which a sample is ciphertext, or compressed: pages are far below."""
READ_VERSION = 19
"""The byte of the header that says which SQLite can read the file: 1 or 2 (with a write-ahead log) today."""
KNOWN_READ_VERSION = 2
_MOSTLY = 0.9

NO_HEADER = "it has no SQLite header and no lines of JSON: encrypted, or of another kind"


def is_text(path: Path) -> bool:
    """Tell if a file without SQLite's header may be lines of JSON, a few of them damaged. Raises OSError."""
    sample = _sample(path)
    readable = len(sample.decode(errors="ignore").encode())
    return b"\0" not in sample and readable >= _MOSTLY * len(sample)


def why_unreadable(path: Path, *, was_readable: bool) -> str:
    """Say why a file that SQLite rejects need not be damaged; empty if it is. Raises OSError.

    One that `was_readable` before has been damaged since, unless it asks for a newer SQLite.
    """
    sample = _sample(path)
    has_magic = sample.startswith(SQLITE_MAGIC)
    if has_magic and len(sample) > READ_VERSION and sample[READ_VERSION] > KNOWN_READ_VERSION:
        return f"its header asks for a newer SQLite (read version {sample[READ_VERSION]})"
    if was_readable:
        return ""
    if not has_magic:
        return NO_HEADER
    return "its pages are ciphertext: encrypted" if _is_ciphertext(sample[100:]) else ""


def _is_ciphertext(sample: bytes) -> bool:
    """Tell if every byte value is about as frequent as any other."""
    if len(sample) < LEAST_BYTES:
        return False
    entropy = -sum(n / len(sample) * math.log2(n / len(sample)) for n in Counter(sample).values())
    # A short random sample cannot reach 8 bits: this is about what it has (Miller, Madow).
    expected = 8 - 255 / (2 * len(sample) * math.log(2))
    return entropy >= CIPHERTEXT_BITS * expected


def _sample(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SAMPLE_BYTES)
