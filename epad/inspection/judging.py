"""Judge a copy of a store, compared with the last sound copy. Nothing here touches the store itself."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import apsw
from msgspec import Struct, field

from epad import EpadError
from epad.inspection.changes import compare
from epad.inspection.memory_file import compare_memory, read_memory, tally_memory
from epad.inspection.rules import Tally, tally_database
from epad.inspection.structure import check_structure, open_copy, schema_flips


class CannotJudgeError(EpadError):
    """The copy cannot be judged by this process. Nothing is said against it: unknown is not damaged."""


class Judgement(Struct):
    """Holds the faults, each its kind and a sentence; the counts; and the parts left out as unknown here."""

    faults: list[tuple[str, str]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    edited: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)


def judge_database(
    copy: Path, good: Path | None, edited: set[str], now: datetime, *, deep: bool
) -> Judgement:
    """Judge a copy of a database. Raises CannotJudgeError, UnicodeDecodeError."""
    try:
        return _judge_database(copy, good, edited, now, deep=deep)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        return Judgement([("structure", str(error))], edited=edited)
    except apsw.Error as error:  # a format of later, no room for a sort, a disk that cannot be read
        raise CannotJudgeError(str(error)) from error


def _judge_database(
    copy: Path, good: Path | None, edited: set[str], now: datetime, *, deep: bool
) -> Judgement:
    structure = check_structure(copy, deep=deep)
    left_out = structure.left_out
    if left_out and good is not None:
        structure.faults += schema_flips(copy, good)
    if structure.faults:
        return Judgement([("structure", line) for line in structure.faults], Tally(), edited, left_out)
    connection = open_copy(copy, lenient=bool(left_out))
    try:
        tally = tally_database(connection, now)
        left_out = [*left_out, *tally.left_out]
        if good is None:
            return Judgement([], tally, edited, left_out)
        changes = compare(connection, good.absolute(), copy, edited)
        return Judgement(changes.faults, tally, changes.edited, [*left_out, *changes.left_out])
    finally:
        connection.close()


def judge_memory(copy: Path, good: Path | None, edited: set[str], now: datetime, *, deep: bool) -> Judgement:
    """Judge a copy of a memory file. Raises OSError."""
    del now, deep  # it has no times, and is read whole in any case
    memory = read_memory(copy)
    tally = tally_memory(memory)
    if good is None:
        return Judgement([], tally, edited)
    changes = compare_memory(read_memory(good), memory, edited)
    return Judgement(changes.faults, tally, changes.edited)
