"""Sealed segments: the ledger's second copy, one file for each run of records, never written again.

A file is frames, a trailer and the SHA-256 of both. It is checked by hashing it whole, at the speed of the
hash; each trailer holds the hash of the segment before and a head signed over all that came up to its end.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec
from msgspec import Struct

from epad.ledger.anchor import sync_directory
from epad.ledger.errors import SegmentError
from epad.ledger.hashes import HASH_BYTES
from epad.ledger.rows import Row, row_at
from epad.ledger.tree import Frontier

MAGIC = b"epad/segment/1\n"
_frame = struct.Struct(">I32s32s")  # length of the body, leaf, link
_pack_frame = _frame.pack
_length = struct.Struct(">I")
CHUNK_BYTES = 1 << 20
NO_BODY = 0xFFFFFFFF
"""For a record that a repair has given up as lost."""
SUFFIX = ".seg"


class Trailer(Struct, frozen=True, array_like=True):
    """Describes a segment: records `first` to `last`, the tree after them, the segment before."""

    number: int
    first: int
    last: int
    previous_sha256: bytes
    peaks: tuple[bytes, ...]
    note: str
    wall_ns: int

    def frontier(self) -> Frontier:
        """Return the tree as it was when this was sealed. Raises ValueError."""
        return Frontier(self.last, self.peaks)


_decoder = msgspec.msgpack.Decoder(Trailer)


class Frame(NamedTuple):
    """Holds one record; `body` is None if it was lost."""

    body: bytes | None
    leaf: bytes
    link: bytes


def encode_frames(frames: Iterable[Frame]) -> bytes:
    """Return their bytes, one after another."""
    return b"".join(
        _pack_frame(NO_BODY, leaf, link) if body is None else _pack_frame(len(body), leaf, link) + body
        for body, leaf, link in frames
    )


@dataclass(frozen=True, slots=True)
class Seal:
    """A segment as the database knows it."""

    trailer: Trailer
    sha256: bytes

    @property
    def name(self) -> str:
        return f"{self.trailer.number:08d}{SUFFIX}"


def encode_trailer(trailer: Trailer) -> bytes:
    """Return its bytes, in the file and in the database."""
    return msgspec.msgpack.encode(trailer)


def write_segment(
    directory: Path, number: int, runs: Iterable[Sequence[Frame]], finish: Callable[[], Trailer]
) -> Seal:
    """Write a segment in one step, durable and read-only on return; the trailer is asked for last.

    Raises OSError, and the errors of `runs`.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{number:08d}{SUFFIX}"
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    digest = sha256()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for part in itertools.chain([MAGIC], map(encode_frames, runs)):
            digest.update(part)
            file.write(part)
        trailer = finish()
        encoded = encode_trailer(trailer)
        end = encoded + _length.pack(len(encoded))
        digest.update(end)
        file.write(end + digest.digest())
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
    if path.exists():  # from a history that the database does not know: a crash, or a restored copy
        path.replace(path.with_suffix(".former"))
    temporary.replace(path)
    sync_directory(directory)
    return Seal(trailer, digest.digest())


def check_segment(path: Path) -> Seal:
    """Hash a whole segment. Raises SegmentError where it is not as it was sealed."""
    digest = sha256()
    try:
        with path.open("rb", buffering=0) as file:
            left = file.seek(0, os.SEEK_END) - HASH_BYTES
            file.seek(0)
            buffer = bytearray(CHUNK_BYTES)
            while left > 0 and (count := file.readinto(memoryview(buffer)[: min(left, CHUNK_BYTES)])):
                digest.update(memoryview(buffer)[:count])
                left -= count
            sealed = file.read(HASH_BYTES)
    except OSError as error:
        raise SegmentError(f"{path}: {error.strerror}") from error
    if digest.digest() != sealed:
        raise SegmentError(f"{path}: its bytes have changed (SHA-256)")
    return Seal(read_trailer(path), sealed)


def read_segment(path: Path) -> tuple[Trailer, list[Frame]]:
    """Return the records of a segment, not checked: the chain says which to believe. Raises SegmentError."""
    data = _read(path)
    trailer = _trailer(data, path)
    frames: list[Frame] = []
    position, end = len(MAGIC), len(data) - HASH_BYTES - _length.size
    while len(frames) <= trailer.last - trailer.first and position + _frame.size <= end:
        length, leaf, link = _frame.unpack_from(data, position)
        position += _frame.size
        lost = length == NO_BODY
        length = 0 if lost else length
        if position + length > end:
            break
        frames.append(Frame(None if lost else data[position : position + length], leaf, link))
        position += length
    return trailer, frames


def decode_trailer(encoded: bytes, path: Path) -> Trailer:
    """Raises SegmentError."""
    try:
        return _decoder.decode(encoded)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SegmentError(f"{path}: its trailer cannot be read: {error}") from error


def segment_paths(directory: Path) -> list[Path]:
    """Return the segments there are, oldest first."""
    return sorted(directory.glob(f"*{SUFFIX}")) if directory.is_dir() else []


def _trailer(data: bytes, path: Path) -> Trailer:
    end = len(data) - HASH_BYTES - _length.size
    start = end - _length.unpack_from(data, end)[0] if end > 0 else -1
    if start < len(MAGIC):
        raise SegmentError(f"{path}: its end is cut off or damaged")
    return decode_trailer(data[start:end], path)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SegmentError(f"{path}: {error.strerror}") from error
    if not data.startswith(MAGIC):
        raise SegmentError(f"{path}: no segment, or its beginning is damaged")
    return data


class DatabaseCopy:
    """Reads a copy of the ledger's database, as a checkpoint holds one."""

    def __init__(self, name: str, connection: apsw.Connection) -> None:
        self.name = name
        self._connection = connection

    def row(self, sequence: int) -> Row | None:
        try:
            return row_at(self._connection, sequence)
        except apsw.Error:
            return None


@dataclass(slots=True)
class SegmentsCopy:
    """The sealed segments as a copy to restore from: damaged ones too, as far as they can be read."""

    directory: Path
    _rows: dict[int, Row] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.directory)

    def row(self, sequence: int) -> Row | None:
        """Return the record, if any segment has it; one segment is held in memory at a time."""
        if sequence not in self._rows:
            self._rows = self._load(sequence)
        return self._rows.get(sequence)

    def _load(self, sequence: int) -> dict[int, Row]:
        for path in segment_paths(self.directory):
            try:
                first, last = _span(path)
                if not first <= sequence <= last:
                    continue
                _, frames = read_segment(path)
            except SegmentError:
                continue
            return {
                number: Row(number, None, 0, None, 0, frame.body, frame.leaf, frame.link)
                for number, frame in enumerate(frames, first)
            }
        return {}


def _span(path: Path) -> tuple[int, int]:
    """Return a segment's first and last record, from its end alone. Raises SegmentError."""
    trailer = read_trailer(path)
    return trailer.first, trailer.last


def read_trailer(path: Path) -> Trailer:
    """Return a segment's trailer, without reading the rest. Raises SegmentError."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65_536))
            data = file.read()
    except OSError as error:
        raise SegmentError(f"{path}: {error.strerror}") from error
    end = len(data) - HASH_BYTES - _length.size
    start = end - _length.unpack_from(data, end)[0] if end > 0 else -1
    if start < 0:
        raise SegmentError(f"{path}: its end is cut off or damaged")
    return decode_trailer(data[start:end], path)
