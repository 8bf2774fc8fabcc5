"""Child process: one look at a store that other programs write.

`python -m epad.datastore.look PATH HOME KIND SHRINK_RATIO [--accept]`. HOME keeps the last sound copy. A store that
nobody has written to since is compared with it byte for byte; one that was written to is copied in one piece, and
the copy is judged: its structure, the rules of a graph, and what has changed in it that no program changes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import apsw
import msgspec
from msgspec import Struct

from epad.checkpoint.copying import DestinationError, SourceError, die_with_parent, give_way
from epad.checkpoint.disk import DIRECTORY_MODE, Disk
from epad.checkpoint.file_copy import SQLITE_MAGIC, copy_file
from epad.checkpoint.sqlite_copy import copy_database
from epad.datastore.baseline import (
    BLOCK_BYTES,
    CANDIDATE_FILE,
    GOOD_FILE,
    SUSPECT_FILE,
    Baseline,
    Kind,
    block_digests,
    differing_block,
    digest_of,
    is_settled,
    load_baseline,
    save_baseline,
    signature,
)
from epad.datastore.changes import compare
from epad.datastore.memory_file import compare_memory, read_memory, tally_memory
from epad.datastore.rules import Tally, rule_faults, shrink_faults, tally_database

FAULTS_SHOWN = 20
ACCEPT = "--accept"


class Look(Struct, frozen=True):
    """What one look has shown. `error` is why nothing could be seen: unknown is not broken.

    Each fault is its kind (rot, flip, structure, schema, rule, shrink, missing) and a sentence. `how` is `at rest`
    where the bytes were compared, `copy` where a copy was judged.
    """

    how: str = ""
    faults: tuple[tuple[str, str], ...] = ()
    rows: int = 0
    size_bytes: int = 0
    cpu_seconds: float = 0.0
    note: str = ""
    error: str = ""

    @property
    def is_sound(self) -> bool:
        return not self.faults and not self.error


class _Judgement(Struct):
    faults: list[tuple[str, str]]
    tally: Tally
    edited: set[str]


def look(path: Path, home: Path, kind: str, shrink_ratio: float, *, accept: bool = False) -> Look:
    """Look once; what is found sound becomes the copy that the next look compares with.

    With `accept` a person has said that the store is right as it is, whatever it has been before.
    """
    home.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    baseline = None if accept else load_baseline(home)
    if not path.is_file():
        if baseline is None:
            return Look(error=f"{path}: no such file")
        return Look(faults=(("missing", f"{path} is gone"),))
    if baseline is not None and baseline.signature and (rested := _at_rest(path, baseline)) is not None:
        return rested
    return _judge_copy(path, home, baseline, kind, shrink_ratio)


def copy_faults(copy: Path, home: Path) -> Iterator[str]:
    """What is wrong with a checkpoint's copy of a store, held against the last sound copy; nothing if there is none."""
    baseline = load_baseline(home)
    if baseline is None:
        return
    judgement = _judge(copy, baseline.kind, baseline, _sound_copy(home, baseline), deep=False)
    yield from (f"{kind}: {detail}" for kind, detail in judgement.faults)


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
        return Look("at rest", (), rows, size)
    first = block * BLOCK_BYTES
    detail = f"bytes {first} to {first + BLOCK_BYTES - 1} have changed, and nobody has written to the file"
    return Look("at rest", (("rot", detail),), rows, size)


def _judge_copy(path: Path, home: Path, baseline: Baseline | None, kind: str, shrink_ratio: float) -> Look:
    candidate = home / CANDIDATE_FILE
    before = signature(path)
    try:
        found_kind = _take_copy(path, candidate, kind, baseline)
    except _DamagedError as error:
        candidate.unlink(missing_ok=True)
        return Look("copy", (("structure", str(error)),), size_bytes=path.stat().st_size)
    except (SourceError, DestinationError, apsw.Error) as error:
        candidate.unlink(missing_ok=True)  # on a full disk it would be the last straw
        return Look(error=str(error))
    good = _sound_copy(home, baseline) if baseline else None
    judgement = _judge(candidate, found_kind, baseline, good, deep=True)
    rows, size = sum(judgement.tally.rows.values()), candidate.stat().st_size
    if judgement.faults:
        candidate.replace(home / SUSPECT_FILE)  # for whoever looks into it
        return Look("copy", tuple(judgement.faults[:FAULTS_SHOWN]), rows, size)
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
    )
    save_baseline(home, made, Disk())
    note = "the last sound copy was damaged itself, and was made anew" if baseline and not good else ""
    return Look("copy", (), rows, size, note=note)


def _rest_of(path: Path, before: str) -> tuple[str, bytes]:
    """The signature and the bytes, if the store held still from before the copy until they were read."""
    if not is_settled(path):
        return "", b""
    blocks = block_digests(path)
    return (before, blocks) if signature(path) == before else ("", b"")


class _DamagedError(Exception):
    """The store cannot be read as what it is."""


def _take_copy(path: Path, candidate: Path, kind: str, baseline: Baseline | None) -> Kind:
    """Copy the store, and say what it is. Raises _DamagedError, SourceError, DestinationError."""
    with path.open("rb") as file:
        magic = file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    # A database that was never written to is empty, and is one all the same.
    is_sqlite = kind == "sqlite" or (
        kind == "auto" and (magic or bool(baseline and baseline.kind == "sqlite"))
    )
    if not is_sqlite:
        copy_file(path, candidate)
        return "jsonl"
    try:
        copy_database(path, candidate)
    except SourceError as error:
        if isinstance(error.__cause__, apsw.CorruptError | apsw.NotADBError):
            raise _DamagedError(str(error)) from error
        raise
    return "sqlite"


def _sound_copy(home: Path, baseline: Baseline) -> Path | None:
    """The last sound copy, unless it has rotted itself: it must not accuse the store."""
    good = home / GOOD_FILE
    try:
        return good if digest_of(good) == baseline.good_sha256 else None
    except OSError:
        return None


def _judge(copy: Path, kind: Kind, baseline: Baseline | None, good: Path | None, *, deep: bool) -> _Judgement:
    edited = set(baseline.edited) if baseline else set()
    try:
        judge = _judge_database if kind == "sqlite" else _judge_memory
        judgement = judge(copy, good, edited, deep=deep)
    except apsw.SQLError as error:  # an extension, a collation, a function that only its own program has
        return _Judgement([("schema", f"{error}")], Tally(), edited)
    except (apsw.Error, UnicodeDecodeError) as error:
        return _Judgement([("structure", f"{error}")], Tally(), edited)
    if baseline is not None:
        before = Tally(baseline.rows, baseline.broken)
        # A clock that was set back behind the last look knows nothing of what is ahead of now.
        if time.time_ns() >= baseline.made_ns:
            judgement.faults += rule_faults(before, judgement.tally)
        judgement.faults += shrink_faults(before, judgement.tally, baseline.shrink_ratio)
    return judgement


def _judge_database(copy: Path, good: Path | None, edited: set[str], *, deep: bool) -> _Judgement:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(f"{copy.absolute().as_uri()}?immutable=1", flags=flags)
    try:
        connection.pragma("trusted_schema", 0)
        connection.pragma("cell_size_check", 1)
        check = "integrity_check" if deep else "quick_check"
        lines = [line for (line,) in connection.execute(f"PRAGMA {check}({FAULTS_SHOWN})")]
        faults = [("structure", line) for line in lines if line != "ok"]
        tally = Tally() if faults else tally_database(connection, datetime.now(UTC))
        if good is not None and not faults:
            changes = compare(connection, good.absolute(), copy, edited)
            return _Judgement(changes.faults, tally, changes.edited)
        return _Judgement(faults, tally, edited)
    finally:
        connection.close()


def _judge_memory(copy: Path, good: Path | None, edited: set[str], *, deep: bool) -> _Judgement:
    del deep  # it is read whole in any case
    memory = read_memory(copy)
    tally = tally_memory(memory)
    if good is None:
        return _Judgement([], tally, edited)
    changes = compare_memory(read_memory(good), memory, edited)
    return _Judgement(changes.faults, tally, changes.edited)


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
