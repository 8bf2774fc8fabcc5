"""Remember a store's last sound look: the copy, its digest, and its rest since."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from epad.copying.disk import Disk

GOOD_FILE = "good"
CANDIDATE_FILE = "candidate"
SUSPECT_FILE = "suspect"
BASELINE_FILE = "baseline.json"
BLOCK_BYTES = 1 << 16
DIGEST_BYTES = 16
SETTLED_NS = 2_000_000_000
"""A file written this recently may be written again within the same tick of its clock, and look untouched."""

Kind = Literal["sqlite", "jsonl", "opaque"]
"""An opaque store cannot be judged here (encrypted, of a newer format): its bytes are compared while it rests."""


class Baseline(Struct, frozen=True):
    """A store as it was when it was last found sound.

    `signature` is empty if the file did not hold still. `blocks` are digests of its bytes on the disk, so that a change
    without a writer is found anywhere. `note` names the parts that could not be judged, and the reason.
    """

    kind: Kind
    made_ns: int
    good_sha256: str
    rows: dict[str, int]
    broken: dict[str, int]
    edited: tuple[str, ...]
    shrink_ratio: float
    signature: str = ""
    blocks: bytes = b""
    note: str = ""


def signature(path: Path) -> str:
    """Return the file system's marks of a store's files; they change with every write, and not with rot."""
    parts = []
    for suffix in ("", "-wal", "-journal"):
        try:
            status = path.with_name(path.name + suffix).stat()
        except OSError:
            continue
        if status.st_size or not suffix:
            parts.append(f"{suffix}:{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}")
    return " ".join(parts)


def is_there(path: Path) -> bool:
    """Tell if there is a file. Raises OSError if that cannot be seen, which tells nothing about the file."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_on_its_disk(path: Path, was: str) -> bool:
    """Tell if the place of a missing file lies on the file system that its signature `was` of."""
    if not was:
        return True
    place = next(parent for parent in path.absolute().parents if parent.exists())
    return was.split(":", 2)[1] == str(place.stat().st_dev)


def is_settled(path: Path) -> bool:
    """Tell if the file was not written just now. A time ahead of the clock tells nothing."""
    return newest_age_seconds(path) * 1e9 > SETTLED_NS


def newest_age_seconds(path: Path) -> float:
    """Return the seconds since the last write; 0 if the file is missing, or was written ahead of now."""
    try:
        ages = [time.time_ns() - part.stat().st_mtime_ns for part in _files(path)]
    except OSError:
        return 0.0
    return max(0, min(ages, default=0)) / 1e9


def block_digests(path: Path) -> bytes:
    """Digests of all its bytes, read from the disk rather than from the page cache. Raises OSError."""
    digests = bytearray()
    for part in _files(path):
        with part.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while block := file.read(BLOCK_BYTES):
                digests += hashlib.blake2b(block, digest_size=DIGEST_BYTES).digest()
    return bytes(digests)


def differing_block(before: bytes, after: bytes) -> int | None:
    """Return the first block that differs; None if all are equal."""
    if before == after:
        return None
    for at in range(0, min(len(before), len(after)), DIGEST_BYTES):
        if before[at : at + DIGEST_BYTES] != after[at : at + DIGEST_BYTES]:
            return at // DIGEST_BYTES
    return min(len(before), len(after)) // DIGEST_BYTES


def load_baseline(home: Path) -> Baseline | None:
    """Return the remembered baseline; None if there is none, or none that can be relied on."""
    try:
        digest, _, encoded = (home / BASELINE_FILE).read_bytes().partition(b"\n")
        if hashlib.sha256(encoded).hexdigest().encode() != digest:
            return None
        return msgspec.json.decode(encoded, type=Baseline)
    except (OSError, msgspec.DecodeError):
        return None


def save_baseline(home: Path, baseline: Baseline, disk: Disk) -> None:
    """Make the candidate the last sound copy, and remember its marks. Raises OSError.

    A crash between the two renames leaves a copy that its baseline does not know, which is none.
    """
    encoded = msgspec.json.encode(baseline)
    new = home / f"{BASELINE_FILE}.new"
    disk.write(new, hashlib.sha256(encoded).hexdigest().encode() + b"\n" + encoded)
    disk.rename(home / CANDIDATE_FILE, home / GOOD_FILE)
    disk.rename(new, home / BASELINE_FILE)
    disk.sync_directory(home)


def digest_of(path: Path) -> str:
    """SHA-256 of a file of our own. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(path: Path) -> Iterator[Path]:
    for suffix in ("", "-wal", "-journal"):
        part = path.with_name(path.name + suffix)
        if part.exists() and (part.stat().st_size or not suffix):
            yield part
