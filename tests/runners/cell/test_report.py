"""Reports from a cell that is being made: missing walls go on or end the start, as the plan requires."""

from __future__ import annotations

import os

import pytest

from runners.cell.plan import Wall
from runners.cell.report import Outcome, Report, WallError


def fail() -> None:
    raise OSError(1, "mount proc on /proc: Operation not permitted")


def reported(report: Report, reading: int) -> Outcome:
    report.close()
    outcome = Outcome()
    with os.fdopen(reading, "rb") as file:
        for line in file:
            outcome.take(line)
    return outcome


def test_the_best_that_can_be_had_is_reported() -> None:
    """With its reason, and the first reason stays."""
    reading, writing = os.pipe()
    report = Report(writing, "best")
    assert not report.attempt(Wall.PROC, fail)
    assert report.attempt(Wall.FILES, lambda: None)
    report.placed(["/w/.envrc"])
    outcome = reported(report, reading)
    assert outcome.missing == {"proc": "mount proc on /proc: Operation not permitted"}
    assert outcome.placeholders == ["/w/.envrc"]
    assert outcome.failure == ""


def test_a_required_wall_ends_the_start() -> None:
    """By its name."""
    reading, writing = os.pipe()
    report = Report(writing, "all")
    with pytest.raises(WallError, match=r"proc: mount proc on /proc: Operation not permitted") as error:
        report.attempt(Wall.PROC, fail)
    report.fail(error.value)
    assert reported(report, reading).failure.startswith("proc: ")


def test_a_missing_program_is_named() -> None:
    reading, writing = os.pipe()
    report = Report(writing, "all")
    report.fail(FileNotFoundError(2, "No such file or directory", "agent.py"))
    assert reported(report, reading).failure == "No such file or directory: agent.py"


def test_nothing_else_is_a_report() -> None:
    with pytest.raises(ValueError, match="no report"):
        Outcome().take(b'{"hello": 1}')
