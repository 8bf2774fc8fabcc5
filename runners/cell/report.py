"""Report from a cell that is being made: missing walls, placeholders, and the failure that ends the start.

Lines of JSON into a pipe, which ends when the program has begun: exec closes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from runners.cell.plan import Wall


class WallError(Exception):
    """A wall that is required cannot be had."""

    def __init__(self, wall: Wall, reason: str) -> None:
        super().__init__(f"{wall}: {reason}")


@dataclass(slots=True)
class Outcome:
    """Collects the reports of one start."""

    missing: dict[str, str] = field(default_factory=dict)
    """Walls that could not be had, each with the reason."""
    placeholders: list[str] = field(default_factory=list)
    failure: str = ""
    """Why there is no cell; empty if there is one."""

    def take(self, line: bytes) -> None:
        """Take one line in. Raises ValueError for one that is no report."""
        match json.loads(line):
            case {"missing": str(wall), "reason": str(reason)}:
                self.missing.setdefault(wall, reason)
            case {"placeholders": list(paths)}:
                self.placeholders.extend(map(str, paths))
            case {"failure": str(reason)}:
                self.failure = self.failure or reason
            case other:
                raise ValueError(f"no report: {other!r}")


class Report:
    """Writes reports into a pipe."""

    def __init__(self, descriptor: int, required: Literal["all", "best"]) -> None:
        self._descriptor = descriptor
        self._required = required

    def attempt(self, wall: Wall, work: Callable[[], None]) -> bool:
        """Put up a wall; say whether it stands. Raises WallError if it does not and is required."""
        try:
            work()
        except OSError as error:
            reason = _words(error)
            if self._required == "all":
                raise WallError(wall, reason) from error
            self._write({"missing": wall, "reason": reason})
            return False
        return True

    def placed(self, paths: Iterable[str]) -> None:
        """Report placeholders that lie outside of the cell."""
        if listed := list(paths):
            self._write({"placeholders": listed})

    def fail(self, error: BaseException) -> None:
        """Report the error that ends the start."""
        self._write({"failure": _words(error) if isinstance(error, OSError) else str(error) or repr(error)})

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, report: dict[str, Any]) -> None:
        os.write(self._descriptor, json.dumps(report).encode() + b"\n")


def _words(error: OSError) -> str:
    """Return an error's text without its number."""
    text = error.strerror or str(error)
    return f"{text}: {error.filename}" if error.filename else text
