"""Seal records into segments, and check sealed ones against their records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from epad.ledger.chain import Fault, FaultKind, Walker, walker_at
from epad.ledger.errors import HeadError, SegmentError
from epad.ledger.hashes import GENESIS, leaf_hash
from epad.ledger.head import Head, Signer, Verifier
from epad.ledger.rows import DAMAGE, Row, Unreadable, read_chunks
from epad.ledger.segment import (
    Frame,
    Seal,
    Trailer,
    check_segment,
    decode_trailer,
    encode_trailer,
    segment_paths,
    write_segment,
)
from epad.ledger.tree import LOST_LEAF, Frontier
from epad.storage.database import fetch


@dataclass(frozen=True, slots=True)
class Sealer:
    """Copies records into the next segment. Damaged ones are not sealed: the copy must be better than that."""

    directory: Path
    signer: Signer

    def seal(self, connection: apsw.Connection, last: int, wall_ns: int) -> Seal | None:
        """Seal the unsealed records up to `last`; None if there are none. Raises SegmentError, OSError."""
        before = newest_seal(connection)
        first = before.trailer.last + 1 if before else 1
        if first > last:
            return None
        number = before.trailer.number + 1 if before else 1
        frontier = before.trailer.frontier() if before else Frontier()
        newest_link = GENESIS

        def runs() -> Iterator[Sequence[Frame]]:
            nonlocal newest_link
            for frames in sound_frames(connection, first, last):
                frontier.extend(frame.leaf for frame in frames)
                newest_link = frames[-1].link if frames else newest_link
                yield frames

        def trailer() -> Trailer:
            head = Head(last, frontier.root(), newest_link, wall_ns)
            previous = before.sha256 if before else GENESIS
            peaks = tuple(frontier.peaks)
            return Trailer(number, first, last, previous, peaks, self.signer.sign(head), wall_ns)

        return write_segment(self.directory, number, runs(), trailer)

    def reseal(self, connection: apsw.Connection, seal: Seal) -> bool:
        """Write a damaged segment again from the records; False where they are not those that were sealed."""
        trailer = seal.trailer
        kept = self.directory / seal.name
        aside = kept.with_suffix(".damaged")
        if kept.exists():
            kept.replace(aside)
        try:
            runs = sound_frames(connection, trailer.first, trailer.last)
            if write_segment(self.directory, trailer.number, runs, lambda: trailer).sha256 == seal.sha256:
                return True
        except SegmentError:
            pass
        if aside.exists():
            aside.replace(kept)
        return False


def sound_frames(connection: apsw.Connection, first: int, last: int) -> Iterator[Sequence[Frame]]:
    """Records as they go into a segment, some at a time. Raises SegmentError at the first that is damaged."""
    walker = walker_at(connection, first)
    for item in read_chunks(connection, first):
        rows = [values for values in item if values[0] <= last] if isinstance(item, list) else []
        if rows and walker.step_all(rows):
            yield [Frame(values[5], values[6], values[7]) for values in rows]
        else:
            for row in [Row(*values) for values in item] if isinstance(item, list) else [item]:
                yield _frames_at(walker, row, last)
        if walker.expected > last:
            return
    raise _damaged_at(walker.expected)


def _frames_at(walker: Walker, row: Row | Unreadable, last: int) -> list[Frame]:
    """Return the next record and the lost ones before it. Raises SegmentError unless it is sound."""
    before = walker.expected
    if before > last:
        return []
    sequence = None if isinstance(row, Unreadable) else walker.step(row)
    if sequence is None or walker.faults:
        raise _damaged_at(before)
    frames = [Frame(None, LOST_LEAF, GENESIS) for _ in range(before, min(sequence, last + 1))]
    if sequence <= last and isinstance(row, Row):
        frames.append(_frame_of(row))
    return frames


def _damaged_at(sequence: int) -> SegmentError:
    return SegmentError(f"record {sequence} is damaged or missing")


def _frame_of(row: Row) -> Frame:
    body = row.body if isinstance(row.body, bytes) and leaf_hash(row.body) == row.leaf else None
    leaf = row.leaf if isinstance(row.leaf, bytes) and len(row.leaf) == len(LOST_LEAF) else LOST_LEAF
    link = row.link if isinstance(row.link, bytes) and len(row.link) == len(GENESIS) else GENESIS
    return Frame(body, leaf, link)


def add_seal(connection: apsw.Connection, seal: Seal) -> None:
    """Note a segment in the database; on the writer's thread."""
    trailer = seal.trailer
    values = (trailer.number, trailer.first, trailer.last, seal.sha256, encode_trailer(trailer))
    connection.execute("INSERT INTO seal VALUES (?, ?, ?, ?, ?)", values)


def newest_seal(connection: apsw.Connection, through: int | None = None) -> Seal | None:
    """Return the newest seal whose own parts agree, of those that end at record `through` or before."""
    limit = 2**62 if through is None else through
    statement = (
        "SELECT CAST(sha256 AS BLOB), CAST(trailer AS BLOB) FROM seal WHERE last <= ? ORDER BY no DESC"
    )
    try:
        rows = fetch(connection, statement, (limit,))
    except (apsw.SQLError, *DAMAGE):  # a ledger from before there were seals, or a damaged page
        return None
    for digest, encoded in rows:
        seal = _believed(digest, encoded)
        if seal is not None:
            return seal
    return None


def _believed(digest: object, encoded: object) -> Seal | None:
    if not isinstance(digest, bytes) or not isinstance(encoded, bytes):
        return None
    try:
        trailer = decode_trailer(encoded, Path("seal"))
        trailer.frontier()
    except (SegmentError, ValueError):
        return None
    return Seal(trailer, digest)


@dataclass(frozen=True, slots=True)
class SegmentsReport:
    """Holds the result of hashing every segment."""

    records: int
    faults: tuple[Fault, ...] = ()


def verify_segments(
    directory: Path,
    verifier: Verifier | None,
    seals: dict[int, Seal] | None = None,
    progress: Callable[[int, int], None] | None = None,
    trimmed: int = 0,
) -> SegmentsReport:
    """Hash all segments and check that each follows the one before; `seals` are those the database knows.

    Segments of records up to `trimmed` may be gone, the oldest first.
    """
    faults: list[Fault] = []
    paths = segment_paths(directory)
    records, (expected, previous) = 0, _before_first(paths, seals or {}, trimmed)
    present = set()
    for done, path in enumerate(paths):
        try:
            seal = check_segment(path)
            fault = _segment_fault(seal, expected, previous, verifier, seals)
        except SegmentError as error:
            span = _numbered(path, seals)
            faults.append(Fault(span[0], FaultKind.SEGMENT, str(error), span[1]))
            present.add(_number(path))
            expected, previous = (span[1] + 1, b"") if span[1] else (0, b"")
            continue
        trailer = seal.trailer
        present.add(trailer.number)
        if fault:
            faults.append(Fault(trailer.first, FaultKind.SEGMENT, f"{path}: {fault}", trailer.last))
        records += trailer.last - trailer.first + 1
        expected, previous = trailer.last + 1, seal.sha256
        if progress is not None:
            progress(done + 1, len(paths))
    for number, seal in sorted((seals or {}).items()):
        if number not in present and seal.trailer.last > trimmed:
            detail = f"{directory / seal.name} is missing"
            faults.append(Fault(seal.trailer.first, FaultKind.SEGMENT, detail, seal.trailer.last))
    return SegmentsReport(records, tuple(faults))


def _before_first(paths: Sequence[Path], seals: dict[int, Seal], trimmed: int) -> tuple[int, bytes]:
    """The record that the first segment there begins with, and the hash of the one before; 0 or empty if not known."""
    number = _number(paths[0]) if paths else 1
    if number == 1 or not trimmed:
        return 1, GENESIS
    before = seals.get(number - 1)
    if before is None:
        return 0, b""
    return (before.trailer.last + 1, before.sha256) if before.trailer.last <= trimmed else (1, GENESIS)


def all_seals(connection: apsw.Connection) -> dict[int, Seal]:
    """Return every readable seal of the database, by its number."""
    try:
        rows = fetch(connection, "SELECT no, CAST(sha256 AS BLOB), CAST(trailer AS BLOB) FROM seal")
    except (apsw.SQLError, *DAMAGE):
        return {}
    seals = ((number, _believed(digest, encoded)) for number, digest, encoded in rows)
    return {number: seal for number, seal in seals if seal is not None}


def _segment_fault(
    seal: Seal, expected: int, previous: bytes, verifier: Verifier | None, seals: dict[int, Seal] | None
) -> str:
    trailer = seal.trailer
    if expected and trailer.first != expected:
        return f"starts with record {trailer.first}, not {expected}"
    if previous and trailer.previous_sha256 != previous:
        return "does not follow from the segment before it"
    if seals is not None and trailer.number in seals and seals[trailer.number].sha256 != seal.sha256:
        return "is not the one that the database has sealed"
    if verifier is None:
        return ""
    try:
        head = verifier.read(trailer.note)
        sound = (head.size, head.root) == (trailer.last, trailer.frontier().root())
    except (HeadError, ValueError) as error:
        return str(error)
    return "" if sound else "its head is of something else"


def _numbered(path: Path, seals: dict[int, Seal] | None) -> tuple[int, int]:
    seal = (seals or {}).get(_number(path))
    return (seal.trailer.first, seal.trailer.last) if seal else (0, 0)


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isdecimal() else 0
