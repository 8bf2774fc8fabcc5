"""Sum up the spending of former runs and of this one, each at its age, for the budgets after a restart.

A closed turn counts by its charge, from its closing on. A turn without a closing record counts by all that was
reserved for it, from the moment on at which its life of the daemon had ended: until then tokens may have been made for
it. A request counts from its turn's opening on. These are the moments from which the running budgets count them.

It is read from the newest sums on (epad/ledger/sums.py), without them from the first record. A turn whose closing
record is damaged counts as one that never closed: spending is never guessed low.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import apsw

from epad.ledger.anchor import verifier_at
from epad.ledger.chain import Fault, FaultKind, Walker, walker_at
from epad.ledger.entry import Stamp
from epad.ledger.errors import RecordError
from epad.ledger.head import Verifier
from epad.ledger.kept_sums import kept_sums, sums_faults
from epad.ledger.query import LAST, sound
from epad.ledger.record import TurnOpened, decode
from epad.ledger.rows import Row, Unreadable, Values, newest_trim, read_chunks, repaired_spans
from epad.ledger.seal import newest_seal
from epad.ledger.sums import Opened, Spending, Summing, Sums, Totals, decode_sums, encode_sums
from epad.storage.database import fetch

_OPENED = "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record WHERE seq = ?"
_CLOSED = "SELECT 1 FROM record WHERE turn = ? AND kind = 2"


class Past:
    """Sums up the records of former runs and of this one; each record is read once, however often this is asked.

    The first reading, from the newest seal on, checks them as well: `faults` are the findings. `told` is called now and
    then meanwhile, with the newest record that has been read.
    """

    def __init__(self, anchor: Path | None, told: Callable[[int], None] = lambda _: None) -> None:
        self.faults: tuple[Fault, ...] = ()
        self._anchor = anchor
        self._told = told
        self._summing: Summing | None = None
        self._lock = threading.Lock()

    def begin(self, connection: apsw.Connection) -> None:
        """Read the newest sums and the records behind them."""
        with self._lock:
            self._begin(connection)

    def forget(self) -> None:
        """Read it anew when it is next asked: records have been repaired."""
        with self._lock:
            self._summing = None

    def totals(self, connection: apsw.Connection) -> dict[str, Totals]:
        """Return the sums of all closed turns by subsystem."""
        with self._lock:
            return self._read(connection).totals()

    def spending(
        self,
        connection: apsw.Connection,
        now: Stamp,
        horizon_ns: int,
        requests_ns: int,
        marks: Mapping[str, Stamp] | None = None,
    ) -> Spending:
        """Return the use within a horizon; requests within `requests_ns`."""
        with self._lock:
            return self._read(connection).spending(now, horizon_ns, requests_ns, marks)

    def lost_turns(self, connection: apsw.Connection, epoch: int) -> list[TurnOpened]:
        """Turns opened before this epoch and never closed, oldest first."""
        with self._lock:
            summing = self._summing or self._begin(connection)
            lost = summing.opened_before(epoch)
        records = (_still_open(connection, opened) for opened in lost)
        return [record for record in records if record is not None]

    def _begin(self, connection: apsw.Connection) -> Summing:
        verifier = None if self._anchor is None else verifier_at(self._anchor)
        summing = Summing(next(_known_sums(connection, verifier), None))
        seal = newest_seal(connection)

        def pause() -> None:
            self._told(summing.through)

        add_records(connection, summing, through=seal.trailer.last if seal else 0, pause=pause)
        walker = walker_at(connection, summing.through + 1)
        add_records(connection, summing, walker=walker, pause=pause)
        beside = [] if self._anchor is None else sums_faults(connection, verifier)
        self.faults = (*walker.faults, *beside)
        self._summing = summing  # now that it is whole: a reading that broke off is begun again
        return summing

    def _read(self, connection: apsw.Connection) -> Summing:
        summing = self._summing or self._begin(connection)
        add_records(connection, summing)
        return summing


def spending(
    connection: apsw.Connection,
    now: Stamp,
    horizon_ns: int,
    requests_ns: int,
    marks: Mapping[str, Stamp] | None = None,
) -> Spending:
    """Return the use within a horizon, from a reading of all records."""
    summing = Summing(next(_trimmed_sums(connection), None))
    add_records(connection, summing)
    return summing.spending(now, horizon_ns, requests_ns, marks)


def sums_through(
    connection: apsw.Connection, last: int, verifier: Verifier | None, pause: Callable[[], None]
) -> bytes | None:
    """Return the sums of all records up to `last`; None where one of them is damaged, or missing."""
    before = (sums for sums in _known_sums(connection, verifier) if sums.through <= last)
    summing = Summing(next(before, None))
    damaged = add_records(connection, summing, through=last, pause=pause)
    return None if damaged or summing.through != last else encode_sums(summing.sums())


def wrong_sums(connection: apsw.Connection, verifier: Verifier | None, *, full: bool) -> list[Fault]:
    """Return the kept sums that differ from the records, from the former ones on, or in `full`.

    With `full` the records are summed up from the first body on.

    About records that a repair has given up as lost they know more than the records do. If bodies are dropped during
    the reading, nothing can be told.
    """
    trim = newest_trim(connection)
    kept = sorted(kept_sums(connection, verifier), key=lambda sums: sums.through)
    lost = min((first for first, _ in repaired_spans(connection)), default=LAST)
    summing = Summing(next(_trimmed_sums(connection), None) if full or not kept else kept[0])
    for sums in kept:
        if add_records(connection, summing, through=sums.through) or sums.through >= lost:
            return []
        if encode_sums(summing.sums()) != encode_sums(sums):
            if newest_trim(connection) != trim:
                return []
            detail = f"the sums of records 1 to {sums.through} are not what those records come to"
            return [Fault(0, FaultKind.CATALOGUE, detail)]
    return []


def _known_sums(connection: apsw.Connection, verifier: Verifier | None) -> Iterator[Sums]:
    """Sums that can be believed, newest first: those at seals, then those of records whose bodies have gone."""
    yield from kept_sums(connection, verifier)
    yield from _trimmed_sums(connection)


def _trimmed_sums(connection: apsw.Connection) -> Iterator[Sums]:
    """Yield the sums of the records whose bodies have gone, if any have: the chain vouches for them."""
    trim = newest_trim(connection)
    if trim is not None:
        with suppress(RecordError):
            yield decode_sums(trim.sums)


def add_records(
    connection: apsw.Connection,
    summing: Summing,
    *,
    through: int = LAST,
    walker: Walker | None = None,
    pause: Callable[[], None] = lambda: None,
) -> int:
    """Add the following records, up to `through`, and check them with `walker`; return how many are damaged.

    `pause` is called now and then, to let others have the processor.
    """
    damaged = 0
    if summing.through >= through:
        return 0
    for item in read_chunks(connection, summing.through + 1):
        rows = [values for values in item if values[0] <= through] if isinstance(item, list) else []
        if walker is not None and rows and walker.step_all(rows):
            _add_sound(summing, rows)
        else:
            for row in [Row(*values) for values in rows] if isinstance(item, list) else [item]:
                damaged += _add_one(summing, row, walker, through)
        if summing.through >= through or (isinstance(item, list) and len(rows) < len(item)):
            break
        pause()
    return damaged


def _add_sound(summing: Summing, rows: list[Values]) -> None:
    for values in rows:
        try:
            summing.add(values[0], decode(values[0], values[5]))
        except RecordError:
            summing.skip(values[0])


def _add_one(summing: Summing, row: Row | Unreadable, walker: Walker | None, through: int) -> bool:
    """Add a row; whether it is damaged. One that a repair has given up as lost is not."""
    sequence = walker.step(row) if walker is not None else None
    if isinstance(row, Unreadable):
        summing.skip(min(row.last or row.first, through))
        return True
    sequence = row.seq if sequence is None else sequence
    if sequence > through:
        return False
    record = sound(sequence, row.body, row.leaf)
    if record is None:
        summing.skip(sequence)
    else:
        summing.add(sequence, record)
    return record is None and row.body is not None


def _still_open(connection: apsw.Connection, opened: Opened) -> TurnOpened | None:
    if fetch(connection, _CLOSED, (opened.turn,)):
        return None
    for sequence, body, leaf in fetch(connection, _OPENED, (opened.seq,)):
        record = sound(sequence, body, leaf)
        return record if isinstance(record, TurnOpened) else None
    return None
