"""Hold the result of one check of the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Grades a check. `absent` makes nothing of epad worse; `lacking` does."""

    OK = "ok"
    ABSENT = "absent"
    LACKING = "lacking"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """Holds one check: its verdict, the finding, and the fix; no fix if all is well."""

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


Look = Callable[[], Iterable[Check]]


def look(name: str, at: Look) -> list[Check]:
    """Run a check and turn an exception into a result: the doctor must not die of its findings."""
    try:
        return list(at())
    except Exception as error:
        found = f"could not be looked at: {type(error).__name__}: {error}"
        return [Check(name, Verdict.BROKEN, found, "report it, with the output of `epactl doctor -o json`")]
