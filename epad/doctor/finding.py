"""What one look at the machine came to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it is. Nothing of epad works worse for what is absent; for what is lacking something does."""

    OK = "ok"
    ABSENT = "absent"
    LACKING = "lacking"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: how it is, what was found, and what to do; nothing to do where it is well."""

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


Look = Callable[[], Iterable[Check]]


def look(name: str, at: Look) -> list[Check]:
    """Look, and take a look that fails for an answer: a doctor must not die of what it finds."""
    try:
        return list(at())
    except Exception as error:
        found = f"could not be looked at: {type(error).__name__}: {error}"
        return [Check(name, Verdict.BROKEN, found, "report it, with the output of `epactl doctor -o json`")]
