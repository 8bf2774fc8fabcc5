"""Keep heads of committed records, and segments of old ones, beside the records."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from epad.configuration.schema import LedgerConfig
from epad.ledger.anchor import Anchor, HeadKeeper
from epad.ledger.append import Appender
from epad.ledger.catalogue import renewed_digest
from epad.ledger.chain import FaultKind
from epad.ledger.errors import LedgerError, SegmentError
from epad.ledger.head import Signer, Verifier
from epad.ledger.kept_sums import KeptSums, keep_sums, sign_sums
from epad.ledger.paths import Places
from epad.ledger.payload import drop_damaged_payloads
from epad.ledger.rows import open_reader, trimmed_through
from epad.ledger.seal import Sealer, add_seal, all_seals, newest_seal
from epad.ledger.segment import Seal, check_segment
from epad.ledger.spent import sums_through
from epad.ledger.trim import Trim, drop_bodies, drop_segments, first_body, plan_trim
from epad.ledger.verify import Report
from statemachine.clock import Clock

PAUSE_SECONDS = 0.000_5  # between 250 records that are summed up: the GIL is the loop's meanwhile
RETRY_SECONDS = 60.0  # after a seal that failed: on damage it fails again until that is repaired

Enqueue = Callable[[Callable[[], Any]], None]
"""Has the writer's thread do something, some time."""


class Keeping:
    """Follows the writer, on its thread; long work is done in threads beside it."""

    def __init__(
        self,
        path: Path,
        config: LedgerConfig,
        clock: Clock,
        appender: Appender,
        anchor: Anchor,
        places: Places,
    ) -> None:
        self.places = places
        self._path = path
        self._config = config
        self._clock = clock
        self._appender = appender
        self._anchor = anchor
        self._sealer = Sealer(places.segments, anchor.signer)
        self._keeper: HeadKeeper | None = None
        self._enqueue: Enqueue = lambda _: None
        self._sealing: threading.Thread | None = None
        self._ending = threading.Event()
        self._sealed = 0
        self._sealed_at = 0.0
        self._retry_at = 0.0
        self._seal_error = ""
        self._seen = 0

    @property
    def unwitnessed(self) -> str:
        """Say why the newest head is not where a later start would look for it; empty while it is."""
        return (self._keeper.error if self._keeper else "") or self._anchor.loss()

    @property
    def trouble(self) -> str:
        """Say why heads or segments are not kept; empty if they are."""
        reasons = (self._appender.withheld, self.unwitnessed, self._seal_error)
        return "; ".join(reason for reason in reasons if reason)

    def begin(self, enqueue: Enqueue) -> None:
        """Start with the open file. Raises LedgerUnavailableError."""
        self._enqueue = enqueue
        self._appender.write(_note_anchored)
        newest = newest_seal(self._appender.connection())
        self._sealed = newest.trailer.last if newest else 0
        self._sealed_at = self._clock.monotonic()
        if trimmed := trimmed_through(self._appender.connection()):
            self._enqueue(lambda: self._drop(1, trimmed))
        config = self._config
        self._keeper = HeadKeeper(
            self._anchor, config.head_records, config.head_seconds, lambda: self._appender.stamp().wall_ns
        )

    def committed(self, *, log: bool = False) -> None:
        """Say that all up to the appender's tail is on the disk."""
        appender, keeper = self._appender, self._keeper
        if keeper is None or appender.frontier is None or (appender.tail.seq == self._seen and not log):
            return
        self._seen = appender.tail.seq
        keeper.committed(appender.frontier, appender.tail.link, log=log)
        if self._is_seal_due():
            last = min(self._seen, self._sealed + self._config.seal_records)
            self._retry_at = self._clock.monotonic() + RETRY_SECONDS
            sealing = threading.Thread(target=self._seal, args=(last,), name="ledger-seal", daemon=True)
            try:
                sealing.start()
            except RuntimeError as error:  # no thread is left of those that the system allows
                self._seal_error = f"no segment could be sealed: {error}"
                return
            self._sealing = sealing

    def end(self) -> None:
        """Write the last head; end the threads beside."""
        if self._keeper is not None:
            self.committed(log=True)
            self._keeper.stop()
        self._ending.set()
        if self._sealing is not None:
            self._sealing.join()

    def mend(self, report: Report) -> None:
        """Repair the files beside the records, on the writer's thread. Raises LedgerError."""
        kinds = {fault.kind for fault in report.faults}
        if FaultKind.FORKED in kinds:
            self._appender.withhold(report.words())
            return
        if FaultKind.HEAD in kinds:
            self._anchor.mend()
            self._appender.forget_heads(self._anchor.read())
        if FaultKind.SEGMENT in kinds:
            self._mend_segments()
        if FaultKind.PAYLOAD in kinds:
            self._appender.write(drop_damaged_payloads)
        if self._appender.frontier is None:
            self._appender.regrow()
        if self._appender.frontier is not None:
            self.committed(log=True)

    def _mend_segments(self) -> None:
        """Write again, from the records, the segments that differ from their seals."""
        connection = open_reader(self._path)
        try:
            trimmed = trimmed_through(connection)
            for seal in all_seals(connection).values():
                if seal.trailer.last <= trimmed:
                    continue
                try:
                    whole = check_segment(self.places.segments / seal.name).sha256 == seal.sha256
                except SegmentError:
                    whole = False
                if not whole:
                    self._sealer.reseal(connection, seal)
        except (apsw.Error, OSError) as error:
            self._seal_error = str(error)
        finally:
            connection.close()

    def _is_seal_due(self) -> bool:
        now = self._clock.monotonic()
        if self._sealing is not None or (self._seal_error and now < self._retry_at):
            return False
        waiting = self._seen - self._sealed
        old = now - self._sealed_at >= self._config.seal_seconds
        return waiting >= self._config.seal_records or (old and waiting > 0)

    def _seal(self, last: int) -> None:
        """Seal records in a thread of its own, from the disk: a copy has the bytes that would be read back."""
        seal: Seal | None = None
        sums: KeptSums | None = None
        trim: Trim | None = None
        error = ""
        try:
            connection = open_reader(self._path)
            try:
                seal = self._sealer.seal(connection, last, self._appender.stamp().wall_ns)
                sums = (
                    sum_up(connection, seal, self._anchor.signer, self._pause) if seal is not None else None
                )
                trim = self._plan_trim(connection, last)
            finally:
                connection.close()
        except (LedgerError, apsw.Error, OSError) as failure:
            error = f"no segment could be sealed: {failure}"
        self._enqueue(lambda: self._note(seal, sums, error))
        if trim is not None:
            self._enqueue(lambda: self._trim(trim))

    def _plan_trim(self, connection: apsw.Connection, last: int) -> Trim | None:
        verifier = Verifier([self._anchor.signer.verifier_key])
        try:
            return plan_trim(connection, self._config.keep_records, last, verifier, self._pause)
        except (OverflowError, StoppedError):
            return None

    def _trim(self, trim: Trim) -> None:
        """On the writer's thread: say that bodies go, then begin with it."""
        self._appender.append_own(trim.record)
        self._drop(1, trim.through)

    def _drop(self, first: int, through: int) -> None:
        """Drop bodies, some at a time, so that waiting work of the writer comes between.

        At last, drop their second copies.
        """
        connection = self._appender.connection()
        first = first_body(connection, through) if first == 1 else first
        if first <= through:
            after = self._appender.write(lambda db: drop_bodies(db, first, through))
            self._enqueue(lambda: self._drop(after, through))
            return
        try:
            drop_segments(connection, self.places.segments, through)
        except OSError as error:
            self._seal_error = f"a segment that is no longer kept could not be deleted: {error}"

    def _pause(self) -> None:
        """Let others have the processor. Raises StoppedError where nobody waits for the end of this any more."""
        if self._ending.wait(PAUSE_SECONDS):
            raise StoppedError

    def _note(self, seal: Seal | None, sums: KeptSums | None, error: str) -> None:
        """On the writer's thread: the segment is there, now say so."""
        self._sealing = None
        self._seal_error = error
        if seal is None:
            return
        try:
            self._appender.write(lambda db: note_sealed(db, seal, sums))
        except LedgerError as failure:
            self._seal_error = f"no segment could be noted: {failure}"
            return
        self._sealed = seal.trailer.last
        self._sealed_at = self._clock.monotonic()


def _note_anchored(connection: apsw.Connection) -> None:
    with renewed_digest(connection):
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('anchored', 1)")


class StoppedError(Exception):
    """The ledger is being closed: a first summing up of a long one is not waited for."""


def sum_up(
    connection: apsw.Connection, seal: Seal, signer: Signer, pause: Callable[[], None] = lambda: None
) -> KeptSums | None:
    """The sums at a seal; None where they cannot be made: the next start reads from those before on."""
    verifier = Verifier([signer.verifier_key])
    try:
        body = sums_through(connection, seal.trailer.last, verifier, pause)
    except (apsw.Error, OverflowError, StoppedError):
        return None
    return None if body is None else sign_sums(seal, body, signer)


def note_sealed(connection: apsw.Connection, seal: Seal, sums: KeptSums | None) -> None:
    """Note a segment and the sums of all records up to its end; within the writer's transaction."""
    with renewed_digest(connection):
        add_seal(connection, seal)
        if sums is not None:
            keep_sums(connection, sums)
