"""Child process: one look at a store that other programs write.

`python -m epad.inspection.inspect PATH HOME KIND SHRINK_RATIO [--accept]`. HOME keeps the last sound copy. A store
without a write since then is compared with it byte for byte; one with a write is copied in one piece, and the copy is
judged: its structure, the rules of a graph, and changes that no program makes. A store that is just being written is
looked at again before a fault is reported; the parts that cannot be judged here are named.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import apsw
import msgspec
from msgspec import Struct

from epad.copying.copied_file import DestinationError, SourceError, die_with_parent, give_way
from epad.copying.disk import DIRECTORY_MODE, Disk
from epad.copying.file_copy import SQLITE_MAGIC, copy_file
from epad.copying.sqlite_copy import copy_database
from epad.inspection.baseline import (
    BLOCK_BYTES,
    CANDIDATE_FILE,
    GOOD_FILE,
    SUSPECT_FILE,
    Baseline,
    Kind,
    block_digests,
    differing_block,
    digest_of,
    is_on_its_disk,
    is_settled,
    is_there,
    load_baseline,
    save_baseline,
    signature,
)
from epad.inspection.judging import CannotJudgeError, Judgement, judge_database, judge_memory
from epad.inspection.opaque import NO_HEADER, is_text, why_unreadable
from epad.inspection.resting import MISSING, Patience, look_until_sure
from epad.inspection.rules import Tally, rule_faults, shrink_faults

FAULTS_SHOWN = 20
PARTS_SHOWN = 5
PATIENCE = Patience()
ACCEPT = "--accept"


class Look(Struct, frozen=True):
    """Holds the result of one look. `error` is why nothing could be seen: unknown is not broken.

    Each fault is its kind (rot, flip, structure, schema, rule, shrink, missing) and a sentence. `how` is `at rest` if
    the bytes were compared, `copy` if a copy was judged. `note` names the parts that could not be judged, and the
    reason; `is_opaque` tells that none could, and `error` has the reason.
    """

    how: str = ""
    faults: tuple[tuple[str, str], ...] = ()
    rows: int = 0
    size_bytes: int = 0
    cpu_seconds: float = 0.0
    note: str = ""
    error: str = ""
    is_opaque: bool = False

    @property
    def is_sound(self) -> bool:
        return not self.faults and not self.error


def look(
    path: Path,
    home: Path,
    kind: str,
    shrink_ratio: float,
    *,
    accept: bool = False,
    patience: Patience | None = None,
) -> Look:
    """Look, again if the store is just being written, until a fault is certain.

    A store found sound becomes the copy that the next look compares with. With `accept` a person has declared the store
    right as it is, regardless of its past.
    """
    home.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)

    def look_once() -> Look:
        try:
            return _look_once(path, home, kind, shrink_ratio, accept=accept)
        except OSError as error:  # it went away under the look, or its disk cannot be read
            return Look(error=f"{error.filename or path}: {error.strerror or error}")

    def never_rests(last: str) -> Look:
        return Look(
            error=f"{path} never rests, and cannot be judged while it is written to (last seen: {last})"
        )

    return look_until_sure(look_once, path, never_rests, patience or PATIENCE)


def copy_faults(copy: Path, home: Path) -> Iterator[str]:
    """Yield the faults of a checkpoint's copy of a store, compared with the last sound copy; none if there is none."""
    baseline = load_baseline(home)
    if baseline is None or baseline.kind == "opaque":
        return
    try:
        judgement = _judge(copy, baseline.kind, baseline, _sound_copy(home, baseline), deep=False)
    except CannotJudgeError:
        return
    yield from (f"{kind}: {detail}" for kind, detail in judgement.faults)


def _look_once(path: Path, home: Path, kind: str, shrink_ratio: float, *, accept: bool) -> Look:
    baseline = None if accept else load_baseline(home)
    if not is_there(path):
        if baseline is None:
            return Look(error=f"{path}: no such file")
        if not is_on_its_disk(path, baseline.signature):
            return Look(error=f"{path} is gone, and so is the disk that it was on: mount it")
        return Look(faults=((MISSING, f"{path} is gone"),))
    if baseline is not None and baseline.signature and (rested := _at_rest(path, baseline)) is not None:
        return rested
    try:
        return _judge_copy(path, home, baseline, kind, shrink_ratio)
    finally:
        (home / CANDIDATE_FILE).unlink(missing_ok=True)  # on a full disk it would be the last straw


def _at_rest(path: Path, baseline: Baseline) -> Look | None:
    """Compare the bytes of a store that nobody has written to; None if somebody has, or is just doing so."""
    if signature(path) != baseline.signature:
        return None
    block = differing_block(baseline.blocks, block_digests(path))
    if signature(path) != baseline.signature:
        return None
    size = path.stat().st_size
    rows = sum(baseline.rows.values())
    if block is None:
        return Look("at rest", (), rows, size, note=baseline.note)
    first = block * BLOCK_BYTES
    detail = f"bytes {first} to {first + BLOCK_BYTES - 1} have changed, and nobody has written to the file"
    return Look("at rest", (("rot", detail),), rows, size)


def _judge_copy(path: Path, home: Path, baseline: Baseline | None, kind: str, shrink_ratio: float) -> Look:
    candidate = home / CANDIDATE_FILE
    before = signature(path)
    known = None if baseline is None or baseline.kind == "opaque" else baseline
    try:
        found_kind = _take_copy(path, candidate, kind, known)
        good = _sound_copy(home, known) if known else None
        judgement = _judge(candidate, found_kind, known, good, deep=True)
    except _DamagedError as error:
        return Look("copy", (("structure", str(error)),), size_bytes=path.stat().st_size)
    except CannotJudgeError as error:
        return _compare_bytes_only(path, home, known, before, str(error))
    except (SourceError, DestinationError, apsw.Error) as error:
        return Look(error=str(error))
    rows, size = sum(judgement.tally.rows.values()), candidate.stat().st_size
    if judgement.faults:
        candidate.replace(home / SUSPECT_FILE)  # for whoever looks into it
        return Look("copy", tuple(judgement.faults[:FAULTS_SHOWN]), rows, size)
    note = f"not judged: {'; '.join(judgement.left_out[:PARTS_SHOWN])}" if judgement.left_out else ""
    rested, blocks = _rest_of(path, before)
    made = Baseline(
        kind=found_kind,
        made_ns=time.time_ns(),
        good_sha256=digest_of(candidate),
        rows=dict(judgement.tally.rows),
        broken=dict(judgement.tally.broken),
        edited=tuple(sorted(judgement.edited)),
        shrink_ratio=shrink_ratio,
        signature=rested,
        blocks=blocks,
        note=note,
    )
    save_baseline(home, made, Disk())
    anew = "the last sound copy was damaged itself, and was made anew" if known and not good else ""
    return Look("copy", (), rows, size, note="; ".join(filter(None, [anew, note])))


def _compare_bytes_only(path: Path, home: Path, known: Baseline | None, before: str, why: str) -> Look:
    """Report that a store cannot be judged here; once it rests, remember its bytes, so that rot is still found.

    A store that was once judged keeps its last sound copy: this one may be worse.
    """
    candidate, size = home / CANDIDATE_FILE, path.stat().st_size
    seen = Look("copy", size_bytes=size, error=f"cannot judge {path}: {why}", is_opaque=True)
    if known is not None:
        return seen
    if not candidate.exists():
        shutil.copyfile(path, candidate)
    rested, blocks = _rest_of(path, before)
    if rested:
        note = f"not judged, its bytes alone are compared: {why}"
        made = Baseline("opaque", time.time_ns(), digest_of(candidate), {}, {}, (), 1.0, rested, blocks, note)
        save_baseline(home, made, Disk())
    return seen


def _rest_of(path: Path, before: str) -> tuple[str, bytes]:
    """The signature and the bytes, if the store held still from before the copy until they were read."""
    if not is_settled(path):
        return "", b""
    blocks = block_digests(path)
    return (before, blocks) if signature(path) == before else ("", b"")


class _DamagedError(Exception):
    """The store cannot be read in its own format."""


def _take_copy(path: Path, candidate: Path, kind: str, baseline: Baseline | None) -> Kind:
    """Copy the store, and return its kind.

    Raises _DamagedError, CannotJudgeError, SourceError, DestinationError.
    """
    with path.open("rb") as file:
        magic = file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    # A database that was never written to is empty, and is one all the same.
    is_sqlite = kind == "sqlite" or (
        kind == "auto" and (magic or bool(baseline and baseline.kind == "sqlite"))
    )
    if not is_sqlite:
        if kind == "auto" and baseline is None and not is_text(path):
            raise CannotJudgeError(NO_HEADER)
        copy_file(path, candidate)
        return "jsonl"
    try:
        copy_database(path, candidate)
    except SourceError as error:
        if isinstance(error.__cause__, apsw.CorruptError | apsw.NotADBError):
            if why := why_unreadable(path, was_readable=baseline is not None):
                candidate.unlink(missing_ok=True)
                raise CannotJudgeError(why) from error
            raise _DamagedError(str(error)) from error
        if isinstance(error.__cause__, apsw.SQLError):  # a format of later
            candidate.unlink(missing_ok=True)
            raise CannotJudgeError(str(error.__cause__)) from error
        raise
    return "sqlite"


def _sound_copy(home: Path, baseline: Baseline) -> Path | None:
    """Return the last sound copy, unless it has rotted itself: it must not accuse the store."""
    good = home / GOOD_FILE
    try:
        return good if digest_of(good) == baseline.good_sha256 else None
    except OSError:
        return None


def _judge(copy: Path, kind: Kind, baseline: Baseline | None, good: Path | None, *, deep: bool) -> Judgement:
    edited = set(baseline.edited) if baseline else set()
    try:
        judge = judge_database if kind == "sqlite" else judge_memory
        judgement = judge(copy, good, edited, datetime.now(UTC), deep=deep)
    except UnicodeDecodeError as error:
        return Judgement([("structure", f"{error}")], edited=edited)
    is_counted = all(kind != "structure" for kind, _ in judgement.faults)
    if baseline is not None and is_counted:
        before = Tally(baseline.rows, baseline.broken)
        # A clock that was set back behind the last look knows nothing of what is ahead of now.
        if time.time_ns() >= baseline.made_ns:
            judgement.faults += rule_faults(before, judgement.tally)
        judgement.faults += shrink_faults(before, judgement.tally, baseline.shrink_ratio)
    return judgement


def main(arguments: list[str]) -> int:
    """Run as a child of the daemon, or by hand."""
    die_with_parent()
    os.umask(0o077)
    give_way()
    path, home, kind, shrink_ratio = arguments[:4]
    try:
        seen = look(Path(path), Path(home), kind, float(shrink_ratio), accept=ACCEPT in arguments[4:])
    except OSError as error:
        seen = Look(error=f"{error.filename or path}: {error.strerror or error}")
    seen = msgspec.structs.replace(seen, cpu_seconds=time.process_time())
    sys.stdout.buffer.write(msgspec.json.encode(seen) + b"\n")
    return 1 if seen.faults or seen.error else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
