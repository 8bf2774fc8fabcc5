"""The past read record by record, newest first, as far as a horizon: what epad did before there were sums at seals.

Kept as the other opinion that the sums are held against.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import apsw

from epad.ledger.entry import Stamp
from epad.ledger.query import sound, unclosed_turns
from epad.ledger.record import EpochStarted, Kind, Record, TurnClosed, TurnOpened
from epad.ledger.sums import Spending, Used
from epad.ledger.timeline import Timeline

# Cast, since a flipped bit may make text that is not UTF-8 of a blob, which could not be fetched.
_NEWEST_FIRST = """
SELECT seq, kind, CAST(turn AS BLOB), CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record ORDER BY seq DESC
"""
# Answered from the index of turns: a start belongs to none.
_STARTS_BEFORE = """
SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record
WHERE turn IS NULL AND kind = 3 AND seq < ? ORDER BY seq DESC
"""


def spending(
    connection: apsw.Connection,
    now: Stamp,
    horizon_ns: int,
    requests_ns: int,
    marks: Mapping[str, Stamp] | None = None,
) -> Spending:
    """Read the ledger backwards as far as the horizon; requests only as far as `requests_ns`.

    `marks` are newer readings of former boots' clocks than their records.
    A turn whose closing record is damaged counts as one that never closed: spending is never guessed low.
    """
    timeline = Timeline(now, marks)
    return Spending(list(_Reading(connection, now, timeline, requests_ns).within(horizon_ns)), timeline)


class _Reading:
    """One pass over the records, newest first."""

    def __init__(self, connection: apsw.Connection, now: Stamp, timeline: Timeline, requests_ns: int) -> None:
        self._connection = connection
        self._timeline = timeline
        self._requests_ns = requests_ns
        self._closed: set[bytes] = set()
        self._epoch = now.epoch
        self._ended_ns = 0
        """The age at which the epoch being read had ended; 0 for the one that goes on."""
        self._clean = False
        self._entering = False

    def within(self, horizon_ns: int) -> Iterator[Used]:
        for sequence, kind, turn, body, leaf in self._connection.execute(_NEWEST_FIRST):
            if kind == Kind.OPENED and turn in self._closed and not self._worth_reading():
                self._closed.discard(turn)
                continue
            record = sound(sequence, body, leaf)
            if record is None:
                continue
            began_ns = self._timeline.reached_ns
            age_ns = self._timeline.place(record)
            self._enter(record, age_ns, began_ns)
            if age_ns > horizon_ns:
                if self._ended_ns <= horizon_ns:
                    yield from self._lost_of_this_epoch(sequence)
                self._place_older_boots(sequence)
                return
            yield from self._used(record, age_ns)

    def _lost_of_this_epoch(self, last: int) -> Iterator[Used]:
        """The turns that were opened before the horizon and lost, or are in flight, within it."""
        for opened in unclosed_turns(self._connection, last):
            if opened.epoch == self._epoch:
                yield Used(opened.subsystem, self._ended_ns, tokens=opened.reserved_tokens)

    def _place_older_boots(self, before: int) -> None:
        """Let the timeline know all boots, since other files may date something by one from before the horizon."""
        for sequence, body, leaf in self._connection.execute(_STARTS_BEFORE, (before,)):
            record = sound(sequence, body, leaf)
            if record is not None:
                self._timeline.place(record)

    def _worth_reading(self) -> bool:
        """Whether an opening whose turn is closed tells anything more: a recent request, or an epoch's end."""
        return self._entering or self._timeline.reached_ns <= self._requests_ns

    def _enter(self, record: Record, age_ns: int, began_ns: int) -> None:
        """Date the end of an older epoch when its last record is reached.

        An orderly stop has settled every turn, so the last record will do. After a crash only the beginning of the
        following epoch is known to be later than whatever was spent.
        """
        if record.epoch != self._epoch:
            self._epoch = record.epoch
            self._ended_ns = age_ns if self._clean else began_ns
            self._clean = False
        self._entering = isinstance(record, EpochStarted)
        if isinstance(record, EpochStarted):
            self._clean = record.clean

    def _used(self, record: Record, age_ns: int) -> Iterator[Used]:
        if isinstance(record, TurnClosed):
            self._closed.add(record.turn.encode())
            if record.charged_tokens:
                yield Used(record.subsystem, age_ns, tokens=record.charged_tokens)
        elif isinstance(record, TurnOpened):
            if age_ns <= self._requests_ns:
                yield Used(record.subsystem, age_ns, requests=1)
            if record.turn.encode() in self._closed:
                self._closed.discard(record.turn.encode())
            else:
                yield Used(record.subsystem, self._ended_ns, tokens=record.reserved_tokens)
