"""Check everything: every record, every sealed segment, and each against the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import apsw

from epad.ledger.anchor import verifier_at
from epad.ledger.chain import Fault
from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.kept_sums import sums_faults
from epad.ledger.paths import Places
from epad.ledger.rows import DAMAGE, open_reader, trimmed_through
from epad.ledger.seal import SegmentsReport, all_seals, verify_segments
from epad.ledger.spent import wrong_sums
from epad.ledger.verify import Progress, Report, verdict_of, verify


def verify_everything(
    path: Path, places: Places | None, *, full: bool = False, progress: Progress | None = None
) -> Report:
    """Rows against heads, and all segments against their seals. Raises LedgerUnavailableError."""
    report = verify(path, progress=progress, anchor=places.anchor if places else None, full=full)
    if places is None:
        return report
    segments = check_segments(path, places)
    faults = (*report.faults, *segments.faults, *_check_sums(path, places, report, full=full))
    return replace(report, faults=faults, verdict=verdict_of(faults, report.unanchored))


def check_segments(path: Path, places: Places, progress: Progress | None = None) -> SegmentsReport:
    """Check all segments, against the database's seals if it can be read. Raises LedgerUnavailableError."""
    try:
        connection = open_reader(path)
    except LedgerUnavailableError:
        seals, trimmed = None, 0
    else:
        try:
            seals, trimmed = all_seals(connection), trimmed_through(connection)
        except apsw.Error as error:
            raise LedgerUnavailableError(f"{path}: {error}") from error
        finally:
            connection.close()
    return verify_segments(places.segments, verifier_at(places.anchor), seals, progress, trimmed)


def _check_sums(path: Path, places: Places, report: Report, *, full: bool) -> list[Fault]:
    """Check the sums kept at the newest seals: signed, and equal to the records' sums.

    Damaged records allow no check.
    """
    if report.faults:
        return []
    verifier = verifier_at(places.anchor)
    connection = open_reader(path)
    try:
        return sums_faults(connection, verifier) or wrong_sums(connection, verifier, full=full)
    except DAMAGE:  # that is another check's to tell
        return []
    except apsw.Error as error:
        raise LedgerUnavailableError(f"{path}: {error}") from error
    finally:
        connection.close()
