"""The whole check: every record, every sealed segment, and what the one says of the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import apsw

from epad.ledger.anchor import KEYS_FILE
from epad.ledger.errors import HeadError, LedgerUnavailableError
from epad.ledger.head import Verifier
from epad.ledger.places import Places
from epad.ledger.rows import open_reader
from epad.ledger.seal import SegmentsReport, all_seals, verify_segments
from epad.ledger.verify import Progress, Report, verdict_of, verify


def verify_everything(
    path: Path, places: Places | None, *, full: bool = False, progress: Progress | None = None
) -> Report:
    """Rows against heads, and all segments against their seals. Raises LedgerUnavailableError."""
    report = verify(path, progress=progress, anchor=places.anchor if places else None, full=full)
    if places is None:
        return report
    segments = check_segments(path, places)
    faults = (*report.faults, *segments.faults)
    return replace(report, faults=faults, verdict=verdict_of(faults, report.unanchored))


def check_segments(path: Path, places: Places, progress: Progress | None = None) -> SegmentsReport:
    """All segments, against the database's seals where it can be read. Raises LedgerUnavailableError."""
    try:
        connection = open_reader(path)
    except LedgerUnavailableError:
        seals = None
    else:
        try:
            seals = all_seals(connection)
        except apsw.Error as error:
            raise LedgerUnavailableError(f"{path}: {error}") from error
        finally:
            connection.close()
    return verify_segments(places.segments, _verifier(places.anchor), seals, progress)


def _verifier(anchor: Path) -> Verifier | None:
    """Whom to believe; None without keys, then seals are held against hashes alone."""
    try:
        return Verifier((anchor / KEYS_FILE).read_text().split())
    except (OSError, HeadError, UnicodeDecodeError):
        return None
