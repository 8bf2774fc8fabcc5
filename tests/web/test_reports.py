"""Reports are found where runners leave them, and no name leads out of there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epad.web import reports as module
from epad.web.reports import ReportError, Reports


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    work = tmp_path / "wargame"
    (work / "runs/7/deep/deeper").mkdir(parents=True)
    (work / "report.html").write_bytes(b"newest")
    (work / "runs/7/report.html").write_bytes(b"older")
    (work / "runs/7/deep/deeper/report.html").write_bytes(b"too deep")
    (work / "notes.txt").write_bytes(b"no report")
    (tmp_path / "secret.html").write_bytes(b"secret")
    (work / "link.html").symlink_to(tmp_path / "secret.html")
    os.utime(work / "runs/7/report.html", (1, 1))
    return Reports(lambda name: tmp_path / name)


def test_newest_first(reports: Reports) -> None:
    """Pages only, near the top, and no link to somewhere else."""
    assert reports.of("wargame") == ["report.html", "runs/7/report.html"]
    assert reports.read("wargame", "runs/7/report.html") == b"older"
    assert reports.of("nobody") == []


@pytest.mark.parametrize(
    "name", ["../secret.html", "link.html", "/etc/passwd", "notes.txt", "", "report.html\0"]
)
def test_no_name_leads_out(reports: Reports, name: str) -> None:
    """What is not listed is not read."""
    with pytest.raises(ReportError, match="has no report"):
        reports.read("wargame", name)


def test_a_huge_report_is_refused(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be held in the daemon's memory."""
    monkeypatch.setattr(module, "MAX_REPORT_BYTES", 3)
    with pytest.raises(ReportError, match="open it from the disk"):
        reports.read("wargame", "report.html")
