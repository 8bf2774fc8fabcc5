"""In a run of CI a test may be skipped only for what `tests/skips.toml` names, and only where that is lacking in fact.

Elsewhere nothing is looked at: on a developer's machine a skip is never a failure.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine_lacks
import pytest

LIST = Path(__file__).parents[1] / "skips.toml"


@dataclass(frozen=True, slots=True)
class Row:
    """One reason to skip. `*` in `reason` stands for any text; in `lacking`, for the text of the first one."""

    reason: str
    lacking: str
    why: str

    def match(self, reason: str) -> re.Match[str] | None:
        """Match a reason that a test gave."""
        return re.fullmatch("(.*)".join(map(re.escape, self.reason.split("*"))), reason, re.DOTALL)

    def lacks(self, reason: str) -> str:
        """Name what is lacking according to a reason that this row matches."""
        found = self.match(reason)
        return self.lacking.replace("*", found[1]) if found and found.groups() else self.lacking


def read(path: Path) -> list[Row]:
    """Read the list, what is more exact first. Raises KeyError or TypeError if a row is not whole."""
    rows = [Row(**row) for row in tomllib.loads(path.read_text())["skip"]]
    return sorted(rows, key=lambda row: row.reason.count("*"))


def objections(
    reasons: Mapping[str, str], rows: Iterable[Row], is_lacking: Callable[[str], bool]
) -> Iterator[str]:
    """Say of each test that was skipped (name: reason) what speaks against it."""
    rows = list(rows)
    for test, reason in sorted(reasons.items()):
        row = next((row for row in rows if row.match(reason)), None)
        if row is None:
            yield f"{test}: {reason!r} is not in tests/skips.toml"
        elif not is_lacking(lacks := row.lacks(reason)):
            yield f"{test}: {reason!r}, but here nothing is lacking of: {lacks}"


class SkipWatch:
    """Collects the skips of a session, and fails it at its end where one is not allowed."""

    def __init__(self, rows: list[Row], is_lacking: Callable[[str], bool]) -> None:
        self._rows = rows
        self._is_lacking = is_lacking
        self._reasons: dict[str, str] = {}
        self._found: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: Any) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
            self._reasons[report.nodeid] = str(report.longrepr[2]).removeprefix("Skipped: ")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._found = list(objections(self._reasons, self._rows, self._is_lacking))
        if self._found and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._found:
            terminalreporter.section("skips that are not allowed in CI", red=True)
        for line in self._found:
            terminalreporter.line(line)
        allowed = len(self._reasons) - len(self._found)
        terminalreporter.line(f"skipped in CI: {allowed} allowed, {len(self._found)} not")


def watch(config: pytest.Config, path: Path = LIST) -> None:
    """Watch a session of CI; with xdist its controller, which hears of every skip."""
    if os.environ.get("CI") == "true" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipWatch(read(path), machine_lacks.is_lacking))
