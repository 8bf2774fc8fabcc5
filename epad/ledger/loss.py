"""Find records that signed heads cover and the ledger lacks at its opening: deleted, or an older copy was put back.

Their contents are unknown, and so is the spent amount. Until they are back, or a person declares them lost, no turn is
opened. Both are noted in a file beside the ledger, for people too, and in a copy of it among the heads: the next start
finds the missing records behind the newest head no more, so a note that is deleted, or put back from before, must not
open the gateway.
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import apsw
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from epad.ledger.anchor import replace_file
from epad.ledger.entry import Stamp
from epad.ledger.errors import LedgerUnavailableError
from epad.storage.database import fetch


class Missing(Struct, frozen=True):
    """The first and the last of the records that are missing."""

    first: int
    last: int

    @property
    def sentence(self) -> str:
        """Describe them in one line for a person."""
        return (
            f"records {self.first} to {self.last} of the ledger were signed and are gone, so nothing is forwarded: "
            "put the newest checkpoint back (`epactl checkpoint restore`), or give them up with "
            "`epactl ledger accept-loss --reason R`, which counts every budget as spent"
        )


class Accepted(Struct, frozen=True):
    """Records given up by a person, and the time; it has the clocks of a record.

    Anything given up beside records is named by `what` (see `epad/ledger/starts.py`); without any records they are 0 to
    0.
    """

    first: int
    last: int
    reason: str
    wall_ns: int
    boot_id: str
    monotonic_ns: int
    what: str = ""


class _Noted(Struct, frozen=True):
    missing: Missing | None = None
    accepted: tuple[Accepted, ...] = ()


class Losses:
    """Holds a ledger's losses, read from its files. Every method raises LedgerUnavailableError."""

    def __init__(self, path: Path, copy: Path) -> None:
        self._paths = (path, copy)

    def note(self, first: int, last: int) -> None:
        """Take note that these records are missing, beside those that are missing already."""
        noted = self._read()
        before = noted.missing or Missing(first, last)
        self._write(replace(noted, missing=Missing(min(before.first, first), max(before.last, last))))

    def missing(self, connection: apsw.Connection) -> Missing | None:
        """Return the missing records that were not given up; None once all are back."""
        missing = self._read().missing
        if missing is None:
            return None
        [(there,)] = fetch(
            connection,
            "SELECT count(*) FROM record WHERE seq BETWEEN ? AND ? AND body IS NOT NULL",
            (missing.first, missing.last),
        )
        if there <= missing.last - missing.first:
            return missing
        self._write(replace(self._read(), missing=None))
        return None

    def accept(self, reason: str, stamp: Stamp, what: str = "") -> Missing | None:
        """Give up the missing records, and `what` beside them, on a person's word; return those records."""
        noted = self._read()
        missing = noted.missing
        if missing is None and not what:
            return None
        first, last = (missing.first, missing.last) if missing else (0, 0)
        given_up = Accepted(first, last, reason, stamp.wall_ns, stamp.boot_id, stamp.monotonic_ns, what)
        self._write(_Noted(None, (*noted.accepted, given_up)))
        return missing

    def accepted(self) -> tuple[Accepted, ...]:
        """Return everything that was ever given up, oldest first."""
        return self._read().accepted

    def _read(self) -> _Noted:
        """Return what the two say together; one that cannot be read is made up for by the other."""
        found: list[_Noted] = []
        errors: list[str] = []
        for path in self._paths:
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=_Noted))
            except FileNotFoundError:
                continue
            except (OSError, msgspec.DecodeError) as error:
                errors.append(f"{path}: {error}; it says which records are lost")
        if errors and not found:
            raise LedgerUnavailableError(errors[0])
        return reduce(_together, found, _Noted())

    def _write(self, noted: _Noted) -> None:
        for path in self._paths:
            try:
                replace_file(path, msgspec.json.format(msgspec.json.encode(noted)) + b"\n")
            except OSError as error:
                raise LedgerUnavailableError(f"{path}: {error.strerror or error}") from error


def _together(one: _Noted, other: _Noted) -> _Noted:
    """Return the later of two notes; of two that are as late, what either says is missing.

    Whoever gives something up adds to what was given up, and nothing takes that away.
    """
    if len(one.accepted) != len(other.accepted):
        return max(one, other, key=lambda noted: len(noted.accepted))
    spans = [noted.missing for noted in (one, other) if noted.missing is not None]
    if not spans:
        return one
    missing = Missing(min(span.first for span in spans), max(span.last for span in spans))
    return replace(one, missing=missing)
