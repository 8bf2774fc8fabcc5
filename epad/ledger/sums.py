"""Keep a start's needs of all records up to one of them, in a size that does not grow with their number.

Totals; tokens and requests by slots of a boot's clock, as fine as the windows of budgets still tell them apart; the
open turns; the end of each run of the daemon that left some; each boot's first and last reading.

A slot is dated by its newest record, and slots are merged only at the bounds of the windows' own buckets
(epad/gateway/limits.py): in this boot every window counts the same as of each record. Of former boots a spend counts up
to one bucket longer, never shorter. The boots' own clocks tell the least age of a slot, not the wall clock's time
between two boots: a step of it drops nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter

import msgspec
from msgspec import Struct

from epad.ledger.entry import Stamp
from epad.ledger.errors import RecordError
from epad.ledger.record import EpochStarted, Record, TurnClosed, TurnOpened
from epad.ledger.timeline import Timeline

SECOND_NS = 10**9
LEVELS = ((1, 61), (30, 3_630), (300, 86_700), (3_600, 31 * 86_400 + 3_600))
"""Widths of slots, and from which age on no window tells apart what is in a wider one, or counts it at all; seconds.
The windows' buckets are as wide, and a window counts one bucket more than it is long."""
FOREVER_NS = 1 << 62
"""A horizon that nothing is beyond."""
OUTLIVED_NS = 2 * LEVELS[-1][1] * SECOND_NS
"""The age given to what no window reaches any more."""
COMPACT_RECORDS = 8_192
"""Slots are merged each so many records, so that a long reading needs no more memory than a short one."""
_FORM = 1


@dataclass(frozen=True, slots=True)
class Used:
    """Holds a subsystem's use, and its age."""

    subsystem: str
    age_ns: int
    tokens: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Spending:
    """Holds everything used within a horizon, and the timeline that dates other files' entries of the same time."""

    used: list[Used]
    timeline: Timeline


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums up a subsystem's closed turns."""

    input_tokens: int = 0
    output_tokens: int = 0
    charged_tokens: int = 0
    turns: int = 0


class Reading(Struct, frozen=True, array_like=True, gc=False):
    """Both clocks at a record, and the boot."""

    wall_ns: int
    boot_id: str
    monotonic_ns: int


class Run(Struct, array_like=True):
    """Records of one boot that follow each other: the first, the newest, and the highest that its clock has read."""

    first: Reading
    last: Reading
    top_ns: int


class Slot(Struct, array_like=True, gc=False):
    """Holds the use in one span of a boot's clock: `clock_ns` is the newest record's."""

    clock_ns: int
    tokens: int = 0
    requests: int = 0


class Opened(Struct, frozen=True, array_like=True, gc=False):
    """A turn without a closing record, and the record that opened it."""

    turn: str
    seq: int
    subsystem: str
    reserved_tokens: int
    epoch: int


class Sums(Struct, frozen=True, array_like=True):
    """Holds the sums of records 1 to `through`, in one order: the same records give the same bytes."""

    form: int
    through: int
    epoch: int
    totals: tuple[tuple[str, int, int, int, int], ...]
    outlived: tuple[tuple[str, int], ...]
    runs: tuple[Run, ...]
    slots: tuple[tuple[int, int, str, Slot], ...]
    opened: tuple[Opened, ...]
    ends: tuple[tuple[int, Reading], ...]


_Slots = dict[tuple[str, int], Slot]


class Summing:
    """Sums that records are added to, oldest first. For one thread."""

    def __init__(self, sums: Sums | None = None) -> None:
        self.through = 0
        self._epoch = 0
        self._totals: dict[str, list[int]] = {}
        self._outlived: dict[str, int] = {}
        self._runs: list[Run] = []
        self._slots: list[tuple[_Slots, ...]] = []
        self._opened: dict[str, Opened] = {}
        self._ends: dict[int, Reading] = {}
        self._since_compacted = 0
        # Of the newest run: its boot, its newest record unless it is in `_runs`, and the highest reading.
        self._boot_id = ""
        self._newest: Record | None = None
        self._top_ns = 0
        if sums is not None:
            self._take_up(sums)

    def add(self, sequence: int, record: Record) -> None:
        """Count a record that comes after all that were counted."""
        boot = record.boot_id
        clock_ns = record.monotonic_ns if boot else record.wall_ns
        if record.epoch != self._epoch:
            self._end_epoch(record)
        if boot != self._boot_id or not self._runs:
            self._begin_run(record, clock_ns)
        self._newest = record
        self._top_ns = max(self._top_ns, clock_ns)
        if isinstance(record, TurnClosed):
            self._close(record, clock_ns)
        elif isinstance(record, TurnOpened):
            self._opened[record.turn] = Opened(
                record.turn, sequence, record.subsystem, record.reserved_tokens, record.epoch
            )
            self._slot(record.subsystem, clock_ns).requests += 1
        self.through = sequence
        self._since_compacted += 1
        if self._since_compacted >= COMPACT_RECORDS:
            self._compact()

    def skip(self, sequence: int) -> None:
        """Go past a record that is damaged or lost: its contents are not known."""
        self.through = max(self.through, sequence)

    def totals(self) -> dict[str, Totals]:
        """Return the totals of all closed turns, by subsystem."""
        return {name: Totals(*sums) for name, sums in self._totals.items()}

    def opened_before(self, epoch: int) -> list[Opened]:
        """Return the turns that a former life left open, oldest first."""
        return [opened for opened in self._opened.values() if opened.epoch < epoch]

    def spending(
        self, now: Stamp, horizon_ns: int, requests_ns: int, marks: Mapping[str, Stamp] | None = None
    ) -> Spending:
        """Return the use within a horizon, newest first; requests within `requests_ns`.

        `marks` are newer readings of former boots' clocks than their records.
        """
        self._note_newest()
        timeline = Timeline(now, marks)
        for run in reversed(self._runs):
            timeline.place(_stamp(run.last))
            timeline.place(_stamp(run.first))
        used = sorted(self._used(timeline, requests_ns), key=lambda one: one.age_ns)
        return Spending([one for one in used if one.age_ns <= horizon_ns], timeline)

    def sums(self) -> Sums:
        """Return the present sums."""
        self._compact()
        return Sums(
            _FORM,
            self.through,
            self._epoch,
            tuple((name, *map(int, sums)) for name, sums in sorted(self._totals.items())),  # type: ignore[misc]
            tuple(sorted(self._outlived.items())),
            tuple(Run(run.first, run.last, run.top_ns) for run in self._runs),
            tuple(self._slots_in_order()),
            tuple(sorted(self._opened.values(), key=lambda opened: opened.seq)),
            tuple(sorted(self._ends.items())),
        )

    def _take_up(self, sums: Sums) -> None:
        self.through, self._epoch = sums.through, sums.epoch
        self._totals = {name: list(rest) for name, *rest in sums.totals}
        self._outlived = dict(sums.outlived)
        self._runs = [Run(run.first, run.last, run.top_ns) for run in sums.runs]
        self._slots = [tuple({} for _ in LEVELS) for _ in sums.runs]
        for run, level, subsystem, slot in sums.slots:
            number = slot.clock_ns // (LEVELS[level][0] * SECOND_NS)
            self._slots[run][level][subsystem, number] = Slot(slot.clock_ns, slot.tokens, slot.requests)
        self._opened = {opened.turn: opened for opened in sums.opened}
        self._ends = dict(sums.ends)
        if self._runs:
            self._boot_id, self._top_ns = self._runs[-1].last.boot_id, self._runs[-1].top_ns

    def _begin_run(self, record: Record, clock_ns: int) -> None:
        self._note_newest()
        reading = _reading(record)
        self._runs.append(Run(reading, reading, clock_ns))
        self._slots.append(tuple({} for _ in LEVELS))
        self._boot_id, self._top_ns = record.boot_id, clock_ns

    def _note_newest(self) -> None:
        """Bring the newest run up to the newest record: done seldom, for it would be done with each record."""
        if self._newest is not None:
            run = self._runs[-1]
            run.last, run.top_ns = _reading(self._newest), self._top_ns
            self._newest = None

    def _end_epoch(self, record: Record) -> None:
        """Note when an epoch ended that left turns open: an orderly stop has settled every turn by its last record.

        After a crash only the beginning of the following epoch is known to be later than whatever was spent.
        """
        ended, self._epoch = self._epoch, record.epoch
        if self._runs and any(opened.epoch == ended for opened in self._opened.values()):
            self._note_newest()
            in_order = isinstance(record, EpochStarted) and record.clean
            self._ends[ended] = self._runs[-1].last if in_order else _reading(record)

    def _close(self, record: TurnClosed, clock_ns: int) -> None:
        totals = self._totals.setdefault(record.subsystem, [0, 0, 0, 0])
        totals[0] += record.input_tokens
        totals[1] += record.output_tokens
        totals[2] += record.charged_tokens
        totals[3] += 1
        if record.charged_tokens:
            self._slot(record.subsystem, clock_ns).tokens += record.charged_tokens
        opened = self._opened.pop(record.turn, None)
        if opened is not None and opened.epoch in self._ends:
            self._forget_end(opened.epoch)

    def _forget_end(self, epoch: int) -> None:
        if not any(opened.epoch == epoch for opened in self._opened.values()):
            del self._ends[epoch]

    def _slot(self, subsystem: str, clock_ns: int) -> Slot:
        slots = self._slots[-1][0]
        key = subsystem, clock_ns // SECOND_NS
        slot = slots.get(key)
        if slot is None:
            slot = slots[key] = Slot(clock_ns)
        elif clock_ns > slot.clock_ns:
            slot.clock_ns = clock_ns
        return slot

    def _compact(self) -> None:
        """Merge slots that no window tells apart any more, and sum up those that none reaches."""
        self._since_compacted = 0
        self._note_newest()
        later_ns = 0
        for run, levels in zip(reversed(self._runs), reversed(self._slots), strict=True):
            told = bool(run.last.boot_id)  # without a boot there is no clock that nobody can set
            for level, (width, until) in enumerate(LEVELS):
                wider = LEVELS[level + 1][0] if level + 1 < len(LEVELS) else width
                outlived_ns = later_ns - until * SECOND_NS
                # All that lie in a wider slot are merged into it at once, when its end is old enough.
                before = (
                    (run.top_ns + outlived_ns - 1) // (wider * SECOND_NS) * (wider // width) if told else 0
                )
                slots = levels[level]
                for key in list(slots) if outlived_ns > 0 else [key for key in slots if key[1] < before]:
                    self._merge(levels, level, key)
            later_ns += max(0, run.top_ns - run.first.monotonic_ns) if told else 0

    def _merge(self, levels: tuple[_Slots, ...], level: int, key: tuple[str, int]) -> None:
        """Put a slot into the wider one that it lies in; its requests no minute counts any more."""
        subsystem, number = key
        slot = levels[level].pop(key)
        if not slot.tokens:
            return
        if level + 1 == len(LEVELS):
            self._outlived[subsystem] = self._outlived.get(subsystem, 0) + slot.tokens
            return
        into = subsystem, number * LEVELS[level][0] // LEVELS[level + 1][0]
        there = levels[level + 1].get(into)
        levels[level + 1][into] = Slot(
            max(slot.clock_ns, there.clock_ns if there else slot.clock_ns),
            slot.tokens + (there.tokens if there else 0),
        )

    def _slots_in_order(self) -> Iterator[tuple[int, int, str, Slot]]:
        for run, levels in enumerate(self._slots):
            for level, slots in enumerate(levels):
                for (subsystem, _), slot in sorted(slots.items(), key=itemgetter(0)):
                    yield run, level, subsystem, Slot(slot.clock_ns, slot.tokens, slot.requests)

    def _used(self, timeline: Timeline, requests_ns: int) -> Iterator[Used]:
        for run, _, subsystem, slot in self._slots_in_order():
            boot_id = self._runs[run].last.boot_id
            age_ns = timeline.age_ns(Stamp(slot.clock_ns, boot_id, slot.clock_ns, 0))
            requests = slot.requests if age_ns <= requests_ns else 0
            if slot.tokens or requests:
                yield Used(subsystem, age_ns, slot.tokens, requests)
        for opened in self._opened.values():
            end = self._ends.get(opened.epoch)
            yield Used(opened.subsystem, timeline.age_ns(_stamp(end)) if end else 0, opened.reserved_tokens)
        for subsystem, tokens in self._outlived.items():
            yield Used(subsystem, OUTLIVED_NS, tokens)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Sums)


def encode_sums(sums: Sums) -> bytes:
    """Return their bytes. Raises OverflowError for numbers that no budget has."""
    return _encoder.encode(sums)


def decode_sums(body: bytes) -> Sums:
    """Decode sums. Raises RecordError for other bytes, or a form unknown to this epad."""
    try:
        sums = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"the sums of records cannot be read: {error}") from error
    if sums.form != _FORM or any(
        not 0 <= run < len(sums.runs) or not 0 <= level < len(LEVELS) for run, level, _, _ in sums.slots
    ):
        raise RecordError("the sums of records are of another form")
    return sums


def _reading(record: Record) -> Reading:
    return Reading(record.wall_ns, record.boot_id, record.monotonic_ns)


def _stamp(reading: Reading) -> Stamp:
    return Stamp(reading.wall_ns, reading.boot_id, reading.monotonic_ns, 0)
