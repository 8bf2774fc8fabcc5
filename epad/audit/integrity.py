"""Say whether rows of the audit can be believed: the chain they were read from, and the signed head it ends in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from epad.audit.reading import Reading, Wanted, audit_rows
from epad.audit.row import Row, moment
from epad.ledger.anchor import LOG_TAIL_BYTES, Heads
from epad.ledger.chain import Fault
from epad.ledger.head import Head
from epad.ledger.head_check import heads_at, judge

FAULTS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Integrity:
    """Holds what was checked, from record `first` to `last`, and what is wrong with it."""

    first: int
    last: int
    head: Head | None
    unanchored: int
    """Records behind the newest signed head."""
    trimmed: int
    lost: int
    faults: tuple[Fault, ...]
    unlisted: int
    gaps: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Tell if every record that was read is as it was written."""
        return not self.faults

    def lines(self) -> list[str]:
        """Return sentences for a person: faults first."""
        found = [f"FAULT: {fault_words(fault)}" for fault in self.faults[:FAULTS_SHOWN]]
        more = len(self.faults) + self.unlisted - FAULTS_SHOWN
        found += [f"and {more} more faults"] if more > 0 else []
        found += [f"GAP: {gap}" for gap in self.gaps]
        if self.trimmed:
            found.append(f"{self.trimmed} records are kept as hashes alone: [ledger] keep_records")
        if self.lost:
            found.append(f"{self.lost} records are lost; a repair has told so")
        return [*found, self.sentence()]

    def sentence(self) -> str:
        """Return one sentence about all of it."""
        if self.last < self.first:
            return "no records in this time"
        state = "unbroken" if self.is_sound else "BROKEN"
        read = f"records {self.first} to {self.last}: the chain is {state}"
        if self.head is None:
            return f"{read}; there is no signed head to hold it against"
        return f"{read}; the signed head covers {self.head.size}, of {moment(self.head.wall_ns)}"


class AuditFile:
    """A ledger's file as the audit reads it. Heads are read first, so that none is newer than the records."""

    def __init__(self, connection: apsw.Connection, anchor: Path) -> None:
        self._connection = connection
        self._heads: Heads = heads_at(anchor, LOG_TAIL_BYTES)
        self._reading = Reading()

    def rows(self, wanted: Wanted) -> Iterator[Row]:
        """Yield the wanted rows in their order. Raises apsw.Error."""
        return audit_rows(self._connection, wanted, self._reading)

    def integrity(self) -> Integrity:
        """Return what the reading has found, once all rows were read."""
        read = self._reading
        judged = judge(self._connection, self._heads, read.last)
        return Integrity(
            first=read.first,
            last=read.last,
            head=self._heads.newest,
            unanchored=judged.unanchored,
            trimmed=read.trimmed,
            lost=read.lost,
            faults=(*read.faults, *judged.faults),
            unlisted=read.unlisted,
            gaps=tuple(read.gaps),
        )


def fault_words(fault: Fault) -> str:
    """Say what is wrong with which record."""
    where = f"records {fault.seq} to {fault.through}" if fault.through > fault.seq else f"record {fault.seq}"
    return f"{where if fault.seq else 'the whole'}: {fault.kind}: {fault.detail}"
