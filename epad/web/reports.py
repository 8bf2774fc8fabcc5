"""The reports that runners leave in their working directories: found, and read without leaving them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from epad import EpadError

REPORT_SUFFIX = ".html"
# A work directory may hold anything; a report lies near its top.
MAX_DEPTH = 3
MAX_REPORTS = 50
MAX_ENTRIES = 5_000
MAX_REPORT_BYTES = 32 << 20

# A report is made from what models said: it may be looked at, and may do nothing.
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)


class ReportError(EpadError):
    """There is no such report, or it cannot be shown."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Reports by subsystem. Its methods block: call them in a thread."""

    work_directory: Callable[[str], Path]

    def of(self, subsystem: str) -> list[str]:
        """Return the names of a subsystem's reports, relative to its working directory, newest first."""
        top = self.work_directory(subsystem)
        found: list[tuple[float, str]] = []
        entries = 0
        for directory, names, files in os.walk(top):
            here = Path(directory).relative_to(top)
            entries += len(files) + len(names)
            if entries > MAX_ENTRIES:
                break
            if len(here.parts) >= MAX_DEPTH:
                names.clear()
            for file in files:
                path = Path(directory, file)
                if path.suffix == REPORT_SUFFIX and (facts := _regular(path)) is not None:
                    found.append((facts.st_mtime, str(here / file)))
        return [name for _, name in sorted(found, reverse=True)[:MAX_REPORTS]]

    def read(self, subsystem: str, name: str) -> bytes:
        """Read one report. Raises ReportError for a name that `of` does not list, so no path leads out."""
        if name not in self.of(subsystem):
            raise ReportError(f"{subsystem} has no report {name[:200]!r}")
        path = self.work_directory(subsystem) / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                content = file.read(MAX_REPORT_BYTES + 1)
        except OSError as error:
            raise ReportError(f"{path}: {error.strerror}") from error
        if len(content) > MAX_REPORT_BYTES:
            raise ReportError(f"{path} has over {MAX_REPORT_BYTES} bytes: open it from the disk")
        return content


def _regular(path: Path) -> os.stat_result | None:
    try:
        facts = path.lstat()
    except OSError:
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None
